//! Sending: what has gathered in the peers' queues is written, encrypted and handed out.
//!
//! Packets gather for [`COALESCING_INTERVAL`] where that pays (see `coalescing.rs`), because the kernel
//! takes a run of packets to one destination for little more than the price of one; and many runs
//! in one call. One peer after
//! the other is written into one and the same buffer, which is handed out before it outgrows the
//! processor's cache.

use std::time::Instant;

use crate::api::codec::Codec;
use crate::send::prefetch::prefetch_next_peers;
use crate::send::probe_sender;
use crate::send::send_batch::{Path, SendBatch};
use crate::send::send_queue::{Form, QueuedPacket};
use crate::send::silence::silent_frame;
use crate::state::Media;
use crate::state::active_probe::ActiveProbe;
use crate::state::peer::Peer;
use crate::state::repeat::REPAIR_HEADER;
use crate::state::{Subscriptions, Tracks};
use crate::wire::padding::PADDING_BIT;
use crate::wire::payload::dependency_descriptor::patch_frame_number;
use crate::wire::payload::{self, counters::PictureCounters};
use crate::wire::red_payload;
use crate::wire::rtp::extensions::{
    dependency_descriptor_mut, patch_header, patch_payload_type, patch_transport_sequence,
    set_marker, write_bare_header,
};
use crate::wire::srtp::{MAX_OVERHEAD, SrtpSender};

/// Packets written before they are handed out: the most that the kernel takes as one run.
const WRITTEN_AT_ONCE: usize = 64;
/// Writes what is released, as much as a batch takes.
pub(crate) fn write_released(media: &mut Media, now: Instant) {
    while !media.outgoing.is_full()
        && let Some(peer) = media.ready.next()
    {
        prefetch_next_peers(media);
        let state = &mut media.peers[peer];
        if !state.queue.is_begun() {
            release_paced(now, state, &mut media.subscriptions);
            start_probe(now, state);
            probe_sender::fill(now, state, &mut media.subscriptions, &media.tracks);
        }
        write_queue(now, &mut media.outgoing, state, &media.tracks);
        if state.queue.is_written() {
            state.queue.clear();
            if state
                .probe
                .as_ref()
                .is_some_and(|active| active.is_over(now))
            {
                state.probe = None;
            }
            state.in_ready_list = false;
            media.ready.done();
            media.ready.push_peer(now, peer, state);
        }
    }
}

/// Puts those of a peer's paced packets into its queue whose time has come.
fn release_paced(now: Instant, state: &mut Peer, subscriptions: &mut Subscriptions) {
    let pace = state.pace();
    state.pacer.refill(now, pace);
    while let Some(packet) = state.pacer.release() {
        // What ends takes its packets with it, so the stream is there.
        if let Some(subscription) = subscriptions.get_mut(packet.subscription) {
            state.queue.push(packet, &mut subscription.last_queued);
        }
    }
}

/// Begins a probe when the estimator has planned one.
fn start_probe(now: Instant, state: &mut Peer) {
    if state.probe.is_none() && state.gives_feedback {
        let planned = state.bandwidth.poll_probe(now);
        state.probe = planned.map(|probe| Box::new(ActiveProbe::new(probe, now)));
    }
}

/// Writes the next packets of a peer's queue.
fn write_queue(now: Instant, outgoing: &mut SendBatch, state: &mut Peer, tracks: &Tracks) {
    let (Some(path), Some(srtp)) = (state.path, &state.srtp) else {
        state.queue.take(usize::MAX).for_each(drop);
        return;
    };
    for queued in state.queue.take(WRITTEN_AT_ONCE) {
        // Of what was sent before, the number is sent again too.
        let tag = u64::from(queued.ssrc) << 32 | (queued.sequence & 0xffff_ffff);
        let number = match queued.form {
            _ if !queued.reported => Some(0),
            Form::Repeat => state.bandwidth.repeat(tag),
            _ => {
                let len = usize::from(queued.len) + MAX_OVERHEAD;
                let probe = state.probe.as_mut().map(|active| {
                    active.packets += 1;
                    active.bytes += len as u32;
                    active.probe.id
                });
                Some(state.bandwidth.on_sent(now, len, tag, probe))
            }
        };
        if let Some(number) = number {
            write_packet(outgoing, path, &srtp.sender, tracks, &queued, number);
        }
    }
}

