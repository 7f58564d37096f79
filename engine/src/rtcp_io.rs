//! RTCP in both directions: reports, keyframe requests, retransmission requests and the
//! transport-wide feedback by which publishers find their rate.

use std::time::{Duration, Instant};

use crate::engine::Engine;
use crate::forward::fan_out::needs_keyframe;
use crate::receive::ingress::REPORT_INTERVAL;
use crate::state::subscription::SentReport;
use crate::state::table::{PeerIx, SubscriptionIx, TrackIx};
use crate::state::track::{Feed, SenderReport};
use crate::wire::rtcp::{self, ReportBlock, RtcpPacket};
use crate::wire::srtp::MAX_RTCP_OVERHEAD;

/// Largest RTCP datagram that we send, SRTCP's trailer not counted.
const MAX_RTCP: usize = 1_150;
/// Sequence numbers of one NACK that we send.
const MAX_NACKS: usize = 64;
/// NTP counts from 1900, unix from 1970.
const NTP_OFFSET: u64 = 2_208_988_800;
/// Length of a sender report without report blocks.
const SENDER_REPORT_LEN: usize = 28;

impl Engine {
    /// A compound RTCP datagram from a peer, which has waited to be read since it `arrived`.
    pub(crate) fn handle_rtcp(
        &mut self,
        now: Instant,
        arrived: Instant,
        peer: PeerIx,
        datagram: &mut [u8],
    ) {
        let state = &mut self.peers[peer];
        let Some(len) = state
            .srtp
            .as_mut()
            .and_then(|srtp| srtp.receiver.unprotect_rtcp(datagram))
        else {
            self.statistics.datagrams_dropped += 1;
            return;
        };
        for packet in rtcp::packets(&datagram[..len]) {
            // What a report brings about may gather for as long as anything else.
            let is_report = matches!(packet, RtcpPacket::TransportFeedback(_));
            self.handle_rtcp_packet(now, arrived, peer, packet);
            if !is_report {
                self.backdate_deadline(arrived);
            }
        }
    }

