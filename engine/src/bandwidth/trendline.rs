//! Whether the queue on the way grows: the slope of the delay, by least squares over the last
//! groups, against a threshold that adapts to how much the delay varies anyway
//! (draft-ietf-rmcat-gcc-02, sections 5.3 and 5.4).
//!
//! The threshold must adapt: beside a flow that fills the queue and halves its rate at a loss,
//! a fixed one would see overuse all the time, and the estimate would starve.

use super::arrival_groups::GroupDelta;
use super::units::Micros;

/// Groups over which the slope is taken.
const WINDOW: usize = 20;
/// Weight of the past in the smoothed delay.
const SMOOTHING: f32 = 0.9;
/// Makes of a slope, which has no unit, milliseconds to compare with the threshold.
const GAIN: f32 = 4.0;
/// The gain grows with the number of groups seen, up to this many.
const MAX_GROUPS: u32 = 60;
/// The threshold at first and its bounds, in ms.
const THRESHOLD: f32 = 12.5;
const MIN_THRESHOLD: f32 = 6.0;
const MAX_THRESHOLD: f32 = 600.0;
/// How fast the threshold follows when exceeded and when not, per ms.
const GAIN_UP: f32 = 0.0087;
const GAIN_DOWN: f32 = 0.039;
/// A spike this far above the threshold does not move it.
const MAX_EXCESS: f32 = 15.0;
/// Overuse is reported when it lasts.
const OVERUSE_FOR: Micros = 10_000;

/// What the delay says about the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Usage {
    /// The queue stays as it is.
    #[default]
    Normal,
    /// It grows.
    Over,
    /// It empties.
    Under,
}

/// The filter and its detector.
#[derive(Debug)]
pub(super) struct Trendline {
    /// Arrival and smoothed delay of each group, in ms; a ring.
    points: [(f32, f32); WINDOW],
    groups: u32,
    first_arrival: Micros,
    last_arrival: Micros,
    accumulated: f32,
    smoothed: f32,
    threshold: f32,
    last_trend: f32,
    /// For how long the trend is above the threshold, and in how many groups.
    over: (Micros, u32),
    usage: Usage,
}

impl Default for Trendline {
    fn default() -> Self {
        Trendline {
            points: [(0.0, 0.0); WINDOW],
            groups: 0,
            first_arrival: 0,
            last_arrival: 0,
            accumulated: 0.0,
            smoothed: 0.0,
            threshold: THRESHOLD,
            last_trend: 0.0,
            over: (0, 0),
            usage: Usage::Normal,
        }
    }
}

impl Trendline {
    /// Takes the measurement of a group.
    pub(super) fn on_group(&mut self, group: GroupDelta) -> Usage {
        if self.groups == 0 {
            self.first_arrival = group.arrival;
            self.last_arrival = group.arrival;
        }
        self.accumulated += group.delay as f32 / 1_000.0;
        self.smoothed = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * self.accumulated;
        let at = (group.arrival - self.first_arrival) as f32 / 1_000.0;
        self.points[self.groups as usize % WINDOW] = (at, self.smoothed);
        self.groups = self.groups.saturating_add(1);
        let slope = if self.groups as usize >= WINDOW {
            self.slope()
        } else {
            0.0
        };
        let since = (group.arrival - self.last_arrival).clamp(0, 100_000);
        self.last_arrival = group.arrival;
        self.detect(slope, since);
        // Arrival times are kept small, where single precision is still exact to 10 us.
        if at > 60_000.0 {
            self.rebase(at);
        }
        self.usage
    }

    /// What the last group said.
    pub(super) fn usage(&self) -> Usage {
        self.usage
    }

    fn rebase(&mut self, by: f32) {
        for point in &mut self.points {
            point.0 -= by;
        }
        self.first_arrival += (by * 1_000.0) as Micros;
    }

    fn slope(&self) -> f32 {
        let count = WINDOW as f32;
        let sum = |(x, y), point: &(f32, f32)| (x + point.0, y + point.1);
        let (x, y) = self.points.iter().fold((0.0, 0.0), sum);
        let (x, y) = (x / count, y / count);
        let mut covariance = 0.0;
        let mut variance = 0.0;
        for point in &self.points {
            covariance += (point.0 - x) * (point.1 - y);
            variance += (point.0 - x) * (point.0 - x);
        }
        if variance > 0.0 {
            covariance / variance
        } else {
            0.0
        }
    }

    fn detect(&mut self, slope: f32, since: Micros) {
        let trend = slope * self.groups.min(MAX_GROUPS) as f32 * GAIN;
        if trend > self.threshold {
            self.over.0 += since;
            self.over.1 += 1;
            if self.over.0 > OVERUSE_FOR && self.over.1 > 1 && trend >= self.last_trend {
                self.over = (0, 0);
                self.usage = Usage::Over;
            }
        } else {
            self.over = (0, 0);
            self.usage = if trend < -self.threshold {
                Usage::Under
            } else {
                Usage::Normal
            };
        }
        self.last_trend = trend;
        let excess = trend.abs() - self.threshold;
        if excess <= MAX_EXCESS {
            let gain = if excess < 0.0 { GAIN_DOWN } else { GAIN_UP };
            let threshold = self.threshold + gain * excess * (since as f32 / 1_000.0);
            self.threshold = threshold.clamp(MIN_THRESHOLD, MAX_THRESHOLD);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(trendline: &mut Trendline, from: &mut Micros, groups: u32, delay: Micros) -> Usage {
        let mut usage = Usage::Normal;
        for _ in 0..groups {
            *from += 10_000 + delay;
            usage = trendline.on_group(GroupDelta {
                delay,
                arrival: *from,
            });
        }
        usage
    }

    #[test]
    fn a_steady_delay_is_normal_a_growing_one_overuse_a_falling_one_underuse() {
        let mut trendline = Trendline::default();
        let mut time = 0;
        assert_eq!(run(&mut trendline, &mut time, 100, 0), Usage::Normal);
        assert_eq!(run(&mut trendline, &mut time, 15, 3_000), Usage::Over);
        assert_eq!(run(&mut trendline, &mut time, 40, -2_000), Usage::Under);
        assert_eq!(run(&mut trendline, &mut time, 60, 0), Usage::Normal);
    }

    #[test]
    fn the_threshold_rises_with_delay_that_swings() {
        let mut trendline = Trendline::default();
        let mut time = 0;
        for count in 0..2_000 {
            let delay = if count / 25 % 2 == 0 { 1_500 } else { -1_500 };
            run(&mut trendline, &mut time, 1, delay);
        }
        let swinging = trendline.threshold;
        run(&mut trendline, &mut time, 2_000, 0);
        let calm = trendline.threshold;
        assert!(swinging > 1.3 * calm, "{swinging} {calm}");
    }

    #[test]
    fn hours_do_not_blunt_it() {
        let mut trendline = Trendline::default();
        let mut time = 0;
        for _ in 0..600 {
            time += 600_000_000;
            trendline.last_arrival = time;
            assert_eq!(run(&mut trendline, &mut time, 30, 0), Usage::Normal);
        }
        assert_eq!(run(&mut trendline, &mut time, 15, 3_000), Usage::Over);
    }
}
