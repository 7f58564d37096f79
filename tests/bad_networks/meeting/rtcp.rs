//! The RTCP that lean clients write and read, packet by packet. It is written apart from the
//! server's own on purpose: two readings of the RFCs check each other.

use std::time::Duration;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;

/// What a compound that came from the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// The stream's middle 32 bits of NTP time.
    SenderReport { ssrc: u32, compact_ntp: u32 },
    /// Sequence numbers that are missing.
    Nack { media: u32, sequences: Vec<u16> },
    /// A keyframe is wanted (PLI or FIR).
    Keyframe { media: u32 },
    /// Transport-wide feedback: how many packets it covers, and how many of them arrived.
    TransportCc { covered: u16, arrived: u16 },
}

/// One block of a receiver report (RFC 3550, section 6.4.1).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReportBlock {
    pub(super) ssrc: u32,
    pub(super) fraction_lost: u8,
    pub(super) cumulative_lost: u32,
    pub(super) highest_sequence: u32,
    pub(super) last_sr: u32,
    pub(super) since_sr: Duration,
}

fn start(out: &mut Vec<u8>, count: u8, kind: u8, words: usize) {
    out.extend_from_slice(&[0x80 | count, kind]);
    out.extend_from_slice(&((words - 1) as u16).to_be_bytes());
}

fn put(out: &mut Vec<u8>, words: &[u32]) {
    for word in words {
        out.extend_from_slice(&word.to_be_bytes());
    }
}

/// A sender report without blocks. `ntp` is 32.32 bits of seconds.
pub(super) fn sender_report(
    out: &mut Vec<u8>,
    ssrc: u32,
    ntp: u64,
    rtp: u32,
    packets: u32,
    octets: u32,
) {
    start(out, 0, SENDER_REPORT, 7);
    let (high, low) = ((ntp >> 32) as u32, ntp as u32);
    put(out, &[ssrc, high, low, rtp, packets, octets]);
}

/// A receiver report of at most 31 blocks.
pub(super) fn receiver_report(out: &mut Vec<u8>, sender: u32, blocks: &[ReportBlock]) {
    start(
        out,
        blocks.len() as u8,
        RECEIVER_REPORT,
        2 + 6 * blocks.len(),
    );
    put(out, &[sender]);
    for block in blocks {
        let since = (block.since_sr.as_secs_f64() * 65_536.0) as u32;
        let loss = (u32::from(block.fraction_lost) << 24) | (block.cumulative_lost & 0x00ff_ffff);
        let highest = block.highest_sequence;
        put(out, &[block.ssrc, loss, highest, 0, block.last_sr, since]);
    }
}

/// A generic NACK (RFC 4585, section 6.2.1).
pub(super) fn nack(out: &mut Vec<u8>, sender: u32, media: u32, sequences: &[u16]) {
    let mut items: Vec<(u16, u16)> = Vec::new();
    for &sequence in sequences {
        match items.last_mut() {
            Some((first, mask)) if (1..=16).contains(&sequence.wrapping_sub(*first)) => {
                *mask |= 1 << (sequence.wrapping_sub(*first) - 1);
            }
            _ => items.push((sequence, 0)),
        }
    }
    start(out, 1, TRANSPORT_FEEDBACK, 3 + items.len());
    put(out, &[sender, media]);
    for (first, mask) in items {
        put(out, &[(u32::from(first) << 16) | u32::from(mask)]);
    }
}

/// A picture loss indication (RFC 4585, section 6.3.1).
pub(super) fn picture_loss(out: &mut Vec<u8>, sender: u32, media: u32) {
    start(out, 1, PAYLOAD_FEEDBACK, 3);
    put(out, &[sender, media]);
}

/// Reads a compound.
pub(super) fn read(mut compound: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(&[first, kind, l0, l1]) = compound.first_chunk() {
        let len = 4 * (usize::from(u16::from_be_bytes([l0, l1])) + 1);
        let Some((packet, rest)) = compound.split_at_checked(len) else {
            break;
        };
        messages.extend(read_one(first & 0x1f, kind, packet));
        compound = rest;
    }
    messages
}

fn read_one(count: u8, kind: u8, packet: &[u8]) -> Option<Message> {
    let word = |index: usize| {
        let bytes = packet.get(4 * index..)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    };
    Some(match (kind, count) {
        (SENDER_REPORT, _) => Message::SenderReport {
            ssrc: word(1)?,
            compact_ntp: (word(2)? << 16) | (word(3)? >> 16),
        },
        (TRANSPORT_FEEDBACK, 1) => {
            let items = (3..packet.len() / 4).filter_map(word);
            let sequences = items.flat_map(|item| {
                let first = (item >> 16) as u16;
                let more = (0..16).filter(move |bit| item & (1 << bit) != 0);
                std::iter::once(first).chain(more.map(move |bit| first.wrapping_add(bit + 1)))
            });
            Message::Nack {
                media: word(2)?,
                sequences: sequences.collect(),
            }
        }
        (TRANSPORT_FEEDBACK, 15) => {
            let covered = (word(3)? & 0xffff) as u16;
            Message::TransportCc {
                covered,
                arrived: arrived(packet.get(20..)?, covered),
            }
        }
        (PAYLOAD_FEEDBACK, 1) => Message::Keyframe { media: word(2)? },
        (PAYLOAD_FEEDBACK, 4) => Message::Keyframe { media: word(3)? },
        _ => return None,
    })
}

/// How many packets the chunks of transport-wide feedback report as arrived.
fn arrived(chunks: &[u8], covered: u16) -> u16 {
    let (mut left, mut arrived) = (covered, 0);
    for chunk in chunks.chunks_exact(2) {
        let chunk = u16::from_be_bytes([chunk[0], chunk[1]]);
        let (count, here) = match chunk >> 14 {
            0b10 => (14, (chunk & 0x3fff).count_ones() as u16),
            0b11 => {
                let symbols = (0..7).map(|index| (chunk >> (12 - 2 * index)) & 3);
                (7, symbols.filter(|symbol| *symbol != 0).count() as u16)
            }
            _ => {
                let run = chunk & 0x1fff;
                (run, if chunk & 0x6000 != 0 { run } else { 0 })
            }
        };
        arrived += here;
        left = left.saturating_sub(count);
        if left == 0 {
            break;
        }
    }
    arrived
}

#[test]
fn what_is_written_is_read() {
    let mut out = Vec::new();
    sender_report(&mut out, 7, 0x0001_0002_0003_0004, 9, 1, 2);
    nack(&mut out, 1, 8, &[65_535, 0, 15, 40]);
    picture_loss(&mut out, 1, 9);
    let read = read(&out);
    assert_eq!(
        read,
        [
            Message::SenderReport {
                ssrc: 7,
                compact_ntp: 0x0002_0003
            },
            Message::Nack {
                media: 8,
                sequences: vec![65_535, 0, 15, 40]
            },
            Message::Keyframe { media: 9 },
        ]
    );
}
