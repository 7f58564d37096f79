//! Received transport-wide feedback: which packets arrived when
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1).

/// Most packets of which one feedback packet may speak. More than any history holds, and few
/// enough that a feedback of a few bytes cannot keep us busy.
const MAX_PACKETS: u16 = 8_192;
/// What precedes the status chunks, the RTCP header not counted.
const FIXED_LEN: usize = 16;
/// The reference time counts 64 ms, a delta 250 us.
const TICKS_OF_REFERENCE: i64 = 256;
/// The reference time wraps at 24 bits.
const REFERENCE_BITS: u32 = 24;

/// One feedback packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransportFeedback<'a> {
    base: u16,
    count: u16,
    reference: u32,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> TransportFeedback<'a> {
    /// Reads what follows the RTCP header. `None` when the chunks do not cover the packets.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (fixed, rest) = body.split_at_checked(FIXED_LEN)?;
        let [_, _, _, _, _, _, _, _, b0, b1, c0, c1, r0, r1, r2, _] = *fixed.first_chunk()?;
        let count = u16::from_be_bytes([c0, c1]);
        if count > MAX_PACKETS {
            return None;
        }
        let mut covered = 0u32;
        let mut chunks_len = 0;
        while covered < u32::from(count) {
            let chunk = Chunk::read(rest.get(chunks_len..)?)?;
            covered += u32::from(chunk.left);
            chunks_len += 2;
        }
        let (chunks, deltas) = rest.split_at(chunks_len);
        Some(TransportFeedback {
            base: u16::from_be_bytes([b0, b1]),
            count,
            reference: u32::from_be_bytes([0, r0, r1, r2]),
            chunks,
            deltas,
        })
    }

    /// The receiver's time to which arrivals count, in ticks of 250 us. It wraps; `near` is the
    /// reference of an earlier feedback, and the result is the value nearest to it.
    pub(crate) fn reference(&self, near: Option<i64>) -> i64 {
        let Some(near) = near else {
            return i64::from(self.reference) * TICKS_OF_REFERENCE;
        };
        let near = near.div_euclid(TICKS_OF_REFERENCE);
        let ahead = self.reference.wrapping_sub(near as u32) << (u32::BITS - REFERENCE_BITS);
        let ahead = (ahead as i32) >> (u32::BITS - REFERENCE_BITS);
        (near + i64::from(ahead)) * TICKS_OF_REFERENCE
    }

    /// The packets in the order of their numbers, each with its arrival, in ticks of 250 us
    /// since the reference, or `None` if it had not arrived. Ends early when the deltas do.
    pub(crate) fn packets(&self) -> FeedbackPackets<'a> {
        FeedbackPackets {
            sequence: self.base,
            left: self.count,
            chunk: Chunk::default(),
            chunks: self.chunks,
            deltas: self.deltas,
            time: 0,
        }
    }
}

/// Statuses that are still to be taken out of a chunk.
#[derive(Debug, Clone, Copy, Default)]
struct Chunk {
    left: u16,
    /// Bits of a status: none for a run, in which all are the first.
    width: u16,
    /// The statuses, the next one in the highest bits.
    symbols: u16,
}

impl Chunk {
    fn read(bytes: &[u8]) -> Option<Chunk> {
        let bits = u16::from_be_bytes(*bytes.first_chunk()?);
        Some(match bits >> 14 {
            0b11 => Chunk {
                left: 7,
                width: 2,
                symbols: bits << 2,
            },
            0b10 => Chunk {
                left: 14,
                width: 1,
                symbols: bits << 2,
            },
            _ => Chunk {
                left: bits & 0x1fff,
                width: 0,
                symbols: bits << 1,
            },
        })
    }

    fn next(&mut self) -> Option<u16> {
        self.left = self.left.checked_sub(1)?;
        let shift = if self.width == 1 { 15 } else { 14 };
        let symbol = self.symbols >> shift;
        self.symbols <<= self.width;
        Some(symbol)
    }
}

/// Iterator over the packets of a feedback.
pub(crate) struct FeedbackPackets<'a> {
    sequence: u16,
    left: u16,
    chunk: Chunk,
    chunks: &'a [u8],
    deltas: &'a [u8],
    time: i64,
}

impl FeedbackPackets<'_> {
    fn symbol(&mut self) -> Option<u16> {
        loop {
            if let Some(symbol) = self.chunk.next() {
                return Some(symbol);
            }
            self.chunk = Chunk::read(self.chunks)?;
            self.chunks = &self.chunks[2..];
        }
    }

    fn arrival(&mut self, symbol: u16) -> Option<Option<i64>> {
        let delta = match symbol {
            1 => {
                let (delta, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                i64::from(*delta)
            }
            2 => {
                let (delta, rest) = self.deltas.split_first_chunk::<2>()?;
                self.deltas = rest;
                i64::from(i16::from_be_bytes(*delta))
            }
            _ => return Some(None),
        };
        self.time += delta;
        Some(Some(self.time))
    }
}

