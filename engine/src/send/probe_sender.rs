//! Packets sent to find out whether a subscriber's connection carries more.
//!
//! A probe is a rate kept for some ticks. What media leaves open of it is filled with packets
//! on a retransmission stream: those that were sent last once more, which heal a loss besides,
//! or padding alone where nothing was sent lately.

use std::time::{Duration, Instant};

use slab::Slab;

use crate::api::codec::MediaKind;
use crate::api::io::GATHER_INTERVAL;
use crate::bandwidth::Probe;
use crate::forward::fan_out::again;
use crate::send::send_queue::{Form, QueuedPacket};
use crate::state::peer::Peer;
use crate::state::subscription::Subscription;
use crate::state::track::Track;
use crate::wire::rtp::extensions::PADDING_HEADER;

/// Packets that one tick adds at most.
const MAX_ADDED: usize = 64;
/// A probe that has not come to its end by then is given up.
const LONGEST: Duration = Duration::from_millis(100);

/// A probe that is being sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ActiveProbe {
    pub(crate) probe: Probe,
    since: Instant,
    pub(crate) packets: u32,
    pub(crate) bytes: u32,
}

impl ActiveProbe {
    pub(crate) fn new(probe: Probe, now: Instant) -> ActiveProbe {
        ActiveProbe {
            probe,
            since: now,
            packets: 0,
            bytes: 0,
        }
    }

    /// Whether enough has been sent.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        let enough = self.packets >= self.probe.packets_min && self.bytes >= self.probe.bytes_min;
        enough || now.saturating_duration_since(self.since) > LONGEST
    }

    /// Bytes that have to be sent by the end of the tick that begins now.
    fn due(&self, now: Instant) -> u64 {
        let time = now.saturating_duration_since(self.since) + GATHER_INTERVAL;
        self.probe.bps * time.as_micros() as u64 / 8_000_000
    }
}

/// Adds to what a peer is sent in this tick as much as its probe asks for.
pub(crate) fn fill(
    now: Instant,
    state: &mut Peer,
    subscriptions: &mut Slab<Subscription>,
    tracks: &Slab<Track>,
) {
    let Some(active) = &state.probe else {
        return;
    };
    let repairs = |index: &&u32| {
        let subscription = &subscriptions[**index as usize];
        let video = tracks[subscription.track as usize].kind == MediaKind::Video;
        video && subscription.can_repair()
    };
    let Some(index) = state.subscriptions.iter().find(repairs).copied() else {
        state.probe = None;
        return;
    };
    let subscription = &mut subscriptions[index as usize];
    let track = &tracks[subscription.track as usize];
    let queued = u64::from(active.bytes) + state.queue.bytes();
    let mut missing = active.due(now).saturating_sub(queued);
    for back in 0..MAX_ADDED as u16 {
        if missing == 0 {
            break;
        }
        let packet = subscription
            .forwarder
            .latest()
            .and_then(|latest| again(index, subscription, track, latest.wrapping_sub(back)))
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
fn padding(index: u32, subscription: &mut Subscription, track: &Track) -> Option<QueuedPacket> {
    let codec = track.layers.iter().find_map(|layer| layer.codec)?;
    let payload_type = codec.rtx_payload_type()?;
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
        counters: None,
        ends_picture: false,
        form: Form::Padding { payload_type },
        reported: true,
        red_undone: false,
        len: (PADDING_HEADER + MOST_PADDING) as u16,
    })
}
