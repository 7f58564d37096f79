//! The way out: one received packet is written for each subscriber of its track.

use std::time::Instant;

use super::dispatch::{Engine, FanOut};
use super::event::Event;
use super::forwarder::{Rewrite, SourcePacket};
use super::ingress::{REPORT_INTERVAL, Received, picture_ids};
use super::payload::vp8::{self, Vp8Descriptor};
use super::peer::{Peer, Srtp};
use super::rtp::extensions::{patch_header, patch_payload_type};
use super::rtp::header::RtpHeader;
use super::send_batch::SendBatch;
use super::srtp::MAX_OVERHEAD;
use super::subscription::Subscription;
use super::track::Track;
use crate::media::codec::{Codec, MediaKind};

impl Engine {
    /// Sends the packet in the scratch buffer to every subscriber of the track that is to have it.
    pub(super) fn fan_out(&mut self, now: Instant, track_index: u32, received: &Received) {
        let FanOut {
            tracks,
            subscriptions,
            peers,
            scratch,
            statistics,
            events,
            timers,
            batches,
        } = self.fan_out_parts();
        let track = &tracks[track_index as usize];
        let packet = &scratch[..received.len];
        for &index in &track.subscriptions {
            let subscription = &mut subscriptions[index as usize];
            let state = &mut peers[subscription.peer as usize];
            let Some(srtp) = &state.srtp else {
                continue;
            };
            let Some(rewrite) = place(subscription, track, received, now) else {
                continue;
            };
            write_media(
                &mut state.batch,
                srtp,
                subscription,
                packet,
                received,
                &rewrite,
            );
            statistics.packets_out += 1;
            statistics.bytes_out += received.len as u64;
            subscription.packets = subscription.packets.wrapping_add(1);
            subscription.octets = subscription
                .octets
                .wrapping_add((received.len - received.header_len) as u32);
            if !subscription.started {
                subscription.started = true;
                events.push_back(super::event::RoomEvent {
                    room: state.room,
                    event: Event::SubscriptionStarted(subscription.id),
                });
            }
            if state.report_due.is_none() {
                let due = now + REPORT_INTERVAL;
                state.report_due = Some(due);
                let owner = super::timers::TimerOwner::Peer(subscription.peer);
                timers.arm(owner, &mut state.armed, due);
            }
            Engine::list_batch(subscription.peer, state, batches);
        }
    }

    /// Sends again what a subscriber has missed.
    pub(super) fn retransmit(&mut self, subscription: u32, missing: impl Iterator<Item = u16>) {
        let parts = self.fan_out_parts();
        let subscription = &mut parts.subscriptions[subscription as usize];
        let track = &parts.tracks[subscription.track as usize];
        let state = &mut parts.peers[subscription.peer as usize];
        for sequence in missing {
            parts.statistics.nacks_in += 1;
            if subscription.retransmissions_left == 0 {
                break;
            }
            if let Some(len) = write_again(state, subscription, track, sequence) {
                subscription.retransmissions_left -= 1;
                parts.statistics.retransmissions += 1;
                parts.statistics.packets_out += 1;
                parts.statistics.bytes_out += len as u64;
            }
        }
        Engine::list_batch(subscription.peer, state, parts.batches);
    }

    /// Chooses anew which layer each subscriber of a track should get, and asks for keyframes
    /// where that means a switch.
    pub(super) fn choose_layers(&mut self, now: Instant, track: u32) {
        for subscription in self.tracks[track as usize].subscriptions.clone() {
            self.choose_layer(now, subscription);
        }
    }

    /// As [`Engine::choose_layers`], for one subscription.
    pub(super) fn choose_layer(&mut self, now: Instant, index: u32) {
        let subscription = &mut self.subscriptions[index as usize];
        let track = &self.tracks[subscription.track as usize];
        if !subscription.enabled || track.muted {
            subscription.forwarder.pause();
            return;
        }
        subscription.target = track.best_layer(subscription.max_layer, now);
        let (track, target) = (subscription.track, subscription.target);
        let waits = target.is_some() && subscription.forwarder.layer() != target;
        if let Some(layer) = target.filter(|_| waits) {
            self.want_keyframe(now, track, layer);
        }
    }

    /// A peer can receive now: what it waits for should start with a keyframe.
    pub(super) fn keyframes_for_peer(&mut self, now: Instant, peer: u32) {
        for subscription in self.peers[peer as usize].subscriptions.clone() {
            self.choose_layer(now, subscription);
        }
    }
}

