//! Writers. Each writes one packet at the start of the buffer and returns its length, 0 when it
//! does not fit.

use super::format::{
    NACK, PAYLOAD_FEEDBACK, PLI, RECEIVER_REPORT, ReportBlock, SENDER_REPORT, TRANSPORT_FEEDBACK,
};

/// Writes words in order.
struct Words<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Words<'_> {
    fn put(&mut self, word: u32) {
        self.out[self.len..self.len + 4].copy_from_slice(&word.to_be_bytes());
        self.len += 4;
    }
}

/// Starts a packet of `words` 32-bit words, the header included.
fn start(out: &mut [u8], count: u8, kind: u8, words: usize) -> Option<Words<'_>> {
    if out.len() < 4 * words {
        return None;
    }
    out[0] = 0x80 | (count & 0x1f);
    out[1] = kind;
    out[2..4].copy_from_slice(&((words - 1) as u16).to_be_bytes());
    Some(Words { out, len: 4 })
}

/// A sender report without report blocks.
pub(crate) fn write_sender_report(
    out: &mut [u8],
    ssrc: u32,
    ntp: u64,
    rtp: u32,
    packets: u32,
    octets: u32,
) -> usize {
    let Some(mut words) = start(out, 0, SENDER_REPORT, 7) else {
        return 0;
    };
    let ntp = [(ntp >> 32) as u32, ntp as u32];
    for word in [ssrc, ntp[0], ntp[1], rtp, packets, octets] {
        words.put(word);
    }
    words.len
}

/// A receiver report with at most 31 blocks.
pub(crate) fn write_receiver_report(out: &mut [u8], sender: u32, reports: &[ReportBlock]) -> usize {
    let reports = &reports[..reports.len().min(31)];
    let count = reports.len();
    let Some(mut words) = start(out, count as u8, RECEIVER_REPORT, 2 + 6 * count) else {
        return 0;
    };
    words.put(sender);
    for block in reports {
        let lost = block.cumulative_lost.clamp(-0x0080_0000, 0x007f_ffff) as u32 & 0x00ff_ffff;
        for word in [
            block.ssrc,
            (u32::from(block.fraction_lost) << 24) | lost,
            block.highest_sequence,
            block.jitter,
            block.last_sr,
            block.delay_since_sr,
        ] {
            words.put(word);
        }
    }
    words.len
}

/// A generic NACK for sequence numbers in rising order.
pub(crate) fn write_nack(out: &mut [u8], sender: u32, media: u32, missing: &[u16]) -> usize {
    let Some(mut words) = start(out, NACK, TRANSPORT_FEEDBACK, 3) else {
        return 0;
    };
    words.put(sender);
    words.put(media);
    let mut missing = missing.iter().copied().peekable();
    while let Some(first) = missing.next() {
        let mut mask = 0u16;
        while let Some(next) = missing.peek().copied() {
            let after = next.wrapping_sub(first).wrapping_sub(1);
            if after >= 16 {
                break;
            }
            mask |= 1 << after;
            missing.next();
        }
        if words.len + 4 > words.out.len() {
            break;
        }
        words.put((u32::from(first) << 16) | u32::from(mask));
    }
    let len = words.len;
    out[2..4].copy_from_slice(&((len / 4 - 1) as u16).to_be_bytes());
    len
}

/// A picture loss indication.
pub(crate) fn write_pli(out: &mut [u8], sender: u32, media: u32) -> usize {
    let Some(mut words) = start(out, PLI, PAYLOAD_FEEDBACK, 3) else {
        return 0;
    };
    words.put(sender);
    words.put(media);
    words.len
}
