//! From Wi-Fi to a mobile network: another address, a longer way, less capacity.

use crate::gallery::{Gallery, MS, QUEUEING_LIMIT, SECOND, link, wide};
use crate::meeting::Video;

#[test]
fn media_is_back_within_a_second_of_the_first_check() {
    let down = link(8_000, 10 * MS);
    let mut gallery = Gallery::new(60, 4, Video::Simulcast, down, wide(10 * MS));
    gallery.run_to(20 * SECOND);
    let mobile = [link(1_000, 60 * MS), link(500, 60 * MS)];
    let [down, up] = mobile.map(|config| gallery.meeting.link(config));
    gallery.meeting.hand_over(gallery.viewer, &[up], &[down]);
    (gallery.down, gallery.up) = (down, up);
    gallery.run_to(50 * SECOND);
    gallery.plot(
        "handover",
        "From Wi-Fi (8 Mbit/s) to mobile (1 Mbit/s) at 20 s",
    );
    let (from, end) = (20 * SECOND, 50 * SECOND);
    for track in &gallery.tracks {
        let shown = gallery.meeting.shown(gallery.viewer, *track);
        let back = shown.times.iter().find(|at| **at > from + 100 * MS);
        let back = *back.expect("pictures after the change") - from;
        // The check is under way for 60 ms.
        assert!(back < SECOND + 60 * MS, "{back:?}");
    }
    let queueing = gallery.queueing(0.95, from + 2 * SECOND, end);
    assert!(queueing < QUEUEING_LIMIT, "{queueing:?}");
    let used = gallery.used(from + 10 * SECOND, end);
    assert!(used >= 0.85, "{used:.3} used");
}
