//! How many bits a second pass, as a mean over the last half second or more.

use std::time::{Duration, Instant};

/// A mean is taken over at least this long.
const WINDOW: Duration = Duration::from_millis(500);

/// Counts bytes and tells their rate.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct RateMeter {
    bytes: u64,
    since: Option<Instant>,
    rate: u64,
}

impl RateMeter {
    /// So many bytes have passed.
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Bits a second, as of the last whole window.
    pub(crate) fn rate(&mut self, now: Instant) -> u64 {
        let since = *self.since.get_or_insert(now);
        let time = now.saturating_duration_since(since);
        if time >= WINDOW {
            self.rate = self.bytes * 8_000 / time.as_millis() as u64;
            self.bytes = 0;
            self.since = Some(now);
        }
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    #[test]
    fn a_rate_is_told_after_a_window_and_falls_to_nothing() {
        let mut now = test_clock::start();
        let mut meter = RateMeter::default();
        assert_eq!(meter.rate(now), 0);
        for _ in 0..50 {
            now += Duration::from_millis(10);
            meter.add(125);
        }
        assert_eq!(meter.rate(now), 100_000);
        assert_eq!(meter.rate(now + WINDOW), 0);
    }
}
