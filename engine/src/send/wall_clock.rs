//! The wall clock in NTP's format, for sender reports.

use std::time::{Duration, Instant};

/// Seconds from NTP's epoch, 1900, to unix's, 1970 (RFC 868).
const NTP_OFFSET: u64 = 2_208_988_800;

/// Turns the engine's time into the wall clock's.
#[derive(Debug)]
pub(crate) struct WallClock {
    started: Instant,
    /// The wall clock at `started`, since the unix epoch.
    offset: Duration,
}

impl WallClock {
    /// At `now` it is `since_epoch` since the unix epoch.
    pub(crate) fn new(now: Instant, since_epoch: Duration) -> WallClock {
        WallClock {
            started: now,
            offset: since_epoch,
        }
    }

    /// The wall clock as NTP time, 32.32 bits of seconds.
    pub(crate) fn ntp(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.started);
        to_ntp(self.offset + elapsed).wrapping_add(NTP_OFFSET << 32)
    }
}

/// A duration as 32.32 bits of seconds.
pub(crate) fn to_ntp(duration: Duration) -> u64 {
    (duration.as_secs() << 32) | ((u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_becomes_fixed_point_seconds() {
        assert_eq!(to_ntp(Duration::from_millis(1_500)), (1 << 32) | (1 << 31));
    }
}
