//! A published track and its layers: what has been received, and what is kept of it.

use std::time::{Duration, Instant};

use crate::api::codec::{Codec, MediaKind};
use crate::api::command::TrackSource;
use crate::api::ids::{RoomId, ShardId, TrackId};
use crate::receive::audio_level::AudioLevelMeter;
use crate::receive::nack::NackGenerator;
use crate::receive::statistics::ReceiveStatistics;
use crate::state::layer_rates::LayerRates;
use crate::state::packet_cache::PacketCache;
use crate::state::table::{PeerIx, SubscriptionIx};
use crate::wire::payload::layers::LayerId;
use crate::wire::payload::reader::LayerReader;

/// A layer that has sent nothing for this long is not there to be forwarded, when others of its
/// track have. When none has, the picture may just stand still: encoders of screens send nothing then.
const LAYER_ALIVE: Duration = Duration::from_millis(1_500);
/// The least time between two keyframe requests for one layer.
const KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(500);
/// As often as this that time doubles while a layer that sends nothing does not answer: to 16 s.
/// Our choice: a publisher that has stopped costs a datagram in that time.
const MAX_DOUBLINGS: u8 = 5;
/// Packets and bytes kept of a layer for retransmission.
const VIDEO_CACHE: (u16, usize) = (1_024, 1 << 20);
const AUDIO_CACHE: (u16, usize) = (64, 32 << 10);

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
    pub(crate) reader: LayerReader,
    pub(crate) rates: LayerRates,
    pub(crate) highest_sequence: u64,
    /// Added to the extended sequence numbers of the SSRC, so that no number of a layer is ever
    /// that of another packet; a multiple of 2^16.
    sequence_base: u64,
    pub(crate) last_timestamp: u32,
    last_packet: Option<Instant>,
    keyframe_wanted: bool,
    /// The packet that is being handled begins a keyframe: whoever wants one now gets this one.
    pub(crate) begins_keyframe: bool,
    keyframe_requested_at: Option<Instant>,
    /// Requests in a row that a layer which sends nothing has not answered.
    unanswered: u8,
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
            reader: LayerReader::default(),
            rates: LayerRates::default(),
            highest_sequence: 0,
            sequence_base: 0,
            last_timestamp: 0,
            last_packet: None,
            keyframe_wanted: false,
            begins_keyframe: false,
            keyframe_requested_at: None,
            unanswered: 0,
        }
    }

    /// Another SSRC took over: its sequence numbers are placed behind all former ones, and
    /// timestamps start from other values.
    pub(crate) fn restart(&mut self, ssrc: u32) {
        if self.ssrc.is_some() {
            self.sequence_base = (self.highest_sequence | 0xffff) + 1;
        }
        self.ssrc = Some(ssrc);
        self.cache.clear();
        self.nack = NackGenerator::default();
        self.statistics = ReceiveStatistics::default();
        self.sender_report = None;
        self.reader = LayerReader::default();
        self.rates = LayerRates::default();
        self.highest_sequence = self.sequence_base;
        self.last_packet = None;
    }

    /// The number within the layer of an extended sequence number of its SSRC.
    pub(crate) fn number(&self, sequence: u64) -> u64 {
        self.sequence_base + sequence
    }

    pub(crate) fn is_alive(&self, now: Instant) -> bool {
        self.last_packet
            .is_some_and(|last| now.saturating_duration_since(last) < LAYER_ALIVE)
    }

    /// Whether it was among what its track sent last, of which the `newest` packet is given.
    fn is_available(&self, newest: Option<Instant>) -> bool {
        let last = self.last_packet.zip(newest);
        last.is_some_and(|(last, newest)| newest.saturating_duration_since(last) < LAYER_ALIVE)
    }

    /// When the last packet came, if one has.
    pub(crate) fn last_packet(&self) -> Option<Instant> {
        self.last_packet
    }

    /// Notes an arrival; true when the layer was not alive before.
    pub(crate) fn touch(&mut self, now: Instant) -> bool {
        let alive = self.is_alive(now);
        self.last_packet = Some(now);
        self.unanswered = 0;
        !alive
    }

    /// Someone waits for a keyframe. True when a request is to be sent now.
    pub(crate) fn want_keyframe(&mut self, now: Instant) -> bool {
        if self.begins_keyframe {
            return false;
        }
        self.keyframe_wanted = true;
        self.keyframe_request_is_due(now)
    }

    /// Whether a request that was made has to be made again. Marks it as made.
    pub(crate) fn keyframe_request_is_due(&mut self, now: Instant) -> bool {
        let early = self.next_keyframe_request().is_some_and(|due| due > now);
        if !self.keyframe_wanted || early || self.ssrc.is_none() {
            return false;
        }
        self.keyframe_requested_at = Some(now);
        if !self.is_alive(now) {
            self.unanswered = (self.unanswered + 1).min(MAX_DOUBLINGS + 1);
        }
        true
    }

    /// When the PLI for a wanted keyframe should be repeated.
    pub(crate) fn next_keyframe_request(&self) -> Option<Instant> {
        if !self.keyframe_wanted {
            return None;
        }
        let doublings = self.unanswered.saturating_sub(1);
        self.keyframe_requested_at
            .map(|at| at + KEYFRAME_REQUEST_INTERVAL * (1 << doublings))
    }

    pub(crate) fn keyframe_arrived(&mut self) {
        self.keyframe_wanted = false;
        self.begins_keyframe = true;
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
    Peer(PeerIx),
    /// From the shard that has the publisher.
    Shard(ShardId),
}

