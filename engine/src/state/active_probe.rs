//! A probe that is being sent to a peer.

use std::time::{Duration, Instant};

use crate::api::io::COALESCING_INTERVAL;
use crate::bandwidth::Probe;

/// A probe that has not come to its end by then is given up.
const LONGEST: Duration = Duration::from_millis(100);

/// A probe that is being sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ActiveProbe {
    pub(crate) probe: Probe,
    since: Instant,
    pub(crate) packets: u32,
    pub(crate) bytes: u32,
}

impl ActiveProbe {
    pub(crate) fn new(probe: Probe, now: Instant) -> ActiveProbe {
        ActiveProbe {
            probe,
            since: now,
            packets: 0,
            bytes: 0,
        }
    }

    /// Whether enough has been sent.
    pub(crate) fn is_over(&self, now: Instant) -> bool {
        let enough = self.packets >= self.probe.packets_min && self.bytes >= self.probe.bytes_min;
        enough || now.saturating_duration_since(self.since) > LONGEST
    }

    /// Bytes that have to be sent by the end of the tick that begins now.
    pub(crate) fn due(&self, now: Instant) -> u64 {
        let time = now.saturating_duration_since(self.since) + COALESCING_INTERVAL;
        self.probe.bps * time.as_micros() as u64 / 8_000_000
    }
}
