//! Crossing between the engines of two shards: a track that is published on one of them and
//! watched on the other.
//!
//! The publisher's engine, the home of the track, decrypts a packet once and relays its
//! plaintext once to each engine that asked for the track, whatever the number of subscribers
//! there. The other engine keeps the track as an ordinary [`Track`] that is fed by a shard
//! instead of a peer, with a cache of its own, and serves its subscribers and their
//! retransmissions from it. Back go only wishes: to begin and to stop, for a keyframe, and for
//! single packets that were lost on the way between the shards.
//!
//! What crosses gathers for [`RELAY_INTERVAL`] and up to a bound. A packet past the bound is
//! dropped and counted; on the other side it is a gap like one of the network, and when a
//! subscriber asks for it, that engine asks the home for it again.

use std::time::{Duration, Instant};

use crate::api::codec::{Codec, MediaKind};
use crate::api::ids::{ShardId, TrackId};
use crate::engine::Engine;
use crate::forward::fan_out::source_packet;
use crate::receive::ingress::Received;
use crate::receive::red;
use crate::state::packet_cache::CachedFrame;
use crate::state::track::{Feed, Layer, SenderReport, Track};
use crate::wire::srtp::MAX_OVERHEAD;

/// What crosses waits at most this long for more, so that a burst wakes the other shard once.
const RELAY_INTERVAL: Duration = Duration::from_millis(1);
/// Packets and bytes that gather for one shard while it does not take them.
const MAX_PACKETS: usize = 4_096;
const MAX_BYTES: usize = 1 << 20;
/// Packets that one batch asks for again.
const MAX_RESENDS: usize = 64;
/// Buffers larger than this are given back once they are empty.
const KEPT_BYTES: usize = 256 << 10;
/// Layers of a track.
const LAYERS: usize = 3;

/// What crosses from one engine to another in one go.
#[derive(Debug, Default)]
pub struct RelayBatch {
    /// The packets' plaintext, one after the other, in the form that subscribers get.
    bytes: Vec<u8>,
    items: Vec<RelayItem>,
    /// Layers of which a keyframe is wanted.
    keyframes: Vec<(TrackId, u8)>,
    /// Packets that are missing, by layer and extended sequence number.
    resends: Vec<(TrackId, u8, u64)>,
}

/// What has to be seen in the order in which it was said.
#[derive(Debug)]
enum RelayItem {
    /// To the home: send this track from now on.
    Begin(TrackId),
    /// To the home: nobody here watches it any more.
    Stop(TrackId),
    /// From the home: which layers of a track are alive.
    Layers(TrackId, [Option<LayerState>; LAYERS]),
    /// From the home: the next packet of the bytes.
    Packet {
        track: TrackId,
        /// Of the layer's media, also when this was a retransmission.
        ssrc: u32,
        received: Received,
    },
}

/// A layer that is alive, as far as subscribers on another shard need to know.
#[derive(Debug, Clone, Copy)]
struct LayerState {
    ssrc: u32,
    codec: Codec,
    last_packet: Instant,
    sender_report: Option<SenderReport>,
}

impl RelayBatch {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.keyframes.is_empty() && self.resends.is_empty()
    }

    /// Empties it. Its memory is kept for the next use, unless there was very much of it.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.items.clear();
        self.keyframes.clear();
        self.resends.clear();
    }

    /// False when there is no room.
    fn push_packet(
        &mut self,
        track: TrackId,
        ssrc: u32,
        received: Received,
        packet: &[u8],
    ) -> bool {
        if self.items.len() >= MAX_PACKETS || self.bytes.len() + packet.len() > MAX_BYTES {
            return false;
        }
        self.bytes.extend_from_slice(packet);
        self.items.push(RelayItem::Packet {
            track,
            ssrc,
            received,
        });
        true
    }
}

/// What gathers for one other engine.
struct Outbox {
    to: ShardId,
    batch: RelayBatch,
    /// It has gathered long enough.
    released: bool,
}

/// What gathers for the other engines.
#[derive(Default)]
pub(crate) struct Relay {
    outboxes: Vec<Outbox>,
    due: Option<Instant>,
}

impl Relay {
    fn batch(&mut self, now: Instant, to: ShardId) -> &mut RelayBatch {
        self.due.get_or_insert(now + RELAY_INTERVAL);
        let index = match self.outboxes.iter().position(|outbox| outbox.to == to) {
            Some(index) => index,
            None => {
                self.outboxes.push(Outbox {
                    to,
                    batch: RelayBatch::default(),
                    released: false,
                });
                self.outboxes.len() - 1
            }
        };
        &mut self.outboxes[index].batch
    }

    /// See [`Engine::has_waited_since`].
    pub(crate) fn has_waited_since(&mut self, arrived: Instant) {
        self.due = self.due.map(|due| due.min(arrived + RELAY_INTERVAL));
    }

