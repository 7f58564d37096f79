//! RTCP packets (RFC 3550, RFC 4585, RFC 5104) without allocation: an iterator over a received
//! compound, and writers for what we send.

mod format;
mod transport_feedback;
mod write;

pub(crate) use format::ReportBlock;
use format::{
    APPLICATION, FIR, NACK, PAYLOAD_FEEDBACK, PLI, RECEIVER_REPORT, REPORT_BLOCK_LEN,
    SENDER_REPORT, TRANSPORT_FEEDBACK, TRANSPORT_WIDE,
};
pub(crate) use transport_feedback::TransportFeedback;
pub(crate) use write::{write_nack, write_pli, write_receiver_report, write_sender_report};

/// Most that a REMB is taken for, in bits per second: its exponent reaches far beyond any link.
const MAX_REMB: u64 = 10_000_000_000;
/// One packet of a compound, as far as it means something to us.
pub(crate) enum RtcpPacket<'a> {
    SenderReport {
        ssrc: u32,
        /// 32.32 bits of seconds.
        ntp: u64,
        rtp: u32,
        reports: ReportBlocks<'a>,
    },
    ReceiverReport {
        reports: ReportBlocks<'a>,
    },
    Nack {
        media: u32,
        sequences: NackSequences<'a>,
    },
    PictureLoss {
        media: u32,
    },
    FullIntraRequest {
        media: FirTargets<'a>,
    },
    TransportFeedback(TransportFeedback<'a>),
    /// Receiver estimated maximum bitrate (draft-alvestrand-rmcat-remb-03).
    Remb {
        /// Bits per second, for all streams together.
        bps: u64,
    },
    Other,
}

/// The packets of a compound, up to the first that is malformed.
pub(crate) fn packets(compound: &[u8]) -> Packets<'_> {
    Packets { rest: compound }
}

/// Iterator over a compound.
pub(crate) struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = RtcpPacket<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let [first, kind, l0, l1] = *self.rest.first_chunk::<4>()?;
        let len = 4 * (usize::from(u16::from_be_bytes([l0, l1])) + 1);
        if first >> 6 != 2 || len > self.rest.len() {
            self.rest = &[];
            return None;
        }
        let (packet, rest) = self.rest.split_at(len);
        self.rest = rest;
        Some(read(first & 0x1f, kind, &packet[4..]).unwrap_or(RtcpPacket::Other))
    }
}

fn read(count: u8, kind: u8, body: &[u8]) -> Option<RtcpPacket<'_>> {
    Some(match (kind, count) {
        (SENDER_REPORT, count) => RtcpPacket::SenderReport {
            ssrc: word(body, 0)?,
            ntp: (u64::from(word(body, 1)?) << 32) | u64::from(word(body, 2)?),
            rtp: word(body, 3)?,
            reports: ReportBlocks::new(body.get(24..)?, count),
        },
        (RECEIVER_REPORT, count) => RtcpPacket::ReceiverReport {
            reports: ReportBlocks::new(body.get(4..)?, count),
        },
        (TRANSPORT_FEEDBACK, NACK) => RtcpPacket::Nack {
            media: word(body, 1)?,
            sequences: NackSequences {
                rest: body.get(8..)?,
                first: 0,
                mask: 0,
            },
        },
        (PAYLOAD_FEEDBACK, PLI) => RtcpPacket::PictureLoss {
            media: word(body, 1)?,
        },
        (PAYLOAD_FEEDBACK, FIR) => RtcpPacket::FullIntraRequest {
            media: FirTargets {
                rest: body.get(8..)?,
            },
        },
        (TRANSPORT_FEEDBACK, TRANSPORT_WIDE) => {
            RtcpPacket::TransportFeedback(TransportFeedback::parse(body)?)
        }
        (PAYLOAD_FEEDBACK, APPLICATION) => RtcpPacket::Remb { bps: remb(body)? },
        _ => return None,
    })
}

/// The rate of a REMB: 18 bits, shifted left by 6 bits' worth.
fn remb(body: &[u8]) -> Option<u64> {
    if body.get(8..12)? != b"REMB" {
        return None;
    }
    let rate = word(body, 3)?;
    let (exponent, mantissa) = ((rate >> 18) & 0x3f, u64::from(rate & 0x3_ffff));
    let bps = u128::from(mantissa) << exponent;
    Some(bps.min(u128::from(MAX_REMB)) as u64)
}

/// The `index`th 32-bit word.
fn word(bytes: &[u8], index: usize) -> Option<u32> {
    let word = bytes.get(4 * index..)?.first_chunk()?;
    Some(u32::from_be_bytes(*word))
}

/// Iterator over report blocks.
pub(crate) struct ReportBlocks<'a> {
    rest: &'a [u8],
    left: u8,
}

impl<'a> ReportBlocks<'a> {
    fn new(rest: &'a [u8], left: u8) -> Self {
        ReportBlocks { rest, left }
    }
}

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        self.left = self.left.checked_sub(1)?;
        let (block, rest) = self.rest.split_at_checked(REPORT_BLOCK_LEN)?;
        self.rest = rest;
        let lost = word(block, 1)?;
        Some(ReportBlock {
            ssrc: word(block, 0)?,
            fraction_lost: (lost >> 24) as u8,
            // Sign extension of 24 bits.
            cumulative_lost: ((lost << 8) as i32) >> 8,
            highest_sequence: word(block, 2)?,
            jitter: word(block, 3)?,
            last_sr: word(block, 4)?,
            delay_since_sr: word(block, 5)?,
        })
    }
}

