//! What a probe finds: its packets, the media among them included, and how they arrive.
//!
//! The rate is the slope of a line through bytes and arrivals, by least squares. Jitter moves each
//! packet, and of a short probe two would tell a rate that is not there; how far the packets lie
//! from the line tells how much it can be trusted.

use super::probe::Probe;
use super::units::Micros;

/// When less than this share of what was sent arrives in the same time, the link was full.
const FULL: f64 = 0.9;
/// A full link carried this share of what it showed, as the rest was not always there.
const OF_FULL: f64 = 0.95;

/// The packets from the first to the last of a probe.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) probe: Probe,
    pub(super) started: Micros,
    /// Numbers of the first and the last packet, once sent.
    numbers: Option<(u64, u64)>,
    sent_bytes: u32,
    /// Reported packets, and those of them that arrived.
    reported: u32,
    arrived: u32,
    arrived_bytes: u32,
    /// First and last departure of those that arrived.
    departures: Option<(Micros, Micros)>,
    /// Bytes that left with the last.
    with_last: u32,
    first_arrival: Micros,
    line: Line,
}

/// What a link took of a probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    /// Bits per second.
    pub(super) bps: f64,
    /// It took no more.
    pub(super) full: bool,
    /// Bits of what was sent that it was too slow for.
    pub(super) waiting: f64,
}

impl Cluster {
    pub(super) fn new(probe: Probe, started: Micros) -> Cluster {
        Cluster {
            probe,
            started,
            numbers: None,
            sent_bytes: 0,
            reported: 0,
            arrived: 0,
            arrived_bytes: 0,
            departures: None,
            with_last: 0,
            first_arrival: 0,
            line: Line::default(),
        }
    }

    /// A packet of the probe leaves.
    pub(super) fn on_sent(&mut self, number: u64, len: u16) {
        let first = self.numbers.map_or(number, |(first, _)| first);
        self.numbers = Some((first, number));
        self.sent_bytes += u32::from(len);
    }

    /// Whether a packet was sent in the course of this probe.
    pub(super) fn covers(&self, number: u64) -> bool {
        self.numbers
            .is_some_and(|(first, last)| (first..=last).contains(&number))
    }

    /// A packet of it was reported, for the first time.
    pub(super) fn on_report(&mut self, sent: Micros, len: u16, arrival: Option<Micros>) {
        self.reported += 1;
        let Some(arrival) = arrival else {
            return;
        };
        let (first, last) = *self.departures.get_or_insert((sent, sent));
        if sent > last {
            self.with_last = 0;
        }
        self.departures = Some((first, last.max(sent)));
        self.with_last += u32::from(len);
        if self.arrived == 0 {
            self.first_arrival = arrival;
        }
        self.arrived += 1;
        self.arrived_bytes += u32::from(len);
        let since = (arrival - self.first_arrival) as f64;
        self.line.add(f64::from(self.arrived_bytes), since);
    }

    /// All that was sent has been reported.
    pub(super) fn is_complete(&self) -> bool {
        self.numbers.is_some_and(|(first, last)| {
            let sent = last - first + 1;
            sent >= u64::from(self.probe.packets_min)
                && self.sent_bytes >= self.probe.bytes_min
                && u64::from(self.reported) >= sent
        })
    }

    /// What the link took of it; `None` when too little arrived to tell.
    pub(super) fn result(&self) -> Option<Found> {
        if self.arrived < self.probe.packets_min * 3 / 4 {
            return None;
        }
        let (per_byte, error) = self.line.slope()?;
        let received = 8e6 / per_byte;
        let certain = per_byte / (per_byte + error);
        let sent = self.sent_bps();
        if received >= FULL * sent {
            return Some(Found {
                // It may have been sent faster than asked for; that is no reason to believe less.
                bps: received.min(sent) * certain,
                full: received < FULL * self.probe.bps as f64,
                waiting: 0.0,
            });
        }
        let bps = OF_FULL * received * certain;
        let bits = 8.0 * f64::from(self.arrived_bytes);
        Some(Found {
            bps,
            full: true,
            waiting: bits * (1.0 - bps / sent),
        })
    }

    /// At which rate what arrived was sent.
    fn sent_bps(&self) -> f64 {
        match self.departures {
            Some((first, last)) if last > first => {
                let left = self.arrived_bytes.saturating_sub(self.with_last);
                f64::from(left) * 8e6 / (last - first) as f64
            }
            // All at once, for the queue to spread.
            _ => self.probe.bps as f64,
        }
    }
}

