//! A published track and its layers: what has been received, and what is kept of it.

use std::time::{Duration, Instant};

use super::allocation::Candidate;
use super::command::{TrackSource, Wish};
use super::ids::{RoomId, ShardId, TrackId};
use super::packet_cache::PacketCache;
use super::rate_meter::RateMeter;
use super::receive::audio_level::AudioLevelMeter;
use super::receive::nack::NackGenerator;
use super::receive::statistics::ReceiveStatistics;
use crate::media::codec::{Codec, MediaKind};

/// A layer that has sent nothing for this long is not there to be forwarded.
const LAYER_ALIVE: Duration = Duration::from_millis(1_500);
/// The least time between two keyframe requests for one layer.
const KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(500);
/// Packets and bytes kept of a layer for retransmission.
const VIDEO_CACHE: (u16, usize) = (1_024, 1 << 20);
const AUDIO_CACHE: (u16, usize) = (64, 32 << 10);

/// What the layers of a camera cost before it is measured, bits a second.
const NOMINAL_RATES: [u64; 3] = [150_000, 500_000, 1_700_000];

/// The publisher's mapping of RTP time to its wall clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SenderReport {
    /// NTP time, 32.32 bits of seconds.
    pub(crate) ntp: u64,
    /// RTP timestamp at that time.
    pub(crate) rtp: u32,
    /// When it arrived.
    pub(crate) at: Instant,
}

/// One encoding of a track.
pub(crate) struct Layer {
    pub(crate) ssrc: Option<u32>,
    pub(crate) codec: Option<Codec>,
    pub(crate) cache: PacketCache,
    pub(crate) nack: NackGenerator,
    pub(crate) statistics: ReceiveStatistics,
    pub(crate) sender_report: Option<SenderReport>,
    pub(crate) highest_sequence: u64,
    pub(crate) last_timestamp: u32,
    pub(crate) bitrate: RateMeter,
    last_packet: Option<Instant>,
    keyframe_wanted: bool,
    keyframe_requested_at: Option<Instant>,
}

impl Layer {
    fn new(kind: MediaKind) -> Layer {
        let (packets, bytes) = match kind {
            MediaKind::Audio => AUDIO_CACHE,
            MediaKind::Video => VIDEO_CACHE,
        };
        Layer {
            ssrc: None,
            codec: None,
            cache: PacketCache::new(packets, bytes),
            nack: NackGenerator::default(),
            statistics: ReceiveStatistics::default(),
            sender_report: None,
            highest_sequence: 0,
            last_timestamp: 0,
            bitrate: RateMeter::default(),
            last_packet: None,
            keyframe_wanted: false,
            keyframe_requested_at: None,
        }
    }

    /// Another SSRC took over: sequence numbers and timestamps begin anew.
    pub(crate) fn restart(&mut self, ssrc: u32) {
        self.ssrc = Some(ssrc);
        self.cache.clear();
        self.nack = NackGenerator::default();
        self.statistics = ReceiveStatistics::default();
        self.sender_report = None;
        self.highest_sequence = 0;
        self.last_packet = None;
    }

    pub(crate) fn is_alive(&self, now: Instant) -> bool {
        self.last_packet
            .is_some_and(|last| now.saturating_duration_since(last) < LAYER_ALIVE)
    }

    /// When the last packet came, if one has.
    pub(crate) fn last_packet(&self) -> Option<Instant> {
        self.last_packet
    }

    /// Notes an arrival; true when the layer was not alive before.
    pub(crate) fn touch(&mut self, now: Instant) -> bool {
        let alive = self.is_alive(now);
        self.last_packet = Some(now);
        !alive
    }

    /// Someone waits for a keyframe. True when a request is to be sent now.
    pub(crate) fn want_keyframe(&mut self, now: Instant) -> bool {
        self.keyframe_wanted = true;
        self.keyframe_request_is_due(now)
    }

