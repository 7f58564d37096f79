//! What a viewer gets of a track: which pictures can be decoded and when they are shown, by the
//! truth in the packets' stamps, with freezes as libwebrtc defines them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::packet::Stamp;

/// Pictures that a decoder and its frame buffer remember.
const REMEMBERED: u32 = 300;
/// Intervals over which the mean is taken.
const MEAN_OVER: usize = 30;
/// A gap this much above the mean is a freeze, unless three times the mean is more.
const FREEZE: Duration = Duration::from_millis(150);
/// The share by which the play-out delay falls back to what is needed, a picture.
const DELAY_FALLS: f64 = 0.01;
/// Without a decodable picture for this long a keyframe is asked for: at the start, and later.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// What was shown of a track.
#[derive(Debug, Default, Clone)]
pub(crate) struct Shown {
    /// Pictures shown.
    pub(crate) pictures: u32,
    /// When the first was, since the meeting began.
    pub(crate) first: Option<Duration>,
    /// Each freeze: when the next picture came after all, and how long it was waited for.
    pub(crate) freezes: Vec<(Duration, Duration)>,
    /// The longest time between two pictures.
    pub(crate) longest_gap: Duration,
    /// Since when which layer is shown: spatial and temporal.
    pub(crate) layers: Vec<(Duration, u8, u8)>,
    /// The time of each picture.
    pub(crate) times: Vec<Duration>,
}

impl Shown {
    /// Freezes of at least `least` that ended from `from` to `to`.
    pub(crate) fn frozen(&self, from: Duration, to: Duration) -> Duration {
        let within = self
            .freezes
            .iter()
            .filter(|(end, _)| *end >= from && *end < to);
        within.map(|(_, gap)| *gap).sum()
    }

    /// The longest time between two pictures, of which the later one was shown from `from` to
    /// `to`; the time up to `to` when nothing came any more.
    pub(crate) fn longest_gap_in(&self, from: Duration, to: Duration) -> Duration {
        let mut last = from;
        let mut longest = Duration::ZERO;
        let within = self.times.iter().filter(|at| **at > from && **at < to);
        for at in within.chain([&to]) {
            longest = longest.max(*at - last);
            last = *at;
        }
        longest
    }

    /// How often the size changed from `from` to `to`.
    pub(crate) fn size_changes(&self, from: Duration, to: Duration) -> usize {
        // The first entry is the size that it began with.
        let changes = self.layers.iter().skip(1);
        changes.filter(|(at, ..)| *at >= from && *at < to).count()
    }

    /// Pictures a second from `from` to `to`.
    pub(crate) fn frame_rate(&self, from: Duration, to: Duration) -> f64 {
        let count = self
            .times
            .iter()
            .filter(|at| **at >= from && **at < to)
            .count();
        count as f64 / (to - from).as_secs_f64()
    }
}

/// A frame of which packets have arrived.
#[derive(Debug)]
struct Partial {
    stamp: Stamp,
    arrived: u64,
    extra: u64,
    ends_picture: bool,
}

impl Partial {
    fn complete(&self) -> bool {
        self.arrived.count_ones() + self.extra.count_ones() == u32::from(self.stamp.count)
    }
}

/// Frame buffer, decoder and renderer of one track.
#[derive(Debug)]
pub(super) struct Decoder {
    epoch: Instant,
    /// Since when the track is expected.
    since: Instant,
    partial: BTreeMap<(u32, u8), Partial>,
    decoded: BTreeSet<(u32, u8)>,
    /// The last picture decoded; nothing before the first.
    last_picture: Option<u32>,
    last_decoded: Instant,
    last_shown: Option<Instant>,
    intervals: VecDeque<Duration>,
    /// Present delay between making and showing.
    delay: Duration,
    asked: Option<Instant>,
    pub(super) shown: Shown,
}

impl Decoder {
    pub(super) fn new(epoch: Instant, now: Instant) -> Decoder {
        Decoder {
            epoch,
            since: now,
            partial: BTreeMap::new(),
            decoded: BTreeSet::new(),
            last_picture: None,
            last_decoded: now,
            last_shown: None,
            intervals: VecDeque::new(),
            delay: Duration::ZERO,
            asked: None,
            shown: Shown::default(),
        }
    }

    /// A packet arrived for the first time.
    pub(super) fn receive(&mut self, now: Instant, stamp: Stamp, marker: bool) {
        let partial = self
            .partial
            .entry((stamp.picture, stamp.layer))
            .or_insert(Partial {
                stamp,
                arrived: 0,
                extra: 0,
                ends_picture: false,
            });
        match stamp.index {
            index @ 0..64 => partial.arrived |= 1 << index,
            index => partial.extra |= 1 << (index % 64),
        }
        partial.ends_picture |= marker;
        if partial.complete() {
            self.decode(now);
        }
    }