    fn handle_rtcp_packet(
        &mut self,
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
                self.note_sender_report(arrived, peer, ssrc, ntp, rtp);
                for block in reports {
                    self.note_report(now, arrived, peer, &block);
                }
            }
            RtcpPacket::ReceiverReport { reports, .. } => {
                for block in reports {
                    self.note_report(now, arrived, peer, &block);
                }
            }
            RtcpPacket::Nack { media, sequences } => {
                if let Some(subscription) = self.subscription_of(peer, media) {
                    self.statistics.nacks_in += sequences.clone().count() as u64;
                    self.retransmit(now, subscription, sequences);
                }
            }
            RtcpPacket::PictureLoss { media } => self.keyframe_requested(now, peer, media),
            RtcpPacket::FullIntraRequest { media } => {
                for ssrc in media {
                    self.keyframe_requested(now, peer, ssrc);
                }
            }
            RtcpPacket::TransportFeedback(feedback) => {
                self.transport_feedback(now, arrived, peer, &feedback);
            }
            RtcpPacket::Remb { bps } => self.receiver_estimate(now, peer, bps),
            RtcpPacket::Other => {}
        }
    }

    fn note_sender_report(&mut self, at: Instant, peer: PeerIx, ssrc: u32, ntp: u64, rtp: u32) {
        let state = &self.peers[peer];
        let Some(index) = state.streams.find(ssrc) else {
            return;
        };
        let owner = state.streams.get(index).owner;
        let track = &mut self.tracks[owner.track];
        if let Some(layer) = track.layers.get_mut(usize::from(owner.layer))
            && !owner.repair
        {
            layer.statistics.on_sender_report(ntp, at);
            layer.sender_report = Some(SenderReport { ntp, rtp, at });
        }
    }

    fn note_report(&mut self, now: Instant, arrived: Instant, peer: PeerIx, block: &ReportBlock) {
        let Some(index) = self.subscription_of(peer, block.ssrc) else {
            return;
        };
        let subscription = &mut self.subscriptions[index];
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
        let state = &mut self.peers[peer];
        state
            .bandwidth
            .on_report(now, block.fraction_lost, Some(rtt));
        state.set_pace();
        state.note_rtt(rtt);
    }

    fn keyframe_requested(&mut self, now: Instant, peer: PeerIx, ssrc: u32) {
        let Some(index) = self.subscription_of(peer, ssrc) else {
            return;
        };
        self.statistics.keyframe_requests_in += 1;
        let subscription = &self.subscriptions[index];
        let forwarder = &subscription.forwarder;
        if let Some(layer) = forwarder.layer().or(forwarder.needs_keyframe()) {
            self.want_keyframe(now, subscription.track, layer);
        }
    }

    /// Index of the subscription that a peer receives under an SSRC.
    pub(crate) fn subscription_of(&self, peer: PeerIx, ssrc: u32) -> Option<SubscriptionIx> {
        let of_peer = &self.peers[peer].subscriptions;
        of_peer.iter().copied().find(|&index| {
            let subscription = &self.subscriptions[index];
            subscription.ssrc == ssrc || subscription.rtx_ssrc == Some(ssrc)
        })
    }

    /// Asks the publisher for a keyframe of a layer, unless it was asked a moment ago. It is
    /// asked again until one arrives.
    pub(crate) fn want_keyframe(&mut self, now: Instant, track_index: TrackIx, layer: u8) {
        let track = &mut self.tracks[track_index];
        if !needs_keyframe(track) {
            return;
        }
        let publisher = match track.feed {
            Feed::Peer(peer) => peer,
            Feed::Shard(home) => return self.relay.want_keyframe(now, home, track.id, layer),
        };
        let Some(layer) = track.layers.get_mut(usize::from(layer)) else {
            return;
        };
        let due = layer.want_keyframe(now);
        let again = layer.next_keyframe_request();
        if let (true, Some(media)) = (due, layer.ssrc) {
            self.statistics.keyframe_requests_out += 1;
            self.send_rtcp(publisher, |sender, out| rtcp::write_pli(out, sender, media));
        }
        if let Some(again) = again {
            let state = &mut self.peers[publisher];
            state.feedback_due = Some(state.feedback_due.map_or(again, |due| due.min(again)));
            self.arm_media_timers(publisher);
        }
    }

    /// What a publisher has to hear soon: transport-wide feedback, missing packets, keyframes
    /// that are still waited for.
    pub(crate) fn send_feedback(&mut self, now: Instant, peer: PeerIx) {
        let state = &mut self.peers[peer];
        if state.feedback_due.is_none_or(|due| due > now) {
            return;
        }
        state.feedback_due = None;
        self.send_transport_cc(peer);
        let mut next: Option<Instant> = None;
        let rtt = self.peers[peer].rtt;
        for place in 0..self.peers[peer].tracks.len() {
            let track_index = self.peers[peer].tracks[place];
            for layer_index in 0..self.tracks[track_index].layers.len() {
                let layer = &mut self.tracks[track_index].layers[layer_index];
                let Some(media) = layer.ssrc else {
                    continue;
                };
                let mut missing = [0u16; MAX_NACKS];
                let count = layer.nack.poll(now, rtt, &mut missing);
                let keyframe = layer.is_alive(now) && layer.keyframe_request_is_due(now);
                let again = if layer.is_alive(now) {
                    layer.next_keyframe_request()
                } else {
                    None
                };
                for due in [layer.nack.next_timeout(), again].into_iter().flatten() {
                    next = Some(next.map_or(due, |earlier| earlier.min(due)));
                }
                if count > 0 {
                    self.statistics.nacks_out += count as u64;
                    self.send_rtcp(peer, |sender, out| {
                        rtcp::write_nack(out, sender, media, &missing[..count])
                    });
                }
                if keyframe {
                    self.statistics.keyframe_requests_out += 1;
                    self.send_rtcp(peer, |sender, out| rtcp::write_pli(out, sender, media));
                }
            }
        }
        if let Some(next) = next {
            // Never in the past: what is due but cannot be done now waits one interval.
            let next = next.max(now + Duration::from_millis(5));
            self.peers[peer].feedback_due = Some(next);
        }
    }

    fn send_transport_cc(&mut self, peer: PeerIx) {
        // One datagram holds hundreds of packets; a few are enough for any burst.
        for _ in 0..4 {
            let mut body = [0u8; MAX_RTCP];
            let state = &mut self.peers[peer];
            let sender = state.feedback_ssrc;
            let media = state.tracks.first().and_then(|&track| {
                let layers = &self.tracks[track].layers;
                layers.iter().find_map(|layer| layer.ssrc)
            });
            let len = state
                .transport_cc
                .write_feedback(sender, media.unwrap_or(0), &mut body);
            if len == 0 {
                return;
            }
            self.send_rtcp(peer, |_, out| {
                out[..len].copy_from_slice(&body[..len]);
                len
            });
        }
    }

    /// Once a second while packets flow: receiver reports to publishers, sender reports to
    /// subscribers, and a fresh look at which layers are alive.
    pub(crate) fn send_reports(&mut self, now: Instant, peer: PeerIx) {
        let state = &mut self.peers[peer];
        if state.report_due.is_none_or(|due| due > now) {
            return;
        }
        state.report_due = None;
        let received = self.send_receiver_reports(now, peer);
        let sent = self.send_sender_reports(now, peer);
        if sent {
            // Encoders vary, and what a layer costs with them.
            self.allocate_again(now, peer);
        }
        if received || sent {
            self.peers[peer].report_due = Some(now + REPORT_INTERVAL);
        }
    }

    /// True when any stream of the peer is alive.
    fn send_receiver_reports(&mut self, now: Instant, peer: PeerIx) -> bool {
        let mut alive = false;
        for place in 0..self.peers[peer].tracks.len() {
            let track_index = self.peers[peer].tracks[place];
            self.look_at_layers(now, track_index);
            self.relay_layers(now, track_index);
            let mut blocks = [ReportBlock::default(); 3];
            let mut count = 0;
            let layers = &mut self.tracks[track_index].layers;
            for (layer, block) in layers.iter_mut().zip(&mut blocks) {
                alive |= layer.is_alive(now);
                if let (Some(ssrc), true) = (layer.ssrc, layer.is_alive(now)) {
                    *block = layer.statistics.report(ssrc, now);
                    count += 1;
                }
            }
            // Layers die from the top: those alive come first but for gaps, which are skipped.
            let mut reports = [ReportBlock::default(); 3];
            let alive_blocks = blocks.iter().filter(|block| block.ssrc != 0);
            for (to, from) in reports.iter_mut().zip(alive_blocks) {
                *to = *from;
            }
            if count > 0 {
                self.send_rtcp(peer, |sender, out| {
                    rtcp::write_receiver_report(out, sender, &reports[..count])
                });
            }
        }
        alive
    }

    /// True when anything was sent to the peer since the last time.
    fn send_sender_reports(&mut self, now: Instant, peer: PeerIx) -> bool {
        let mut reports = [0u8; MAX_RTCP];
        let mut len = 0;
        let mut flowing = false;
        for place in 0..self.peers[peer].subscriptions.len() {
            let index = self.peers[peer].subscriptions[place];
            let subscription = &mut self.subscriptions[index];
            subscription.renew_retransmissions();
            if subscription.packets == subscription.packets_reported {
                continue;
            }
            flowing = true;
            let Some((ntp, rtp)) = self.report_times(now, index) else {
                continue;
            };
            let subscription = &mut self.subscriptions[index];
            subscription.packets_reported = subscription.packets;
            subscription.last_report = Some(SentReport {
                compact_ntp: (ntp >> 16) as u32,
                at: now,
            });
            let (ssrc, packets, octets) =
                (subscription.ssrc, subscription.packets, subscription.octets);
            len += rtcp::write_sender_report(&mut reports[len..], ssrc, ntp, rtp, packets, octets);
            if len + SENDER_REPORT_LEN > MAX_RTCP {
                self.send_rtcp(peer, |_, out| {
                    out[..len].copy_from_slice(&reports[..len]);
                    len
                });
                len = 0;
            }
        }
        if len > 0 {
            self.send_rtcp(peer, |_, out| {
                out[..len].copy_from_slice(&reports[..len]);
                len
            });
        }
        flowing
    }

    /// The same instant as NTP time and as RTP timestamp of a subscription. The NTP time is the
    /// publisher's where it has told it, so that its audio and video stay in step.
    fn report_times(&self, now: Instant, index: SubscriptionIx) -> Option<(u64, u32)> {
        let subscription = &self.subscriptions[index];
        let track = &self.tracks[subscription.track];
        let layer = &track.layers[usize::from(subscription.forwarder.layer()?)];
        let offset = subscription.forwarder.timestamp_offset()?;
        let clock_rate = u64::from(layer.codec?.clock_rate());
        let (ntp, rtp, at) = match layer.sender_report {
            Some(report) => (report.ntp, report.rtp, report.at),
            None => return Some((self.ntp(now), layer.last_timestamp.wrapping_add(offset))),
        };
        let elapsed = now.saturating_duration_since(at);
        let ticks = elapsed.as_micros() as u64 * clock_rate / 1_000_000;
        let rtp = rtp.wrapping_add(ticks as u32).wrapping_add(offset);
        Some((ntp.wrapping_add(to_ntp(elapsed)), rtp))
    }

    fn ntp(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.started);
        to_ntp(self.config.wall_clock + elapsed).wrapping_add(NTP_OFFSET << 32)
    }

    /// Encrypts what `write` puts into the buffer of what leaves next. `write` gets our
    /// SSRC for feedback.
    fn send_rtcp(&mut self, peer: PeerIx, write: impl FnOnce(u32, &mut [u8]) -> usize) {
        let state = &mut self.peers[peer];
        let sender = state.feedback_ssrc;
        let (Some(path), Some(srtp)) = (state.path, &mut state.srtp) else {
            return;
        };
        let room = MAX_RTCP + MAX_RTCP_OVERHEAD;
        self.outgoing.push(path, room, |out| {
            let len = write(sender, &mut out[..MAX_RTCP]);
            if len == 0 {
                return 0;
            }
            srtp.sender.protect_rtcp(out, len)
        });
    }
}

/// A duration as 32.32 bits of seconds.
fn to_ntp(duration: Duration) -> u64 {
    (duration.as_secs() << 32) | ((u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_becomes_fixed_point_seconds() {
        assert_eq!(to_ntp(Duration::from_millis(1_500)), (1 << 32) | (1 << 31));
    }
}