impl Iterator for FeedbackPackets<'_> {
    type Item = (u16, Option<i64>);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let symbol = self.symbol()?;
        let Some(arrival) = self.arrival(symbol) else {
            self.left = 0;
            return None;
        };
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        Some((sequence, arrival))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use rand::{RngExt, SeedableRng, rngs::SmallRng};
    use rtc_rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk,
        SymbolSizeTypeTcc, SymbolTypeTcc, TransportLayerCc,
    };
    use rtc_shared::marshal::Marshal;

    use super::*;
    use crate::receive::transport_cc::TransportCcRecorder;
    use crate::test_clock;
    use crate::wire::rtcp::{RtcpPacket, packets};

    fn parse(bytes: &[u8]) -> TransportFeedback<'_> {
        match packets(bytes).next() {
            Some(RtcpPacket::TransportFeedback(feedback)) => feedback,
            _ => panic!("a transport-wide feedback"),
        }
    }

    #[test]
    fn what_our_recorder_writes_is_read_back() {
        for seed in 0..40 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut recorder = TransportCcRecorder::default();
            let mut now = test_clock::start();
            // The recorder counts from the first arrival.
            let start = now + Duration::from_micros(10);
            let mut sent = BTreeMap::new();
            let mut read = BTreeMap::new();
            let mut reference = None;
            let mut sequence = 65_000u16;
            let mut out = [0; 1_150];
            for count in 0..2_000u32 {
                now += Duration::from_micros(if count == 0 {
                    10
                } else {
                    rng.random_range(10..9_000)
                });
                sequence = sequence.wrapping_add(1);
                if rng.random_range(0..5u8) > 0 || count == 0 {
                    recorder.record(sequence, now);
                    sent.insert(sequence, now.duration_since(start).as_micros() as i64 / 250);
                }
                if count % 37 != 0 && count != 1_999 {
                    continue;
                }
                while let len @ 1.. = recorder.write_feedback(1, 2, &mut out) {
                    let feedback = parse(&out[..len]);
                    let from = feedback.reference(reference);
                    reference = Some(from);
                    for (sequence, arrival) in feedback.packets() {
                        if let Some(ticks) = arrival {
                            read.insert(sequence, from + ticks);
                        }
                    }
                }
            }
            assert!(read == sent, "seed {seed}");
        }
    }

    #[test]
    fn every_kind_of_chunk_is_read_as_another_implementation_writes_it() {
        let received = SymbolTypeTcc::PacketReceivedSmallDelta;
        let missing = SymbolTypeTcc::PacketNotReceived;
        let large = SymbolTypeTcc::PacketReceivedLargeDelta;
        let one_bit: Vec<_> = (0..14)
            .map(|index| if index % 3 == 0 { received } else { missing })
            .collect();
        let two_bit = vec![large, missing, received, large, missing, missing, received];
        let run = |symbol, run_length| {
            PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                type_tcc: StatusChunkTypeTcc::RunLengthChunk,
                packet_status_symbol: symbol,
                run_length,
            })
        };
        let vector = |symbol_size, symbol_list| {
            PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                symbol_size,
                symbol_list,
            })
        };
        let mut symbols = vec![received; 3];
        symbols.extend(vec![missing; 300]);
        symbols.extend(&one_bit);
        symbols.extend(&two_bit);
        let mut time = 0;
        let mut recv_deltas = Vec::new();
        let mut expected = Vec::new();
        for (index, symbol) in symbols.iter().enumerate() {
            let delta = match symbol {
                SymbolTypeTcc::PacketReceivedSmallDelta => 7,
                SymbolTypeTcc::PacketReceivedLargeDelta => -300,
                _ => 0,
            };
            time += delta;
            let arrived = *symbol != missing;
            if arrived {
                recv_deltas.push(RecvDelta {
                    type_tcc_packet: *symbol,
                    delta: delta * 250,
                });
            }
            let sequence = 65_500u16.wrapping_add(index as u16);
            expected.push((sequence, arrived.then_some(time)));
        }
        let feedback = TransportLayerCc {
            sender_ssrc: 1,
            media_ssrc: 2,
            base_sequence_number: 65_500,
            packet_status_count: symbols.len() as u16,
            reference_time: 0x00ab_cdef,
            fb_pkt_count: 3,
            packet_chunks: vec![
                run(received, 3),
                run(missing, 300),
                vector(SymbolSizeTypeTcc::OneBit, one_bit),
                vector(SymbolSizeTypeTcc::TwoBit, two_bit),
            ],
            recv_deltas,
        };
        let bytes = feedback.marshal().unwrap();
        let read = parse(&bytes);
        assert_eq!(read.reference(None), 0x00ab_cdef * 256);
        assert_eq!(read.packets().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_reference_goes_on_where_it_wraps() {
        let (mut before, mut after) = ([0u8; 16], [0u8; 16]);
        before[12..15].copy_from_slice(&[0xff, 0xff, 0xfe]);
        after[12..15].copy_from_slice(&[0, 0, 2]);
        let before = TransportFeedback::parse(&before).unwrap();
        let after = TransportFeedback::parse(&after).unwrap();
        let first = before.reference(None);
        let second = after.reference(Some(first));
        assert_eq!(second - first, 4 * 256);
        assert_eq!(before.reference(Some(second)), first);
    }

    #[test]
    fn random_bytes_never_panic_and_speak_of_few_packets() {
        let mut rng = SmallRng::seed_from_u64(3);
        for _ in 0..100_000 {
            let mut body = [0u8; 64];
            rng.fill(&mut body[..]);
            body[10] %= 34;
            let len = rng.random_range(0..=64);
            if let Some(feedback) = TransportFeedback::parse(&body[..len]) {
                let arrived = feedback.packets().filter(|packet| packet.1.is_some());
                assert!(arrived.count() <= 48);
                assert!(feedback.packets().count() <= usize::from(MAX_PACKETS));
            }
        }
    }

    #[test]
    fn chunks_that_cover_too_little_are_refused() {
        let mut body = [0u8; 20];
        body[11] = 15;
        body[16..18].copy_from_slice(&[0x80, 0]);
        body[18..20].copy_from_slice(&[0, 1]);
        assert!(TransportFeedback::parse(&body).is_some());
        assert!(TransportFeedback::parse(&body[..18]).is_none());
        body[10] = 0xff;
        assert!(TransportFeedback::parse(&body).is_none());
    }
}