    /// Whether a request that was made has to be made again. Marks it as made.
    pub(crate) fn keyframe_request_is_due(&mut self, now: Instant) -> bool {
        let throttled = self
            .keyframe_requested_at
            .is_some_and(|at| now.saturating_duration_since(at) < KEYFRAME_REQUEST_INTERVAL);
        if !self.keyframe_wanted || throttled || self.ssrc.is_none() {
            return false;
        }
        self.keyframe_requested_at = Some(now);
        true
    }

    /// When a wanted keyframe should be asked for again.
    pub(crate) fn next_keyframe_request(&self) -> Option<Instant> {
        if !self.keyframe_wanted {
            return None;
        }
        self.keyframe_requested_at
            .map(|at| at + KEYFRAME_REQUEST_INTERVAL)
    }

    pub(crate) fn keyframe_arrived(&mut self) {
        self.keyframe_wanted = false;
    }

    /// NTP time of an RTP timestamp of this layer, 32.32 bits of seconds.
    fn ntp_of(&self, timestamp: u32, clock_rate: u32) -> Option<u64> {
        let report = self.sender_report?;
        let ticks = i64::from(timestamp.wrapping_sub(report.rtp) as i32);
        let offset = (i128::from(ticks) << 32) / i128::from(clock_rate);
        Some(report.ntp.wrapping_add(offset as u64))
    }

    /// The timestamp of this layer at an NTP time.
    fn timestamp_at(&self, ntp: u64, clock_rate: u32) -> Option<u32> {
        let report = self.sender_report?;
        let offset = i128::from(ntp.wrapping_sub(report.ntp) as i64);
        let ticks = (offset * i128::from(clock_rate)) >> 32;
        Some(report.rtp.wrapping_add(ticks as u32))
    }
}

/// Where a track's packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Feed {
    /// From a peer, by its index.
    Peer(u32),
    /// From the shard that has the publisher.
    Shard(ShardId),
}

/// One published track.
pub(crate) struct Track {
    pub(crate) id: TrackId,
    pub(crate) room: RoomId,
    pub(crate) feed: Feed,
    pub(crate) kind: MediaKind,
    pub(crate) source: TrackSource,
    pub(crate) muted: bool,
    /// It shows a screen.
    pub(crate) screen: bool,
    /// Lowest first, never empty.
    pub(crate) layers: Vec<Layer>,
    /// Indexes of the subscriptions.
    pub(crate) subscriptions: Vec<u32>,
    pub(crate) audio_level: AudioLevelMeter,
    /// Shards to which the packets are relayed.
    pub(crate) relayed_to: Vec<ShardId>,
    /// The shard that feeds it has been asked to.
    pub(crate) requested: bool,
}

impl Track {
    pub(crate) fn new(
        id: TrackId,
        room: RoomId,
        feed: Feed,
        kind: MediaKind,
        source: TrackSource,
    ) -> Track {
        let mut track = Track {
            id,
            room,
            feed,
            kind,
            source: TrackSource::default(),
            muted: false,
            screen: false,
            layers: Vec::new(),
            subscriptions: Vec::new(),
            audio_level: AudioLevelMeter::default(),
            relayed_to: Vec::new(),
            requested: false,
        };
        track.set_source(source);
        track
    }

    pub(crate) fn set_source(&mut self, source: TrackSource) {
        let count = source.rids.len().max(source.ssrcs.len()).clamp(1, 3);
        while self.layers.len() < count {
            self.layers.push(Layer::new(self.kind));
        }
        self.source = source;
    }

    /// The layers that can be sent to someone with this wish, the lowest first: those alive up
    /// to what is wished, else the lowest alive.
    fn choices(&self, now: Instant, wish: &Wish) -> impl Iterator<Item = u8> {
        let alive = move |layer: &u8| self.layers[usize::from(*layer)].is_alive(now);
        let lowest = (0..self.layers.len() as u8).find(alive);
        let most = lowest.map_or(0, |lowest| lowest.max(wish.max_layer));
        (0..self.layers.len() as u8).filter(move |layer| *layer <= most && alive(layer))
    }

