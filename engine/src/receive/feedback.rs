//! The feedback that publishers get soon: transport-wide feedback, requests for missing packets, and
//! keyframe requests that have not been answered.

use std::time::{Duration, Instant};

use crate::send::rtcp::{MAX_RTCP, send_rtcp};
use crate::state::Media;
use crate::state::table::PeerIx;
use crate::wire::rtcp;

/// Sequence numbers of one NACK that we send.
const MAX_NACKS: usize = 64;

/// What a publisher has to hear soon: transport-wide feedback, missing packets, keyframes
/// that are still waited for.
pub(crate) fn send_feedback(media: &mut Media, now: Instant, peer: PeerIx) {
    let state = &mut media.peers[peer];
    if state.feedback_due.is_none_or(|due| due > now) {
        return;
    }
    state.feedback_due = None;
    send_transport_cc(media, peer);
    let mut next: Option<Instant> = None;
    let rtt = media.peers[peer].rtt;
    for place in 0..media.peers[peer].tracks.len() {
        let track_index = media.peers[peer].tracks[place];
        for layer_index in 0..media.tracks[track_index].layers.len() {
            let layer = &mut media.tracks[track_index].layers[layer_index];
            let Some(ssrc) = layer.ssrc else {
                continue;
            };
            let mut missing = [0u16; MAX_NACKS];
            let count = layer.nack.poll(now, rtt, &mut missing);
            let keyframe = layer.keyframe_request_is_due(now);
            let again = layer.next_keyframe_request();
            for due in [layer.nack.next_timeout(), again].into_iter().flatten() {
                next = Some(next.map_or(due, |earlier| earlier.min(due)));
            }
            if count > 0 {
                media.statistics.nacks_out += count as u64;
                send_rtcp(media, peer, |sender, out| {
                    rtcp::write_nack(out, sender, ssrc, &missing[..count])
                });
            }
            if keyframe {
                media.statistics.keyframe_requests_out += 1;
                send_rtcp(media, peer, |sender, out| {
                    rtcp::write_pli(out, sender, ssrc)
                });
            }
        }
    }
    if let Some(next) = next {
        // Never in the past: what is due but cannot be done now waits one interval.
        let next = next.max(now + Duration::from_millis(5));
        media.peers[peer].feedback_due = Some(next);
    }
}

fn send_transport_cc(media: &mut Media, peer: PeerIx) {
    // One datagram holds hundreds of packets; a few are enough for any burst.
    for _ in 0..4 {
        let mut body = [0u8; MAX_RTCP];
        let state = &mut media.peers[peer];
        let sender = state.feedback_ssrc;
        let ssrc = state.tracks.first().and_then(|&track| {
            let layers = &media.tracks[track].layers;
            layers.iter().find_map(|layer| layer.ssrc)
        });
        let len = state
            .transport_cc
            .write_feedback(sender, ssrc.unwrap_or(0), &mut body);
        if len == 0 {
            return;
        }
        send_rtcp(media, peer, |_, out| {
            out[..len].copy_from_slice(&body[..len]);
            len
        });
    }
}
