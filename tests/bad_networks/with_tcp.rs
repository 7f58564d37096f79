//! Media beside TCP: RFC 8867, sections 5.6 and 5.7.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::gallery::{Gallery, MS, SECOND, link, wide};
use crate::meeting::Video;
use crate::seeds::medians;

/// Section 5.6: a TCP flow without an end takes part of 2 Mbit/s.
#[test]
fn a_long_tcp_flow_leaves_media_its_share() {
    let mut gallery = Gallery::new(56, 6, Video::Simulcast, link(2_000, 50 * MS), wide(50 * MS));
    gallery.run_to(10 * SECOND);
    let (up, down) = (gallery.up, gallery.down);
    let flow = gallery.meeting.tcp(&[up], &[down], None);
    gallery.run_to(90 * SECOND);
    let delivered = gallery.meeting.tcp_bytes(flow);
    gallery.meeting.stop_tcp(flow);
    gallery.run_to(110 * SECOND);
    gallery.plot(
        "rfc8867-5.6",
        "RFC 8867, 5.6: media beside a long TCP flow, 10 s to 90 s",
    );
    let share = gallery.media_share(30 * SECOND, 90 * SECOND);
    assert!(share >= 0.3, "{share:.3} of the link");
    // And the flow is not starved either.
    let tcp = delivered as f64 * 8.0 / 80.0 / 2e6;
    assert!(tcp >= 0.15, "{tcp:.3} of the link");
    let used = gallery.used(100 * SECOND, 110 * SECOND);
    assert!(used >= 0.85, "{used:.3} used after the flow's end");
}

/// Section 5.7: TCP flows of 30 to 100 kB come and go.
#[test]
fn short_tcp_flows_do_not_freeze_pictures() {
    let [share, gap] = medians(57, short_tcp_flows);
    assert!(share >= 0.6, "{share:.3} of the link");
    assert!(gap < 1.0, "{gap:.3} s");
}

/// The share of media, and the longest time in seconds for which a picture stood still.
fn short_tcp_flows(seed: u64) -> [f64; 2] {
    let mut gallery = Gallery::new(
        seed,
        4,
        Video::Simulcast,
        link(2_000, 50 * MS),
        wide(50 * MS),
    );
    let mut random = SmallRng::seed_from_u64(seed);
    let mut flows = Vec::new();
    let mut at = 5.0;
    while at < 90.0 {
        gallery.run_to(SECOND.mul_f64(at));
        let bytes = random.random_range(30_000..100_000);
        let (up, down) = (gallery.up, gallery.down);
        flows.push(gallery.meeting.tcp(&[up], &[down], Some(bytes)));
        // Exponential, a flow every three seconds on average.
        at += -3.0 * random.random_range(f64::EPSILON..1.0).ln();
    }
    gallery.run_to(100 * SECOND);
    gallery.plot("rfc8867-5.7", "RFC 8867, 5.7: media beside short TCP flows");
    assert!(flows.iter().all(|flow| gallery.meeting.tcp_done(*flow)));
    let share = gallery.media_share(15 * SECOND, 100 * SECOND);
    let gaps = gallery.tracks.iter().map(|track| {
        let shown = gallery.meeting.shown(gallery.viewer, *track);
        shown.longest_gap_in(5 * SECOND, 100 * SECOND)
    });
    [share, gaps.max().map_or(0.0, |gap| gap.as_secs_f64())]
}
