//! What a peer was allocated last.

use std::time::{Duration, Instant};

/// What was allocated while something wanted did not fit is looked at again after this: audio and
/// encoders vary, and loss ends.
pub(crate) const LOOKED_AT_AGAIN: Duration = Duration::from_millis(500);
/// For so long after something was taken back, what is sent grows by one step at a time, as a
/// keyframe and what others on the same link do are seen in the queue only then; unless the link
/// carries this multiple of what is sent. A step is over before it is looked at again.
const CAUTIOUS: Duration = Duration::from_secs(10);
const STEP_INTERVAL: Duration = Duration::from_millis(480);
const FAR_MORE: u64 = 2;
/// What a peer was allocated last.
#[derive(Debug, Default)]
pub(crate) struct Allocated {
    /// When that was.
    pub(crate) at: Option<Instant>,
    /// The estimate of then, bits a second.
    pub(crate) estimate: u64,
    /// What is sent in consequence, bits a second.
    pub(crate) sent: u64,
    /// What would be sent if there were room, bits a second.
    pub(crate) wanted: u64,
    /// Everything that is wanted is sent, and there is room to spare.
    pub(crate) satisfied: bool,
    /// More was sent then than the way carried.
    pub(crate) overusing: bool,
    /// When something was taken back last because more was sent than the way carried, and when
    /// something grew. Changed settings reset it.
    pub(crate) taken_back: Option<Instant>,
    pub(crate) grew: Option<Instant>,
}

impl Allocated {
    /// How many steps what is sent may grow by now, where the way is taken to carry `estimate`.
    pub(crate) fn upgrades(&self, now: Instant, estimate: u64) -> usize {
        let within = |at: Option<Instant>, time| {
            at.is_some_and(|at| now.saturating_duration_since(at) < time)
        };
        let is_far = estimate > FAR_MORE * self.sent;
        if is_far || !within(self.taken_back, CAUTIOUS) {
            return usize::MAX;
        }
        usize::from(!within(self.grew, STEP_INTERVAL))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    #[test]
    fn what_is_sent_grows_step_by_step_for_a_while_after_something_was_taken_back() {
        let start = test_clock::start();
        let mut last = Allocated {
            sent: 1_000_000,
            ..Allocated::default()
        };
        assert_eq!(last.upgrades(start, 1_500_000), usize::MAX);
        last.taken_back = Some(start);
        assert_eq!(last.upgrades(start, 1_500_000), 1);
        last.grew = Some(start);
        assert_eq!(last.upgrades(start, 1_500_000), 0);
        assert_eq!(last.upgrades(start + LOOKED_AT_AGAIN, 1_500_000), 1);
        assert_eq!(last.upgrades(start, 2_500_000), usize::MAX);
        assert_eq!(last.upgrades(start + CAUTIOUS, 1_500_000), usize::MAX);
    }
}
