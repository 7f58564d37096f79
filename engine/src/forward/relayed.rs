//! What another shard relays: packets and layers of its tracks, and requests for those of this one.

use std::time::Instant;

use crate::allocation::allocator::Allocator;
use crate::api::codec::MediaKind;
use crate::api::ids::{ShardId, TrackId};
use crate::connections::Connections;
use crate::forward::fan_out::{end_flow, fan_out};
use crate::forward::last_n::LastN;
use crate::forward::relay::{note_wanted, relay_again};
use crate::forward::relay_batch::{LAYERS, LayerState, RelayBatch, RelayItem, before};
use crate::receive::keyframes::want_keyframe;
use crate::state::Media;
use crate::state::packet::{Audience, Received};
use crate::state::table::TrackIx;
use crate::state::track::{Feed, Layer};
use crate::wire::srtp::MAX_OVERHEAD;

/// A batch from another shard's engine, which `arrived` before now.
pub(crate) fn handle_relay(
    media: &mut Media,
    connections: &mut Connections,
    allocator: &mut Allocator,
    last_n: &mut LastN,
    (now, arrived): (Instant, Instant),
    from: ShardId,
    batch: &RelayBatch,
) {
    let mut bytes = &batch.bytes[..];
    for item in &batch.items {
        match item {
            RelayItem::Want(track, wanted) => note_wanted(media, now, from, *track, *wanted),
            RelayItem::Layers(track, layers) => {
                note_layers(media, allocator, now, from, *track, layers)
            }
            RelayItem::Packet {
                track,
                ssrc,
                received,
                audience,
            } => {
                let Some((packet, rest)) = bytes.split_at_checked(received.len) else {
                    return;
                };
                bytes = rest;
                let Some(index) = fed_by(media, from, *track) else {
                    continue;
                };
                let audience = match audience {
                    Some(audience) => last_n.follow(media, index, *audience),
                    None => last_n.audience(media, index),
                };
                if let Some(used) =
                    note_packet(media, allocator, now, index, *ssrc, received, audience)
                {
                    media.keep(now, index, received, packet, used);
                }
            }
        }
    }
    for (track, layer) in &batch.keyframes {
        if let Some(index) = media.tracks.find(*track) {
            want_keyframe(media, now, index, *layer);
        }
    }
    for resend in &batch.resends {
        relay_again(media, now, from, *resend);
    }
    for &(transport, change) in &batch.holds {
        connections.change_holds(media, allocator, now, transport, change);
    }
    media.backdate_deadline(arrived);
}

/// Index of a track that another shard feeds.
fn fed_by(media: &Media, from: ShardId, track: TrackId) -> Option<TrackIx> {
    let index = media.tracks.find(track)?;
    (media.tracks[index].feed == Feed::Shard(from)).then_some(index)
}

fn note_layers(
    media: &mut Media,
    allocator: &mut Allocator,
    now: Instant,
    from: ShardId,
    track: TrackId,
    states: &[Option<LayerState>; LAYERS],
) {
    let Some(index) = fed_by(media, from, track) else {
        return;
    };
    let layers = &mut media.tracks[index].layers;
    let mut begun = false;
    for (layer, state) in layers.iter_mut().zip(states) {
        if let Some(state) = state {
            begun |= begin_layer(layer, state.ssrc);
            // While packets cross they tell that it lives, and this comes behind them.
            if !layer.is_alive(now) {
                layer.touch(before(now, state.silent_for));
            }
            layer.codec = Some(state.codec);
            if let Some(report) = state.sender_report {
                layer.sender_report = Some(report.received(now));
            }
        }
    }
    media.tracks[index].forget_stopped(now);
    allocator.look_at_layers(media, now, index);
    if begun {
        // A layer that is silent has no packets that would tell of it.
        allocator.choose_layers(media, now, index);
    }
}

/// A packet of a track of another shard: what `ingress.rs` does for those of a peer, and forwarding it
/// to those here who are among its audience. Whether somebody may ask for it again; `None` when it was
/// here before, and nobody new is sent it.
fn note_packet(
    media: &mut Media,
    allocator: &mut Allocator,
    now: Instant,
    index: TrackIx,
    ssrc: u32,
    received: &Received,
    audience: Audience,
) -> Option<bool> {
    let source = &received.source;
    let track = &mut media.tracks[index];
    track.end_silence(source.layer, now);
    let layer = track.layers.get_mut(usize::from(source.layer))?;
    let restarted = layer.ssrc.is_some_and(|former| former != ssrc);
    let mut started = begin_layer(layer, ssrc);
    if layer.cache.has(source.sequence) {
        // Subscribers that last-N never holds back have received the held packets already.
        let others = audience == Audience::Others && !track.muted;
        let used = others && fan_out(media, now, index, received, audience);
        return used.then_some(true);
    }
    started |= layer.touch(now);
    // A voice that was left out for a while goes on, and what was left out is not missed.
    let resumed = track.kind == MediaKind::Audio && source.sequence > layer.highest_sequence + 1;
    if source.sequence >= layer.highest_sequence {
        layer.highest_sequence = source.sequence;
        layer.last_timestamp = source.timestamp;
    }
    layer.codec = Some(received.codec);
    let layers = &source.layers;
    if layers.keyframe {
        layer.keyframe_arrived();
    }
    let layers_changed = layer.rates.note(now, layers, received.len + MAX_OVERHEAD);
    let muted = track.muted;
    if restarted || resumed {
        end_flow(media, index, source.layer);
    }
    if started || layers_changed {
        allocator.choose_layers(media, now, index);
    }
    media.tracks[index].layers[usize::from(source.layer)].begins_keyframe = false;
    Some(!muted && fan_out(media, now, index, received, audience))
}

/// Resets a layer when another SSRC took it over. True when one did.
fn begin_layer(layer: &mut Layer, ssrc: u32) -> bool {
    let new = layer.ssrc != Some(ssrc);
    if new {
        layer.restart(ssrc);
    }
    new
}

#[cfg(test)]
mod tests;
