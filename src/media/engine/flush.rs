//! Sending: what has gathered in the peers' queues is written, encrypted and handed out.
//!
//! Packets gather for [`FLUSH_INTERVAL`], because the kernel takes a run of packets to one
//! destination for little more than the price of one. One peer after the other is written into
//! one and the same buffer, which therefore stays in the processor's cache.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use slab::Slab;

use super::dispatch::Engine;
use super::io::Transmit;
use super::payload::dependency_descriptor::patch_frame_number;
use super::payload::{self, counters::PictureCounters};
use super::peer::Peer;
use super::rtp::extensions::{
    dependency_descriptor_mut, patch_header, patch_payload_type, set_marker,
};
use super::send_batch::{Path, SendBatch};
use super::send_queue::QueuedPacket;
use super::srtp::{MAX_OVERHEAD, SrtpSender};
use super::track::Track;
use crate::media::codec::Codec;

/// A packet waits at most this long for others to share its way with.
const FLUSH_INTERVAL: Duration = Duration::from_millis(3);
/// Packets written before they are handed out: the most that the kernel takes as one run.
const WRITTEN_AT_ONCE: usize = 64;
/// Bytes that a retransmission has before the payload (RFC 4588, section 4).
pub(super) const REPAIR_HEADER: usize = 2;

/// The peers with packets in their queues.
#[derive(Debug, Default)]
pub(super) struct Flush {
    peers: VecDeque<u32>,
    /// When the packets that wait are to leave.
    due: Option<Instant>,
    /// How many of `peers`, from the front, are to be written now.
    released: usize,
}

impl Flush {
    /// Puts a peer on the list when it has packets.
    pub(super) fn list(&mut self, now: Instant, peer: u32, state: &mut Peer) {
        if state.listed || state.queue.is_empty() {
            return;
        }
        state.listed = true;
        self.peers.push_back(peer);
        self.due.get_or_insert(now + FLUSH_INTERVAL);
    }

    /// When packets are to leave.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Releases what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.released = self.peers.len();
        }
    }

    /// Forgets a peer that is gone.
    pub(super) fn forget(&mut self, peer: u32) {
        if let Some(index) = self.peers.iter().position(|&listed| listed == peer) {
            self.peers.remove(index);
            if index < self.released {
                self.released -= 1;
            }
        }
    }

    fn next(&self) -> Option<u32> {
        (self.released > 0).then(|| self.peers.front().copied())?
    }

    fn done(&mut self) {
        self.peers.pop_front();
        self.released -= 1;
    }
}

impl Engine {
    /// The next media and RTCP datagrams to send.
    pub(super) fn next_run(&mut self) -> Option<Transmit<'_>> {
        let run = loop {
            if let Some(run) = self.outgoing.pop() {
                break run;
            }
            self.outgoing.clear();
            let peer = self.flush.next()?;
            let state = &mut self.peers[peer as usize];
            write_queue(&mut self.outgoing, state, &self.tracks);
            if state.queue.is_written() {
                state.queue.clear();
                state.listed = false;
                self.flush.done();
            }
        };
        let (contents, segment_size) = self.outgoing.contents(run);
        Some(Transmit {
            destination: run.path.destination,
            local: run.path.local,
            segment_size,
            contents,
        })
    }
}

/// Writes the next packets of a peer's queue.
fn write_queue(outgoing: &mut SendBatch, state: &mut Peer, tracks: &Slab<Track>) {
    let path = state.path();
    for queued in state.queue.take(WRITTEN_AT_ONCE) {
        if let (Some(path), Some(srtp)) = (path, &state.srtp) {
            write_packet(outgoing, path, &srtp.sender, tracks, queued);
        }
    }
}

/// Copies a packet out of its cache, with the header that this subscriber gets, and encrypts it.
fn write_packet(
    outgoing: &mut SendBatch,
    path: Path,
    sender: &SrtpSender,
    tracks: &Slab<Track>,
    queued: &QueuedPacket,
) -> Option<()> {
    let layer = tracks
        .get(queued.track as usize)?
        .layers
        .get(usize::from(queued.layer))?;
    let cached = layer.cache.get(queued.source)?;
    let codec = layer.codec?;
    let (packet, header_len) = (cached.packet, usize::from(cached.header_len));
    let body_start = match queued.repair {
        Some(_) => header_len + REPAIR_HEADER,
        None => header_len,
    };
    let len = packet.len() - header_len + body_start;
    if len != usize::from(queued.len) {
        return None;
    }
    outgoing.push(path, len + MAX_OVERHEAD, |out| {
        out[..header_len].copy_from_slice(&packet[..header_len]);
        out[body_start..len].copy_from_slice(&packet[header_len..]);
        patch_header(
            &mut out[..len],
            queued.sequence as u16,
            queued.timestamp,
            queued.ssrc,
        );
        if queued.ends_picture {
            set_marker(out);
        }
        if let Some(counters) = &queued.counters {
            patch_counters(&mut out[..len], header_len, body_start, codec, counters);
        }
        if let Some(repair) = queued.repair {
            out[header_len..body_start].copy_from_slice(&repair.original.to_be_bytes());
            patch_payload_type(&mut out[..len], repair.payload_type);
        }
        let roc = (queued.sequence >> 16) as u32;
        sender.protect_rtp(roc, header_len, out, len)
    });
    Some(())
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
