//! What the media thread has done so far, for whoever watches a run.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Counters that only rise, except when the measurement begins.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    received: AtomicU64,
    feedback: AtomicU64,
}

impl Progress {
    /// As of now.
    pub(crate) fn publish(&self, received: u64, feedback: u64) {
        self.received.store(received, Ordering::Relaxed);
        self.feedback.store(feedback, Ordering::Relaxed);
    }

    /// A line about the time since the measurement began.
    pub(crate) fn line(&self, since: Instant) -> String {
        let seconds = since.elapsed().as_secs_f64();
        let received = self.received.load(Ordering::Relaxed);
        let feedback = self.feedback.load(Ordering::Relaxed);
        format!(
            "{seconds:.0} s: {received} packets received, {:.0} a second; {feedback} reports sent",
            received as f64 / seconds.max(0.001)
        )
    }
}
