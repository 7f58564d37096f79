//! What a client is sent of pictures that its link does not carry.

use moim_engine::command::SubscriptionSettings;

use crate::gallery::{Gallery, MS, SECOND, link, wide};
use crate::meeting::Video;

/// How many of five cameras still arrive on a link that carries three or four at their smallest,
/// which is a third of their frames in the lowest layer: 65 kbit/s, beside a voice of 60.
fn arriving(allow_pause: bool) -> usize {
    let down = link(300, 20 * MS);
    let mut gallery = Gallery::new(61, 5, Video::Simulcast, down, wide(20 * MS));
    let wish = SubscriptionSettings {
        allow_pause,
        ..SubscriptionSettings::default()
    };
    for track in gallery.tracks.clone() {
        gallery.meeting.wish(gallery.viewer, track, wish);
    }
    gallery.run_to(15 * SECOND);
    let (meeting, viewer) = (&gallery.meeting, gallery.viewer);
    let arrives = |track| {
        meeting
            .received(viewer, track)
            .rate(8 * SECOND, 15 * SECOND)
            > 20e3
    };
    let tracks = gallery.tracks.iter();
    tracks.filter(|track| arrives(**track)).count()
}

#[test]
fn pictures_that_do_not_fit_are_paused_unless_the_client_forbids_it() {
    let paused = arriving(true);
    assert!((1..5).contains(&paused), "{paused} arrive");
    assert_eq!(arriving(false), 5);
}
