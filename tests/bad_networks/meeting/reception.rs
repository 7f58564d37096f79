//! One subscribed track at its receiver: RTP in, retransmission requests as libwebrtc makes
//! them, report blocks, and what a viewer or listener gets of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use moim_engine::codec::{Codec, MediaKind, RED_PAYLOAD_TYPE};
use moim_engine::rtp::header::RtpHeader;

use super::decoder::{Decoder, Shown};
use super::packet::Stamp;
use super::rtcp::ReportBlock;

/// The NACK for a packet that is still missing is repeated after this: libwebrtc's round trip for a
/// connection that sends no media, on which it cannot measure one.
const NACK_INTERVAL: Duration = Duration::from_millis(100);
/// After this many requests a packet is given up.
const MAX_REQUESTS: u8 = 10;
/// More than this many missing are given up, all of them, and a keyframe is asked for.
const MAX_MISSING: usize = 1_000;
/// Sequence numbers remembered to tell repeats.
const REMEMBERED: u64 = 4_096;
/// An audio frame that comes later than this after it was made is not heard.
pub(super) const AUDIO_LIMIT: Duration = Duration::from_millis(250);

/// What arrived of one subscription.
#[derive(Debug, Default, Clone)]
pub(crate) struct Received {
    /// When each packet was made, since the meeting began, and how long it took until it was
    /// here for the first time, by whatever way.
    pub(crate) packets: Vec<(Duration, Duration)>,
    /// Bytes of media, without repeats, with the headers of RTP, UDP and IP, in tenths of a
    /// second.
    pub(crate) bytes: Vec<u64>,
    /// Packets that arrived more than once.
    pub(crate) repeats: u32,
    /// Sequence numbers from the first to the highest.
    pub(crate) expected: u64,
    /// Two different packets under one sequence number: the server's fault.
    pub(crate) violations: u32,
    /// Audio frames heard in time, directly or out of RED.
    pub(crate) heard: BTreeSet<u32>,
}

impl Received {
    /// Bits a second of media from `from` to `to`.
    pub(crate) fn rate(&self, from: Duration, to: Duration) -> f64 {
        rate(&self.bytes, from, to)
    }

    /// The share of all packets of the stream that were here within `limit`.
    pub(crate) fn in_time(&self, limit: Duration) -> f64 {
        let in_time = self
            .packets
            .iter()
            .filter(|(_, took)| *took <= limit)
            .count();
        in_time as f64 / self.expected.max(1) as f64
    }
}

/// Bits a second of what is counted in tenths of a second.
pub(super) fn rate(tenths: &[u64], from: Duration, to: Duration) -> f64 {
    let index = |at: Duration| (at.as_millis() / 100) as usize;
    let bytes: u64 = (index(from)..index(to))
        .filter_map(|at| tenths.get(at))
        .sum();
    bytes as f64 * 8.0 / (to - from).as_secs_f64()
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    ask_at: Instant,
    requests: u8,
}

/// One stream.
#[derive(Debug)]
pub(crate) struct Reception {
    pub(super) ssrc: u32,
    pub(super) rtx_ssrc: u32,
    pub(super) codec: Codec,
    epoch: Instant,
    first: Option<u64>,
    highest: u64,
    rtx_highest: u64,
    /// What arrived lately: a print of what it was.
    arrived: BTreeMap<u64, u32>,
    missing: BTreeMap<u64, Missing>,
    decoder: Decoder,
    /// When a media packet arrived last.
    last_packet: Option<Instant>,
    last_sr: Option<(u32, Instant)>,
    /// Counts at the last report: expected and received.
    reported: (u64, u64),
    keyframe_wanted: bool,
    received: Received,
}

impl Reception {
    pub(super) fn new(epoch: Instant, now: Instant, codec: Codec, ssrc: u32) -> Reception {
        Reception {
            ssrc,
            rtx_ssrc: ssrc + 1,
            codec,
            epoch,
            first: None,
            highest: 0,
            rtx_highest: 0,
            arrived: BTreeMap::new(),
            missing: BTreeMap::new(),
            decoder: Decoder::new(epoch, now),
            last_packet: None,
            last_sr: None,
            reported: (0, 0),
            keyframe_wanted: false,
            received: Received::default(),
        }
    }

    /// What arrived.
    pub(crate) fn received(&self) -> &Received {
        &self.received
    }

    /// What is shown.
    pub(crate) fn shown(&self) -> &Shown {
        &self.decoder.shown
    }

    /// The roll-over count of a packet with this SSRC and sequence number.
    pub(super) fn rollover(&self, header: &RtpHeader) -> u32 {
        let (begun, highest) = if header.ssrc == self.ssrc {
            (self.first.is_some(), self.highest)
        } else {
            (self.rtx_highest > 0, self.rtx_highest)
        };
        if begun {
            (extend(highest, header.sequence) >> 16) as u32
        } else {
            0
        }
    }

    /// A decrypted packet of the stream or of its retransmissions.
    pub(super) fn receive(&mut self, now: Instant, header: &RtpHeader, packet: &[u8]) {
        let Some(mut payload) = header.payload(packet) else {
            return;
        };
        let mut number = header.sequence;
        if header.ssrc == self.rtx_ssrc {
            self.rtx_highest = self.rtx_highest.max(match self.rtx_highest {
                0 => u64::from(header.sequence),
                highest => extend(highest, header.sequence),
            });
            let Some((original, rest)) = payload.split_first_chunk::<2>() else {
                return;
            };
            number = u16::from_be_bytes(*original);
            payload = rest;
        }
        let sequence = match self.first {
            None => u64::from(number),
            Some(_) => extend(self.highest, number),
        };
        if header.ssrc == self.ssrc {
            self.notice_gap(now, sequence);
        } else if self.first.is_none() {
            return;
        }
        self.missing.remove(&sequence);
        let print = print(payload);
        match self.arrived.insert(sequence, print) {
            Some(before) if before != print => self.received.violations += 1,
            Some(_) => self.received.repeats += 1,
            None => self.accept(now, header, payload, packet.len()),
        }
        let oldest = self.highest.saturating_sub(REMEMBERED);
        while self
            .arrived
            .first_key_value()
            .is_some_and(|(old, _)| *old < oldest)
        {
            self.arrived.pop_first();
        }
    }

