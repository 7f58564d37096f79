//! Retransmission: what a subscriber has missed is sent again.

use std::time::Instant;

use crate::send::send_queue::Form;
use crate::state::Media;
use crate::state::repeat::requeue_for_retransmission;
use crate::state::table::{PeerIx, SubscriptionIx};

/// Sends again what a subscriber has missed.
pub(crate) fn retransmit(
    media: &mut Media,
    now: Instant,
    index: SubscriptionIx,
    missing: impl Iterator<Item = u16>,
) {
    let subscription = &mut media.subscriptions[index];
    let track = &media.tracks[subscription.track];
    let state = &mut media.peers[subscription.peer];
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
        let Some(packet) = requeue_for_retransmission(index, subscription, track, sequence) else {
            // It may have been lost between the shards and come yet.
            if let Some(sent) = sent
                && media.relay.want_packet(now, track, sent.layer, sent.source)
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
                media.statistics.retransmissions += 1;
                media.statistics.packets_out += 1;
                media.statistics.bytes_out += u64::from(packet.len);
            }
        }
        subscription.retransmissions_left -= 1;
    }
    media.ready.push_peer(now, subscription.peer, state);
}

/// Sends again what a way loses, as transport feedback tells, when nobody has asked for it: what
/// asks for it gets lost too. `missing` are tags as in `send/write.rs`.
pub(crate) fn send_missing(media: &mut Media, now: Instant, peer: PeerIx, missing: &[u64]) {
    for &tag in missing {
        let (ssrc, sequence) = ((tag >> 32) as u32, tag as u16);
        let Some(index) = media.subscription_of(peer, ssrc) else {
            continue;
        };
        let subscription = &media.subscriptions[index];
        let is_media = subscription.ssrc == ssrc && subscription.rtx_ssrc.is_some();
        if is_media
            && !media.peers[peer]
                .retransmissions
                .has_sent(now, ssrc, sequence)
        {
            retransmit(media, now, index, std::iter::once(sequence));
        }
    }
}
