//! Time as the room core is told it: the core reads no clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One moment, on the monotonic clock and on the wall's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For timeouts.
    pub instant: Instant,
    /// For timestamps that leave the process: microseconds since the Unix epoch.
    pub unix_us: i64,
}

impl Now {
    /// The present, read from the machine's clocks. For the shell; the core only takes values.
    pub fn read() -> Now {
        let unix_us = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_micros() as i64);
        Now {
            instant: Instant::now(),
            unix_us,
        }
    }

    /// This moment moved by `duration`.
    #[must_use]
    pub fn after(self, duration: Duration) -> Now {
        Now {
            instant: self.instant + duration,
            unix_us: self.unix_us + duration.as_micros() as i64,
        }
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_ms(self) -> i64 {
        self.unix_us / 1_000
    }

    /// Nanoseconds since the Unix epoch.
    pub fn unix_ns(self) -> i64 {
        self.unix_us.saturating_mul(1_000)
    }

    /// Seconds since the Unix epoch.
    pub fn unix_s(self) -> u64 {
        (self.unix_us / 1_000_000).max(0) as u64
    }

    /// Whether at least `duration` has passed since `start`.
    pub(super) fn has_passed(self, start: Instant, duration: Duration) -> bool {
        self.instant.saturating_duration_since(start) >= duration
    }
}
