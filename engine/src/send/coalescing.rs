//! Whether a complete frame should wait for more packets to share a send with.
//!
//! A run of packets to one subscriber costs little more than one packet, so in a meeting of many
//! the frames of several cameras are sent together. With one camera there is nothing to wait for:
//! a frame leaves as soon as its last packet has arrived, while all that is needed to send it is
//! still in the processor's cache, and without another wake-up.

use std::time::{Duration, Instant};

use crate::api::io::COALESCING_INTERVAL;

/// Frames that complete within this time of each other count as one: they are the packets of a
/// burst, or the simulcast layers of a camera. Our choice, as long as a publisher's burst takes.
const TOGETHER: Duration = Duration::from_micros(500);
/// Waiting pays when more than this share of the complete frames is followed by another one within
/// the interval: sending to a subscriber a second time costs a few times what waking up again does
/// (found with the engine's benchmark).
const WORTH_WAITING: f32 = 0.25;
/// Weight of the latest frame in the share: about the last 32 frames count.
const WEIGHT: f32 = 1.0 / 32.0;

/// How often a complete frame is soon followed by another.
#[derive(Debug, Default)]
pub(crate) struct Coalescing {
    followed: f32,
    latest: Option<Instant>,
}

impl Coalescing {
    /// A video frame or an audio packet is complete; its last packet has arrived then.
    pub(crate) fn completed(&mut self, arrived: Instant) {
        let Some(latest) = self.latest.replace(arrived) else {
            return;
        };
        let since = arrived.saturating_duration_since(latest);
        if since >= TOGETHER {
            let followed = f32::from(u8::from(since < COALESCING_INTERVAL));
            self.followed += (followed - self.followed) * WEIGHT;
        }
    }

    /// Whether a complete frame should wait for more.
    pub(crate) fn should_wait(&self) -> bool {
        self.followed > WORTH_WAITING
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    /// Frames of cameras that send one every 33 ms, with these offsets in milliseconds.
    fn cameras(offsets: &[u64]) -> Coalescing {
        let mut coalescing = Coalescing::default();
        for frame in 0..300 {
            for offset in offsets {
                let at = Duration::from_millis(33 * frame + offset);
                coalescing.completed(test_clock::start() + at);
            }
        }
        coalescing
    }

    #[test]
    fn one_camera_waits_for_nothing() {
        assert!(!Coalescing::default().should_wait());
        assert!(!cameras(&[0]).should_wait());
        // Nor do its layers, that are sent together, or a few that keep out of each other's way.
        assert!(!cameras(&[0, 0, 0]).should_wait());
        assert!(!cameras(&[0, 8, 16, 24]).should_wait());
    }

    #[test]
    fn many_cameras_wait_for_each_other() {
        assert!(cameras(&[0, 2, 3, 9, 10, 12, 20]).should_wait());
    }

    #[test]
    fn it_is_learnt_within_a_second_both_ways() {
        let mut coalescing = Coalescing::default();
        let mut now = test_clock::start();
        let mut steps_until = |coalescing: &mut Coalescing, waits, step| {
            let changes = (0..).find(|_| {
                now += step;
                coalescing.completed(now);
                coalescing.should_wait() == waits
            });
            changes.unwrap() * step
        };
        let often = steps_until(&mut coalescing, true, Duration::from_millis(2));
        assert!(often < Duration::from_millis(100), "{often:?}");
        let rarely = steps_until(&mut coalescing, false, Duration::from_millis(20));
        assert!(rarely < Duration::from_secs(1), "{rarely:?}");
    }
}
