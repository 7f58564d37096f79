//! What a subscriber receives: continuity of each stream, and latency.

use std::collections::HashMap;

use rtc::rtcp::reception_report::ReceptionReport;

/// Sequence numbers that are remembered, to tell a repeat from a late packet.
const WINDOW: u64 = 1_024;

/// Counts of one stream or of many.
#[derive(Debug, Default, Clone, Copy, serde::Serialize)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) duplicated: u64,
    pub(crate) out_of_order: u64,
    /// Of those received, padding and retransmissions that nobody asked for: how a server finds
    /// out what the way carries.
    pub(crate) probes: u64,
    pub(crate) bytes: u64,
}

impl Counts {
    /// Packets that should have come.
    pub(crate) fn expected(&self) -> u64 {
        self.received + self.lost
    }

    pub(crate) fn add(&mut self, other: &Counts) {
        self.received += other.received;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.probes += other.probes;
        self.bytes += other.bytes;
    }
}

/// One received stream. Its own sequence numbers tell what is missing: the server numbers what
/// it sends.
#[derive(Debug)]
struct Stream {
    first: u64,
    highest: u64,
    seen: [u64; (WINDOW / 64) as usize],
    counts: Counts,
    /// Received since the stream began, and that and the expected number at the last report.
    /// Unlike `counts` they are never reset: the sender counts on.
    began: u64,
    total: u64,
    reported: (u64, u64),
}

impl Stream {
    fn new(sequence: u16) -> Stream {
        // One round ahead, so that a packet from before the first has a number too.
        let first = (1 << 16) | u64::from(sequence);
        Stream {
            first,
            highest: first - 1,
            seen: [0; (WINDOW / 64) as usize],
            counts: Counts::default(),
            began: first,
            total: 0,
            reported: (0, 0),
        }
    }

    fn extend(&self, sequence: u16) -> u64 {
        let ahead = sequence.wrapping_sub(self.highest as u16) as i16;
        self.highest.saturating_add_signed(i64::from(ahead))
    }

    fn receive(&mut self, sequence: u16, bytes: usize, probe: bool) {
        let number = self.extend(sequence);
        for passed in self.highest + 1..=number.min(self.highest + WINDOW) {
            self.seen[(passed % WINDOW / 64) as usize] &= !(1 << (passed % 64));
        }
        let place = (number % WINDOW / 64) as usize;
        let bit = 1 << (number % 64);
        if number <= self.highest {
            if self.seen[place] & bit != 0 {
                self.counts.duplicated += 1;
                return;
            }
            self.counts.out_of_order += 1;
            self.first = self.first.min(number);
            self.began = self.began.min(number);
        }
        self.seen[place] |= bit;
        self.highest = self.highest.max(number);
        self.total += 1;
        self.counts.received += 1;
        self.counts.probes += u64::from(probe);
        self.counts.bytes += bytes as u64;
    }

    /// What a receiver report says of it (RFC 3550, section 6.4.1), without the answer to the
    /// last sender report. Jitter is left out: arrivals are told one by one.
    fn report(&mut self, ssrc: u32) -> ReceptionReport {
        let expected = self.highest + 1 - self.began;
        let (expected_before, total_before) = self.reported;
        self.reported = (expected, self.total);
        let new = expected.saturating_sub(expected_before);
        let lost = new.saturating_sub(self.total - total_before);
        ReceptionReport {
            ssrc,
            fraction_lost: (lost * 256).checked_div(new).unwrap_or(0).min(255) as u8,
            total_lost: expected.saturating_sub(self.total).min(0x007f_ffff) as u32,
            // Without the round by which `first` is ahead.
            last_sequence_number: self.highest.saturating_sub(1 << 16) as u32,
            ..Default::default()
        }
    }

    fn counts(&self) -> Counts {
        let expected = self.highest + 1 - self.first;
        Counts {
            lost: expected.saturating_sub(self.counts.received),
            ..self.counts
        }
    }
}

/// All streams of one subscriber.
#[derive(Debug, Default)]
pub(crate) struct Streams(HashMap<u32, Stream>);

