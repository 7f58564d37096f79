//! The way out: who of a track's subscribers gets a packet, and as what.

use std::time::Instant;

use super::dispatch::{Engine, FanOut};
use super::event::{Event, RoomEvent};
use super::flush::REPAIR_HEADER;
use super::forwarder::{Rewrite, SourcePacket};
use super::ingress::{REPORT_INTERVAL, Received, picture_ids};
use super::payload::vp8::Vp8Descriptor;
use super::red;
use super::rtp::header::RtpHeader;
use super::send_queue::{QueuedPacket, Repair};
use super::subscription::Subscription;
use super::timers::TimerOwner;
use super::track::Track;
use crate::media::codec::{Codec, MediaKind};

impl Engine {
    /// Queues a packet that has just been put into its cache for every subscriber of the track
    /// that is to have it.
    pub(super) fn fan_out(&mut self, now: Instant, track_index: u32, received: &Received) {
        let FanOut {
            tracks,
            subscriptions,
            peers,
            statistics,
            events,
            timers,
            flush,
        } = self.fan_out_parts();
        let track = &tracks[track_index as usize];
        for &index in &track.subscriptions {
            let subscription = &mut subscriptions[index as usize];
            let state = &mut peers[subscription.peer as usize];
            if state.srtp.is_none() {
                continue;
            }
            let Some(rewrite) = place(subscription, track, received, now) else {
                continue;
            };
            let undone_len = received.undone_len.filter(|_| !subscription.takes_red);
            let len = undone_len.unwrap_or(received.len);
            let packet = QueuedPacket {
                track: track_index,
                layer: received.source.layer,
                source: received.source.sequence,
                sequence: rewrite.sequence,
                timestamp: rewrite.timestamp,
                ssrc: subscription.ssrc,
                picture: rewrite.picture,
                repair: None,
                red_undone: undone_len.is_some(),
                len: len as u16,
            };
            if !state.queue.push(packet, &mut subscription.last_queued) {
                statistics.packets_dropped += 1;
                continue;
            }
            statistics.packets_out += 1;
            statistics.bytes_out += len as u64;
            subscription.packets = subscription.packets.wrapping_add(1);
            subscription.octets = subscription
                .octets
                .wrapping_add((len - received.header_len) as u32);
            if !subscription.started {
                subscription.started = true;
                events.push_back(RoomEvent {
                    room: state.room,
                    event: Event::SubscriptionStarted(subscription.id),
                });
            }
            if state.report_due.is_none() {
                let due = now + REPORT_INTERVAL;
                state.report_due = Some(due);
                timers.arm(TimerOwner::Peer(subscription.peer), &mut state.armed, due);
            }
            flush.list(now, subscription.peer, state);
        }
    }

    /// Sends again what a subscriber has missed.
    pub(super) fn retransmit(
        &mut self,
        now: Instant,
        subscription: u32,
        missing: impl Iterator<Item = u16>,
    ) {
        let parts = self.fan_out_parts();
        let subscription = &mut parts.subscriptions[subscription as usize];
        let track = &parts.tracks[subscription.track as usize];
        let state = &mut parts.peers[subscription.peer as usize];
        for sequence in missing {
            parts.statistics.nacks_in += 1;
            if subscription.retransmissions_left == 0 {
                break;
            }
            let Some(packet) = again(subscription, track, sequence) else {
                continue;
            };
            let last = match packet.repair {
                Some(_) => &mut subscription.last_repair_queued,
                None => &mut subscription.last_queued,
            };
            if state.queue.push(packet, last) {
                subscription.retransmissions_left -= 1;
                parts.statistics.retransmissions += 1;
                parts.statistics.packets_out += 1;
                parts.statistics.bytes_out += u64::from(packet.len);
            }
        }
        parts.flush.list(now, subscription.peer, state);
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
        if !subscription.wish.enabled || track.muted {
            subscription.forwarder.pause();
            return;
        }
        subscription.target = track.best_layer(subscription.wish.max_layer, now);
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
    if !subscription.wish.enabled {
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
        || (flowing.is_none() && layer <= subscription.wish.max_layer);
    if !wanted || !received.starts {
        return None;
    }
    let clock_rate = received.codec.clock_rate();
    let resumed = || subscription.forwarder.resumed_timestamp(&received.source);
    let same_instant = flowing.map_or_else(resumed, |from| {
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

/// How a cached packet is sent once more: on the retransmission stream (RFC 4588) where the
/// subscriber takes one, else exactly as it was. Byte for byte the same plaintext under the
/// same index, so that the repeated SRTP nonce reveals nothing.
fn again(subscription: &mut Subscription, track: &Track, sequence: u16) -> Option<QueuedPacket> {
    let (layer, source, sent) = subscription.forwarder.sent_as(sequence)?;
    let layer_state = track.layers.get(usize::from(layer))?;
    let cached = layer_state.cache.get(source)?;
    let codec = layer_state.codec?;
    let header = RtpHeader::parse(cached.packet)?;
    let body = cached.packet.get(usize::from(cached.header_len)..)?;
    let descriptor = (codec == Codec::Vp8)
        .then(|| Vp8Descriptor::parse(body))
        .flatten();
    let packet = SourcePacket {
        layer,
        sequence: source,
        timestamp: header.timestamp,
        picture: descriptor.as_ref().and_then(picture_ids),
    };
    let rewrite = subscription.forwarder.rewrite_again(sent, &packet)?;
    let undone_len = (!subscription.takes_red)
        .then(|| red::undone_len(cached.packet, usize::from(cached.header_len)))
        .flatten();
    let mut queued = QueuedPacket {
        track: subscription.track,
        layer,
        source,
        sequence: rewrite.sequence,
        timestamp: rewrite.timestamp,
        ssrc: subscription.ssrc,
        picture: rewrite.picture,
        repair: None,
        red_undone: undone_len.is_some(),
        len: undone_len.unwrap_or(cached.packet.len()) as u16,
    };
    if let Some((ssrc, payload_type)) = subscription.rtx_ssrc.zip(codec.rtx_payload_type()) {
        queued.repair = Some(Repair {
            payload_type,
            original: rewrite.sequence as u16,
        });
        queued.len += REPAIR_HEADER as u16;
        queued.ssrc = ssrc;
        queued.sequence = subscription.rtx_sequence;
        subscription.rtx_sequence += 1;
    }
    Some(queued)
}

/// Whether a track's subscribers need a keyframe to start.
pub(super) fn needs_keyframe(track: &Track) -> bool {
    track.kind == MediaKind::Video
}
