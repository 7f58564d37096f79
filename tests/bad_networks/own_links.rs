//! Viewers of the same cameras, each behind a link of its own, all of one kind: what they are
//! sent is alike, keyframes come to all at once, and still no queue is that of another.

use std::time::Duration;

use crate::gallery::{Gallery, MS, QUEUEING_LIMIT, SECOND, link, wide};
use crate::meeting::{ClientId, LinkId, Video};

const KILOBITS: u64 = 1_500;

/// A viewer and its link.
type Seat = (ClientId, LinkId);

/// The share of its link's first capacity that a viewer's media take.
fn used(gallery: &Gallery, (viewer, _): Seat, from: Duration, to: Duration) -> f64 {
    let tracks = gallery.tracks.iter();
    let rates = tracks.map(|track| gallery.meeting.received(viewer, *track).rate(from, to));
    rates.sum::<f64>() / (KILOBITS * 1_000) as f64
}

/// Four viewers who join `apart` from each other. After 60 s the link of one gets worse.
fn who_has_a_good_link_keeps_it(mut gallery: Gallery, apart: Duration) {
    let mut seats = vec![(gallery.viewer, gallery.down)];
    for _ in 1..4 {
        gallery.run_to(gallery.meeting.elapsed() + apart);
        let down = gallery.meeting.link(link(KILOBITS, 50 * MS));
        let viewer = gallery.meeting.join(&[gallery.up], &[down]);
        for &track in &gallery.tracks {
            gallery.meeting.subscribe(viewer, track);
        }
        seats.push((viewer, down));
    }
    let change = 60 * SECOND;
    gallery.run_to(change);
    let bad = seats.swap_remove(1);
    let worse = |config: &mut moim_network::LinkConfig| config.rate = Some(400_000);
    gallery.meeting.set_link(bad.1, worse);
    let end = 120 * SECOND;
    gallery.run_to(end);
    let fallen = used(&gallery, bad, change + 2 * SECOND, end);
    assert!(fallen < 400.0 / KILOBITS as f64, "{fallen:.3}");
    // What is not taken from others does not fill its queue either.
    let log = gallery.meeting.log(bad.1);
    let queueing = log.queueing_quantile(0.95, change + 2 * SECOND, end);
    assert!(queueing < QUEUEING_LIMIT, "{queueing:?}");
    for seat in seats {
        let estimates = gallery.meeting.estimates(seat.0).iter();
        let least = estimates
            .filter(|(at, _)| *at >= change)
            .map(|(_, bps)| *bps);
        let least = least.min().expect("estimates");
        assert!(least > KILOBITS * 1_000 * 2 / 3, "{seat:?}: {least}");
        let before = used(&gallery, seat, change - 30 * SECOND, change);
        assert!(before >= 0.7, "{seat:?} before: {before:.3}");
        for second in (60..120).step_by(10) {
            let from = second * SECOND;
            let after = used(&gallery, seat, from, from + 10 * SECOND);
            assert!(after >= 0.8 * before, "{seat:?} from {from:?}: {after:.3}");
        }
    }
}

fn gallery(open: crate::competing::Open) -> Gallery {
    open(
        70,
        6,
        Video::Simulcast,
        link(KILOBITS, 50 * MS),
        wide(50 * MS),
    )
}

#[test]
fn who_has_a_good_link_keeps_it_when_that_of_another_gets_worse() {
    who_has_a_good_link_keeps_it(gallery(Gallery::new), 3 * SECOND);
}

#[test]
fn who_joined_at_the_same_time_keeps_it_too() {
    who_has_a_good_link_keeps_it(gallery(Gallery::new), Duration::ZERO);
}

#[test]
fn who_has_a_good_link_behind_the_same_address_keeps_it() {
    who_has_a_good_link_keeps_it(gallery(Gallery::in_office), 3 * SECOND);
}
