//! The way out: who of a track's subscribers gets a packet, and as what.

use std::time::Instant;

use crate::api::codec::MediaKind;
use crate::api::event::Event;
use crate::forward::forwarder::Rewrite;
use crate::send::send_queue::{Form, QueuedPacket};
use crate::state::Media;
use crate::state::packet::{Audience, Received};
use crate::state::peer::{Peer, REPORT_INTERVAL};
use crate::state::subscription::Subscription;
use crate::state::table::{PeerIx, TrackIx};
use crate::state::timers::{TimerOwner, Timers};
use crate::state::track::Track;

/// Queues a packet for every subscriber of the track that is to have it. Whether it has to be put
/// into its cache: somebody is sent its stream, or waits for a start of it.
pub(crate) fn fan_out(
    media: &mut Media,
    now: Instant,
    track_index: TrackIx,
    received: &Received,
    audience: Audience,
) -> bool {
    let mut used = false;
    let Media {
        tracks,
        subscriptions,
        peers,
        statistics,
        events,
        timers,
        ready,
        ..
    } = media;
    let track = &tracks[track_index];
    if audience == Audience::AlwaysHearing && track.always_heard == 0 {
        return used;
    }
    for &index in &track.subscriptions {
        let subscription = &mut subscriptions[index];
        if !audience.includes(subscription.always_heard) {
            continue;
        }
        let state = &mut peers[subscription.peer];
        if state.srtp.is_none() {
            continue;
        }
        let Some(outgoing) = subscription.outgoing(received.codec, received.redundancy) else {
            // What follows in a codec that is taken has to be decodable by itself.
            subscription.forwarder.pause();
            continue;
        };
        if !subscription.settings.enabled {
            continue;
        }
        used = used || subscription.forwarder.uses(received.source.layer);
        let Some(rewrite) = select_and_rewrite(subscription, track, received, now) else {
            continue;
        };
        let len = outgoing.stripped_len.unwrap_or(received.len);
        let packet = QueuedPacket {
            subscription: index,
            track: track_index,
            layer: received.source.layer,
            source: received.source.sequence,
            sequence: rewrite.sequence,
            timestamp: rewrite.timestamp,
            ssrc: subscription.ssrc,
            payload_type: outgoing.payload_type,
            counters: rewrite.counters,
            ends_picture: rewrite.ends_picture,
            form: Form::Media,
            reported: subscription.transport_cc,
            red_stripped: outgoing.stripped_len.is_some(),
            len: len as u16,
        };
        let paced = track.kind == MediaKind::Video;
        if !state.enqueue(now, packet, &mut subscription.last_queued, paced) {
            statistics.packets_dropped += 1;
            continue;
        }
        statistics.packets_out += 1;
        statistics.bytes_out += len as u64;
        subscription.count(len - received.header_len);
        if !subscription.started {
            subscription.started = true;
            events.push(state.room, Event::SubscriptionStarted(subscription.id));
        }
        arm_reports(timers, subscription.peer, state, now);
        ready.push_peer(now, subscription.peer, state);
    }
    used
}

/// A peer that is sent anything is to have sender reports.
fn arm_reports(timers: &mut Timers, peer: PeerIx, state: &mut Peer, now: Instant) {
    if state.report_due.is_none() {
        let due = now + REPORT_INTERVAL;
        state.report_due = Some(due);
        timers.arm(TimerOwner::Peer(peer), &mut state.armed, due);
    }
}

/// Whether and how a subscriber gets a packet.
fn select_and_rewrite(
    subscription: &mut Subscription,
    track: &Track,
    received: &Received,
    now: Instant,
) -> Option<Rewrite> {
    let layer = received.source.layer;
    let flowing = subscription.forwarder.layer();
    if flowing == Some(layer) {
        return subscription.forwarder.next(&received.source, now);
    }
    if !subscription.forwarder.starts_with(&received.source) {
        return None;
    }
    let clock_rate = received.codec.clock_rate();
    subscription.forwarder.set_clock_rate(clock_rate);
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

/// Pauses a layer whose SSRC was replaced for its subscribers: they go on with its next keyframe.
pub(crate) fn end_flow(media: &mut Media, track: TrackIx, layer: u8) {
    for &index in &media.tracks[track].subscriptions {
        let forwarder = &mut media.subscriptions[index].forwarder;
        if forwarder.layer() == Some(layer) {
            forwarder.pause();
        }
    }
}
