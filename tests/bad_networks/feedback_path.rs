//! The way back is bad: RFC 8867, section 5.3, and feedback that is lost.

use moim_network::Loss;

use crate::gallery::{Gallery, MS, QUEUEING_LIMIT, SECOND, link, wide};
use crate::meeting::Video;
use crate::seeds::medians;

/// Section 5.3: the viewer's feedback shares its link with what it publishes itself, and that
/// link falls from 2 Mbit/s to 800 kbit/s and rises again, while the other direction falls to
/// 1 Mbit/s and 500 kbit/s at other times.
#[test]
fn feedback_through_a_full_link_still_finds_the_rate() {
    let all = medians(53, full_feedback_link);
    for [used, queueing] in all.as_chunks().0 {
        assert!(*used >= 0.85, "{all:.3?}");
        assert!(*queueing < 100.0, "{all:.3?}");
    }
}

/// Of each stretch the share of the capacity used, and the wait in ms that 95 % of the packets
/// stayed under.
fn full_feedback_link(seed: u64) -> [f64; 8] {
    let (down, up) = (link(2_000, 50 * MS), link(2_000, 50 * MS));
    let mut gallery = Gallery::new(seed, 6, Video::Simulcast, down, up);
    gallery
        .meeting
        .publish(gallery.viewer, Video::Single(650_000));
    let steps = [
        (20, Some(1_000), None),
        (35, None, Some(800)),
        (40, Some(500), None),
    ];
    let more = [
        (60, Some(2_000), None),
        (70, None, Some(2_000)),
        (100, None, None),
    ];
    for (at, forward, backward) in steps.into_iter().chain(more) {
        gallery.run_to(at * SECOND);
        if let Some(kilobits) = forward {
            gallery.set_capacity(kilobits);
        }
        if let Some(kilobits) = backward {
            let up = gallery.up;
            let change = |config: &mut moim_network::LinkConfig| {
                config.rate = Some(kilobits * 1_000);
            };
            gallery.meeting.set_link(up, change);
        }
    }
    gallery.plot("rfc8867-5.3", "RFC 8867, 5.3: congested feedback link");
    let mut all = [0.0; 8];
    let stretches = [(11, 20), (30, 40), (50, 60), (75, 100)];
    for ((from, to), of_stretch) in stretches.into_iter().zip(all.as_chunks_mut().0) {
        let (from, to) = (from * SECOND, to * SECOND);
        let queueing = gallery.queueing(0.95, from, to);
        *of_stretch = [gallery.used(from, to), queueing.as_secs_f64() * 1e3];
    }
    all
}

/// A fifth of all feedback is lost, at a constant capacity.
#[test]
fn a_fifth_of_the_feedback_lost_costs_nothing() {
    let mut up = wide(30 * MS);
    up.loss = Loss::Random(0.2);
    let mut gallery = Gallery::new(20, 6, Video::Simulcast, link(1_500, 30 * MS), up);
    gallery.run_to(40 * SECOND);
    gallery.plot("feedback-loss", "A fifth of the feedback is lost");
    let (from, to) = (10 * SECOND, 40 * SECOND);
    let used = gallery.used(from, to);
    assert!(used >= 0.85, "{used:.3} used");
    let queueing = gallery.queueing(0.95, 3 * SECOND, to);
    assert!(queueing < QUEUEING_LIMIT, "{queueing:?}");
    assert!(
        gallery.frozen(from, to) < 400 * MS,
        "{:?}",
        gallery.frozen(from, to)
    );
}

/// No feedback at all for five seconds: whatever the server does meanwhile, it comes back.
#[test]
fn feedback_that_stops_for_five_seconds_is_survived() {
    let mut gallery = Gallery::new(21, 6, Video::Simulcast, link(1_500, 30 * MS), wide(30 * MS));
    for (at, loss) in [(15, Loss::Random(1.0)), (20, Loss::None), (40, Loss::None)] {
        gallery.run_to(at * SECOND);
        let up = gallery.up;
        gallery.meeting.set_link(up, |config| config.loss = loss);
    }
    gallery.plot("feedback-stops", "No feedback from 15 s to 20 s");
    let used = gallery.used(30 * SECOND, 40 * SECOND);
    assert!(used >= 0.85, "{used:.3} used");
    let queueing = gallery.queueing(0.95, 22 * SECOND, 40 * SECOND);
    assert!(queueing < QUEUEING_LIMIT, "{queueing:?}");
}
