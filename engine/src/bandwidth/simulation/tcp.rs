//! A long TCP flow with CUBIC's window (RFC 9438), which fills whatever queue there is.

use std::collections::VecDeque;

use crate::bandwidth::units::Micros;

const PACKET: u32 = 1_250;

/// The sender.
pub(super) struct Tcp {
    starts: Micros,
    next: u64,
    window: f64,
    threshold: f64,
    in_flight: u32,
    /// Window at the last loss, and when that was.
    at_loss: f64,
    lost: Micros,
    /// Packets sent before this one cannot tell of a new loss.
    recovery: u64,
    answers: VecDeque<(Micros, u64, bool)>,
}

impl Tcp {
    pub(super) fn new(starts: Micros) -> Self {
        Tcp {
            starts,
            next: 0,
            window: 10.0,
            threshold: f64::INFINITY,
            in_flight: 0,
            at_loss: 0.0,
            lost: 0,
            recovery: 0,
            answers: VecDeque::new(),
        }
    }

    /// It will be known then whether a packet arrived.
    pub(super) fn answer(&mut self, when: Micros, number: u64, arrived: bool) {
        self.answers.push_back((when, number, arrived));
    }

    pub(super) fn step(&mut self, now: Micros, rtt: Micros, mut send: impl FnMut(u64, u32)) {
        if now < self.starts {
            return;
        }
        while let Some(&(when, number, arrived)) = self.answers.front() {
            if when > now {
                break;
            }
            self.answers.pop_front();
            self.in_flight -= 1;
            if arrived {
                self.grow(now, rtt);
            } else if number >= self.recovery {
                self.recovery = self.next;
                self.at_loss = self.window;
                self.window = (self.window * 0.7).max(2.0);
                self.threshold = self.window;
                self.lost = now;
            }
        }
        while f64::from(self.in_flight) < self.window {
            self.in_flight += 1;
            self.next += 1;
            send(self.next - 1, PACKET);
        }
    }

    fn grow(&mut self, now: Micros, rtt: Micros) {
        if self.window < self.threshold {
            self.window += 1.0;
            return;
        }
        let seconds = (now - self.lost) as f64 / 1e6;
        let k = (self.at_loss * 0.3 / 0.4).cbrt();
        let cubic = 0.4 * (seconds - k).powi(3) + self.at_loss;
        let rtts = seconds / (rtt.max(1_000) as f64 / 1e6);
        let reno = self.at_loss * 0.7 + 0.53 * rtts;
        let target = cubic.max(reno).min(1.5 * self.window);
        if target > self.window {
            self.window += (target - self.window) / self.window;
        } else {
            self.window += 0.01 / self.window;
        }
    }
}
