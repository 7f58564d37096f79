//! How long packets wait in queues: their one-way delay above the least one of late. The clocks
//! of both ends differ by an unknown amount, which cancels out; so does slow drift.

use super::Micros;

/// The least delay is that of the current and the last two windows of this length.
const WINDOW: Micros = 10_000_000;

/// The delay and its base.
#[derive(Debug, Default)]
pub(super) struct QueueingDelay {
    /// Least delay of the windows, the current one last.
    least: [Option<Micros>; 3],
    window_ends: Micros,
    sum: Micros,
    packets: i64,
    current: Micros,
}

impl QueueingDelay {
    /// A packet arrived after `delay`, which counts from an arbitrary zero.
    pub(super) fn on_packet(&mut self, delay: Micros) {
        let least = &mut self.least[2];
        *least = Some(least.map_or(delay, |least| least.min(delay)));
        self.sum += delay;
        self.packets += 1;
    }

    /// A feedback packet has been read to its end.
    pub(super) fn on_feedback(&mut self, now: Micros) {
        let base = self.least.iter().flatten().min();
        if let Some(base) = base.filter(|_| self.packets > 0) {
            self.current = self.sum / self.packets - base;
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
    pub(super) fn current(&self) -> Micros {
        self.current
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
            queueing.current()
        };
        assert_eq!(feedback(0, -70_000), 0);
        assert_eq!(feedback(100_000, -20_000), 50_000);
        // A longer way is the new base after a while.
        for second in 1..40 {
            feedback(second * 1_000_000, 30_000);
        }
        assert_eq!(feedback(41_000_000, 30_000), 0);
    }
}
