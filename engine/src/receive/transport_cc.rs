//! Transport-wide congestion control feedback: when each packet of a publisher arrived
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01), by which it finds its rate.

use std::time::Instant;

/// Arrivals kept between two feedback packets. More arrive only when feedback is late.
const MAX_ARRIVALS: usize = 1_024;
/// Sequence numbers that one feedback packet spans at most.
const MAX_SPAN: u64 = 400;
/// A delta counts 250 us.
const DELTA_US: i64 = 250;
/// The reference time counts 64 ms.
const REFERENCE_US: i64 = 64_000;
/// Header of RTCP and feedback.
const HEADER_LEN: usize = 20;

#[derive(Debug, Clone, Copy)]
struct Arrival {
    sequence: u64,
    /// Since the first packet.
    micros: i64,
}

/// How a packet is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Symbol {
    Missing = 0,
    SmallDelta = 1,
    LargeDelta = 2,
}

/// Gathers arrivals and reports them.
#[derive(Debug, Default)]
pub struct TransportCcRecorder {
    begun: Option<Begun>,
    /// By arrival, not by number.
    arrivals: Vec<Arrival>,
    /// First number of the next feedback.
    next: u64,
    feedback_count: u8,
}

/// What is known since the first packet.
#[derive(Debug)]
struct Begun {
    epoch: Instant,
    /// The highest number so far.
    highest: u64,
}

impl TransportCcRecorder {
    /// A packet with this transport-wide number arrived.
    pub fn record(&mut self, sequence: u16, now: Instant) {
        let begun = self.begun.get_or_insert_with(|| {
            // Room below, so that a reordered first packet has a number too.
            self.next = (1 << 32) | u64::from(sequence);
            Begun {
                epoch: now,
                highest: self.next,
            }
        });
        let ahead = i64::from(sequence.wrapping_sub(begun.highest as u16) as i16);
        let sequence = begun.highest.saturating_add_signed(ahead);
        begun.highest = begun.highest.max(sequence);
        if self.arrivals.len() < MAX_ARRIVALS {
            let micros = now.saturating_duration_since(begun.epoch).as_micros() as i64;
            self.arrivals.push(Arrival { sequence, micros });
        }
    }

    /// Writes one feedback packet and returns its length, 0 when there is nothing to report.
    /// Called again it goes on where it stopped.
    pub fn write_feedback(&mut self, sender: u32, media: u32, out: &mut [u8]) -> usize {
        self.arrivals.sort_by_key(|arrival| arrival.sequence);
        self.arrivals.dedup_by_key(|arrival| arrival.sequence);
        // What arrived after it was reported missing is not reported again.
        let next = self.next;
        self.arrivals.retain(|arrival| arrival.sequence >= next);
        let Some(first) = self.arrivals.first().copied() else {
            return 0;
        };
        // A gap too wide for one packet is skipped: the sender times those packets out.
        let base = if first.sequence - self.next > MAX_SPAN / 2 {
            first.sequence
        } else {
            self.next
        };
        let mut feedback = Feedback::new(base, first.micros, out);
        let mut taken = 0;
        for arrival in &self.arrivals {
            if arrival.sequence - base >= MAX_SPAN || !feedback.add(*arrival) {
                break;
            }
            taken += 1;
        }
        if taken == 0 {
            self.arrivals.remove(0);
            return 0;
        }
        self.next = self.arrivals[taken - 1].sequence + 1;
        self.arrivals.drain(..taken);
        let count = self.feedback_count;
        self.feedback_count = count.wrapping_add(1);
        feedback.finish(sender, media, count)
    }
}

/// One feedback packet being written: the deltas are gathered apart, as the chunks stand before
/// them.
struct Feedback<'a> {
    out: &'a mut [u8],
    base: u64,
    reference: i64,
    /// Time of the last packet reported, in deltas since the reference.
    last: i64,
    symbols: [Symbol; MAX_SPAN as usize],
    count: usize,
    deltas: [u8; 2 * MAX_SPAN as usize],
    deltas_len: usize,
}

