//! How loud a track has been lately.

use std::time::{Duration, Instant};

/// Louder than this counts as speech, in -dBov.
const ACTIVE_LEVEL: u8 = 35;
/// Share of the packets of a window that must be loud, in percent.
const MIN_PERCENTILE: u32 = 40;
/// A track that has sent nothing for this long is silent.
const SILENCE: Duration = Duration::from_secs(1);
/// Share of the new value in the smoothed level.
const SMOOTHING: f32 = 0.5;

/// Gathers the levels of a track's packets between two looks at them.
#[derive(Debug, Default)]
pub(crate) struct AudioLevelMeter {
    packets: u32,
    loud: u32,
    loudest: u8,
    last: Option<Instant>,
    smoothed: f32,
}

impl AudioLevelMeter {
    /// A packet of this level, in -dBov.
    pub(crate) fn observe(&mut self, dbov: u8, now: Instant) {
        if self.packets == 0 {
            self.loudest = 127;
        }
        self.packets += 1;
        self.last = Some(now);
        if dbov <= ACTIVE_LEVEL {
            self.loud += 1;
            self.loudest = self.loudest.min(dbov);
        }
    }

    /// The smoothed linear level, 0.0 to 1.0, of the window that ends now; `None` when nothing
    /// is heard.
    pub(crate) fn level(&mut self, now: Instant) -> Option<f32> {
        let fresh = self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < SILENCE);
        let active = fresh && self.packets > 0 && self.loud * 100 >= self.packets * MIN_PERCENTILE;
        let level = if active {
            10f32.powf(-f32::from(self.loudest) / 20.0)
        } else {
            0.0
        };
        self.smoothed += (level - self.smoothed) * SMOOTHING;
        self.packets = 0;
        self.loud = 0;
        let threshold = 10f32.powf(-f32::from(ACTIVE_LEVEL) / 20.0);
        if self.smoothed < threshold / 2.0 || !fresh {
            self.smoothed = 0.0;
            return None;
        }
        Some(self.smoothed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    fn window(meter: &mut AudioLevelMeter, now: &mut Instant, dbov: u8) -> Option<f32> {
        for _ in 0..20 {
            *now += Duration::from_millis(20);
            meter.observe(dbov, *now);
        }
        meter.level(*now)
    }

    #[test]
    fn a_voice_is_heard_and_ends() {
        let mut now = test_clock::start();
        let mut meter = AudioLevelMeter::default();
        assert_eq!(window(&mut meter, &mut now, 90), None);
        assert!(window(&mut meter, &mut now, 20).is_some());
        assert!(window(&mut meter, &mut now, 20).is_some());
        let mut quiet = 0;
        while window(&mut meter, &mut now, 90).is_some() {
            quiet += 1;
        }
        assert!((1..6).contains(&quiet), "{quiet} windows until silence");
    }

    #[test]
    fn pauses_between_words_do_not_end_a_voice() {
        for dbov in [10, 20, 30] {
            let mut now = test_clock::start();
            let mut meter = AudioLevelMeter::default();
            window(&mut meter, &mut now, dbov);
            for round in 0..40 {
                let level = if round % 3 == 2 { 90 } else { dbov };
                let heard = window(&mut meter, &mut now, level);
                assert!(heard.is_some(), "-{dbov} dBov, window {round}");
            }
        }
    }

    #[test]
    fn coughs_and_clicks_make_no_speaker() {
        let mut now = test_clock::start();
        let mut meter = AudioLevelMeter::default();
        for packet in 0..400 {
            now += Duration::from_millis(20);
            // A third of the packets is loud.
            meter.observe(if packet % 3 == 0 { 20 } else { 80 }, now);
            if packet % 20 == 19 {
                assert_eq!(meter.level(now), None);
            }
        }
    }

    #[test]
    fn a_stream_that_stops_is_silent() {
        let mut now = test_clock::start();
        let mut meter = AudioLevelMeter::default();
        assert!(window(&mut meter, &mut now, 10).is_some());
        assert_eq!(meter.level(now + SILENCE), None);
    }
}