/// Iterator over the sequence numbers of a NACK: each entry names one and, by a mask, any of
/// the sixteen after it.
#[derive(Clone)]
pub(crate) struct NackSequences<'a> {
    rest: &'a [u8],
    first: u16,
    mask: u32,
}

impl Iterator for NackSequences<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.mask == 0 {
            let ([p0, p1, b0, b1], rest) = self.rest.split_first_chunk::<4>()?;
            self.rest = rest;
            self.first = u16::from_be_bytes([*p0, *p1]);
            self.mask = (u32::from(u16::from_be_bytes([*b0, *b1])) << 1) | 1;
        }
        let bit = self.mask.trailing_zeros();
        self.mask &= self.mask - 1;
        Some(self.first.wrapping_add(bit as u16))
    }
}

/// Iterator over the SSRCs of a full intra request.
pub(crate) struct FirTargets<'a> {
    rest: &'a [u8],
}

impl Iterator for FirTargets<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let (entry, rest) = self.rest.split_first_chunk::<8>()?;
        self.rest = rest;
        word(entry, 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nack_names_what_was_written() {
        let mut out = [0; 200];
        let missing = [7, 8, 24, 25, 40, 65_535, 0, 3];
        let len = write_nack(&mut out, 1, 2, &missing);
        let mut read = packets(&out[..len]);
        let Some(RtcpPacket::Nack { media, sequences }) = read.next() else {
            panic!("a NACK");
        };
        assert_eq!(media, 2);
        let sequences: Vec<u16> = sequences.collect();
        assert_eq!(sequences, missing);
    }

    #[test]
    fn reports_come_back_as_written() {
        let block = ReportBlock {
            ssrc: 5,
            fraction_lost: 9,
            cumulative_lost: -3,
            highest_sequence: 70_000,
            jitter: 11,
            last_sr: 12,
            delay_since_sr: 13,
        };
        let mut out = [0; 200];
        let first = write_sender_report(&mut out, 1, 2 << 32 | 3, 4, 5, 6);
        let len = first + write_receiver_report(&mut out[first..], 8, &[block, block]);
        let mut read = packets(&out[..len]);
        assert!(matches!(
            read.next(),
            Some(RtcpPacket::SenderReport {
                ssrc: 1,
                ntp: 0x0000_0002_0000_0003,
                rtp: 4,
                ..
            })
        ));
        let Some(RtcpPacket::ReceiverReport { reports }) = read.next() else {
            panic!("a receiver report");
        };
        assert_eq!(reports.collect::<Vec<_>>(), [block, block]);
        assert!(read.next().is_none());
    }

    #[test]
    fn a_picture_loss_indication_names_its_media() {
        let mut out = [0; 20];
        let len = write_pli(&mut out, 1, 77);
        assert!(matches!(
            packets(&out[..len]).next(),
            Some(RtcpPacket::PictureLoss { media: 77 })
        ));
    }

    #[test]
    fn a_remb_gives_its_rate_and_no_exponent_overflows() {
        use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
        use rtc_shared::marshal::Marshal;
        let remb = |bitrate| {
            let remb = ReceiverEstimatedMaximumBitrate {
                sender_ssrc: 1,
                bitrate,
                ssrcs: vec![7, 8],
            };
            remb.marshal().unwrap()
        };
        let rate = |bytes: &[u8]| match packets(bytes).next() {
            Some(RtcpPacket::Remb { bps }) => bps,
            _ => panic!("a REMB"),
        };
        assert_eq!(rate(&remb(262_143.0)), 262_143);
        assert_eq!(rate(&remb(2_097_152.0)), 2_097_152);
        let mut hostile = remb(2_097_152.0).to_vec();
        hostile[17] = 0xff;
        assert_eq!(rate(&hostile), MAX_REMB);
        hostile[12] = b'X';
        assert!(matches!(packets(&hostile).next(), Some(RtcpPacket::Other)));
    }

    #[test]
    fn random_bytes_never_panic_and_end() {
        use rand::{RngExt, SeedableRng, rngs::SmallRng};
        let mut rng = SmallRng::seed_from_u64(5);
        for _ in 0..100_000 {
            let mut bytes = [0u8; 96];
            rng.fill(&mut bytes[..]);
            bytes[0] = 0x80 | (bytes[0] & 0x3f);
            bytes[1] = 200 + bytes[1] % 8;
            bytes[2] = 0;
            bytes[3] %= 26;
            let len = rng.random_range(0..96);
            for packet in packets(&bytes[..len]) {
                match packet {
                    RtcpPacket::SenderReport { reports, .. }
                    | RtcpPacket::ReceiverReport { reports } => assert!(reports.count() < 32),
                    RtcpPacket::Nack { sequences, .. } => assert!(sequences.count() < 17 * 24),
                    RtcpPacket::FullIntraRequest { media } => assert!(media.count() < 24),
                    _ => {}
                }
            }
        }
    }
}