impl<'a> Feedback<'a> {
    fn new(base: u64, first_micros: i64, out: &'a mut [u8]) -> Self {
        Feedback {
            out,
            base,
            reference: first_micros.div_euclid(REFERENCE_US),
            last: 0,
            symbols: [Symbol::Missing; MAX_SPAN as usize],
            count: 0,
            deltas: [0; 2 * MAX_SPAN as usize],
            deltas_len: 0,
        }
    }

    /// False when the packet does not fit any more.
    fn add(&mut self, arrival: Arrival) -> bool {
        let ticks = (arrival.micros - self.reference * REFERENCE_US).div_euclid(DELTA_US);
        let delta = ticks - self.last;
        let Ok(large) = i16::try_from(delta) else {
            return false;
        };
        let index = (arrival.sequence - self.base) as usize;
        // Two bytes a chunk of at least seven symbols in the worst case.
        let chunks = 2 * (index / 7 + 1);
        if HEADER_LEN + chunks + self.deltas_len + 2 + 3 > self.out.len() {
            return false;
        }
        match u8::try_from(delta) {
            Ok(small) => {
                self.symbols[index] = Symbol::SmallDelta;
                self.deltas[self.deltas_len] = small;
                self.deltas_len += 1;
            }
            Err(_) => {
                self.symbols[index] = Symbol::LargeDelta;
                let bytes = large.to_be_bytes();
                self.deltas[self.deltas_len..self.deltas_len + 2].copy_from_slice(&bytes);
                self.deltas_len += 2;
            }
        }
        self.count = index + 1;
        self.last = ticks;
        true
    }

    fn finish(self, sender: u32, media: u32, feedback_count: u8) -> usize {
        let Feedback {
            out,
            base,
            reference,
            symbols,
            count,
            deltas,
            deltas_len,
            ..
        } = self;
        let mut len = HEADER_LEN;
        let mut rest = &symbols[..count];
        while !rest.is_empty() {
            let (chunk, covered) = chunk(rest);
            out[len..len + 2].copy_from_slice(&chunk.to_be_bytes());
            len += 2;
            rest = &rest[covered..];
        }
        out[len..len + deltas_len].copy_from_slice(&deltas[..deltas_len]);
        len += deltas_len;
        let padding = (4 - len % 4) % 4;
        if padding > 0 {
            out[len..len + padding].fill(0);
            out[len + padding - 1] = padding as u8;
            len += padding;
        }
        out[0] = 0x80 | 15 | if padding > 0 { 0x20 } else { 0 };
        out[1] = 205;
        out[2..4].copy_from_slice(&((len / 4 - 1) as u16).to_be_bytes());
        out[4..8].copy_from_slice(&sender.to_be_bytes());
        out[8..12].copy_from_slice(&media.to_be_bytes());
        out[12..14].copy_from_slice(&(base as u16).to_be_bytes());
        out[14..16].copy_from_slice(&(count as u16).to_be_bytes());
        out[16..19].copy_from_slice(&(reference as u32).to_be_bytes()[1..]);
        out[19] = feedback_count;
        len
    }
}

