//! Whether it pays that what is complete waits for more.
//!
//! A run of packets to one subscriber costs little more than one packet, so in a meeting of many
//! the frames of several cameras are sent together. With one camera there is nothing to wait for:
//! a frame leaves as soon as its last packet is there, while all that is needed to send it is
//! still in the processor's cache, and without another wake-up.

use std::time::{Duration, Instant};

use crate::api::io::GATHER_INTERVAL;

/// What comes within this time has come together: the packets of a burst, the layers of a camera.
const TOGETHER: Duration = Duration::from_micros(500);
/// Waiting pays when more than this share of what is complete is followed by something else that
/// is within the interval: to send to a subscriber once more costs a few times what it costs to
/// come back to him.
const PAYS: f32 = 0.25;
/// The share is taken over so many, about.
const WEIGHT: f32 = 1.0 / 32.0;

/// How often something comes soon after what is complete.
#[derive(Debug, Default)]
pub(crate) struct Gathering {
    followed: f32,
    latest: Option<Instant>,
}

impl Gathering {
    /// A frame or a voice packet is complete, which subscribers wait for; its last packet has
    /// arrived then.
    pub(crate) fn completed(&mut self, arrived: Instant) {
        let Some(latest) = self.latest.replace(arrived) else {
            return;
        };
        let since = arrived.saturating_duration_since(latest);
        if since >= TOGETHER {
            let followed = f32::from(u8::from(since < GATHER_INTERVAL));
            self.followed += (followed - self.followed) * WEIGHT;
        }
    }

    /// Whether what is complete should wait.
    pub(crate) fn pays(&self) -> bool {
        self.followed > PAYS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    /// Frames of cameras that send one every 33 ms, so many milliseconds after each other.
    fn cameras(offsets: &[u64]) -> Gathering {
        let mut gathering = Gathering::default();
        for frame in 0..300 {
            for offset in offsets {
                let at = Duration::from_millis(33 * frame + offset);
                gathering.completed(test_clock::start() + at);
            }
        }
        gathering
    }

    #[test]
    fn one_camera_waits_for_nothing() {
        assert!(!Gathering::default().pays());
        assert!(!cameras(&[0]).pays());
        // Nor do its layers, that are sent together, or a few that keep out of each other's way.
        assert!(!cameras(&[0, 0, 0]).pays());
        assert!(!cameras(&[0, 8, 16, 24]).pays());
    }

    #[test]
    fn many_cameras_wait_for_each_other() {
        assert!(cameras(&[0, 2, 3, 9, 10, 12, 20]).pays());
    }

    #[test]
    fn it_is_learnt_within_a_second_both_ways() {
        let mut gathering = Gathering::default();
        let mut now = test_clock::start();
        let mut steps_until = |gathering: &mut Gathering, pays, step| {
            let changes = (0..).find(|_| {
                now += step;
                gathering.completed(now);
                gathering.pays() == pays
            });
            changes.unwrap() * step
        };
        let often = steps_until(&mut gathering, true, Duration::from_millis(2));
        assert!(often < Duration::from_millis(100), "{often:?}");
        let rarely = steps_until(&mut gathering, false, Duration::from_millis(20));
        assert!(rarely < Duration::from_secs(1), "{rarely:?}");
    }
}
