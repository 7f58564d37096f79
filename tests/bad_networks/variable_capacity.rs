//! RFC 8867, sections 5.1 and 5.2: the capacity rises and falls.
//!
//! A simulcast camera comes in steps and cannot fill any capacity alone: here there are six of
//! them to a viewer, whose steps together can.

use std::time::Duration;

use crate::gallery::{Gallery, MS, QUEUEING_LIMIT, SECOND, link, wide};
use crate::meeting::Video;
use crate::seeds::medians;

/// What is looked at of a stretch of constant capacity: the wait in ms that 95 % of the packets
/// stay under after two seconds, and the share of the capacity that is used after ten.
fn figures(gallery: &Gallery, from: Duration, end: Duration) -> [f64; 2] {
    let queueing = gallery.queueing(0.95, from + 2 * SECOND, end);
    let used = gallery.used(from + 10 * SECOND, end);
    [queueing.as_secs_f64() * 1e3, used]
}

fn assert_held(stretches: &[[f64; 2]]) {
    for [queueing, used] in stretches {
        assert!(
            *queueing < QUEUEING_LIMIT.as_secs_f64() * 1e3,
            "{stretches:.3?}"
        );
        assert!(*used >= 0.85, "{stretches:.3?}");
    }
}

/// Section 5.1: 1 Mbit/s, then 2.5, 0.6 and 1 again; 50 ms one way, up to 30 ms of jitter.
#[test]
fn one_viewer_follows_the_capacity() {
    let all = medians(51, one_viewer);
    assert_held(all.as_chunks().0);
}

fn one_viewer(seed: u64) -> [f64; 8] {
    let mut down = link(1_000, 50 * MS);
    down.jitter = 30 * MS;
    let mut gallery = Gallery::new(seed, 6, Video::Simulcast, down, wide(50 * MS));
    let steps = [(0, 1_000), (40, 2_500), (60, 600), (80, 1_000), (100, 0)];
    for pair in steps.windows(2) {
        gallery.set_capacity(pair[0].1);
        gallery.run_to(pair[1].0 * SECOND);
    }
    gallery.plot(
        "rfc8867-5.1",
        "RFC 8867, 5.1: variable available capacity, one viewer",
    );
    let mut all = [0.0; 8];
    for (pair, of_stretch) in steps.windows(2).zip(all.as_chunks_mut().0) {
        let from = (pair[0].0 * SECOND).max(SECOND);
        *of_stretch = figures(&gallery, from, pair[1].0 * SECOND);
    }
    all
}

/// Section 5.2: two viewers share a link of 4 Mbit/s that becomes 2, 3.5, 1 and 2.
#[test]
fn two_viewers_share_what_there_is() {
    let all = medians(52, two_viewers);
    let (stretches, ratio) = all.as_chunks();
    assert_held(stretches);
    // Over the whole time the two get the same.
    assert!((0.8..=1.25).contains(&ratio[0]), "{all:.3?}");
}

fn two_viewers(seed: u64) -> [f64; 11] {
    let (down, up) = (link(4_000, 50 * MS), wide(50 * MS));
    let mut gallery = Gallery::new(seed, 6, Video::Simulcast, down, up);
    let second = gallery.meeting.join(&[gallery.up], &[gallery.down]);
    gallery.meeting.subscribe(second, gallery.voice);
    for &track in &gallery.tracks {
        gallery.meeting.subscribe(second, track);
    }
    let steps = [
        (0, 4_000),
        (25, 2_000),
        (50, 3_500),
        (75, 1_000),
        (100, 2_000),
        (125, 0),
    ];
    for pair in steps.windows(2) {
        gallery.set_capacity(pair[0].1);
        gallery.run_to(pair[1].0 * SECOND);
    }
    gallery.plot(
        "rfc8867-5.2",
        "RFC 8867, 5.2: variable available capacity, two viewers",
    );
    let rate = |viewer| {
        let tracks = gallery.tracks.iter();
        let received = tracks.map(|track| gallery.meeting.received(viewer, *track));
        let rates = received.map(|of_track| of_track.rate(10 * SECOND, 125 * SECOND));
        rates.sum::<f64>()
    };
    let mut all = [0.0; 11];
    let (stretches, ratio) = all.as_chunks_mut();
    for (pair, of_stretch) in steps.windows(2).zip(stretches) {
        *of_stretch = figures(&gallery, pair[0].0 * SECOND, pair[1].0 * SECOND);
    }
    ratio[0] = rate(gallery.viewer) / rate(second);
    all
}

/// Not in the RFC: the capacity falls to a quarter at once, whatever the server is doing then. It
/// may be in the middle of a probe, or have sent less for a short queue just before.
#[test]
fn a_fall_is_answered_whenever_it_comes() {
    for moment in 0..32 {
        let (down, up) = (link(1_500, 50 * MS), wide(50 * MS));
        let mut gallery = Gallery::new(54 + u64::from(moment), 6, Video::Simulcast, down, up);
        let change = 12 * SECOND + moment * 130 * MS;
        gallery.run_to(change);
        gallery.set_capacity(400);
        let end = change + 6 * SECOND;
        gallery.run_to(end);
        let queueing = gallery.queueing(0.95, change + 2 * SECOND, end);
        assert!(queueing < 125 * MS, "at {change:?}: {queueing:?}");
    }
}