/// The next status chunk and how many symbols it covers: a run of equal ones where that is
/// longer, else a vector of seven two-bit symbols (or of the rest, padded as missing).
fn chunk(symbols: &[Symbol]) -> (u16, usize) {
    let first = symbols[0];
    let run = symbols
        .iter()
        .take_while(|symbol| **symbol == first)
        .count();
    if run >= 7 || run == symbols.len() {
        return (((first as u16) << 13) | run as u16, run);
    }
    let covered = symbols.len().min(7);
    let mut vector = 0xc000;
    for (index, symbol) in symbols[..covered].iter().enumerate() {
        vector |= (*symbol as u16) << (12 - 2 * index);
    }
    (vector, covered)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use rtc_rtcp::transport_feedbacks::transport_layer_cc::{
        PacketStatusChunk, SymbolTypeTcc, TransportLayerCc,
    };
    use rtc_shared::marshal::Unmarshal;

    use super::*;
    use crate::test_clock;

    /// Arrival times, in 250 us, by sequence number, as another implementation reads them.
    fn read(bytes: &[u8], into: &mut BTreeMap<u16, i64>) {
        let feedback = TransportLayerCc::unmarshal(&mut &bytes[..]).unwrap();
        let mut symbols = Vec::new();
        for chunk in &feedback.packet_chunks {
            match chunk {
                PacketStatusChunk::RunLengthChunk(run) => symbols.extend(std::iter::repeat_n(
                    run.packet_status_symbol,
                    usize::from(run.run_length),
                )),
                PacketStatusChunk::StatusVectorChunk(vector) => {
                    symbols.extend(vector.symbol_list.iter().copied());
                }
            }
        }
        let mut time = i64::from(feedback.reference_time) * 256;
        let mut deltas = feedback.recv_deltas.iter();
        let count = usize::from(feedback.packet_status_count);
        for (index, symbol) in symbols.iter().take(count).enumerate() {
            if *symbol == SymbolTypeTcc::PacketNotReceived {
                continue;
            }
            time += deltas.next().unwrap().delta / 250;
            let sequence = feedback.base_sequence_number.wrapping_add(index as u16);
            into.insert(sequence, time);
        }
    }

    #[test]
    fn arrivals_come_back_under_loss_and_reordering() {
        use rand::{RngExt, SeedableRng, rngs::SmallRng};
        for seed in 0..40 {
            let mut rng = SmallRng::seed_from_u64(seed);
            let mut recorder = TransportCcRecorder::default();
            let start = test_clock::start();
            let mut now = start;
            let mut sent = BTreeMap::new();
            let mut got = BTreeMap::new();
            let mut sequence = 65_000u16;
            let mut out = [0; 1_150];
            for count in 0..2_000u32 {
                now += Duration::from_micros(rng.random_range(10..9_000));
                sequence = sequence.wrapping_add(1);
                if rng.random_range(0..10u8) > 0 || count == 0 {
                    recorder.record(sequence, now);
                    let ticks = now.duration_since(start).as_micros() as i64 / 250;
                    // The first packet starts the clock.
                    sent.insert(sequence, ticks);
                }
                if count % 37 == 0 {
                    loop {
                        let len = recorder.write_feedback(1, 2, &mut out);
                        if len == 0 {
                            break;
                        }
                        read(&out[..len], &mut got);
                    }
                }
            }
            while let len @ 1.. = recorder.write_feedback(1, 2, &mut out) {
                read(&out[..len], &mut got);
            }
            assert_eq!(got.len(), sent.len(), "seed {seed}");
            let first = *sent.get(&65_001).unwrap();
            for (sequence, ticks) in &sent {
                let read = got[sequence] - got[&65_001];
                let expected = ticks - first;
                assert!(
                    (read - expected).abs() <= 1,
                    "seed {seed}: {read} {expected}"
                );
            }
        }
    }

    #[test]
    fn jumps_neither_grow_nor_stop_it() {
        let mut recorder = TransportCcRecorder::default();
        let mut now = test_clock::start();
        let mut out = [0; 1_150];
        for count in 0..10_000u32 {
            now += Duration::from_millis(1);
            recorder.record((count * 30_011) as u16, now);
        }
        assert!(recorder.arrivals.len() <= MAX_ARRIVALS);
        let mut calls = 0;
        while !recorder.arrivals.is_empty() {
            let len = recorder.write_feedback(1, 2, &mut out);
            assert!(len <= out.len());
            calls += 1;
            assert!(calls <= 2 * MAX_ARRIVALS);
        }
    }
}