impl Streams {
    pub(crate) fn receive(&mut self, ssrc: u32, sequence: u16, bytes: usize, probe: bool) {
        let stream = self.0.entry(ssrc).or_insert_with(|| Stream::new(sequence));
        stream.receive(sequence, bytes, probe);
    }

    /// Report blocks on all that have received anything since the last time.
    pub(crate) fn reports(&mut self) -> Vec<ReceptionReport> {
        let streams = self.0.iter_mut();
        let news = streams.filter(|(_, stream)| stream.total > stream.reported.1);
        news.map(|(ssrc, stream)| stream.report(*ssrc)).collect()
    }

    /// The rollover count of an SSRC's next packet with this sequence number.
    pub(crate) fn rollover(&self, ssrc: u32, sequence: u16) -> u32 {
        let number = |stream: &Stream| stream.extend(sequence);
        let extended = self.0.get(&ssrc).map_or(1 << 16, number);
        ((extended >> 16) as u32).saturating_sub(1)
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for stream in self.0.values() {
            sum.add(&stream.counts());
        }
        sum
    }

    /// Starts the counts again from zero; the streams go on.
    pub(crate) fn reset(&mut self) {
        for stream in self.0.values_mut() {
            stream.first = stream.highest + 1;
            stream.counts = Counts::default();
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Times in microseconds, in buckets that are 3 % wide.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

const STEPS: u64 = 32;

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            buckets: vec![0; (STEPS * 40) as usize],
            count: 0,
            max: 0,
        }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, micros: u64) {
        let index = Histogram::index(micros).min(self.buckets.len() - 1);
        self.buckets[index] += 1;
        self.count += 1;
        self.max = self.max.max(micros);
    }

    /// Takes in all that another has.
    pub(crate) fn add(&mut self, other: &Histogram) {
        for (bucket, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *bucket += more;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    fn index(micros: u64) -> usize {
        if micros < STEPS {
            return micros as usize;
        }
        let power = micros.ilog2() - STEPS.ilog2();
        (u64::from(power) * STEPS + (micros >> power)) as usize
    }

    fn value(index: usize) -> u64 {
        let index = index as u64;
        if index < 2 * STEPS {
            return index;
        }
        let power = index / STEPS - 1;
        (index - power * STEPS) << power
    }

    /// Microseconds below which this share of all lies.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut sum = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            sum += count;
            if sum >= wanted.max(1) {
                return Histogram::value(index);
            }
        }
        self.max
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// Buckets that are not empty: microseconds and count.
    pub(crate) fn points(&self) -> Vec<(u64, u64)> {
        let filled = self.buckets.iter().enumerate().filter(|(_, n)| **n > 0);
        filled.map(|(i, n)| (Histogram::value(i), *n)).collect()
    }
}

/// Quantiles in milliseconds.
#[derive(Debug, serde::Serialize)]
pub(crate) struct Times {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Times {
    pub(crate) fn of(histogram: &Histogram) -> Times {
        let quantile = |share| histogram.quantile(share) as f64 / 1_000.0;
        Times {
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: histogram.max() as f64 / 1_000.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_repeats_and_late_packets_are_told_apart() {
        let mut streams = Streams::default();
        for sequence in [65_534, 65_535, 1, 0, 0, 4] {
            streams.receive(7, sequence, 10, false);
        }
        let counts = streams.counts();
        assert_eq!(
            (
                counts.received,
                counts.lost,
                counts.duplicated,
                counts.out_of_order
            ),
            (5, 2, 1, 1)
        );
        assert_eq!(streams.rollover(7, 5), 1);
    }

    #[test]
    fn quantiles_are_within_a_bucket() {
        let mut histogram = Histogram::default();
        (1..=10_000).for_each(|micros| histogram.record(micros));
        for (share, exact) in [(0.5, 5_000.0), (0.99, 9_900.0)] {
            let found = histogram.quantile(share) as f64;
            assert!((found / exact - 1.0).abs() < 0.04, "{share}: {found}");
        }
        assert_eq!(histogram.max(), 10_000);
        let mut both = Histogram::default();
        both.record(20_000);
        both.add(&histogram);
        assert_eq!((both.max(), both.count), (20_000, 10_001));
        assert_eq!(both.quantile(0.5), histogram.quantile(0.5));
    }
}
