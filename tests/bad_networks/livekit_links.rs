//! The links on which LiveKit was measured: 20 ms each way, a drop-tail queue of 200 ms, cameras
//! of three simulcast layers. What is held is better than either of its estimators.

use std::time::Duration;

use moim_engine::command::SubscriptionSettings;
use moim_network::{LinkConfig, Loss, Queue};

use crate::gallery::{Gallery, MS, SECOND, link, wide};
use crate::meeting::Video;
use crate::seeds::medians;

fn gallery(seed: u64, publishers: usize, kilobits: u64) -> Gallery {
    let down = LinkConfig {
        queue: Queue::DropTail { limit: 200 * MS },
        ..link(kilobits, 20 * MS)
    };
    let mut gallery = Gallery::new(seed, publishers, Video::Simulcast, down, wide(20 * MS));
    gallery.meeting.mute(gallery.voice, true);
    gallery
}

/// Rate and queue in steady state, no freeze, and the first picture soon.
fn one_camera(seed: u64, kilobits: u64, name: &'static str, title: &'static str, least: f64) {
    let mut gallery = gallery(seed, 1, kilobits);
    gallery.run_to(41 * SECOND);
    gallery.plot(name, title);
    let (from, to) = (SECOND, 41 * SECOND);
    let shown = gallery.meeting.shown(gallery.viewer, gallery.tracks[0]);
    let first = shown.first.expect("a picture") - from;
    assert!(first < SECOND, "first after {first:?}");
    let settled = 11 * SECOND;
    let rate = gallery
        .meeting
        .received(gallery.viewer, gallery.tracks[0])
        .rate(settled, to);
    assert!(rate >= least, "{rate:.0} bit/s");
    let queueing = gallery.queueing(0.95, settled, to);
    assert!(queueing < 60 * MS, "{queueing:?}");
    let frozen = gallery.frozen(from, to);
    assert_eq!(frozen, Duration::ZERO, "{:?}", shown.freezes);
}

#[test]
fn a_link_of_800_kbits_carries_the_middle_layer() {
    let title = "One camera on 800 kbit/s";
    one_camera(800, 800, "livekit-800k", title, 490e3);
}

#[test]
fn a_link_of_300_kbits_carries_the_low_layer() {
    let title = "One camera on 300 kbit/s";
    one_camera(300, 300, "livekit-300k", title, 145e3);
}

#[test]
fn a_fall_is_answered_in_a_second_and_a_rise_in_four() {
    let mut gallery = gallery(3_000, 1, 3_000);
    for (at, kilobits) in [(20, 600), (40, 3_000), (60, 3_000)] {
        gallery.run_to(at * SECOND);
        gallery.set_capacity(kilobits);
    }
    gallery.plot("livekit-fall", "3 Mbit/s, 600 kbit/s from 20 s to 40 s");
    let queueing = gallery.queueing(0.95, 21 * SECOND, 40 * SECOND);
    assert!(queueing < 100 * MS, "{queueing:?}");
    let shown = gallery.meeting.shown(gallery.viewer, gallery.tracks[0]);
    let at = |time: Duration| {
        let until = shown.layers.iter().rev().find(|(since, ..)| *since <= time);
        until.map(|(_, layer, _)| *layer)
    };
    assert_eq!(at(20 * SECOND), Some(2));
    assert_eq!(at(44 * SECOND), Some(2), "{:?}", shown.layers);
}

#[test]
fn five_cameras_fill_2_mbits_and_get_the_same() {
    let [used, least_frames] = medians(2_000, five_cameras);
    assert!(used >= 0.88, "{used:.3} used");
    assert!(least_frames > 14.0, "{least_frames:.1} pictures a second");
}

/// The share of the capacity used, and the pictures a second of the camera that has the fewest.
fn five_cameras(seed: u64) -> [f64; 2] {
    let mut gallery = gallery(seed, 5, 2_000);
    gallery.run_to(60 * SECOND);
    gallery.plot("livekit-five", "Five cameras on 2 Mbit/s");
    let (from, to) = (20 * SECOND, 60 * SECOND);
    let rates = gallery.tracks.iter().map(|track| {
        let shown = gallery.meeting.shown(gallery.viewer, *track);
        shown.frame_rate(from, to)
    });
    [gallery.used(from, to), rates.fold(f64::MAX, f64::min)]
}

#[test]
fn a_publisher_that_probes_its_own_network_costs_viewers_nothing() {
    let mut gallery = gallery(9, 1, 300);
    let (viewer, camera) = (gallery.viewer, gallery.tracks[0]);
    gallery.run_to(20 * SECOND);
    for time in 0..4 {
        gallery.meeting.probe(camera, 100);
        gallery.run_to(20 * SECOND + (time + 1) * 200 * MS);
    }
    // The page changes its layout meanwhile.
    gallery
        .meeting
        .wish(viewer, camera, SubscriptionSettings::default());
    gallery.run_to(25 * SECOND);
    let frozen = gallery.frozen(20 * SECOND, 25 * SECOND);
    let shown = gallery.meeting.shown(viewer, camera);
    assert_eq!(frozen, Duration::ZERO, "{:?}", shown.freezes);
    let (last_change, ..) = shown.layers.last().expect("a picture");
    assert!(*last_change < 20 * SECOND, "{:?}", shown.layers);
}

#[test]
fn loss_on_a_sufficient_link_freezes_nothing() {
    let mut gallery = gallery(5, 1, 3_000);
    for link in [gallery.down, gallery.up] {
        gallery.meeting.set_link(link, |config| {
            config.delay = 40 * MS;
            config.loss = Loss::Random(0.05);
        });
    }
    gallery.run_to(41 * SECOND);
    gallery.plot("livekit-loss", "3 Mbit/s with 5 % loss, 40 ms each way");
    let shown = gallery.meeting.shown(gallery.viewer, gallery.tracks[0]);
    assert!(shown.longest_gap < 400 * MS, "{:?}", shown.longest_gap);
}
