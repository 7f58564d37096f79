//! Sender and receiver reports (RFC 3550, section 6.4), once a second while packets flow.

use std::time::Instant;

use crate::allocation::allocator::Allocator;
use crate::forward::relay::relay_layers;
use crate::send::rtcp::{MAX_RTCP, send_rtcp};
use crate::send::wall_clock::{WallClock, to_ntp};
use crate::state::Media;
use crate::state::peer::REPORT_INTERVAL;
use crate::state::subscription::SentReport;
use crate::state::table::{PeerIx, SubscriptionIx};
use crate::wire::rtcp::{self, ReportBlock};

/// Length in bytes of a sender report without report blocks (RFC 3550, section 6.4.1).
const SENDER_REPORT_LEN: usize = 28;

/// Once a second while packets flow: receiver reports to publishers, sender reports to
/// subscribers, and a fresh look at which layers are alive.
pub(crate) fn send_reports(
    media: &mut Media,
    allocator: &mut Allocator,
    clock: &WallClock,
    now: Instant,
    peer: PeerIx,
) {
    let state = &mut media.peers[peer];
    if state.report_due.is_none_or(|due| due > now) {
        return;
    }
    state.report_due = None;
    let received = send_receiver_reports(media, allocator, now, peer);
    let sent = send_sender_reports(media, clock, now, peer);
    if sent {
        // Encoders vary, and what a layer costs with them.
        allocator.allocate_again(media, now, peer);
    }
    if received || sent {
        media.peers[peer].report_due = Some(now + REPORT_INTERVAL);
    }
}

/// True when any stream of the peer is alive.
fn send_receiver_reports(
    media: &mut Media,
    allocator: &mut Allocator,
    now: Instant,
    peer: PeerIx,
) -> bool {
    let mut alive = false;
    for place in 0..media.peers[peer].tracks.len() {
        let track_index = media.peers[peer].tracks[place];
        allocator.look_at_layers(media, now, track_index);
        relay_layers(media, now, track_index);
        media.tracks[track_index].forget_stopped(now);
        let mut blocks = [ReportBlock::default(); 3];
        let mut count = 0;
        let layers = &mut media.tracks[track_index].layers;
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
            send_rtcp(media, peer, |sender, out| {
                rtcp::write_receiver_report(out, sender, &reports[..count])
            });
        }
    }
    alive
}

/// True when anything was sent to the peer since the last time.
fn send_sender_reports(media: &mut Media, clock: &WallClock, now: Instant, peer: PeerIx) -> bool {
    let mut reports = [0u8; MAX_RTCP];
    let mut len = 0;
    let mut flowing = false;
    for place in 0..media.peers[peer].subscriptions.len() {
        let index = media.peers[peer].subscriptions[place];
        let subscription = &mut media.subscriptions[index];
        subscription.renew_retransmissions();
        if subscription.packets == subscription.packets_reported {
            continue;
        }
        flowing = true;
        let Some((ntp, rtp)) = report_times(media, clock, now, index) else {
            continue;
        };
        let subscription = &mut media.subscriptions[index];
        subscription.packets_reported = subscription.packets;
        subscription.last_report = Some(SentReport {
            compact_ntp: (ntp >> 16) as u32,
            at: now,
        });
        let (ssrc, packets, octets) =
            (subscription.ssrc, subscription.packets, subscription.octets);
        len += rtcp::write_sender_report(&mut reports[len..], ssrc, ntp, rtp, packets, octets);
        if len + SENDER_REPORT_LEN > MAX_RTCP {
            send_rtcp(media, peer, |_, out| {
                out[..len].copy_from_slice(&reports[..len]);
                len
            });
            len = 0;
        }
    }
    if len > 0 {
        send_rtcp(media, peer, |_, out| {
            out[..len].copy_from_slice(&reports[..len]);
            len
        });
    }
    flowing
}

/// The same instant as NTP time and as RTP timestamp of a subscription. The NTP time is the
/// publisher's where it has told it, so that its audio and video stay in step.
fn report_times(
    media: &Media,
    clock: &WallClock,
    now: Instant,
    index: SubscriptionIx,
) -> Option<(u64, u32)> {
    let subscription = &media.subscriptions[index];
    let track = &media.tracks[subscription.track];
    let layer = &track.layers[usize::from(subscription.forwarder.layer()?)];
    let offset = subscription.forwarder.timestamp_offset()?;
    let clock_rate = u64::from(layer.codec?.clock_rate());
    let (ntp, rtp, at) = match layer.sender_report {
        Some(report) => (report.ntp, report.rtp, report.at),
        None => return Some((clock.ntp(now), layer.last_timestamp.wrapping_add(offset))),
    };
    let elapsed = now.saturating_duration_since(at);
    let ticks = elapsed.as_micros() as u64 * clock_rate / 1_000_000;
    let rtp = rtp.wrapping_add(ticks as u32).wrapping_add(offset);
    Some((ntp.wrapping_add(to_ntp(elapsed)), rtp))
}
