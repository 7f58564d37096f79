//! The delay of the last seconds as a series in time, to be laid beside that of another peer.
//!
//! Packets that leave at the same time and wait in the same queue wait equally long: not only
//! when all is congested, but at every moment, with the frames, the probes and the drains of
//! all who share it. Whoever has a queue of its own sees those of others nowhere, even if it
//! is sent the same pictures over the same kind of link, as its estimate, its layers and its
//! probes are not theirs. So the two series hardly correlate there, and nearly fully in one
//! queue.

use super::units::Micros;

/// What packets sent within this time waited on average is one value.
const BIN: Micros = 50_000;
/// Values kept: ten seconds.
const BINS: usize = 200;
/// A value counts this many microseconds.
const UNIT: Micros = 250;
/// No packet was sent in this time, or none has been reported.
const NONE: i16 = i16::MIN;
/// Values that two series must have in common.
const MIN_COMMON: usize = 80;
/// Variance below which there is no queue to compare: that of 3 ms, in squares of the unit.
const MIN_VARIANCE: f64 = 144.0;

/// The delays of one peer.
#[derive(Debug)]
pub(crate) struct DelaySeries {
    values: [i16; BINS],
    /// What is added to the peer's times, so that those of all are on one clock.
    shift: Micros,
    /// The delay that counts as zero: the first one, as clocks differ by an unknown amount.
    zero: Option<Micros>,
    /// The present bin, and the sum and number of the delays in it.
    bin: i64,
    sum: i64,
    packets: i64,
    /// When nobody will ask for it any more.
    until: Micros,
}

impl DelaySeries {
    /// An empty one. `shift` makes of the peer's times such that are common to all peers.
    pub(super) fn new(shift: Micros) -> DelaySeries {
        DelaySeries {
            values: [NONE; BINS],
            shift,
            zero: None,
            bin: i64::MIN / 2,
            sum: 0,
            packets: 0,
            until: 0,
        }
    }

    /// Nobody will ask for it after this time.
    pub(super) fn keep_until(&mut self, until: Micros) {
        self.until = until;
    }

    /// Whether that time is over.
    pub(super) fn is_done(&self, now: Micros) -> bool {
        now > self.until
    }

    /// A packet arrived. One that is reported later than those sent after it does not count.
    pub(super) fn on_packet(&mut self, sent: Micros, delay: Micros) {
        let bin = (sent + self.shift).div_euclid(BIN);
        if bin > self.bin {
            self.end_bin();
            let skipped = (self.bin + 1)..bin;
            if skipped.end - skipped.start >= BINS as i64 {
                self.values = [NONE; BINS];
            } else {
                for empty in skipped {
                    self.values[index(empty)] = NONE;
                }
            }
            self.bin = bin;
        }
        if bin == self.bin {
            let zero = *self.zero.get_or_insert(delay);
            self.sum += delay.saturating_sub(zero) / UNIT;
            self.packets += 1;
        }
    }

    fn end_bin(&mut self) {
        let mean = match self.packets {
            0 => i64::from(NONE),
            packets => (self.sum / packets).clamp(i64::from(NONE) + 1, i64::from(i16::MAX)),
        };
        self.values[index(self.bin)] = mean as i16;
        (self.sum, self.packets) = (0, 0);
    }

    /// The share that both vary together of what they vary in all, 1 for series that differ by a
    /// constant only; `None` where there is too little to compare.
    pub(super) fn concordance(&self, other: &DelaySeries) -> Option<f64> {
        let end = self.bin.min(other.bin);
        let start = self.bin.max(other.bin) - BINS as i64 + 1;
        let both = (start..end).filter_map(|bin| {
            let pair = (self.values[index(bin)], other.values[index(bin)]);
            (pair.0 != NONE && pair.1 != NONE).then(|| (f64::from(pair.0), f64::from(pair.1)))
        });
        let (mut count, mut sums, mut squares, mut products) = (0, (0.0, 0.0), 0.0, 0.0);
        for (one, two) in both {
            count += 1;
            sums = (sums.0 + one, sums.1 + two);
            squares += one * one + two * two;
            products += one * two;
        }
        let number = count as f64;
        let variances = squares / number - (sums.0 * sums.0 + sums.1 * sums.1) / (number * number);
        let covariance = products / number - sums.0 * sums.1 / (number * number);
        let enough = count >= MIN_COMMON && variances >= 2.0 * MIN_VARIANCE;
        enough.then(|| 2.0 * covariance / variances)
    }
}

fn index(bin: i64) -> usize {
    bin.rem_euclid(BINS as i64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Twelve seconds of packets every 20 ms, each delayed as `delay` tells of its time.
    fn series(shift: Micros, delay: impl Fn(Micros) -> Micros) -> DelaySeries {
        let mut series = DelaySeries::new(shift);
        for number in 0..600 {
            let time = number * 20_000;
            series.on_packet(time - shift, delay(time));
        }
        series
    }

    fn waves(time: Micros) -> Micros {
        ((time as f64 / 150_000.0).sin() * 20_000.0) as Micros
    }

    #[test]
    fn one_queue_seen_over_ways_and_clocks_of_different_zero_is_the_same() {
        let one = series(0, waves);
        let other = series(-77_000_000, |time| waves(time) - 3_600_000_000);
        let concordance = one.concordance(&other).unwrap();
        assert!(concordance > 0.99, "{concordance}");
    }

    #[test]
    fn another_time_another_size_and_another_queue_are_not() {
        let one = series(0, waves);
        let late = series(0, |time| waves(time - 200_000));
        let large = series(0, |time| 4 * waves(time));
        let quick = series(0, |time| waves(3 * time));
        for other in [late, large, quick] {
            let concordance = one.concordance(&other).unwrap();
            assert!(concordance < 0.6, "{concordance}");
        }
    }

    #[test]
    fn where_nothing_waits_or_nothing_is_known_nothing_is_said() {
        let one = series(0, waves);
        assert_eq!(one.concordance(&DelaySeries::new(0)), None);
        let still = series(0, |_| 5_000);
        assert_eq!(still.concordance(&still), None);
        let mut old = series(0, waves);
        old.on_packet(60_000_000, 0);
        assert_eq!(one.concordance(&old), None);
    }

    #[test]
    fn times_and_delays_of_any_size_are_survived() {
        let mut series = DelaySeries::new(i64::MAX / 4);
        let one = self::series(0, waves);
        for (sent, delay) in [(0, i64::MIN / 2), (i64::MAX / 4, i64::MAX / 2), (-9, 0)] {
            series.on_packet(sent, delay);
            assert_eq!(one.concordance(&series), None);
        }
    }
}