/// Whether and how a subscriber gets a packet.
fn place(
    subscription: &mut Subscription,
    track: &Track,
    received: &Received,
    now: Instant,
) -> Option<Rewrite> {
    if !subscription.enabled {
        return None;
    }
    let layer = received.source.layer;
    let flowing = subscription.forwarder.layer();
    if flowing == Some(layer) {
        return subscription.forwarder.next(&received.source, now);
    }
    // A switch, or the start: at a packet that needs nothing before it. Whoever sees nothing
    // yet takes the first layer that offers one, as long as it is not more than he asked for.
    let wanted = subscription.target == Some(layer)
        || (flowing.is_none() && layer <= subscription.max_layer);
    if !wanted || !received.starts {
        return None;
    }
    let clock_rate = received.codec.clock_rate();
    let same_instant = flowing.and_then(|from| {
        let offset = subscription.forwarder.timestamp_offset()?;
        let timestamp = track.translate(layer, received.source.timestamp, from, clock_rate)?;
        Some(timestamp.wrapping_add(offset))
    });
    Some(
        subscription
            .forwarder
            .start(&received.source, now, same_instant),
    )
}

fn write_media(
    batch: &mut SendBatch,
    srtp: &Srtp,
    subscription: &Subscription,
    packet: &[u8],
    received: &Received,
    rewrite: &Rewrite,
) {
    let (len, header_len) = (packet.len(), received.header_len);
    batch.push(len + MAX_OVERHEAD, |out| {
        out[..len].copy_from_slice(packet);
        patch_header(
            &mut out[..len],
            rewrite.sequence as u16,
            rewrite.timestamp,
            subscription.ssrc,
        );
        if let Some(descriptor) = &received.vp8 {
            patch_picture(&mut out[header_len..len], descriptor, rewrite);
        }
        let roc = (rewrite.sequence >> 16) as u32;
        srtp.sender.protect_rtp(roc, header_len, out, len)
    });
}

fn patch_picture(payload: &mut [u8], descriptor: &Vp8Descriptor, rewrite: &Rewrite) {
    if let Some(ids) = rewrite.picture {
        vp8::patch(payload, descriptor, ids.picture_id, ids.tl0);
    }
}

/// Writes a cached packet once more: as a retransmission stream's packet (RFC 4588) where the
/// subscriber takes one, else exactly as it was. Byte for byte the same plaintext under the
/// same index, so that the repeated SRTP nonce reveals nothing. Returns its length.
fn write_again(
    state: &mut Peer,
    subscription: &mut Subscription,
    track: &Track,
    sequence: u16,
) -> Option<usize> {
    let srtp = state.srtp.as_ref()?;
    let (layer, source_sequence, sent) = subscription.forwarder.sent_as(sequence)?;
    let layer_state = track.layers.get(usize::from(layer))?;
    let cached = layer_state.cache.get(source_sequence)?;
    let codec = layer_state.codec?;
    let header = RtpHeader::parse(cached.packet)?;
    let header_len = usize::from(cached.header_len);
    let body = cached.packet.get(header_len..)?;
    let descriptor = (codec == Codec::Vp8)
        .then(|| Vp8Descriptor::parse(body))
        .flatten();
    let source = SourcePacket {
        layer,
        sequence: source_sequence,
        timestamp: header.timestamp,
        picture: descriptor.as_ref().and_then(picture_ids),
    };
    let rewrite = subscription.forwarder.rewrite_again(sent, &source)?;
    let repair = subscription.rtx_ssrc.zip(codec.rtx_payload_type());
    let osn_len = if repair.is_some() { 2 } else { 0 };
    let len = cached.packet.len() + osn_len;
    let body_start = header_len + osn_len;
    let rtx_sequence = subscription.rtx_sequence;
    let ssrc = subscription.ssrc;
    state.batch.push(len + MAX_OVERHEAD, |out| {
        out[..header_len].copy_from_slice(&cached.packet[..header_len]);
        out[body_start..len].copy_from_slice(body);
        if let Some(descriptor) = &descriptor {
            patch_picture(&mut out[body_start..len], descriptor, &rewrite);
        }
        let (number, ssrc) = match repair {
            Some((rtx_ssrc, payload_type)) => {
                out[header_len..body_start]
                    .copy_from_slice(&(rewrite.sequence as u16).to_be_bytes());
                patch_payload_type(&mut out[..len], payload_type);
                (rtx_sequence, rtx_ssrc)
            }
            None => (rewrite.sequence, ssrc),
        };
        patch_header(&mut out[..len], number as u16, rewrite.timestamp, ssrc);
        srtp.sender
            .protect_rtp((number >> 16) as u32, header_len, out, len)
    });
    if repair.is_some() {
        subscription.rtx_sequence += 1;
    }
    Some(len)
}

/// Whether a track's subscribers need a keyframe to start.
pub(super) fn needs_keyframe(track: &Track) -> bool {
    track.kind == MediaKind::Video
}
