//! The rate by delay alone: it grows while the queue does not, and falls below what arrives when
//! it does (draft-ietf-rmcat-gcc-02, section 5.5). Until the queue is empty again the rate goes
//! down further for a moment, by as much as the queue is long.

use super::trendline::Usage;
use super::{MAX_RATE, MIN_RATE, Micros};

/// What is kept of the arriving rate at overuse: less the longer the queue is.
const DECREASE: (f64, f64) = (0.85, 0.95);
/// Growth per second while the capacity is unknown.
const GROWTH: f64 = 1.10;
/// The rate grows to this many times the arriving one: what was not tried is not known.
const MAX_AHEAD: f64 = 1.5;
const AHEAD: f64 = 10_000.0;
/// Least time between two decreases, beside the round trip.
const DECREASE_INTERVAL: Micros = 100_000;
/// A queue shorter than this is not worth a decrease.
const SHORT_QUEUE: Micros = 20_000;
/// A queue is to be empty after about this time, and is given up on after `MAX_DRAIN`: then it
/// is not ours.
const DRAIN_TIME: f64 = 600_000.0;
const MAX_DRAIN: Micros = 1_500_000;
const EMPTY_QUEUE: Micros = 20_000;
/// Draining takes no more of the rate than this leaves.
const LEAST_SHARE: f64 = 0.4;
/// A packet, and the rate at which frames come, for the pace of cautious growth.
const PACKET_BITS: f64 = 9_600.0;
const FRAMES_PER_SECOND: f64 = 30.0;

/// What a step goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input {
    pub(super) now: Micros,
    pub(super) usage: Usage,
    /// Arriving rates over half and over a quarter of a second, in bits per second.
    pub(super) acknowledged: Option<f64>,
    pub(super) acknowledged_short: Option<f64>,
    pub(super) queueing: Micros,
    pub(super) rtt: Micros,
}

/// What the link carried when it was overused: mean and mean square of the relative deviation.
#[derive(Debug, Clone, Copy)]
struct Capacity {
    mean: f64,
    deviation: f64,
}

impl Capacity {
    fn spread(&self) -> f64 {
        3.0 * (self.deviation * self.mean).sqrt()
    }
}

/// The controller.
#[derive(Debug)]
pub(super) struct RateControl {
    rate: f64,
    capacity: Option<Capacity>,
    last: Option<Micros>,
    decreased: Option<Micros>,
    /// Since when a queue is drained, and what the link carries meanwhile.
    draining: Option<(Micros, f64)>,
    drain_factor: f64,
}

impl RateControl {
    pub(super) fn new(rate: f64) -> Self {
        RateControl {
            rate,
            capacity: None,
            last: None,
            decreased: None,
            draining: None,
            drain_factor: 1.0,
        }
    }

    /// Bits per second to send.
    pub(super) fn rate(&self) -> f64 {
        self.rate.min(match self.draining {
            Some((_, carried)) => carried * self.drain_factor,
            None => f64::INFINITY,
        })
    }

    /// Whether a queue is being emptied.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// When the rate was last decreased.
    pub(super) fn decreased(&self) -> Option<Micros> {
        self.decreased
    }

    /// A probe or another estimate says that there is room for `rate`.
    pub(super) fn raise(&mut self, rate: f64) {
        if rate > self.rate {
            self.rate = rate.min(MAX_RATE);
            if self
                .capacity
                .is_some_and(|capacity| rate > capacity.mean + capacity.spread())
            {
                self.capacity = None;
            }
        }
    }

    /// All that is known is the share lost of what was sent (draft-ietf-rmcat-gcc-02, section 6).
    pub(super) fn follow_loss(&mut self, loss: f64, sent: f64) {
        if loss > 0.1 {
            self.rate *= 1.0 - 0.5 * loss;
        } else if loss < 0.02 {
            self.rate = (self.rate * 1.05).min((MAX_AHEAD * sent).max(self.rate));
        }
        self.rate = self.rate.clamp(MIN_RATE, MAX_RATE);
    }

    /// A feedback packet has been read.
    pub(super) fn update(&mut self, input: Input) {
        let since = self
            .last
            .map_or(0, |last| input.now - last)
            .clamp(0, 1_000_000);
        self.last = Some(input.now);
        self.drain(&input);
        match input.usage {
            Usage::Over if input.queueing > SHORT_QUEUE => self.decrease(&input),
            Usage::Normal if self.draining.is_none() => self.increase(&input, since),
            _ => {}
        }
        self.rate = self.rate.clamp(MIN_RATE, MAX_RATE);
    }

    fn drain(&mut self, input: &Input) {
        let Some((since, _)) = self.draining else {
            return;
        };
        if input.queueing < EMPTY_QUEUE || input.now - since > MAX_DRAIN {
            self.draining = None;
            return;
        }
        self.drain_factor = (1.0 - input.queueing as f64 / DRAIN_TIME).clamp(LEAST_SHARE, 0.95);
    }

