//! A token bucket.

use std::time::Duration;

use tokio::time::Instant;

/// How much may come a second for long, and at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Units a second.
    pub per_second: f64,
    /// Units at once.
    pub burst: f64,
}

/// What is left of a [`Rate`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenBucket {
    rate: Rate,
    tokens: f64,
    refilled: Instant,
}

impl TokenBucket {
    /// A full one.
    pub(crate) fn new(rate: Rate, now: Instant) -> TokenBucket {
        TokenBucket {
            rate,
            tokens: rate.burst,
            refilled: now,
        }
    }

    /// Takes `units` out; `false`, and nothing is taken, when there are fewer.
    pub(crate) fn take(&mut self, units: f64, now: Instant) -> bool {
        self.refill(now);
        if self.tokens < units {
            return false;
        }
        self.tokens -= units;
        true
    }

    /// Whether nothing was taken for so long that it is full.
    pub(crate) fn is_full(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.tokens >= self.rate.burst
    }

    fn refill(&mut self, now: Instant) {
        let passed: Duration = now.saturating_duration_since(self.refilled);
        let tokens = self.tokens + passed.as_secs_f64() * self.rate.per_second;
        self.tokens = tokens.min(self.rate.burst);
        self.refilled = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate() {
        let rate = Rate {
            per_second: 10.0,
            burst: 5.0,
        };
        let mut bucket = TokenBucket::new(rate, Instant::now());
        let taken = |bucket: &mut TokenBucket, tries: usize| {
            let now = Instant::now();
            (0..tries).filter(|_| bucket.take(1.0, now)).count()
        };
        assert_eq!(taken(&mut bucket, 100), 5);
        assert!(!bucket.is_full(Instant::now()));
        tokio::time::advance(Duration::from_millis(310)).await;
        assert_eq!(taken(&mut bucket, 100), 3);
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert!(bucket.is_full(Instant::now()));
        assert_eq!(taken(&mut bucket, 100), 5);
    }
}
