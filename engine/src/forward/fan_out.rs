//! The way out: who of a track's subscribers gets a packet, and as what.

use std::time::Instant;

use crate::api::codec::MediaKind;
use crate::api::event::Event;
use crate::engine::{Engine, FanOut};
use crate::forward::forwarder::Rewrite;
use crate::receive::ingress::REPORT_INTERVAL;
use crate::send::send_queue::{Form, QueuedPacket};
use crate::state::packet::Received;
use crate::state::repeat::requeue_for_retransmission;
use crate::state::subscription::Subscription;
use crate::state::table::{PeerIx, SubscriptionIx, TrackIx};
use crate::state::timers::TimerOwner;
use crate::state::track::Track;

impl Engine {
    /// Queues a packet that has just been put into its cache for every subscriber of the track
    /// that is to have it.
    pub(crate) fn fan_out(&mut self, now: Instant, track_index: TrackIx, received: &Received) {
        let FanOut {
            tracks,
            subscriptions,
            peers,
            statistics,
            events,
            timers,
            ready,
            ..
        } = self.fan_out_parts();
        let track = &tracks[track_index];
        for &index in &track.subscriptions {
            let subscription = &mut subscriptions[index];
            let state = &mut peers[subscription.peer];
            if state.srtp.is_none() {
                continue;
            }
            let Some(rewrite) = select_and_rewrite(subscription, track, received, now) else {
                continue;
            };
            let primary_len = received.primary_len.filter(|_| !subscription.takes_red);
            let len = primary_len.unwrap_or(received.len);
            let packet = QueuedPacket {
                subscription: index,
                track: track_index,
                layer: received.source.layer,
                source: received.source.sequence,
                sequence: rewrite.sequence,
                timestamp: rewrite.timestamp,
                ssrc: subscription.ssrc,
                counters: rewrite.counters,
                ends_picture: rewrite.ends_picture,
                form: Form::Media,
                reported: subscription.transport_cc,
                red_stripped: primary_len.is_some(),
                len: len as u16,
            };
            let paced = track.kind == MediaKind::Video;
            if !state.enqueue(now, packet, &mut subscription.last_queued, paced) {
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
                events.push(state.room, Event::SubscriptionStarted(subscription.id));
            }
            if state.report_due.is_none() {
                let due = now + REPORT_INTERVAL;
                state.report_due = Some(due);
                timers.arm(TimerOwner::Peer(subscription.peer), &mut state.armed, due);
            }
            ready.push_peer(now, subscription.peer, state);
        }
    }

    /// Sends again what a subscriber has missed.
    pub(crate) fn retransmit(
        &mut self,
        now: Instant,
        index: SubscriptionIx,
        missing: impl Iterator<Item = u16>,
    ) {
        let parts = self.fan_out_parts();
        let subscription = &mut parts.subscriptions[index];
        let track = &parts.tracks[subscription.track];
        let state = &mut parts.peers[subscription.peer];
        state.retransmissions.refill(now, state.estimate());
        let rtt = state.bandwidth.rtt().unwrap_or(state.rtt);
        // To lose that too would cost a round trip, which a picture may not have.
        let twice = state.has_random_loss();
        for sequence in missing {
            if subscription.retransmissions_left == 0 {
                break;
            }
            let sent = subscription.forwarder.sent_as(sequence);
            let needed = sent.is_some_and(|sent| subscription.is_needed(track.kind, &sent));
            let ssrc = subscription.ssrc;
            if !state
                .retransmissions
                .may_send(now, ssrc, sequence, rtt, needed)
            {
                continue;
            }
            let Some(packet) = requeue_for_retransmission(index, subscription, track, sequence)
            else {
                // It may have been lost between the shards and come yet.
                if let Some(sent) = sent
                    && parts.relay.want_packet(now, track, sent.layer, sent.source)
                {
                    subscription.retransmissions_left -= 1;
                }
                continue;
            };
            let twin = (twice && matches!(packet.form, Form::Repair { .. }))
                .then(|| requeue_for_retransmission(index, subscription, track, sequence))
                .flatten();
            for packet in [Some(packet), twin].into_iter().flatten() {
                let last = match packet.form {
                    Form::Repair { .. } => &mut subscription.last_repair_queued,
                    _ => &mut subscription.last_queued,
                };
                if state.enqueue(now, packet, last, false) {
                    state.retransmissions.sent(now, ssrc, sequence, packet.len);
                    parts.statistics.retransmissions += 1;
                    parts.statistics.packets_out += 1;
                    parts.statistics.bytes_out += u64::from(packet.len);
                }
            }
            subscription.retransmissions_left -= 1;
        }
        parts.ready.push_peer(now, subscription.peer, state);
    }

    /// Sends again what a way loses, as transport feedback tells, when nobody has asked for it: what
    /// asks for it gets lost too. `missing` are tags as in `send/write.rs`.
    pub(crate) fn send_missing(&mut self, now: Instant, peer: PeerIx, missing: &[u64]) {
        for &tag in missing {
            let (ssrc, sequence) = ((tag >> 32) as u32, tag as u16);
            let Some(index) = self.subscription_of(peer, ssrc) else {
                continue;
            };
            let subscription = &self.subscriptions[index];
            let is_media = subscription.ssrc == ssrc && subscription.rtx_ssrc.is_some();
            if is_media
                && !self.peers[peer]
                    .retransmissions
                    .has_sent(now, ssrc, sequence)
            {
                self.retransmit(now, index, std::iter::once(sequence));
            }
        }
    }

    /// Allocates the subscribers of a track anew when layers of it have come or gone.
    pub(crate) fn look_at_layers(&mut self, now: Instant, track: TrackIx) {
        let state = &mut self.tracks[track];
        let alive = state.streams_alive(now);
        if std::mem::replace(&mut state.known_alive, alive) != alive {
            self.choose_layers(now, track);
        }
    }

    /// What there is of a track has changed: each of its subscribers is allocated anew.
    pub(crate) fn choose_layers(&mut self, now: Instant, track: TrackIx) {
        for place in 0..self.tracks[track].subscriptions.len() {
            let index = self.tracks[track].subscriptions[place];
            let subscription = &mut self.subscriptions[index];
            if self.tracks[track].muted {
                subscription.forwarder.pause();
            }
            let peer = subscription.peer;
            self.allocate_again(now, peer);
        }
    }
}

/// Whether and how a subscriber gets a packet.
fn select_and_rewrite(
    subscription: &mut Subscription,
    track: &Track,
    received: &Received,
    now: Instant,
) -> Option<Rewrite> {
    if !subscription.settings.enabled {
        return None;
    }
    let layer = received.source.layer;
    let flowing = subscription.forwarder.layer();
    if flowing == Some(layer) {
        return subscription.forwarder.next(&received.source, now);
    }
    if !subscription.forwarder.starts_with(&received.source) {
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

/// Whether a track's subscribers need a keyframe to start.
pub(crate) fn needs_keyframe(track: &Track) -> bool {
    track.kind == MediaKind::Video
}