    fn decrease(&mut self, input: &Input) {
        let Some(long) = input.acknowledged.or(input.acknowledged_short) else {
            // Too early to know what arrives.
            return;
        };
        let interval = input.rtt + DECREASE_INTERVAL;
        if self
            .decreased
            .is_some_and(|last| input.now - last < interval)
        {
            return;
        }
        let carried = long.min(input.acknowledged_short.unwrap_or(long));
        self.decreased = Some(input.now);
        let kept = 1.0 - input.queueing as f64 / 1e6;
        let kept = kept.clamp(DECREASE.0, DECREASE.1);
        if self.draining.is_none() {
            self.note_capacity(carried);
            self.draining = Some((input.now, carried));
            self.rate = self.rate.min(kept * carried);
        }
        self.drain(input);
    }

    fn note_capacity(&mut self, carried: f64) {
        let Some(capacity) = &mut self.capacity else {
            self.capacity = Some(Capacity {
                mean: carried,
                deviation: 0.005 * carried,
            });
            return;
        };
        if (carried - capacity.mean).abs() > capacity.spread() {
            self.capacity = None;
            self.note_capacity(carried);
            return;
        }
        let error = carried - capacity.mean;
        capacity.mean += 0.05 * error;
        let square = error * error / capacity.mean.max(1.0);
        capacity.deviation += 0.05 * (square - capacity.deviation);
        let bounds = (0.0004 * capacity.mean, 0.0025 * capacity.mean);
        capacity.deviation = capacity.deviation.clamp(bounds.0, bounds.1);
    }

    fn increase(&mut self, input: &Input, since: Micros) {
        let Some(arriving) = input.acknowledged else {
            return;
        };
        let seconds = since as f64 / 1_000_000.0;
        if self
            .capacity
            .is_some_and(|capacity| arriving > capacity.mean + capacity.spread())
        {
            self.capacity = None;
        }
        let grown = match self.capacity {
            Some(_) => self.rate + seconds * self.cautious_growth(input.rtt),
            None => self.rate * GROWTH.powf(seconds) + 1_000.0 * seconds,
        };
        let bound = MAX_AHEAD * arriving + AHEAD;
        // The bound stops the growth; it does not take back what is known.
        self.rate = grown.min(bound.max(self.rate));
    }

    /// Bits per second, each second: about a packet in the time that the answer takes.
    fn cautious_growth(&self, rtt: Micros) -> f64 {
        let frame = self.rate / FRAMES_PER_SECOND;
        let packet = frame / (frame / PACKET_BITS).ceil().max(1.0);
        let response = (rtt + 100_000) as f64 / 1_000_000.0;
        (packet / response).max(4_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(now: Micros, usage: Usage, acknowledged: f64) -> Input {
        Input {
            now,
            usage,
            acknowledged: Some(acknowledged),
            acknowledged_short: Some(acknowledged),
            queueing: if usage == Usage::Over { 100_000 } else { 0 },
            rtt: 50_000,
        }
    }

    #[test]
    fn it_grows_only_as_far_as_was_tried_and_keeps_what_it_knew() {
        let mut control = RateControl::new(300_000.0);
        for step in 0..1_000 {
            control.update(input(step * 100_000, Usage::Normal, 400_000.0));
        }
        assert_eq!(control.rate(), 610_000.0);
        for step in 1_000..2_000 {
            control.update(input(step * 100_000, Usage::Normal, 50_000.0));
        }
        assert_eq!(control.rate(), 610_000.0);
    }

    #[test]
    fn overuse_takes_it_below_what_arrives_and_drains() {
        let mut control = RateControl::new(2_000_000.0);
        control.update(input(0, Usage::Over, 1_000_000.0));
        assert!(control.is_draining());
        assert!(control.rate() <= 850_000.0, "{}", control.rate());
        let mut long = input(100_000, Usage::Normal, 1_000_000.0);
        long.queueing = 300_000;
        control.update(long);
        assert!(control.rate() <= 500_000.0, "{}", control.rate());
        control.update(input(200_000, Usage::Normal, 1_000_000.0));
        assert!(!control.is_draining());
        assert!(control.rate() >= 850_000.0, "{}", control.rate());
    }

    #[test]
    fn a_queue_that_does_not_empty_is_not_drained_for_ever() {
        let mut control = RateControl::new(2_000_000.0);
        control.update(input(0, Usage::Over, 1_000_000.0));
        for step in 1..20 {
            let mut full = input(step * 100_000, Usage::Normal, 1_000_000.0);
            full.queueing = 200_000;
            control.update(full);
        }
        assert!(!control.is_draining());
        assert!(control.rate() >= 850_000.0);
    }
}