/// What a shard requests of a track whose publisher is on another shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Wanted {
    /// Nobody there watches it.
    #[default]
    Nothing,
    /// What is forwarded to everyone.
    Forwarded,
    /// Packets that last-N holds back as well: a subscriber there is always forwarded the track.
    Held,
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
    /// Its frames are encrypted end to end.
    pub(crate) encrypted: bool,
    /// The streams that were alive when they were last looked at.
    pub(crate) known_alive: u8,
    /// Lowest first, never empty.
    pub(crate) layers: Vec<Layer>,
    /// Indexes of the subscriptions.
    pub(crate) subscriptions: Vec<SubscriptionIx>,
    /// How many of them are [`always_heard`](crate::state::subscription::Subscription::always_heard).
    pub(crate) always_heard: u32,
    pub(crate) audio_level: AudioLevelMeter,
    /// Shards to which the packets are relayed, and what each wants of them.
    pub(crate) relayed_to: Vec<(ShardId, Wanted)>,
    /// What was requested from the publisher's shard.
    pub(crate) requested: Wanted,
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
            encrypted: false,
            known_alive: 0,
            layers: Vec::new(),
            subscriptions: Vec::new(),
            always_heard: 0,
            audio_level: AudioLevelMeter::default(),
            relayed_to: Vec::new(),
            requested: Wanted::Nothing,
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

    /// Whether its subscribers need a keyframe to start.
    pub(crate) fn needs_keyframe(&self) -> bool {
        self.kind == MediaKind::Video
    }

    /// Which of its streams are alive, a bit each, the lowest first.
    pub(crate) fn streams_alive(&self, now: Instant) -> u8 {
        let bit = |(index, layer): (u32, &Layer)| u8::from(layer.is_alive(now)) << index;
        (0..8).zip(&self.layers).map(bit).sum()
    }

    /// Whether its layers are in one stream (scalable coding), and not in several (simulcast).
    pub(crate) fn is_scalable(&self) -> bool {
        match &self.layers[..] {
            [stream] => stream.rates.highest() > LayerId::default(),
            _ => false,
        }
    }

    /// In which stream a layer is, and as which one within it.
    pub(crate) fn locate(&self, layer: LayerId) -> (u8, LayerId) {
        let (stream, wanted) = match self.layers.len() {
            1 => (0, layer.spatial),
            _ => (layer.spatial, u8::MAX),
        };
        let highest = self
            .layers
            .get(usize::from(stream))
            .map_or(0, |stream| stream.rates.highest().spatial);
        (stream, LayerId::new(wanted.min(highest), layer.temporal))
    }

    /// Whether nothing at all has been sent of it for a while.
    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        !self.layers.iter().any(|layer| layer.is_alive(now))
    }

    /// Gives the memory back of packets that nobody misses any more: those of layers that have
    /// stopped while others go on, and of a track that is muted. Of a picture that stands still they
    /// are kept: with the next one a receiver may notice that it misses the last.
    pub(crate) fn forget_stopped(&mut self, now: Instant) {
        let newest = self.layers.iter().filter_map(Layer::last_packet).max();
        for layer in &mut self.layers {
            if !layer.is_available(newest) || (self.muted && !layer.is_alive(now)) {
                layer.cache.clear();
            }
        }
    }

    /// A packet of a layer has arrived. When it ends a silence of the whole track, the others that
    /// were sent before are about to be sent again: they are taken to be alive from now on.
    pub(crate) fn end_silence(&mut self, layer: u8, now: Instant) {
        if !self.is_silent(now) {
            return;
        }
        let newest = self.layers.iter().filter_map(Layer::last_packet).max();
        for (index, other) in (0..).zip(&mut self.layers) {
            if index != layer && other.is_available(newest) {
                other.last_packet = Some(now);
            }
        }
    }

    /// The layers that there are, the smallest first: those of the streams that are alive. While the
    /// whole track sends nothing they are those that it sent last, as a keyframe of them can be
    /// asked for.
    pub(crate) fn available_layers(&self) -> impl Iterator<Item = LayerId> + Clone {
        let newest = self.layers.iter().filter_map(Layer::last_packet).max();
        (0..).zip(&self.layers).flat_map(move |(index, stream)| {
            let available = stream.is_available(newest);
            let highest = stream.rates.highest();
            let spatial = match self.layers.len() {
                1 => 0..=highest.spatial,
                _ => index..=index,
            };
            let spatial = spatial.filter(move |_| available);
            spatial.flat_map(move |spatial| {
                (0..=highest.temporal).map(move |temporal| LayerId { spatial, temporal })
            })
        })
    }

    /// Bits a second that sending a layer to one subscriber costs; 0 while it is not known.
    pub(crate) fn bitrate(&self, layer: LayerId, now: Instant) -> u64 {
        let (stream, within) = self.locate(layer);
        let stream = self.layers.get(usize::from(stream));
        stream.map_or(0, |stream| stream.rates.bitrate(within, now))
    }

    /// Pictures a second of a layer; 0 while that is not known.
    pub(crate) fn frame_rate(&self, layer: LayerId, now: Instant) -> u16 {
        let (stream, within) = self.locate(layer);
        let stream = self.layers.get(usize::from(stream));
        stream.map_or(0, |stream| stream.rates.frame_rate(within.temporal, now))
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
    use crate::test_clock;

    fn simulcast() -> Track {
        let source = TrackSource {
            mid: "1".into(),
            rids: vec!["q".into(), "h".into(), "f".into()],
            ssrcs: Vec::new(),
        };
        Track::new(
            TrackId(1),
            RoomId(1),
            Feed::Peer(PeerIx(0)),
            MediaKind::Video,
            source,
        )
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
        assert!(!layer.want_keyframe(again + KEYFRAME_REQUEST_INTERVAL));
        layer.begins_keyframe = false;
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
