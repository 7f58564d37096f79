//! Crossing between the engines of two shards: a track that is published on one of them and
//! watched on the other.
//!
//! The publisher's engine, the home of the track, decrypts a packet once and relays its
//! plaintext once to each engine that asked for the track, whatever the number of subscribers
//! there. The other engine keeps the track as an ordinary [`Track`] that is fed by a shard
//! instead of a peer, with a cache of its own, and serves its subscribers and their
//! retransmissions from it. Back go only wishes: what is wanted of a track, a keyframe, and single
//! packets that were lost on the way between the shards.
//!
//! Which voices are forwarded is decided at their home, for the whole room (see `last_n`). With each
//! packet crosses for whom it is; a packet that is held crosses to shards where somebody hears its
//! track always, and to no other.
//!
//! What crosses gathers for [`RELAY_INTERVAL`] and up to a bound. A packet past the bound is
//! dropped and counted; on the other side it is a gap like one of the network, and when a
//! subscriber asks for it, that engine asks the home for it again.

use std::time::Instant;

use crate::api::ids::{ShardId, TrackId};
use crate::forward::relay_batch::{LAYERS, LayerState, MAX_PACKETS, RelayItem, RelayedReport};
use crate::state::Media;
use crate::state::packet::{Audience, Received};
use crate::state::repeat::source_packet;
use crate::state::table::TrackIx;
use crate::state::track::{Feed, Layer, Track, Wanted};
use crate::wire::red_payload::Redundancy;

/// Sends a packet, given in the form that subscribers get, to the shards that have some of its
/// audience.
pub(crate) fn relay_packet(
    media: &mut Media,
    now: Instant,
    track: TrackIx,
    received: &Received,
    audience: Audience,
    packet: &[u8],
) {
    let track = &media.tracks[track];
    if track.relayed_to.is_empty() {
        return;
    }
    let layer = track.layers.get(usize::from(received.source.layer));
    let Some(ssrc) = layer.and_then(|layer| layer.ssrc) else {
        return;
    };
    for &(to, wanted) in &track.relayed_to {
        if audience == Audience::AlwaysHearing && wanted != Wanted::Held {
            continue;
        }
        let batch = media.relay.batch(now, to);
        if batch.push_packet(track.id, ssrc, *received, Some(audience), packet) {
            media.statistics.packets_relayed += 1;
        } else {
            media.statistics.relays_dropped += 1;
        }
    }
}

/// Sends a packet that was held back to the shards that asked for its track, for those who have not
/// got it.
pub(crate) fn relay_held(media: &mut Media, now: Instant, track: TrackIx, sequence: u64) {
    let id = media.tracks[track].id;
    for place in 0..media.tracks[track].relayed_to.len() {
        let (to, _) = media.tracks[track].relayed_to[place];
        relay_cached(media, now, to, (id, 0, sequence), Some(Audience::Others));
    }
}

/// Tells the shards that asked for a track which of its layers there are.
pub(crate) fn relay_layers(media: &mut Media, now: Instant, track: TrackIx) {
    let track = &media.tracks[track];
    for &(to, _) in &track.relayed_to {
        let batch = media.relay.batch(now, to);
        if batch.items.len() < MAX_PACKETS {
            let layers = layer_states(track, now);
            batch.items.push(RelayItem::Layers(track.id, layers));
        }
    }
}

/// After a change of the subscribers of a track: if its publisher is on another shard, that one has
/// to know what is requested of it.
pub(crate) fn update_relay(media: &mut Media, now: Instant, track: TrackIx) {
    let track = &mut media.tracks[track];
    let Feed::Shard(home) = track.feed else {
        return;
    };
    let wanted = if track.subscriptions.is_empty() {
        Wanted::Nothing
    } else if track.always_heard == 0 {
        Wanted::Forwarded
    } else {
        Wanted::Held
    };
    if std::mem::replace(&mut track.requested, wanted) == wanted {
        return;
    }
    // What was said before and has not crossed yet is void: a viewer that comes and goes
    // while the home takes nothing costs no more than one that came.
    let items = &mut media.relay.batch(now, home).items;
    items.retain(|said| !matches!(said, RelayItem::Want(id, _) if *id == track.id));
    items.push(RelayItem::Want(track.id, wanted));
}

/// Another shard says what it wants of a track.
pub(super) fn note_wanted(
    media: &mut Media,
    now: Instant,
    from: ShardId,
    track: TrackId,
    wanted: Wanted,
) {
    let Some(index) = media.tracks.find(track) else {
        return;
    };
    let to = &mut media.tracks[index].relayed_to;
    let known = to.iter().position(|(shard, _)| *shard == from);
    match (known, wanted) {
        (Some(known), Wanted::Nothing) => {
            to.swap_remove(known);
        }
        (None, Wanted::Nothing) => {}
        (Some(known), _) => to[known].1 = wanted,
        (None, _) => {
            to.push((from, wanted));
            relay_layers(media, now, index);
        }
    }
}

/// Retransmits a packet to a shard that requests it, by track, layer and extended sequence number.
pub(super) fn relay_again(
    media: &mut Media,
    now: Instant,
    to: ShardId,
    wanted: (TrackId, u8, u64),
) {
    relay_cached(media, now, to, wanted, None);
}

fn relay_cached(
    media: &mut Media,
    now: Instant,
    to: ShardId,
    (id, layer, sequence): (TrackId, u8, u64),
    audience: Option<Audience>,
) {
    let Some(index) = media.tracks.find(id) else {
        return;
    };
    let track = &media.tracks[index];
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
        redundancy: Redundancy::of(
            cached.packet,
            usize::from(cached.header_len),
            track.encrypted,
        ),
    };
    let batch = media.relay.batch(now, to);
    if batch.push_packet(id, ssrc, received, audience, cached.packet) {
        media.statistics.packets_relayed += 1;
    } else {
        media.statistics.relays_dropped += 1;
    }
}

fn layer_states(track: &Track, now: Instant) -> [Option<LayerState>; LAYERS] {
    let mut states = [None; LAYERS];
    let state_of = |layer: &Layer| {
        let last_packet = layer.last_packet()?;
        Some(LayerState {
            ssrc: layer.ssrc?,
            codec: layer.codec?,
            silent_for: now.saturating_duration_since(last_packet),
            sender_report: layer
                .sender_report
                .map(|report| RelayedReport::new(report, now)),
        })
    };
    for (layer, state) in track.layers.iter().zip(&mut states) {
        *state = state_of(layer);
    }
    states
}
