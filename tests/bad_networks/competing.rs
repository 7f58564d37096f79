//! Viewers compete for one link: RFC 8867, sections 5.4, 5.5 and 5.8. Each case is played twice:
//! with viewers of one office, behind one address, and with viewers at addresses of their own,
//! where the delays alone tell that they share a link.

use std::time::Duration;

use moim_network::LinkConfig;

use crate::gallery::{Gallery, MS, SECOND, link, wide};
use crate::meeting::{ClientId, Video};
use crate::plot::Plot;
use crate::seeds::medians;

/// How a gallery's viewers are reached: [`Gallery::new`] or [`Gallery::in_office`].
pub(crate) type Open = fn(u64, usize, Video, LinkConfig, LinkConfig) -> Gallery;

/// The first of three viewers of six cameras on 3.5 Mbit/s.
fn first_viewer(open: Open, seed: u64) -> Gallery {
    let (down, up) = (link(3_500, 50 * MS), wide(50 * MS));
    open(seed, 6, Video::Simulcast, down, up)
}

/// Adds a viewer behind the gallery's link and one of its own of this delay.
fn add_viewer(gallery: &mut Gallery, delay: Duration) -> ClientId {
    let [up, down] = [0, 1].map(|_| gallery.meeting.link(wide(delay)));
    let viewer = gallery.meeting.join(&[up], &[gallery.down, down]);
    for &track in &gallery.tracks {
        gallery.meeting.subscribe(viewer, track);
    }
    viewer
}

fn rate(gallery: &Gallery, viewer: ClientId, from: Duration, to: Duration) -> f64 {
    let tracks = gallery.tracks.iter();
    let rates = tracks.map(|track| gallery.meeting.received(viewer, *track).rate(from, to));
    rates.sum()
}

/// The plot of who gets how much of the link, and which layers of the first camera.
fn plot(gallery: &Gallery, viewers: &[ClientId], name: &'static str, title: &'static str) {
    let names: Vec<String> = (1..=viewers.len()).map(|n| format!("viewer {n}")).collect();
    let rates = viewers
        .iter()
        .map(|viewer| gallery.meeting.arrived(*viewer));
    let parts: Vec<(&str, &[u64])> = names.iter().map(String::as_str).zip(rates).collect();
    let shown = names.iter().zip(viewers);
    let shown: Vec<_> = shown
        .map(|(name, viewer)| (name.as_str(), *viewer, gallery.tracks[0]))
        .collect();
    Plot::new(&gallery.meeting, name, title)
        .rates(&gallery.meeting, gallery.down, &parts)
        .queueing(&gallery.meeting, gallery.down)
        .layers(&gallery.meeting, &shown)
        .write();
}

/// How often a camera's size changes in a minute.
fn size_changes(gallery: &Gallery, viewers: &[ClientId], from: Duration, to: Duration) -> f64 {
    let shown = viewers.iter().flat_map(|viewer| {
        let tracks = gallery.tracks.iter();
        tracks.map(|track| gallery.meeting.shown(*viewer, *track))
    });
    let changes: Vec<usize> = shown.map(|shown| shown.size_changes(from, to)).collect();
    let minutes = (to - from).as_secs_f64() / 60.0 * changes.len() as f64;
    changes.iter().sum::<usize>() as f64 / minutes
}

/// What is looked at from one second to another: the greatest rate by the least, the wait that 95 %
/// of the packets stayed under in ms, the share of the capacity, in bits a second, that all
/// and that media alone used: each packet counted once, without what is sent to probe, or again;
/// and how often a camera's size changes in a minute.
fn figures(
    gallery: &Gallery,
    viewers: &[ClientId],
    (from, to): (u32, u32),
    capacity: f64,
) -> [f64; 5] {
    let (from, to) = (from * SECOND, to * SECOND);
    let rates: Vec<f64> = viewers
        .iter()
        .map(|&viewer| rate(gallery, viewer, from, to))
        .collect();
    let least = rates.iter().copied().fold(f64::MAX, f64::min);
    let most = rates.iter().copied().fold(0.0, f64::max);
    let queueing = gallery.queueing(0.95, from, to);
    [
        most / least,
        queueing.as_secs_f64() * 1e3,
        gallery.used(from, to),
        rates.iter().sum::<f64>() / capacity,
        size_changes(gallery, viewers, from, to),
    ]
}

/// The rates are as equal as that, the queue is short, the capacity used, and layers do not flap.
fn hold([spread, queueing, used, media, changes]: [f64; 5], equal: f64) {
    assert!(spread <= equal, "the greatest is {spread:.2} of the least");
    assert!(queueing < 100.0, "{queueing:.0} ms");
    assert!(used >= 0.85, "{used:.3} used");
    assert!(media >= 0.8, "{media:.3} by media");
    assert!(changes <= 6.0, "{changes:.1} changes of size a minute");
}

fn both(one: [f64; 5], other: [f64; 5]) -> [f64; 10] {
    std::array::from_fn(|at| *one.iter().chain(&other).nth(at).expect("ten"))
}

