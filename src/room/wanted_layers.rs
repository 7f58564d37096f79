//! What the publisher of a video encoding was told of how many of its layers are wanted
//! (dynacast), so that it need not encode and send the others.

use std::time::{Duration, Instant};

/// Layers that nobody wants any more go on for this long: who looks away often looks back, and
/// an encoder that starts costs a keyframe. Six seconds after the last one has looked away, the
/// publisher is to send little: the encoder's own time is a part of them.
const PAUSE_DELAY: Duration = Duration::from_secs(4);

/// How many layers of one encoding are wanted, and what its publisher knows of that.
#[derive(Debug, Clone, Default)]
pub(super) struct WantedLayers {
    /// Layers that it was told to send, from the lowest up; `None` when it was told nothing
    /// and sends all.
    told: Option<u8>,
    /// Since when fewer are wanted.
    fewer_since: Option<Instant>,
}

impl WantedLayers {
    /// Of a codec that is sent only when it is asked for.
    pub(super) fn of_backup() -> WantedLayers {
        WantedLayers {
            told: Some(0),
            fewer_since: None,
        }
    }

    /// `wanted` of `all` layers are wanted now. True when the publisher is to be told: of more
    /// at once, of fewer after a while.
    pub(super) fn update(&mut self, wanted: u8, all: u8, now: Instant) -> bool {
        if self.told == Some(wanted) {
            self.fewer_since = None;
            return false;
        }
        if wanted < self.told.unwrap_or(all) {
            let since = *self.fewer_since.get_or_insert(now);
            if now.saturating_duration_since(since) < PAUSE_DELAY {
                return false;
            }
        }
        self.told = Some(wanted);
        self.fewer_since = None;
        true
    }

    /// The publisher may have missed what it was told: it is to be told as if it were new.
    pub(super) fn forget(&mut self) {
        self.told = None;
        self.fewer_since = None;
    }

    /// How many of `all` layers the publisher was asked for.
    pub(super) fn asked_for(&self, all: u8) -> u8 {
        self.told.unwrap_or(all)
    }

    /// When the publisher is to be told of fewer, unless more are wanted before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.fewer_since.map(|since| since + PAUSE_DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_told_at_once_and_fewer_after_a_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut layers = WantedLayers::default();
        assert!(layers.update(3, 3, at(0)), "what is wanted is said once");
        assert!(!layers.update(1, 3, at(1)));
        assert_eq!(layers.deadline(), Some(at(5)));
        assert!(!layers.update(1, 3, at(4)));
        assert!(layers.update(1, 3, at(5)));
        assert!(layers.update(3, 3, at(5)));
        assert!(!layers.update(3, 3, at(6)));
    }

    #[test]
    fn looking_back_in_time_changes_nothing() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut layers = WantedLayers::default();
        layers.update(3, 3, at(0));
        assert!(!layers.update(0, 3, at(1)));
        assert!(!layers.update(3, 3, at(4)));
        assert_eq!(layers.deadline(), None);
        assert!(!layers.update(0, 3, at(7)), "the delay starts over");
        assert!(layers.update(0, 3, at(11)));
    }

    #[test]
    fn a_new_track_that_nobody_watches_goes_on_for_a_while() {
        let start = Instant::now();
        let mut layers = WantedLayers::default();
        assert!(!layers.update(0, 3, start));
        assert!(layers.update(0, 3, start + PAUSE_DELAY));
    }
}