    /// When something is to cross.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Releases what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            for outbox in &mut self.outboxes {
                outbox.released = !outbox.batch.is_empty();
            }
        }
    }

    /// Asks the home of a track for a keyframe of a layer.
    pub(crate) fn want_keyframe(&mut self, now: Instant, home: ShardId, track: TrackId, layer: u8) {
        // Throttled and repeated until it comes at the home, over the subscribers of all shards.
        let keyframes = &mut self.batch(now, home).keyframes;
        if !keyframes.contains(&(track, layer)) {
            keyframes.push((track, layer));
        }
    }

    /// Asks the home of a track for a packet that did not cross. True when it will be asked.
    pub(crate) fn want_packet(
        &mut self,
        now: Instant,
        track: &Track,
        layer: u8,
        sequence: u64,
    ) -> bool {
        let Feed::Shard(home) = track.feed else {
            return false;
        };
        let resends = &mut self.batch(now, home).resends;
        let wanted = (track.id, layer, sequence);
        let new = resends.len() < MAX_RESENDS && !resends.contains(&wanted);
        if new {
            resends.push(wanted);
        }
        new
    }

    /// Memory held, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.outboxes
            .iter()
            .map(|outbox| outbox.batch.bytes.capacity())
            .sum()
    }
}

impl Engine {
    /// Exchanges an empty batch for what is to cross to another shard now. False, and `batch`
    /// stays as it is, when nothing is.
    pub fn poll_relay(&mut self, to: ShardId, batch: &mut RelayBatch) -> bool {
        debug_assert!(batch.is_empty());
        let outboxes = self.relay.outboxes.iter_mut();
        let Some(outbox) = outboxes
            .filter(|outbox| outbox.released && !outbox.batch.is_empty())
            .find(|outbox| outbox.to == to)
        else {
            return false;
        };
        outbox.released = false;
        std::mem::swap(&mut outbox.batch, batch);
        true
    }

    /// What another shard's engine gave in its [`Engine::poll_relay`] for this one, and that has
    /// waited to be read since it `arrived`.
    pub fn handle_relay(
        &mut self,
        now: Instant,
        arrived: Instant,
        from: ShardId,
        batch: &RelayBatch,
    ) {
        let mut bytes = &batch.bytes[..];
        for item in &batch.items {
            match item {
                RelayItem::Begin(track) => self.begin_relay(now, from, *track),
                RelayItem::Stop(track) => {
                    if let Some(&index) = self.track_index.get(track) {
                        let to = &mut self.tracks[index as usize].relayed_to;
                        to.retain(|shard| *shard != from);
                    }
                }
                RelayItem::Layers(track, layers) => self.note_layers(now, from, *track, layers),
                RelayItem::Packet {
                    track,
                    ssrc,
                    received,
                } => {
                    let Some((packet, rest)) = bytes.split_at_checked(received.len) else {
                        return;
                    };
                    bytes = rest;
                    self.handle_relayed(now, from, *track, *ssrc, received, packet);
                }
            }
        }
        for (track, layer) in &batch.keyframes {
            if let Some(&index) = self.track_index.get(track) {
                self.want_keyframe(now, index, *layer);
            }
        }
        for (track, layer, sequence) in &batch.resends {
            self.relay_again(now, from, *track, *layer, *sequence);
        }
        self.has_waited_since(arrived);
    }

    /// Sends the packet in the scratch buffer to the shards that asked for its track.
    pub(crate) fn relay_packet(&mut self, now: Instant, track: u32, received: &Received) {
        let track = &self.tracks[track as usize];
        if track.relayed_to.is_empty() {
            return;
        }
        let layer = track.layers.get(usize::from(received.source.layer));
        let Some(ssrc) = layer.and_then(|layer| layer.ssrc) else {
            return;
        };
        let packet = &self.scratch[..received.len];
        for &to in &track.relayed_to {
            let batch = self.relay.batch(now, to);
            if batch.push_packet(track.id, ssrc, *received, packet) {
                self.statistics.packets_relayed += 1;
            } else {
                self.statistics.relays_dropped += 1;
            }
        }
    }

    /// Sends a packet that was held back to the shards that asked for its track.
    pub(crate) fn relay_cached(&mut self, now: Instant, track: u32, sequence: u64) {
        let track = &self.tracks[track as usize];
        let id = track.id;
        for to in track.relayed_to.clone() {
            self.relay_again(now, to, id, 0, sequence);
        }
    }

    /// Tells the shards that asked for a track which of its layers are alive.
    pub(crate) fn relay_layers(&mut self, now: Instant, track: u32) {
        let track = &self.tracks[track as usize];
        for &to in &track.relayed_to {
            let batch = self.relay.batch(now, to);
            if batch.items.len() < MAX_PACKETS {
                let layers = layer_states(track, now);
                batch.items.push(RelayItem::Layers(track.id, layers));
            }
        }
    }

    /// After a track got its first subscriber or lost its last one: if it lives on another
    /// shard, that one has to know.
    pub(crate) fn update_relay(&mut self, now: Instant, track: u32) {
        let track = &mut self.tracks[track as usize];
        let Feed::Shard(home) = track.feed else {
            return;
        };
        let wanted = !track.subscriptions.is_empty();
        if wanted == track.requested {
            return;
        }
        track.requested = wanted;
        let item = if wanted {
            RelayItem::Begin(track.id)
        } else {
            RelayItem::Stop(track.id)
        };
        self.relay.batch(now, home).items.push(item);
    }