/// Section 5.4: three viewers of the same cameras on 3.5 Mbit/s come one after the other and
/// leave in the same order.
fn equal_viewers_get_equal_rates(open: Open, name: &'static str) {
    let [a, b, c, d, e, early @ ..] = medians(54, |seed| equal_viewers(seed, open, name));
    hold([a, b, c, d, e], 1.2);
    let [spread, queueing, .., changes] = early;
    assert!(spread <= 1.4 && queueing < 100.0, "{early:?}");
    assert!(changes <= 12.0, "{early:?}");
}

fn equal_viewers(seed: u64, open: Open, name: &'static str) -> [f64; 10] {
    let mut gallery = first_viewer(open, seed);
    let first = gallery.viewer;
    gallery.run_to(20 * SECOND);
    let second = add_viewer(&mut gallery, MS);
    gallery.run_to(40 * SECOND);
    let third = add_viewer(&mut gallery, MS);
    gallery.run_to(90 * SECOND);
    let viewers = [first, second, third];
    plot(
        &gallery,
        &viewers,
        name,
        "RFC 8867, 5.4: competing media flows",
    );
    let early = figures(&gallery, &viewers[..2], (30, 40), 3.5e6);
    let late = figures(&gallery, &viewers, (60, 90), 3.5e6);
    both(late, early)
}

/// Section 5.5: five viewers at 10, 25, 50, 100 and 150 ms one way on 4 Mbit/s.
fn a_long_way_is_no_disadvantage(open: Open, name: &'static str) {
    hold(medians(55, |seed| different_ways(seed, open, name)), 1.5);
}

fn different_ways(seed: u64, open: Open, name: &'static str) -> [f64; 5] {
    let down = link(4_000, 10 * MS);
    let mut gallery = open(seed, 6, Video::Simulcast, down, wide(10 * MS));
    let mut viewers = vec![gallery.viewer];
    for (at, delay) in [(10, 15), (20, 40), (30, 90), (40, 140)] {
        gallery.run_to(at * SECOND);
        viewers.push(add_viewer(&mut gallery, delay * MS));
    }
    gallery.run_to(120 * SECOND);
    plot(
        &gallery,
        &viewers,
        name,
        "RFC 8867, 5.5: round-trip time fairness",
    );
    figures(&gallery, &viewers, (70, 120), 4e6)
}

/// Section 5.8: one of three viewers looks away for 20 seconds; the others take what it leaves,
/// and give it back.
fn what_a_paused_viewer_leaves_is_used_and_given_back(open: Open, name: &'static str) {
    let [a, b, c, d, e, paused @ ..] = medians(58, |seed| pause(seed, open, name));
    hold([a, b, c, d, e], 1.2);
    let [_, _, used, media, changes] = paused;
    assert!(used >= 0.85 && media >= 0.8, "{paused:?}");
    assert!(changes <= 12.0, "{paused:?}");
}

fn pause(seed: u64, open: Open, name: &'static str) -> [f64; 10] {
    let mut gallery = first_viewer(open, seed);
    let second = add_viewer(&mut gallery, MS);
    let third = add_viewer(&mut gallery, MS);
    let viewers = [gallery.viewer, second, third];
    for (at, enabled) in [(40, false), (60, true)] {
        gallery.run_to(at * SECOND);
        let wish = moim_engine::command::SubscriptionSettings {
            enabled,
            ..Default::default()
        };
        for track in gallery.tracks.clone() {
            gallery.meeting.wish(third, track, wish);
        }
    }
    gallery.run_to(119 * SECOND);
    plot(
        &gallery,
        &viewers,
        name,
        "RFC 8867, 5.8: media pause and resume",
    );
    let rate = |viewer, from: u32, to: u32| rate(&gallery, viewer, from * SECOND, to * SECOND);
    assert!(rate(third, 41, 60) < 10e3, "{:.0}", rate(third, 41, 60));
    let paused = figures(&gallery, &viewers[..2], (50, 60), 3.5e6);
    let after = figures(&gallery, &viewers, (75, 119), 3.5e6);
    both(after, paused)
}

#[test]
fn equal_viewers_of_one_office_get_equal_rates() {
    equal_viewers_get_equal_rates(Gallery::in_office, "rfc8867-5.4-office");
}

#[test]
fn equal_viewers_in_different_places_get_equal_rates() {
    equal_viewers_get_equal_rates(Gallery::new, "rfc8867-5.4");
}

#[test]
fn a_long_way_is_no_disadvantage_within_an_office() {
    a_long_way_is_no_disadvantage(Gallery::in_office, "rfc8867-5.5-office");
}

#[test]
fn a_long_way_is_no_disadvantage_in_different_places() {
    a_long_way_is_no_disadvantage(Gallery::new, "rfc8867-5.5");
}

#[test]
fn what_a_paused_viewer_of_an_office_leaves_is_used_and_given_back() {
    what_a_paused_viewer_leaves_is_used_and_given_back(Gallery::in_office, "rfc8867-5.8-office");
}

#[test]
fn what_a_paused_viewer_in_another_place_leaves_is_used_and_given_back() {
    what_a_paused_viewer_leaves_is_used_and_given_back(Gallery::new, "rfc8867-5.8");
}