/// A line through points, by least squares.
#[derive(Debug, Default)]
struct Line {
    count: f64,
    x: f64,
    y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Line {
    fn add(&mut self, x: f64, y: f64) {
        self.count += 1.0;
        self.x += x;
        self.y += y;
        self.xx += x * x;
        self.xy += x * y;
        self.yy += y * y;
    }

    /// Its slope, if it rises, and the standard error of that.
    fn slope(&self) -> Option<(f64, f64)> {
        let xx = self.xx - self.x * self.x / self.count;
        let xy = self.xy - self.x * self.y / self.count;
        let yy = self.yy - self.y * self.y / self.count;
        if self.count < 3.0 || xx <= 0.0 || xy <= 0.0 {
            return None;
        }
        let slope = xy / xx;
        let rest = (yy - slope * xy).max(0.0) / (self.count - 2.0);
        Some((slope, (rest / xx).sqrt()))
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::super::probe::{Probe, ProbeId};
    use super::*;

    const LEN: u16 = 1_000;

    /// A probe cluster of this many packets at 1 Mbit/s.
    fn cluster(packets: u32) -> Cluster {
        let probe = Probe {
            id: ProbeId::default(),
            bps: 1_000_000,
            packets_min: packets,
            bytes_min: packets * u32::from(LEN),
        };
        Cluster::new(probe, 0)
    }

    /// What twelve packets at 1 Mbit/s find on a link of this capacity (bit/s), each of
    /// which comes later by up to `jitter`.
    fn found(capacity: f64, jitter: Micros, rng: &mut SmallRng) -> Found {
        let mut cluster = cluster(12);
        let mut busy = 0;
        for number in 0..12 {
            cluster.on_sent(number, LEN);
        }
        for number in 0..12 {
            assert!(!cluster.is_complete());
            let sent = 8_000 * number;
            busy = sent.max(busy) + (8e6 * f64::from(LEN) / capacity) as Micros;
            let later = rng.random_range(0..=jitter);
            cluster.on_report(sent, LEN, Some(busy + later));
        }
        assert!(cluster.is_complete());
        cluster.result().expect("a result")
    }

    #[test]
    fn a_link_without_jitter_is_found_as_it_is() {
        let mut rng = SmallRng::seed_from_u64(7);
        let empty = found(2_000_000.0, 0, &mut rng);
        assert!(!empty.full);
        assert_eq!(empty.waiting, 0.0);
        assert!((0.99..=1.01).contains(&(empty.bps / 1e6)), "{empty:?}");
        let full = found(500_000.0, 0, &mut rng);
        assert!(full.full);
        assert!((0.94..=0.96).contains(&(full.bps / 0.5e6)), "{full:?}");
    }

    #[test]
    fn jitter_makes_nothing_seem_to_be_carried_that_is_not() {
        let mut rng = SmallRng::seed_from_u64(7);
        let mut too_much = 0;
        for _ in 0..1_000 {
            let found = found(600_000.0, 30_000, &mut rng);
            too_much += u32::from(found.bps > 1.1 * 600_000.0);
        }
        assert!(too_much < 10, "{too_much} of 1,000");
    }

    #[test]
    fn what_the_link_was_too_slow_for_is_left_waiting() {
        let mut cluster = cluster(10);
        for number in 0..10 {
            cluster.on_sent(number, LEN);
            cluster.on_report(
                8_000 * number as Micros,
                LEN,
                Some(16_000 * number as Micros),
            );
        }
        // Half of ten packets, and a twentieth of the other half as it is not always carried.
        let waiting = cluster.result().expect("a result").waiting;
        assert!((41_900.0..=42_100.0).contains(&waiting), "{waiting}");
    }

    #[test]
    fn nothing_is_told_by_what_came_at_once_or_hardly_at_all() {
        let mut cluster = cluster(5);
        for number in 0..5 {
            cluster.on_sent(number, LEN);
        }
        cluster.on_report(0, LEN, Some(0));
        cluster.on_report(8_000, LEN, None);
        assert_eq!(cluster.result(), None);
        for sent in [16_000, 24_000, 32_000] {
            cluster.on_report(sent, LEN, Some(0));
        }
        assert_eq!(cluster.result(), None);
    }
}