    fn begin_relay(&mut self, now: Instant, to: ShardId, track: TrackId) {
        let Some(&index) = self.track_index.get(&track) else {
            return;
        };
        let track = &mut self.tracks[index as usize];
        if !track.relayed_to.contains(&to) {
            track.relayed_to.push(to);
        }
        self.relay_layers(now, index);
    }

    fn relay_again(&mut self, now: Instant, to: ShardId, id: TrackId, layer: u8, sequence: u64) {
        let Some(&index) = self.track_index.get(&id) else {
            return;
        };
        let track = &self.tracks[index as usize];
        let Some((layer_state, (ssrc, codec))) = track
            .layers
            .get(usize::from(layer))
            .and_then(|state| Some((state, state.ssrc.zip(state.codec)?)))
        else {
            return;
        };
        let Some(cached) = layer_state.cache.get(sequence) else {
            return;
        };
        let Some(source) = source_packet(layer, sequence, codec, &cached) else {
            return;
        };
        let received = Received {
            source,
            codec,
            header_len: usize::from(cached.header_len),
            len: cached.packet.len(),
            undone_len: red::undone_len(cached.packet, usize::from(cached.header_len)),
        };
        let batch = self.relay.batch(now, to);
        if batch.push_packet(id, ssrc, received, cached.packet) {
            self.statistics.packets_relayed += 1;
        } else {
            self.statistics.relays_dropped += 1;
        }
    }

    /// Index of a track that another shard feeds.
    fn fed_by(&self, from: ShardId, track: TrackId) -> Option<u32> {
        let index = *self.track_index.get(&track)?;
        (self.tracks[index as usize].feed == Feed::Shard(from)).then_some(index)
    }

    fn note_layers(
        &mut self,
        now: Instant,
        from: ShardId,
        track: TrackId,
        states: &[Option<LayerState>; LAYERS],
    ) {
        let Some(index) = self.fed_by(from, track) else {
            return;
        };
        let layers = &mut self.tracks[index as usize].layers;
        for (layer, state) in layers.iter_mut().zip(states) {
            if let Some(state) = state {
                begin_layer(layer, state.ssrc);
                // While packets cross they tell that it lives, and this comes behind them.
                if !layer.is_alive(now) {
                    layer.touch(state.last_packet);
                }
                layer.codec = Some(state.codec);
                layer.sender_report = state.sender_report.or(layer.sender_report);
            }
        }
        self.look_at_layers(now, index);
    }

    /// A packet of a track of another shard: what `ingress.rs` does for those of a peer.
    fn handle_relayed(
        &mut self,
        now: Instant,
        from: ShardId,
        track: TrackId,
        ssrc: u32,
        received: &Received,
        packet: &[u8],
    ) {
        let Some(index) = self.fed_by(from, track) else {
            return;
        };
        let source = &received.source;
        let track = &mut self.tracks[index as usize];
        let Some(layer) = track.layers.get_mut(usize::from(source.layer)) else {
            return;
        };
        let restarted = layer.ssrc.is_some_and(|former| former != ssrc);
        let mut started = begin_layer(layer, ssrc);
        if layer.cache.get(source.sequence).is_some() {
            return;
        }
        started |= layer.touch(now);
        // A voice that was left out for a while goes on, and what was left out is not missed.
        let resumed =
            track.kind == MediaKind::Audio && source.sequence > layer.highest_sequence + 1;
        if source.sequence >= layer.highest_sequence {
            layer.highest_sequence = source.sequence;
            layer.last_timestamp = source.timestamp;
        }
        layer.codec = Some(received.codec);
        let layers = &source.layers;
        let layers_changed = layer.rates.note(now, layers, packet.len() + MAX_OVERHEAD);
        let frame = CachedFrame {
            needed_by: layers.needed_by,
            ends: layers.ends_frame,
        };
        let header_len = received.header_len as u16;
        layer
            .cache
            .insert(now, source.sequence, packet, header_len, frame);
        let muted = track.muted;
        if restarted || resumed {
            self.end_flow(index, source.layer);
        }
        if started || layers_changed {
            self.choose_layers(now, index);
        }
        if !muted {
            self.fan_out(now, index, received);
        }
    }
}

/// Makes a layer anew when another SSRC took it over. True when one did.
fn begin_layer(layer: &mut Layer, ssrc: u32) -> bool {
    let new = layer.ssrc != Some(ssrc);
    if new {
        layer.restart(ssrc);
    }
    new
}

fn layer_states(track: &Track, now: Instant) -> [Option<LayerState>; LAYERS] {
    let mut states = [None; LAYERS];
    let alive = |layer: &Layer| {
        let last_packet = layer.last_packet().filter(|_| layer.is_alive(now))?;
        Some(LayerState {
            ssrc: layer.ssrc?,
            codec: layer.codec?,
            last_packet,
            sender_report: layer.sender_report,
        })
    };
    for (layer, state) in track.layers.iter().zip(&mut states) {
        *state = alive(layer);
    }
    states
}

#[cfg(test)]
mod tests;
