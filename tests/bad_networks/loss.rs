//! Loss on either side of the server: what arrives in time, and whether pictures stand still.

use std::time::Duration;

use moim_network::{LinkConfig, Loss};

use crate::gallery::{MS, SECOND, wide};
use crate::meeting::{Audio, ClientId, LinkId, Meeting, Track, Video};
use crate::plot::Plot;

struct Pair {
    meeting: Meeting,
    publisher: ClientId,
    track: Track,
    voice: Track,
    viewer: ClientId,
    down: LinkId,
}

/// One publisher and one viewer.
fn pair(seed: u64, upstream: LinkConfig, downstream: LinkConfig, audio: Audio) -> Pair {
    let mut meeting = Meeting::new(seed);
    let [up, back] = [0, 1].map(|_| meeting.link(upstream));
    let publisher = meeting.join(&[up], &[back]);
    let track = meeting.publish(publisher, Video::Simulcast);
    let voice = meeting.publish_audio(publisher, audio);
    meeting.run(SECOND);
    let [down, feedback] = [0, 1].map(|_| meeting.link(downstream));
    let viewer = meeting.join(&[feedback], &[down]);
    meeting.subscribe(viewer, voice);
    meeting.subscribe(viewer, track);
    Pair {
        meeting,
        publisher,
        track,
        voice,
        viewer,
        down,
    }
}

fn lossy(loss: Loss, delay: Duration) -> LinkConfig {
    LinkConfig {
        loss,
        ..wide(delay)
    }
}

const SPEAKS: Audio = Audio {
    red: false,
    speaking: true,
};

impl Pair {
    fn plot(&self, name: &'static str, title: &'static str) {
        let received = self.meeting.received(self.viewer, self.track);
        Plot::new(&self.meeting, name, title)
            .rates(&self.meeting, self.down, &[("camera", &received.bytes)])
            .estimate(&self.meeting, self.viewer)
            .layers(&self.meeting, &[("camera", self.viewer, self.track)])
            .write();
    }

    /// The share of the speaker's frames that were not heard in time.
    fn missing_audio(&mut self, from: Duration) -> f64 {
        let heard = &self.meeting.received(self.viewer, self.voice).heard;
        let first = (from.as_millis() / 20) as u32;
        let heard = heard.range(first..).count() as f64;
        // The last ones are still under way.
        let made = self.meeting.audio_frames(self.voice) - first - 15;
        (1.0 - heard / f64::from(made)).max(0.0)
    }
}

/// 5 % each way at a round trip of 80 ms, five minutes.
#[test]
fn five_percent_of_loss_is_not_seen() {
    let mut pair = pair(5, wide(5 * MS), lossy(Loss::Random(0.05), 40 * MS), SPEAKS);
    pair.meeting.run(300 * SECOND);
    pair.plot("loss-5", "5 % random loss each way, 80 ms round trip");
    let received = pair.meeting.received(pair.viewer, pair.track);
    assert_eq!(received.violations, 0);
    let in_time = received.in_time(250 * MS);
    assert!(in_time >= 0.999, "{in_time:.5} within 250 ms");
    let gap = pair.meeting.shown(pair.viewer, pair.track).longest_gap;
    assert!(gap < 400 * MS, "{gap:?}");
}

/// The same with 10 %.
#[test]
fn ten_percent_of_loss_freezes_nothing_for_a_second() {
    let mut pair = pair(10, wide(5 * MS), lossy(Loss::Random(0.1), 40 * MS), SPEAKS);
    pair.meeting.run(300 * SECOND);
    pair.plot("loss-10", "10 % random loss each way, 80 ms round trip");
    let gap = pair.meeting.shown(pair.viewer, pair.track).longest_gap;
    assert!(gap < SECOND, "{gap:?}");
}

/// What asks for a packet is lost like any other: here all of it is.
#[test]
fn what_nobody_asks_for_is_sent_again_when_feedback_tells_that_it_is_missing() {
    let mut pair = pair(6, wide(5 * MS), lossy(Loss::Random(0.05), 40 * MS), SPEAKS);
    pair.meeting.never_ask(pair.viewer);
    pair.meeting.run(60 * SECOND);
    let in_time = pair
        .meeting
        .received(pair.viewer, pair.track)
        .in_time(250 * MS);
    assert!(in_time >= 0.99, "{in_time:.5} within 250 ms");
}

/// What is lost on the way to the server is recovered before a viewer misses it for long.
#[test]
fn ten_percent_of_upstream_loss_is_mended_by_the_server() {
    let mut pair = pair(11, lossy(Loss::Random(0.1), 20 * MS), wide(20 * MS), SPEAKS);
    pair.meeting.run(60 * SECOND);
    pair.plot(
        "upstream-loss",
        "10 % random loss between publisher and server",
    );
    let received = pair.meeting.received(pair.viewer, pair.track);
    assert_eq!(received.violations, 0);
    let in_time = received.in_time(250 * MS);
    assert!(in_time >= 0.999, "{in_time:.5} within 250 ms");
    let gap = pair.meeting.shown(pair.viewer, pair.track).longest_gap;
    assert!(gap < 400 * MS, "{gap:?}");
    assert!(pair.meeting.told(pair.publisher).nacks > 100);
}

/// A fifth of all packets is lost towards the listener, in bursts of two on average.
#[test]
fn redundant_audio_is_heard_through_bursts() {
    let burst = Loss::Burst {
        share: 0.2,
        mean_length: 2.0,
    };
    let speaks = Audio {
        red: true,
        ..SPEAKS
    };
    let mut pair = pair(22, wide(5 * MS), lossy(burst, 30 * MS), speaks);
    let from = pair.meeting.elapsed();
    pair.meeting.run(120 * SECOND);
    let missing = pair.missing_audio(from + SECOND);
    assert!(missing < 0.01, "{missing:.4} missing");
}