    /// All numbers that were jumped over are missing, and asked for at once.
    fn notice_gap(&mut self, now: Instant, sequence: u64) {
        let Some(first) = self.first else {
            self.first = Some(sequence);
            self.highest = sequence;
            self.received.expected = 1;
            return;
        };
        let asked = Missing {
            ask_at: now,
            requests: 0,
        };
        let jumped = (self.highest + 1..sequence).map(|sequence| (sequence, asked));
        self.missing.extend(jumped);
        if self.missing.len() > MAX_MISSING {
            self.missing.clear();
            self.keyframe_wanted = true;
        }
        self.highest = self.highest.max(sequence);
        self.received.expected = self.highest + 1 - first;
    }

    fn accept(&mut self, now: Instant, header: &RtpHeader, payload: &[u8], len: usize) {
        self.last_packet = Some(now);
        let tenth = (now.duration_since(self.epoch).as_millis() / 100) as usize;
        if self.received.bytes.len() <= tenth {
            self.received.bytes.resize(tenth + 1, 0);
        }
        self.received.bytes[tenth] += (len + super::network::OVERHEAD) as u64;
        let Some(stamp) = Stamp::read(payload) else {
            return;
        };
        let took = now.duration_since(self.epoch + stamp.created);
        self.received.packets.push((stamp.created, took));
        match self.codec.kind() {
            MediaKind::Video => self.decoder.receive(now, stamp, header.marker),
            MediaKind::Audio => {
                self.hear(now, stamp);
                if header.payload_type == RED_PAYLOAD_TYPE
                    && let Some(former) = former_frame(payload)
                {
                    self.hear(now, former);
                }
            }
        }
    }

    fn hear(&mut self, now: Instant, stamp: Stamp) {
        if now.duration_since(self.epoch + stamp.created) <= AUDIO_LIMIT {
            self.received.heard.insert(stamp.picture);
        }
    }

    /// The sequence numbers to ask for now.
    pub(super) fn nacks(&mut self, now: Instant) -> Vec<u16> {
        let mut asked = Vec::new();
        self.missing.retain(|sequence, missing| {
            if missing.ask_at > now {
                return true;
            }
            if missing.requests == MAX_REQUESTS {
                return false;
            }
            missing.requests += 1;
            missing.ask_at = now + NACK_INTERVAL;
            asked.push(*sequence as u16);
            true
        });
        asked
    }

    /// Whether anything has been lost that is to be asked for now.
    pub(super) fn has_new_gap(&self) -> bool {
        self.missing
            .last_key_value()
            .is_some_and(|(_, missing)| missing.requests == 0)
    }

    /// Whether to ask for a keyframe now.
    pub(super) fn wants_keyframe(&mut self, now: Instant) -> bool {
        if self.codec.kind() == MediaKind::Audio {
            return false;
        }
        // A stream of which nothing arrives is taken for paused.
        let flows = self
            .last_packet
            .is_some_and(|last| now.duration_since(last) < Duration::from_secs(1));
        std::mem::take(&mut self.keyframe_wanted) || self.decoder.wants_keyframe(now, flows)
    }

    pub(super) fn sender_report(&mut self, now: Instant, compact_ntp: u32) {
        self.last_sr = Some((compact_ntp, now));
    }

    /// Once a second.
    pub(super) fn report(&mut self, now: Instant) -> Option<ReportBlock> {
        self.first?;
        let received = self.received.packets.len() as u64;
        let expected = self.received.expected;
        let (expected_before, received_before) = self.reported;
        self.reported = (expected, received);
        let expected_now = expected - expected_before;
        let lost_now = expected_now.saturating_sub(received - received_before);
        let (last_sr, at) = self.last_sr.unwrap_or((0, now));
        Some(ReportBlock {
            ssrc: self.ssrc,
            fraction_lost: (lost_now * 256).checked_div(expected_now)?.min(255) as u8,
            cumulative_lost: expected.saturating_sub(received) as u32,
            highest_sequence: self.highest as u32,
            last_sr,
            since_sr: now.duration_since(at),
        })
    }
}

/// The number nearest to `highest` that ends in `sequence`.
pub(super) fn extend(highest: u64, sequence: u16) -> u64 {
    let ahead = sequence.wrapping_sub(highest as u16) as i16;
    highest.saturating_add_signed(i64::from(ahead))
}

/// The frame before that a packet of redundant audio carries (RFC 2198, section 3).
fn former_frame(payload: &[u8]) -> Option<Stamp> {
    let &[first, _, middle, low, primary] = payload.first_chunk()?;
    if first & 0x80 == 0 || primary & 0x80 != 0 {
        return None;
    }
    let len = (usize::from(middle & 0x03) << 8) | usize::from(low);
    Stamp::read(payload.get(5..5 + len)?)
}

/// Tells one payload from another.
fn print(payload: &[u8]) -> u32 {
    let stamp = payload.len().saturating_sub(Stamp::LEN);
    crc32fast::hash(&payload[stamp..])
}