    /// Adds what can be sent of this track, and what it costs.
    pub(crate) fn offer_choices(
        &mut self,
        now: Instant,
        wish: &Wish,
        current: Option<u8>,
        candidate: &mut Candidate,
    ) {
        for layer in &mut self.layers {
            layer.bitrate.rate(now);
        }
        for layer in self.choices(now, wish) {
            let state = &self.layers[usize::from(layer)];
            let known = Some(state.bitrate.last()).filter(|rate| *rate > 0);
            let nominal = NOMINAL_RATES[usize::from(layer).min(NOMINAL_RATES.len() - 1)];
            candidate.add(known.unwrap_or(nominal), current == Some(layer));
        }
    }

    /// The choice with this number, in the order of [`Track::offer_choices`].
    pub(crate) fn choice(&self, now: Instant, wish: &Wish, number: usize) -> Option<u8> {
        self.choices(now, wish).nth(number)
    }

    /// Whether there is anything to send.
    pub(crate) fn has_choices(&self, now: Instant) -> bool {
        self.layers.iter().any(|layer| layer.is_alive(now))
    }

    /// The timestamp in `from`'s clock of what `to` shows at `timestamp`, where both have had
    /// a sender report.
    pub(crate) fn translate(
        &self,
        to: u8,
        timestamp: u32,
        from: u8,
        clock_rate: u32,
    ) -> Option<u32> {
        let ntp = self
            .layers
            .get(usize::from(to))?
            .ntp_of(timestamp, clock_rate)?;
        self.layers
            .get(usize::from(from))?
            .timestamp_at(ntp, clock_rate)
    }

    /// Which layer a RID names.
    pub(crate) fn layer_of_rid(&self, rid: &[u8]) -> Option<u8> {
        self.source
            .rids
            .iter()
            .position(|known| known.as_bytes() == rid)
            .map(|index| index as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::test_clock;

    fn simulcast() -> Track {
        let source = TrackSource {
            mid: "1".into(),
            rids: vec!["q".into(), "h".into(), "f".into()],
            ssrcs: Vec::new(),
        };
        Track::new(
            TrackId(1),
            RoomId(1),
            Feed::Peer(0),
            MediaKind::Video,
            source,
        )
    }

    #[test]
    fn what_can_be_sent_are_the_layers_alive_within_the_wish() {
        let now = test_clock::start();
        let mut track = simulcast();
        let choices = |track: &Track, max_layer, now| {
            let wish = Wish {
                max_layer,
                ..Wish::default()
            };
            track.choices(now, &wish).collect::<Vec<u8>>()
        };
        assert!(choices(&track, 2, now).is_empty());
        track.layers[1].touch(now);
        assert_eq!(choices(&track, 0, now), [1]);
        track.layers[0].touch(now);
        track.layers[2].touch(now);
        assert_eq!(choices(&track, 0, now), [0]);
        assert_eq!(choices(&track, 200, now), [0, 1, 2]);
        assert!(choices(&track, 2, now + LAYER_ALIVE).is_empty());
    }

    #[test]
    fn keyframe_requests_are_throttled_and_repeated_until_one_arrives() {
        let now = test_clock::start();
        let mut layer = Layer::new(MediaKind::Video);
        layer.restart(1);
        assert!(layer.want_keyframe(now));
        assert!(!layer.want_keyframe(now + Duration::from_millis(100)));
        let again = layer.next_keyframe_request().unwrap();
        assert_eq!(again, now + KEYFRAME_REQUEST_INTERVAL);
        assert!(layer.keyframe_request_is_due(again));
        layer.keyframe_arrived();
        assert_eq!(layer.next_keyframe_request(), None);
        assert!(!layer.keyframe_request_is_due(again + KEYFRAME_REQUEST_INTERVAL));
    }

    #[test]
    fn sender_reports_relate_the_clocks_of_two_layers() {
        let now = test_clock::start();
        let mut track = simulcast();
        track.layers[0].sender_report = Some(SenderReport {
            ntp: 5 << 32,
            rtp: 1_000,
            at: now,
        });
        track.layers[1].sender_report = Some(SenderReport {
            ntp: 6 << 32,
            rtp: 70_000,
            at: now,
        });
        let translated = track.translate(1, 70_000, 0, 90_000);
        assert_eq!(translated, Some(1_000 + 90_000));
    }
}
