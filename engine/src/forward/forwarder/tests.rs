//! What one subscriber gets of streams without layers.

use super::*;
use crate::test_clock;

pub(super) fn packet(layer: u8, sequence: u64, timestamp: u32) -> SourcePacket {
    SourcePacket {
        layer,
        sequence,
        timestamp,
        layers: PacketLayers::whole(true),
    }
}

fn sequence(rewrite: Option<Rewrite>) -> Option<u64> {
    rewrite.map(|rewrite| rewrite.sequence)
}

#[test]
fn a_gap_of_the_source_stays_a_gap_and_is_filled_late() {
    let now = test_clock::start();
    let mut forwarder = Forwarder::new(90_000, 100);
    assert_eq!(forwarder.start(&packet(0, 7, 0), now, None).sequence, 100);
    for (source, sent) in [(9, 102), (8, 101), (10, 103)] {
        let rewrite = forwarder.next(&packet(0, source, 0), now);
        assert_eq!(sequence(rewrite), Some(sent));
    }
}

#[test]
fn a_switch_continues_sequence_numbers_and_moves_time_forward() {
    let start = test_clock::start();
    let mut forwarder = Forwarder::new(90_000, 0);
    forwarder.start(&packet(0, 1_000, 50_000), start, None);
    let later = start + Duration::from_millis(40);
    let rewrite = forwarder.start(&packet(2, 70_000, 9), later, None);
    assert_eq!(rewrite.sequence, 1);
    assert_eq!(rewrite.timestamp, 50_000 + 3_600);
    assert!(forwarder.next(&packet(0, 1_001, 50_000), later).is_none());
    assert!(forwarder.next(&packet(2, 69_999, 0), later).is_none());
}

#[test]
fn sender_reports_place_a_switch_exactly() {
    let start = test_clock::start();
    let mut forwarder = Forwarder::new(90_000, 0);
    forwarder.start(&packet(0, 1, 1_000), start, None);
    let later = start + Duration::from_millis(50);
    let rewrite = forwarder.start(&packet(1, 1, 77), later, Some(1_000 + 3_000));
    assert_eq!(rewrite.timestamp, 4_000);
    let back = forwarder.start(&packet(0, 5, 1), later, Some(10));
    assert_eq!(back.timestamp, 4_001);
}

#[test]
fn picture_counters_continue_over_a_switch() {
    let now = test_clock::start();
    let mut forwarder = Forwarder::new(90_000, 0);
    let numbered = |layer, sequence, picture_id, tl0, frame_number| {
        let mut packet = packet(layer, sequence, 0);
        packet.layers.counters = PictureCounters {
            picture_id,
            frame_number,
            tl0,
        };
        packet
    };
    let first = forwarder.start(&numbered(0, 1, 0x7ffe, 255, 65_534), now, None);
    assert_eq!(first.counters, None, "as they came");
    let start = forwarder.start(&numbered(1, 1, 12, 3, 7), now, None);
    let expected = |picture_id, tl0, frame_number| {
        Some(PictureCounters {
            picture_id,
            frame_number,
            tl0,
        })
    };
    assert_eq!(start.counters, expected(0x7fff, 0, 65_535));
    let next = forwarder.next(&numbered(1, 2, 13, 4, 8), now).unwrap();
    assert_eq!(next.counters, expected(0, 1, 0));
}

#[test]
fn padding_leaves_no_gap_and_fills_the_one_that_was_kept_for_it() {
    let now = test_clock::start();
    let mut forwarder = Forwarder::new(90_000, 100);
    let numbered = |layer, sequence, picture_id| {
        let mut packet = packet(layer, sequence, 0);
        packet.layers.counters.picture_id = picture_id;
        packet
    };
    let padding = |sequence| {
        let mut packet = packet(0, sequence, 0);
        packet.layers = PacketLayers {
            needed_by: LayerSet::EMPTY,
            ..PacketLayers::whole(false)
        };
        packet
    };
    forwarder.start(&numbered(0, 7, 50), now, None);
    assert_eq!(forwarder.next(&padding(8), now), None);
    assert_eq!(forwarder.next(&padding(9), now), None);
    let next = forwarder.next(&numbered(0, 10, 51), now);
    assert_eq!(sequence(next), Some(101));
    // One that comes late has a number already.
    let next = forwarder.next(&numbered(0, 12, 52), now);
    assert_eq!(sequence(next), Some(103));
    let late = forwarder.next(&padding(11), now);
    assert_eq!(sequence(late), Some(102));
    let again = forwarder.rewrite_again(102, &(&padding(11)).into());
    assert_eq!(sequence(again), Some(102));
    // A larger picture continues the numbers of pictures.
    assert_eq!(forwarder.next(&padding(13), now), None);
    let larger = forwarder.start(&numbered(1, 1, 9), now, None);
    assert_eq!(larger.sequence, 104);
    let counters = larger.counters.expect("other than they came");
    assert_eq!(counters.picture_id, 53);
}