    /// Decodes all that can be, in order.
    fn decode(&mut self, now: Instant) {
        let ready = |decoder: &Decoder| {
            let mut partial = decoder.partial.iter();
            let found = partial
                .find(|(_, partial)| partial.complete() && decoder.can_decode(&partial.stamp));
            found.map(|(key, _)| *key)
        };
        while let Some(key) = ready(self) {
            let Some(partial) = self.partial.remove(&key) else {
                return;
            };
            self.decoded.insert(key);
            self.last_decoded = now;
            self.asked = None;
            let newest = self.last_picture.is_none_or(|last| key.0 > last);
            if partial.ends_picture && newest {
                self.last_picture = Some(key.0);
                self.show(now, &partial.stamp);
            }
        }
        let oldest = self.last_picture.unwrap_or(0).saturating_sub(REMEMBERED);
        self.decoded = self.decoded.split_off(&(oldest, 0));
        self.partial = self.partial.split_off(&(oldest, 0));
    }

    fn can_decode(&self, stamp: &Stamp) -> bool {
        let same = stamp
            .needs
            .is_none_or(|picture| self.decoded.contains(&(picture, stamp.layer)));
        let lower = !stamp.needs_lower
            || self
                .decoded
                .range((stamp.picture, 0)..(stamp.picture, stamp.layer))
                .count()
                == usize::from(stamp.layer);
        same && lower
    }

    /// The picture is shown when it is its turn: after the play-out delay, which rises at once
    /// to what a late picture took and falls back slowly.
    fn show(&mut self, now: Instant, stamp: &Stamp) {
        let took = now.duration_since(self.epoch + stamp.created);
        self.delay = if took > self.delay {
            took
        } else {
            took + (self.delay - took).mul_f64(1.0 - DELAY_FALLS)
        };
        let at = (self.epoch + stamp.created + self.delay).max(now);
        let since_start = at.duration_since(self.epoch);
        let shown = &mut self.shown;
        shown.pictures += 1;
        shown.times.push(since_start);
        shown.first.get_or_insert(since_start);
        let layer = (stamp.layer, stamp.temporal);
        note_layer(&mut shown.layers, since_start, layer);
        if let Some(last) = self.last_shown {
            let gap = at.saturating_duration_since(last);
            shown.longest_gap = shown.longest_gap.max(gap);
            let count = self.intervals.len() as u32;
            if count > 0 {
                let mean = self.intervals.iter().sum::<Duration>() / count;
                if gap > (3 * mean).max(mean + FREEZE) {
                    shown.freezes.push((since_start, gap));
                }
            }
            if self.intervals.len() == MEAN_OVER {
                self.intervals.pop_front();
            }
            self.intervals.push_back(gap);
        }
        self.last_shown = Some(at);
    }

    /// Whether a keyframe is to be asked for now.
    pub(super) fn wants_keyframe(&mut self, now: Instant, flows: bool) -> bool {
        let patience = if self.last_picture.is_none() || self.asked.is_some() {
            PATIENCE.0
        } else {
            PATIENCE.1
        };
        let since = self.asked.unwrap_or(self.last_decoded.max(self.since));
        let wants = flows && now.saturating_duration_since(since) >= patience;
        if wants {
            self.asked = Some(now);
        }
        wants
    }
}

/// Notes the spatial layer when it changes, and the highest temporal layer within a while.
fn note_layer(layers: &mut Vec<(Duration, u8, u8)>, at: Duration, (spatial, temporal): (u8, u8)) {
    match layers.last_mut() {
        Some((_, last, highest)) if *last == spatial => *highest = (*highest).max(temporal),
        _ => layers.push((at, spatial, temporal)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(picture: u32, needs: Option<u32>, created: u64) -> Stamp {
        Stamp {
            created: Duration::from_millis(created),
            picture,
            needs,
            needs_lower: false,
            layer: 0,
            temporal: 0,
            index: 0,
            count: 1,
        }
    }

    #[test]
    fn nothing_is_decoded_without_what_it_needs() {
        let now = Instant::now();
        let mut decoder = Decoder::new(now, now);
        decoder.receive(now, stamp(1, Some(0), 0), true);
        assert_eq!(decoder.shown.pictures, 0);
        decoder.receive(now, stamp(0, None, 0), true);
        assert_eq!(decoder.shown.pictures, 2);
    }

    #[test]
    fn a_long_gap_is_a_freeze() {
        let now = Instant::now();
        let mut decoder = Decoder::new(now, now);
        for picture in 0..40 {
            let lost = if picture >= 30 { 300 } else { 0 };
            let created = u64::from(picture) * 33 + lost;
            let at = now + Duration::from_millis(created);
            decoder.receive(at, stamp(picture, picture.checked_sub(1), created), true);
        }
        let gap = Duration::from_millis(333);
        assert_eq!(decoder.shown.longest_gap, gap);
        assert_eq!(decoder.shown.freezes.len(), 1);
        assert_eq!(decoder.shown.freezes[0].1, gap);
    }

    #[test]
    fn a_keyframe_is_asked_for_with_patience() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        let mut decoder = Decoder::new(now, now);
        assert!(!decoder.wants_keyframe(now + ms(100), true));
        assert!(decoder.wants_keyframe(now + ms(200), true));
        assert!(!decoder.wants_keyframe(now + ms(300), true));
        assert!(decoder.wants_keyframe(now + ms(400), true));
        decoder.receive(now + ms(410), stamp(0, None, 410), true);
        assert!(!decoder.wants_keyframe(now + ms(3_000), true));
        assert!(decoder.wants_keyframe(now + ms(3_410), true));
    }
}
