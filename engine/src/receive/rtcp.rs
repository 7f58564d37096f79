//! RTCP from peers: reports, keyframe requests, retransmission requests and transport-wide feedback.

use std::time::{Duration, Instant};

use crate::allocation::allocator::Allocator;
use crate::forward::retransmit::retransmit;
use crate::receive::keyframes::want_keyframe;
use crate::state::Media;
use crate::state::table::PeerIx;
use crate::state::track::SenderReport;
use crate::wire::rtcp::{self, ReportBlock, RtcpPacket};

/// A compound RTCP datagram from a peer, which has waited to be read since it `arrived`.
pub(crate) fn handle_rtcp(
    media: &mut Media,
    allocator: &mut Allocator,
    now: Instant,
    arrived: Instant,
    peer: PeerIx,
    datagram: &mut [u8],
) {
    let state = &mut media.peers[peer];
    let Some(len) = state
        .srtp
        .as_mut()
        .and_then(|srtp| srtp.receiver.unprotect_rtcp(datagram))
    else {
        media.statistics.datagrams_dropped += 1;
        return;
    };
    for packet in rtcp::packets(&datagram[..len]) {
        // What a report brings about may gather for as long as anything else.
        let is_report = matches!(packet, RtcpPacket::TransportFeedback(_));
        handle_rtcp_packet(media, allocator, now, arrived, peer, packet);
        if !is_report {
            media.backdate_deadline(arrived);
        }
    }
}

fn handle_rtcp_packet(
    media: &mut Media,
    allocator: &mut Allocator,
    now: Instant,
    arrived: Instant,
    peer: PeerIx,
    packet: RtcpPacket<'_>,
) {
    match packet {
        RtcpPacket::SenderReport {
            ssrc,
            ntp,
            rtp,
            reports,
            ..
        } => {
            note_sender_report(media, arrived, peer, ssrc, ntp, rtp);
            for block in reports {
                note_report(media, now, arrived, peer, &block);
            }
        }
        RtcpPacket::ReceiverReport { reports, .. } => {
            for block in reports {
                note_report(media, now, arrived, peer, &block);
            }
        }
        RtcpPacket::Nack {
            media: ssrc,
            sequences,
        } => {
            if let Some(subscription) = media.subscription_of(peer, ssrc) {
                media.statistics.nacks_in += sequences.clone().count() as u64;
                retransmit(media, now, subscription, sequences);
            }
        }
        RtcpPacket::PictureLoss { media: ssrc } => keyframe_requested(media, now, peer, ssrc),
        RtcpPacket::FullIntraRequest { media: ssrcs } => {
            for ssrc in ssrcs {
                keyframe_requested(media, now, peer, ssrc);
            }
        }
        RtcpPacket::TransportFeedback(feedback) => {
            allocator.transport_feedback(media, now, arrived, peer, &feedback);
        }
        RtcpPacket::Remb { bps } => allocator.receiver_estimate(media, now, peer, bps),
        RtcpPacket::Other => {}
    }
}

fn note_sender_report(media: &mut Media, at: Instant, peer: PeerIx, ssrc: u32, ntp: u64, rtp: u32) {
    let state = &media.peers[peer];
    let Some(index) = state.streams.find(ssrc) else {
        return;
    };
    let owner = state.streams.get(index).owner;
    let track = &mut media.tracks[owner.track];
    if let Some(layer) = track.layers.get_mut(usize::from(owner.layer))
        && !owner.repair
    {
        layer.statistics.on_sender_report(ntp, at);
        layer.sender_report = Some(SenderReport { ntp, rtp, at });
    }
}

fn note_report(
    media: &mut Media,
    now: Instant,
    arrived: Instant,
    peer: PeerIx,
    block: &ReportBlock,
) {
    let Some(index) = media.subscription_of(peer, block.ssrc) else {
        return;
    };
    let subscription = &mut media.subscriptions[index];
    if subscription.ssrc == block.ssrc {
        subscription.reported_lost = block.cumulative_lost.max(0) as u32;
    }
    let Some(sent) = subscription.last_report else {
        return;
    };
    if block.last_sr == 0 || block.last_sr != sent.compact_ntp {
        return;
    }
    let held = Duration::from_secs_f64(f64::from(block.delay_since_sr) / 65_536.0);
    let since = arrived.saturating_duration_since(sent.at);
    let rtt = since.saturating_sub(held);
    let state = &mut media.peers[peer];
    state
        .bandwidth
        .on_report(now, block.fraction_lost, Some(rtt));
    state.set_pace();
    state.note_rtt(rtt);
}

fn keyframe_requested(media: &mut Media, now: Instant, peer: PeerIx, ssrc: u32) {
    let Some(index) = media.subscription_of(peer, ssrc) else {
        return;
    };
    media.statistics.keyframe_requests_in += 1;
    let subscription = &media.subscriptions[index];
    let forwarder = &subscription.forwarder;
    if let Some(layer) = forwarder.layer().or(forwarder.needs_keyframe()) {
        want_keyframe(media, now, subscription.track, layer);
    }
}
