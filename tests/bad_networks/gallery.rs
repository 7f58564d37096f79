//! What most cases look at: viewers of a few publishers, behind a link that is the bottleneck.

use std::time::Duration;

use moim_network::LinkConfig;

use crate::meeting::{Audio, ClientId, LinkId, Meeting, Track, Video};
use crate::plot::Plot;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
/// Queueing that 95 % of the packets have to stay under once a change is answered.
pub(crate) const QUEUEING_LIMIT: Duration = Duration::from_millis(100);

/// A link of this many kbit/s and this delay, with RFC 8867's queue of 300 ms.
pub(crate) fn link(kilobits: u64, delay: Duration) -> LinkConfig {
    LinkConfig {
        rate: Some(kilobits * 1_000),
        delay,
        ..Default::default()
    }
}

/// A link without a limit.
pub(crate) fn wide(delay: Duration) -> LinkConfig {
    LinkConfig {
        delay,
        ..Default::default()
    }
}

/// Publishers on good links, and a viewer of all of them.
pub(crate) struct Gallery {
    pub(crate) meeting: Meeting,
    pub(crate) tracks: Vec<Track>,
    pub(crate) voice: Track,
    pub(crate) viewer: ClientId,
    /// Towards the viewer.
    pub(crate) down: LinkId,
    /// From the viewer: its feedback.
    pub(crate) up: LinkId,
}

impl Gallery {
    /// `count` publishers with a camera each, of which the first speaks, and one viewer behind
    /// `down` and `up`.
    pub(crate) fn new(
        seed: u64,
        count: usize,
        video: Video,
        down: LinkConfig,
        up: LinkConfig,
    ) -> Gallery {
        Gallery::open(seed, count, video, [down, up], false)
    }

    /// As [`Gallery::new`], and all viewers are behind the same address.
    pub(crate) fn in_office(
        seed: u64,
        count: usize,
        video: Video,
        down: LinkConfig,
        up: LinkConfig,
    ) -> Gallery {
        Gallery::open(seed, count, video, [down, up], true)
    }

    fn open(
        seed: u64,
        count: usize,
        video: Video,
        [down, up]: [LinkConfig; 2],
        office: bool,
    ) -> Gallery {
        let mut meeting = Meeting::new(seed);
        let mut publishers = Vec::new();
        let mut tracks = Vec::new();
        for _ in 0..count {
            let links = [0, 1].map(|_| meeting.link(wide(5 * MS)));
            let publisher = meeting.join(&links[..1], &links[1..]);
            publishers.push(publisher);
            tracks.push(meeting.publish(publisher, video));
            // Cameras are not in step.
            meeting.run(7 * MS);
        }
        let speaks = Audio {
            red: false,
            speaking: true,
        };
        let voice = meeting.publish_audio(publishers[0], speaks);
        meeting.run(SECOND - meeting.elapsed());
        if office {
            meeting.open_office();
        }
        let (down, up) = (meeting.link(down), meeting.link(up));
        let viewer = meeting.join(&[up], &[down]);
        meeting.subscribe(viewer, voice);
        for &track in &tracks {
            meeting.subscribe(viewer, track);
        }
        Gallery {
            meeting,
            tracks,
            voice,
            viewer,
            down,
            up,
        }
    }

    /// Lets the time pass until so long after the meeting began.
    pub(crate) fn run_to(&mut self, at: Duration) {
        self.meeting.run(at - self.meeting.elapsed());
    }

    /// Changes the capacity of the viewer's link, in kbit/s.
    pub(crate) fn set_capacity(&mut self, kilobits: u64) {
        self.meeting
            .set_link(self.down, |config| config.rate = Some(kilobits * 1_000));
    }

    /// Bits a second of media that the viewer gets, without repeats.
    pub(crate) fn rate(&self, from: Duration, to: Duration) -> f64 {
        let tracks = self.tracks.iter().chain([&self.voice]);
        let rates = tracks.map(|track| self.meeting.received(self.viewer, *track).rate(from, to));
        rates.sum()
    }

    /// The share of the capacity that was used, by whatever was sent; the capacity is that at
    /// `from`.
    pub(crate) fn used(&self, from: Duration, to: Duration) -> f64 {
        self.meeting.log(self.down).rate(from, to) / self.capacity(from)
    }

    /// The share of the capacity that media got, each packet counted once.
    pub(crate) fn media_share(&self, from: Duration, to: Duration) -> f64 {
        self.rate(from, to) / self.capacity(from)
    }

    fn capacity(&self, from: Duration) -> f64 {
        let capacity = &self.meeting.log(self.down).capacity;
        let at = capacity.iter().rev().find(|(at, _)| *at <= from);
        at.and_then(|(_, rate)| *rate).expect("a limited link") as f64
    }

    /// The wait in front of the viewer's link that this share of the packets stayed under.
    pub(crate) fn queueing(&self, share: f64, from: Duration, to: Duration) -> Duration {
        let log = self.meeting.log(self.down);
        log.queueing_quantile(share, from, to)
    }

    /// How long all pictures together stood still.
    pub(crate) fn frozen(&self, from: Duration, to: Duration) -> Duration {
        let frozen = |track: &Track| self.meeting.shown(self.viewer, *track).frozen(from, to);
        self.tracks.iter().map(frozen).sum()
    }

    /// The plot of rates, queue, layers.
    pub(crate) fn plot(&self, name: &'static str, title: &'static str) {
        let names: Vec<String> = (1..=self.tracks.len())
            .map(|n| format!("camera {n}"))
            .collect();
        let mut parts: Vec<(&str, &[u64])> = Vec::new();
        let mut shown = Vec::new();
        for (name, track) in names.iter().zip(&self.tracks) {
            let received = self.meeting.received(self.viewer, *track);
            parts.push((name, &received.bytes));
            shown.push((name.as_str(), self.viewer, *track));
        }
        Plot::new(&self.meeting, name, title)
            .rates(&self.meeting, self.down, &parts)
            .estimate(&self.meeting, self.viewer)
            .queueing(&self.meeting, self.down)
            .layers(&self.meeting, &shown)
            .write();
    }
}
