//! Packets sent to find out whether a subscriber's connection carries more.
//!
//! A probe is a rate kept for some ticks. What media leaves open of it is filled with packets
//! on a retransmission stream: the packets sent last, again, which repairs a loss as well,
//! or padding alone where nothing was sent lately.

use std::time::Instant;

use crate::api::codec::MediaKind;
use crate::send::send_queue::{Form, QueuedPacket};
use crate::state::peer::Peer;
use crate::state::repeat::requeue_for_retransmission;
use crate::state::subscription::Subscription;
use crate::state::table::SubscriptionIx;
use crate::state::track::Track;
use crate::state::{Subscriptions, Tracks};
use crate::wire::rtp::extensions::BARE_HEADER;

/// Packets that one tick adds at most.
const MAX_ADDED: usize = 64;
/// Adds to what a peer is sent in this tick as much as its probe asks for.
pub(crate) fn fill(
    now: Instant,
    state: &mut Peer,
    subscriptions: &mut Subscriptions,
    tracks: &Tracks,
) {
    let Some(active) = &state.probe else {
        return;
    };
    let repairs = |index: &&SubscriptionIx| {
        let subscription = &subscriptions[**index];
        let video = tracks[subscription.track].kind == MediaKind::Video;
        video && subscription.can_repair()
    };
    let Some(index) = state.subscriptions.iter().find(repairs).copied() else {
        state.probe = None;
        return;
    };
    let subscription = &mut subscriptions[index];
    let track = &tracks[subscription.track];
    let queued = u64::from(active.bytes) + state.queue.bytes();
    let mut missing = active.due(now).saturating_sub(queued);
    for back in 0..MAX_ADDED as u16 {
        if missing == 0 {
            break;
        }
        let packet = subscription
            .forwarder
            .latest()
            .and_then(|latest| {
                requeue_for_retransmission(index, subscription, track, latest.wrapping_sub(back))
            })
            .or_else(|| padding(index, subscription, track));
        let Some(packet) = packet else {
            break;
        };
        missing = missing.saturating_sub(u64::from(packet.len));
        state
            .queue
            .push(packet, &mut subscription.last_repair_queued);
    }
}

/// The most that one packet can be padded (RFC 3550, section 5.1).
const MOST_PADDING: usize = 255;

/// A packet of padding alone.
fn padding(
    index: SubscriptionIx,
    subscription: &mut Subscription,
    track: &Track,
) -> Option<QueuedPacket> {
    let codec = track.layers.iter().find_map(|layer| layer.codec)?;
    let payload_type = subscription.payload_types.rtx(codec)?;
    let sequence = subscription.rtx_sequence;
    subscription.rtx_sequence += 1;
    Some(QueuedPacket {
        subscription: index,
        track: subscription.track,
        layer: 0,
        source: 0,
        sequence,
        timestamp: subscription.forwarder.last_timestamp(),
        ssrc: subscription.rtx_ssrc?,
        payload_type,
        counters: None,
        ends_picture: false,
        form: Form::Padding,
        reported: true,
        red_stripped: false,
        len: (BARE_HEADER + MOST_PADDING) as u16,
    })
}
