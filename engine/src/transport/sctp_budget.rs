//! How many bytes of reliable data SCTP is given at a time.
//!
//! SCTP's congestion control fills the queue before the bottleneck until that overflows (RFC
//! 9260, section 7.2), and audio waits in the same queue: half a megabyte before 6 Mbit/s is
//! 0.7 s of silence. SCTP is therefore given what the peer acknowledges in the time of a round
//! trip and a short queue, and no more.

use std::time::{Duration, Instant};

/// Bytes that it is given at least: 90 ms at 6 Mbit/s, and 5 Mbit/s at 100 ms to begin with.
const MIN: usize = 64 << 10;
/// Bytes that it is given at most: 40 Mbit/s at 100 ms.
const MAX: usize = 512 << 10;
/// How long the queue before the bottleneck may become: less than routers have, so that it does
/// not overflow, after which SCTP often waits for its timer, a second at least.
const QUEUE: Duration = Duration::from_millis(30);
/// The rate is measured over a round trip, and over this at least.
const MEASURED_OVER: Duration = Duration::from_millis(100);

/// The bytes that SCTP may have of reliable data.
pub(super) struct SctpBudget {
    bytes: usize,
    /// The shortest smoothed round trip so far: of one without a queue, about.
    min_rtt: Option<Duration>,
    /// Since when acknowledgements are counted, and their bytes, while SCTP is kept busy.
    measured: Option<(Instant, usize)>,
}

impl SctpBudget {
    pub(super) fn new() -> SctpBudget {
        SctpBudget {
            bytes: MIN,
            min_rtt: None,
            measured: None,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The peer has acknowledged some bytes, with this smoothed round-trip time. `is_busy`: more
    /// waits than SCTP may have, so that the rate tells what the network carries.
    pub(super) fn acknowledged(
        &mut self,
        now: Instant,
        bytes: usize,
        rtt: Duration,
        is_busy: bool,
    ) {
        let min_rtt = self.min_rtt.map_or(rtt, |shortest| shortest.min(rtt));
        self.min_rtt = Some(min_rtt);
        if !is_busy {
            self.measured = None;
            return;
        }
        let Some((since, acknowledged)) = &mut self.measured else {
            self.measured = Some((now, 0));
            return;
        };
        *acknowledged += bytes;
        let took = now.saturating_duration_since(*since);
        if took >= rtt.max(MEASURED_OVER) {
            let rate = *acknowledged as f64 / took.as_secs_f64();
            let budget = rate * (min_rtt + QUEUE).as_secs_f64();
            self.bytes = (budget as usize).clamp(MIN, MAX);
            self.measured = Some((now, 0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    const TICK: Duration = Duration::from_millis(1);

    /// The budget after ten seconds behind a bottleneck of `rate` bytes a second at this round
    /// trip, when SCTP always has all of it under way.
    fn behind(rate: usize, rtt: Duration) -> usize {
        let mut budget = SctpBudget::new();
        let mut now = start();
        for _ in 0..10_000 {
            now += TICK;
            let queued = budget
                .bytes()
                .saturating_sub(rate * rtt.as_millis() as usize / 1_000);
            let waits = Duration::from_secs_f64(queued as f64 / rate as f64);
            // What is under way comes back within a round trip, or as fast as the bottleneck
            // carries it.
            let carried = (budget.bytes() as f64 / rtt.as_secs_f64()).min(rate as f64);
            let bytes = (carried * TICK.as_secs_f64()) as usize;
            budget.acknowledged(now, bytes, rtt + waits, true);
        }
        budget.bytes()
    }

    #[test]
    fn the_queue_before_a_slow_bottleneck_stays_short() {
        let rate = 750_000;
        let budget = behind(rate, Duration::from_millis(40));
        let queue = Duration::from_secs_f64(budget as f64 / rate as f64);
        assert!(queue < Duration::from_millis(250), "{queue:?}");
    }

    #[test]
    fn a_fast_network_is_filled_however_far_the_peer_is() {
        let rate = 12_500_000;
        for rtt in [1, 20, 100, 300].map(Duration::from_millis) {
            let filled = rate * rtt.as_millis() as usize / 1_000;
            let budget = behind(rate, rtt);
            assert!(budget > filled.min(MAX * 9 / 10), "{budget} at {rtt:?}");
        }
    }

    #[test]
    fn a_peer_that_is_sent_little_says_nothing_of_its_network() {
        let mut budget = SctpBudget::new();
        let mut now = start();
        let rtt = Duration::from_millis(20);
        for _ in 0..1_000 {
            now += TICK;
            budget.acknowledged(now, 12_500, rtt, true);
        }
        let before = budget.bytes();
        for _ in 0..1_000 {
            now += TICK;
            budget.acknowledged(now, 1, rtt, false);
        }
        assert_eq!((budget.bytes(), before), (MAX, MAX));
    }
}
