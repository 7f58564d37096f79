//! How long packets wait in queues: their one-way delay above the least one of late. The clocks
//! of both ends differ by an unknown amount, which cancels out; so does slow drift.

use super::units::Micros;

/// The least delay is that of the current and the last two windows of this length.
const WINDOW: Micros = 10_000_000;

/// No packet waits this long: a clock has jumped.
const MAX_DELAY: Micros = 3_000_000;

/// The delay and its base.
#[derive(Debug, Default)]
pub(super) struct QueueingDelay {
    /// Least delay of the windows, the current one last.
    least: [Option<Micros>; 3],
    window_ends: Micros,
    /// Sum, number and least of the packets of the present feedback.
    sum: Micros,
    packets: i64,
    lowest: Micros,
    mean: Micros,
    shortest: Micros,
}

impl QueueingDelay {
    /// A packet arrived after `delay`, which counts from an arbitrary zero.
    pub(super) fn on_packet(&mut self, delay: Micros) {
        if self
            .base()
            .is_some_and(|base| (delay - base).abs() > MAX_DELAY)
        {
            self.rebase();
        }
        let least = &mut self.least[2];
        *least = Some(least.map_or(delay, |least| least.min(delay)));
        self.lowest = match self.packets {
            0 => delay,
            _ => self.lowest.min(delay),
        };
        self.sum += delay;
        self.packets += 1;
    }

    fn base(&self) -> Option<Micros> {
        self.least.iter().flatten().min().copied()
    }

    /// A feedback packet has been read to its end.
    pub(super) fn on_feedback(&mut self, now: Micros) {
        if let Some(base) = self.base().filter(|_| self.packets > 0) {
            self.mean = self.sum / self.packets - base;
            self.shortest = self.lowest - base;
        }
        self.sum = 0;
        self.packets = 0;
        if now >= self.window_ends {
            self.least.rotate_left(1);
            self.least[2] = None;
            self.window_ends = now + WINDOW;
        }
    }

    /// Mean of the packets of the last feedback.
    pub(super) fn mean(&self) -> Micros {
        self.mean
    }

    /// Least of the packets of the last feedback.
    pub(super) fn least(&self) -> Micros {
        self.shortest
    }

    /// The delay of late was that of the way: what comes counts from there.
    pub(super) fn rebase(&mut self) {
        *self = QueueingDelay {
            window_ends: self.window_ends,
            ..QueueingDelay::default()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_from_the_least_of_late() {
        let mut queueing = QueueingDelay::default();
        let mut feedback = |now, delay| {
            for _ in 0..10 {
                queueing.on_packet(delay);
            }
            queueing.on_feedback(now);
            queueing.mean()
        };
        assert_eq!(feedback(0, -70_000), 0);
        assert_eq!(feedback(100_000, -20_000), 50_000);
        // A longer way is the new base after a while.
        for second in 1..40 {
            feedback(second * 1_000_000, 30_000);
        }
        assert_eq!(feedback(41_000_000, 30_000), 0);
        // A clock that jumped resets it.
        assert_eq!(feedback(42_000_000, 90_000_000_000), 0);
        assert_eq!(feedback(43_000_000, 90_000_020_000), 20_000);
    }
}