#[test]
fn what_was_sent_before_a_switch_is_found_again() {
    let now = test_clock::start();
    let mut forwarder = Forwarder::new(90_000, 65_535);
    forwarder.start(&packet(0, 500, 0), now, None);
    forwarder.next(&packet(0, 501, 0), now);
    forwarder.start(&packet(1, 9_000, 0), now, None);
    let found = |sequence| {
        let sent = forwarder.sent_as(sequence)?;
        Some((sent.layer, sent.source, sent.sent))
    };
    assert_eq!(found(65_535), Some((0, 500, 65_535)));
    assert_eq!(found(0), Some((0, 501, 65_536)));
    assert_eq!(found(1), Some((1, 9_000, 65_537)));
    assert_eq!(found(2), None);
    let needed = |sequence| {
        let sent = forwarder.sent_as(sequence);
        sent.is_some_and(|sent| forwarder.is_needed(&sent))
    };
    assert!(!needed(65_535) && !needed(0) && needed(1));
    let again = forwarder.rewrite_again(65_536, &(&packet(0, 501, 3)).into());
    assert_eq!(again.map(|r| (r.sequence, r.timestamp)), Some((65_536, 3)));
}

#[test]
fn a_target_is_reached_by_a_keyframe_and_none_is_asked_for_after() {
    let now = test_clock::start();
    let mut forwarder = Forwarder::new(90_000, 0);
    assert_eq!(forwarder.needs_keyframe(), None, "nothing is wanted");
    forwarder.set_target(Some(1), LayerId::MAX);
    assert_eq!(forwarder.needs_keyframe(), Some(1));
    assert!(
        forwarder.starts_with(&packet(0, 1, 0)),
        "better than nothing"
    );
    forwarder.start(&packet(0, 1, 0), now, None);
    assert_eq!(forwarder.needs_keyframe(), Some(1));
    assert!(!forwarder.starts_with(&packet(2, 1, 0)), "above the target");
    forwarder.start(&packet(1, 1, 0), now, None);
    assert_eq!(forwarder.needs_keyframe(), None);
    forwarder.pause();
    assert_eq!(forwarder.needs_keyframe(), Some(1));
}

#[test]
fn random_switches_never_repeat_a_sequence_number() {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};
    let mut rng = SmallRng::seed_from_u64(7);
    let mut now = test_clock::start();
    let mut forwarder = Forwarder::new(90_000, rng.random());
    let mut next = [1_000u64, 2_000, 3_000];
    let mut seen = std::collections::HashMap::new();
    for _ in 0..20_000 {
        now += Duration::from_millis(rng.random_range(1..30));
        let layer = rng.random_range(0..3u8);
        let skip = u64::from(rng.random_range(0..10u8) == 0);
        next[usize::from(layer)] += 1 + skip;
        let source = packet(layer, next[usize::from(layer)], 0);
        let rewrite = match rng.random_range(0..50u8) {
            0 => Some(forwarder.start(&source, now, None)),
            1 => {
                forwarder.pause();
                None
            }
            _ => forwarder.next(&source, now),
        };
        if let Some(rewrite) = rewrite {
            let former = seen.insert(rewrite.sequence, (source.layer, source.sequence));
            assert_eq!(former, None, "sequence {} twice", rewrite.sequence);
        }
    }
}

#[test]
fn what_is_late_from_before_the_start_takes_no_layer_away() {
    let now = test_clock::start();
    let mut forwarder = Forwarder::new(90_000, 0);
    let within = |temporal| LayerId::new(0, temporal);
    let frame = |sequence, temporal| {
        let mut packet = packet(0, sequence, 3_000 * sequence as u32);
        packet.layers.id = within(temporal);
        packet.layers.needed_by = LayerSet::from(within(temporal));
        packet.layers.switch_from = packet.layers.needed_by;
        packet.layers.switch_to = packet.layers.needed_by;
        packet.layers.starts_picture = true;
        packet.layers.keyframe = false;
        packet
    };
    forwarder.set_target(Some(0), within(0));
    forwarder.start(&packet(0, 10, 30_000), now, None);
    assert!(forwarder.next(&frame(9, 0), now).is_none());
    forwarder.set_target(Some(0), within(1));
    assert!(forwarder.next(&frame(11, 0), now).is_some());
    assert!(forwarder.next(&frame(12, 1), now).is_some());
}