/// Copies a packet out of its cache, with the header that this subscriber gets, and encrypts it.
fn write_packet(
    outgoing: &mut SendBatch,
    path: Path,
    sender: &SrtpSender,
    tracks: &Tracks,
    queued: &QueuedPacket,
    number: u16,
) -> Option<()> {
    match queued.form {
        Form::Padding => {
            write_padding(outgoing, path, sender, queued, number);
            return Some(());
        }
        Form::Silence(codec) => {
            write_silence(outgoing, path, sender, queued, (codec, number));
            return Some(());
        }
        Form::Media | Form::Repeat | Form::Repair { .. } => {}
    }
    let layer = tracks
        .get(queued.track)?
        .layers
        .get(usize::from(queued.layer))?;
    let cached = layer.cache.get(queued.source)?;
    let codec = layer.codec?;
    let (packet, header_len) = (cached.packet, usize::from(cached.header_len));
    let body_start = match queued.form {
        Form::Repair { .. } => header_len + REPAIR_HEADER,
        _ => header_len,
    };
    let len = if queued.red_stripped {
        red_payload::primary_len(packet, header_len)?
    } else {
        packet.len() - header_len + body_start
    };
    if len != usize::from(queued.len) {
        return None;
    }
    outgoing.push(path, len + MAX_OVERHEAD, |out| {
        if queued.red_stripped {
            // Its length is known, so it can be done.
            red_payload::strip(packet, header_len, &mut out[..len]);
        } else {
            out[..header_len].copy_from_slice(&packet[..header_len]);
            out[body_start..len].copy_from_slice(&packet[header_len..]);
        }
        patch_header(
            &mut out[..len],
            queued.sequence as u16,
            queued.timestamp,
            queued.ssrc,
        );
        patch_payload_type(&mut out[..len], queued.payload_type);
        patch_transport_sequence(&mut out[..len], number);
        if queued.ends_picture {
            set_marker(out);
        }
        if let Some(counters) = &queued.counters {
            patch_counters(&mut out[..len], header_len, body_start, codec, counters);
        }
        if let Form::Repair { original } = queued.form {
            out[header_len..body_start].copy_from_slice(&original.to_be_bytes());
        }
        let roc = (queued.sequence >> 16) as u32;
        sender.protect_rtp(roc, header_len, out, len)
    });
    Some(())
}

/// Writes a packet of which the payload is nothing but padding.
fn write_padding(
    outgoing: &mut SendBatch,
    path: Path,
    sender: &SrtpSender,
    queued: &QueuedPacket,
    number: u16,
) {
    let len = usize::from(queued.len);
    outgoing.push(path, len + MAX_OVERHEAD, |out| {
        let header_len = write_bare_header(out, queued.payload_type);
        out[header_len..len].fill(0);
        out[len - 1] = (len - header_len) as u8;
        out[0] |= PADDING_BIT;
        if queued.ends_picture {
            set_marker(out);
        }
        finish_bare(sender, queued, number, header_len, out)
    });
}

/// Writes a frame in which nothing is heard.
fn write_silence(
    outgoing: &mut SendBatch,
    path: Path,
    sender: &SrtpSender,
    queued: &QueuedPacket,
    (codec, number): (Codec, u16),
) {
    let len = usize::from(queued.len);
    outgoing.push(path, len + MAX_OVERHEAD, |out| {
        let header_len = write_bare_header(out, queued.payload_type);
        out[header_len..len].copy_from_slice(silent_frame(codec));
        finish_bare(sender, queued, number, header_len, out)
    });
}

/// Completes and encrypts a packet that is in no cache.
fn finish_bare(
    sender: &SrtpSender,
    queued: &QueuedPacket,
    number: u16,
    header_len: usize,
    out: &mut [u8],
) -> usize {
    let sequence = queued.sequence;
    patch_header(out, sequence as u16, queued.timestamp, queued.ssrc);
    patch_transport_sequence(out, number);
    let roc = (sequence >> 16) as u32;
    sender.protect_rtp(roc, header_len, out, usize::from(queued.len))
}

/// Sets the picture counters that a packet has, in its header and in its payload.
fn patch_counters(
    packet: &mut [u8],
    header_len: usize,
    body_start: usize,
    codec: Codec,
    counters: &PictureCounters,
) {
    if let Some(descriptor) = dependency_descriptor_mut(&mut packet[..header_len]) {
        patch_frame_number(descriptor, counters.frame_number);
    }
    payload::patch_counters(codec, &mut packet[body_start..], counters);
}
