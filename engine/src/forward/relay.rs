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

use std::time::Instant;

use crate::api::codec::MediaKind;
use crate::api::ids::{ShardId, TrackId};
use crate::engine::Engine;
use crate::forward::relay_batch::{LAYERS, LayerState, MAX_PACKETS, RelayBatch, RelayItem};
use crate::state::packet::Received;
use crate::state::packet_cache::CachedFrame;
use crate::state::repeat::source_packet;
use crate::state::table::TrackIx;
use crate::state::track::{Feed, Layer, Track};
use crate::wire::red_payload;
use crate::wire::srtp::MAX_OVERHEAD;

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
                    if let Some(index) = self.tracks.find(*track) {
                        let to = &mut self.tracks[index].relayed_to;
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
            if let Some(index) = self.tracks.find(*track) {
                self.want_keyframe(now, index, *layer);
            }
        }
        for (track, layer, sequence) in &batch.resends {
            self.relay_again(now, from, *track, *layer, *sequence);
        }
        for &(transport, change) in &batch.holds {
            self.change_holds(now, transport, change);
        }
        self.backdate_deadline(arrived);
    }

    /// Sends the packet in the scratch buffer to the shards that asked for its track.
    pub(crate) fn relay_packet(&mut self, now: Instant, track: TrackIx, received: &Received) {
        let track = &self.tracks[track];
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
    pub(crate) fn relay_cached(&mut self, now: Instant, track: TrackIx, sequence: u64) {
        let track = &self.tracks[track];
        let id = track.id;
        for to in track.relayed_to.clone() {
            self.relay_again(now, to, id, 0, sequence);
        }
    }

    /// Tells the shards that asked for a track which of its layers are alive.
    pub(crate) fn relay_layers(&mut self, now: Instant, track: TrackIx) {
        let track = &self.tracks[track];
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
    pub(crate) fn update_relay(&mut self, now: Instant, track: TrackIx) {
        let track = &mut self.tracks[track];
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
        // What was said before and has not crossed yet is void: a viewer that comes and goes
        // while the home takes nothing costs no more than one that came.
        let items = &mut self.relay.batch(now, home).items;
        items.retain(
            |said| !matches!(said, RelayItem::Begin(id) | RelayItem::Stop(id) if *id == track.id),
        );
        items.push(item);
    }

    fn begin_relay(&mut self, now: Instant, to: ShardId, track: TrackId) {
        let Some(index) = self.tracks.find(track) else {
            return;
        };
        let track = &mut self.tracks[index];
        if !track.relayed_to.contains(&to) {
            track.relayed_to.push(to);
        }
        self.relay_layers(now, index);
    }

    fn relay_again(&mut self, now: Instant, to: ShardId, id: TrackId, layer: u8, sequence: u64) {
        let Some(index) = self.tracks.find(id) else {
            return;
        };
        let track = &self.tracks[index];
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
            primary_len: red_payload::primary_len(cached.packet, usize::from(cached.header_len)),
        };
        let batch = self.relay.batch(now, to);
        if batch.push_packet(id, ssrc, received, cached.packet) {
            self.statistics.packets_relayed += 1;
        } else {
            self.statistics.relays_dropped += 1;
        }
    }

    /// Index of a track that another shard feeds.
    fn fed_by(&self, from: ShardId, track: TrackId) -> Option<TrackIx> {
        let index = self.tracks.find(track)?;
        (self.tracks[index].feed == Feed::Shard(from)).then_some(index)
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
        let layers = &mut self.tracks[index].layers;
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
        let track = &mut self.tracks[index];
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
