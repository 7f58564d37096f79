//! The rate by loss. Some links lose packets whatever is sent, which is no reason to send less;
//! others lose what they cannot carry. Each observation says how much was sent and how much of
//! it lost; of two explanations, loss that is there at any rate, or that and a capacity above
//! which all is lost, the one is taken that fits the observations better (the idea behind
//! libwebrtc's second loss-based estimator, here by least squares).

use std::mem::offset_of;

use super::units::{MIN_RATE, Micros};

/// Observations kept, and what makes one: this many packets, and at least this time.
const OBSERVATIONS: usize = 16;
const MIN_PACKETS: u32 = 20;
const MIN_TIME: Micros = 250_000;
/// An observation that takes longer is one of fewer packets.
const MAX_TIME: Micros = 1_500_000;
/// Observations of this age are forgotten.
const MAX_AGE: Micros = 6_000_000;
/// Less loss than this needs no explanation.
const NO_LOSS: f64 = 0.02;
/// More than this is never laid to the link.
const MAX_INHERENT: f64 = 0.25;
/// After this many observations in a row with more loss than this nothing counts that was seen
/// before: the link has changed.
const CHANGED_AFTER: usize = 2;
const CHANGED_LOSS: f32 = 0.35;
/// How much better a capacity has to explain what was seen, in terms of squared deviations,
/// than none.
const MIN_GAIN: f64 = 25.0;
/// Growth of the limit per second once loss is not due to the rate.
const RECOVERY: f64 = 1.25;

#[derive(Debug, Clone, Copy, Default)]
struct Observation {
    /// When it began.
    at: Micros,
    /// Bits per second sent.
    rate: f32,
    loss: f32,
    packets: f32,
}

/// The limit that loss puts on the rate. What is touched when an observation ends comes last.
#[derive(Debug, Default)]
#[repr(C)]
pub(super) struct LossControl {
    /// The observation being made: first and last departure, bytes and packets.
    from: Option<Micros>,
    to: Micros,
    bytes: u64,
    packets: u32,
    lost: u32,
    limit: Option<f64>,
    loss: f64,
    /// The last observation told of a loss that needs an explanation.
    losing: bool,
    /// Packets and losses of the present feedback.
    present: (u32, u32),
    count: usize,
    observations: [Observation; OBSERVATIONS],
}

impl LossControl {
    /// So many of its bytes are touched by every report.
    pub(super) const TOUCHED: usize = offset_of!(LossControl, observations);

    /// A packet was reported for the first time.
    pub(super) fn on_packet(&mut self, sent: Micros, len: u16, received: bool) {
        let from = *self.from.get_or_insert(sent);
        self.to = self.to.max(sent).max(from);
        self.bytes += u64::from(len);
        self.packets += 1;
        self.lost += u32::from(!received);
        self.present.0 += 1;
        self.present.1 += u32::from(!received);
    }

    /// Whether the feedback that has just been read told of more loss than is usual.
    pub(super) fn take_unusual_loss(&mut self) -> bool {
        let (packets, lost) = std::mem::take(&mut self.present);
        f64::from(lost) > 2.0 * self.loss * f64::from(packets)
    }

    /// A packet that was taken for lost is there after all.
    pub(super) fn on_late_packet(&mut self) {
        self.lost = self.lost.saturating_sub(1);
    }

    /// Share of packets lost lately, from 0 to 1.
    pub(super) fn loss(&self) -> f64 {
        self.loss
    }

    /// Bits per second, when loss limits the rate.
    pub(super) fn limit(&self) -> Option<f64> {
        self.limit
    }

    /// Whether what is sent now is more than gets through.
    pub(super) fn is_overusing(&self) -> bool {
        self.limit.is_some() && self.losing
    }

    /// A feedback packet has been read; `rate` is what is sent at most by all other means.
    pub(super) fn update(&mut self, rate: f64) {
        let Some(from) = self.from else {
            return;
        };
        let time = self.to - from;
        let enough = self.packets >= MIN_PACKETS && time >= MIN_TIME;
        if !enough && (time < MAX_TIME || self.packets < 5) {
            return;
        }
        let packets = f64::from(self.packets);
        let seconds = time as f64 / 1_000_000.0;
        let observed = Observation {
            at: from,
            rate: (self.bytes as f64 * 8.0 * (1.0 - 1.0 / packets) / seconds) as f32,
            loss: (f64::from(self.lost) / packets) as f32,
            packets: packets as f32,
        };
        self.remember(observed);
        self.from = None;
        self.to = 0;
        (self.bytes, self.packets, self.lost) = (0, 0, 0);
        self.loss += 0.3 * (f64::from(observed.loss) - self.loss);
        self.losing = f64::from(observed.loss) > NO_LOSS;
        self.decide(rate, seconds);
    }

    /// Adds an observation. What was seen too long ago says nothing of the present.
    fn remember(&mut self, observed: Observation) {
        let oldest = observed.at - MAX_AGE;
        let mut kept = [Observation::default(); OBSERVATIONS];
        let mut count = 0;
        let recent = self.seen().iter().filter(|seen| seen.at >= oldest);
        let most = recent.clone().count().saturating_sub(OBSERVATIONS - 1);
        for seen in recent.skip(most).chain([&observed]) {
            kept[count] = *seen;
            count += 1;
        }
        let great = |seen: &&Observation| seen.loss > CHANGED_LOSS;
        let row = kept[..count].iter().rev().take_while(great).count();
        if row == CHANGED_AFTER {
            kept.copy_within(count - row..count, 0);
            count = row;
        }
        (self.observations, self.count) = (kept, count);
    }

    fn seen(&self) -> &[Observation] {
        &self.observations[..self.count]
    }

    fn decide(&mut self, rate: f64, seconds: f64) {
        let grown = self.limit.map(|limit| limit * RECOVERY.powf(seconds));
        self.limit = match self.capacity() {
            Some(capacity) => Some(grown.unwrap_or(rate).min(capacity).max(MIN_RATE)),
            None => grown.filter(|grown| *grown < rate * 1.1),
        };
    }

    /// The capacity that explains the losses, if one does so much better than chance alone.
    fn capacity(&self) -> Option<f64> {
        let packets: f32 = self.seen().iter().map(|seen| seen.packets).sum();
        let lost: f32 = self
            .seen()
            .iter()
            .map(|seen| seen.loss * seen.packets)
            .sum();
        let mean = f64::from(lost / packets.max(1.0));
        if mean < NO_LOSS {
            return None;
        }
        let without = self.misfit(f64::INFINITY, mean);
        let mut best = (without - MIN_GAIN, None);
        for seen in self.seen() {
            // What arrived of an observation is a capacity that might be.
            let candidate = f64::from(seen.rate * (1.0 - seen.loss));
            let misfit = self.misfit(candidate, mean);
            if misfit < best.0 {
                best = (misfit, Some(candidate));
            }
        }
        best.1
    }

    /// Sum of the squared deviations from what a capacity lets expect, in units of the variance
    /// that chance alone gives, with the inherent loss that fits best.
    fn misfit(&self, capacity: f64, mean: f64) -> f64 {
        let excess = |seen: &Observation| (1.0 - capacity / f64::from(seen.rate)).max(0.0);
        let (mut loss, mut weight) = (0.0, 0.0);
        for seen in self.seen() {
            let kept = 1.0 - excess(seen);
            loss += f64::from(seen.packets) * (f64::from(seen.loss) - excess(seen)) * kept;
            weight += f64::from(seen.packets) * kept * kept;
        }
        let inherent = (loss / f64::max(weight, 1.0)).clamp(0.0, MAX_INHERENT);
        let variance = (mean * (1.0 - mean)).max(0.01);
        self.seen()
            .iter()
            .map(|seen| {
                let expected = inherent + (1.0 - inherent) * excess(seen);
                let error = f64::from(seen.loss) - expected;
                f64::from(seen.packets) * error * error / variance
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;

    /// Ten seconds at about `rate`, of which `lose` says how each packet fares.
    fn run(control: &mut LossControl, rate: f64, mut lose: impl FnMut(f64, f64) -> bool) {
        let mut time = 0.0;
        for step in 0..100 {
            let rate =
                rate.min(control.limit().unwrap_or(rate)) * (0.9 + 0.02 * f64::from(step % 10));
            for _ in 0..((rate / 96_000.0) as u32) {
                let lost = lose(rate, time);
                control.on_packet(time as Micros, 1_200, !lost);
                time += 9_600.0 / rate * 1_000_000.0;
            }
            control.update(rate);
        }
    }

    #[test]
    fn loss_at_random_does_not_limit() {
        for seed in 0..20 {
            for loss in [0.05, 0.1, 0.2] {
                let mut rng = SmallRng::seed_from_u64(seed);
                let mut control = LossControl::default();
                run(&mut control, 2_000_000.0, |_, _| rng.random_bool(loss));
                assert!(
                    control.limit().is_none_or(|limit| limit > 1_300_000.0),
                    "seed {seed}, {loss}: {:?}",
                    control.limit()
                );
                assert!((control.loss() - loss).abs() < 0.08, "{}", control.loss());
            }
        }
    }

    #[test]
    fn what_was_lossless_before_does_not_excuse_great_loss() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut control = LossControl::default();
        let (rate, capacity) = (1_400_000.0, 400_000.0);
        let mut time = 0.0;
        let mut feedback = |control: &mut LossControl, loss: f64| {
            let sent = control.limit().unwrap_or(rate);
            for _ in 0..((sent / 96_000.0) as u32).max(1) {
                let excess = (1.0 - capacity / sent).max(0.0);
                let lost = rng.random_bool(loss * excess);
                control.on_packet(time as Micros, 1_200, !lost);
                time += 9_600.0 / sent * 1_000_000.0;
            }
            control.update(rate);
        };
        (0..100).for_each(|_| feedback(&mut control, 0.0));
        assert_eq!(control.limit(), None);
        (0..12).for_each(|_| feedback(&mut control, 1.0));
        let limit = control.limit().expect("a limit");
        assert!(limit < 1.4 * capacity, "{limit}");
        assert!(control.is_overusing());
        // The limit stays for a while, though all gets through that is sent now.
        (0..12).for_each(|_| feedback(&mut control, 0.0));
        assert!(control.limit().is_some() && !control.is_overusing());
    }

    #[test]
    fn a_policer_limits_to_what_it_lets_through() {
        let mut control = LossControl::default();
        let mut credit = 0.0;
        let mut last = 0.0;
        run(&mut control, 2_000_000.0, |_, time| {
            credit = f64::min(credit + (time - last) * 1.0, 30_000.0);
            last = time;
            let lost = credit < 9_600.0;
            if !lost {
                credit -= 9_600.0;
            }
            lost
        });
        let limit = control.limit().unwrap();
        assert!((700_000.0..1_250_000.0).contains(&limit), "{limit}");
    }
}
