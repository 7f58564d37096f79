//! Extended sequence numbers and replay protection of one received stream (RFC 3711, sections
//! 3.3.1 and 3.3.2).

const WORDS: usize = 16;
/// Packets behind the newest that are still accepted.
const WINDOW: u64 = 64 * WORDS as u64;

/// What has been received of one SSRC.
#[derive(Debug, Default, Clone)]
pub(crate) struct ReplayWindow {
    started: bool,
    highest: u64,
    /// Bit `index % WINDOW` is set when the packet `index` of the window was received.
    seen: [u64; WORDS],
}

impl ReplayWindow {
    /// The extended sequence number (roll-over counter and sequence number) nearest to the
    /// newest one.
    pub(crate) fn estimate(&self, sequence: u16) -> u64 {
        if !self.started {
            return u64::from(sequence);
        }
        let ahead = sequence.wrapping_sub(self.highest as u16);
        if ahead < 0x8000 {
            return self.highest + u64::from(ahead);
        }
        let behind = u64::from(ahead.wrapping_neg());
        // Before the first cycle there is nothing: it must be of a later one.
        self.highest
            .checked_sub(behind)
            .unwrap_or(self.highest + u64::from(ahead))
    }

    /// The newest packet; 0 before the first.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether a packet is neither seen nor too old.
    pub(crate) fn is_new(&self, index: u64) -> bool {
        if !self.started || index > self.highest {
            return true;
        }
        if self.highest - index >= WINDOW {
            return false;
        }
        let (word, bit) = place(index);
        self.seen[word] & bit == 0
    }

    /// Notes a packet that has authenticated.
    pub(crate) fn commit(&mut self, index: u64) {
        if !self.started {
            self.started = true;
            self.highest = index;
        }
        if index > self.highest {
            if index - self.highest >= WINDOW {
                self.seen = [0; WORDS];
            } else {
                for passed in self.highest + 1..index {
                    let (word, bit) = place(passed);
                    self.seen[word] &= !bit;
                }
            }
            self.highest = index;
        }
        let (word, bit) = place(index);
        self.seen[word] |= bit;
    }
}

fn place(index: u64) -> (usize, u64) {
    let position = (index % WINDOW) as usize;
    (position / 64, 1 << (position % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roll_over_is_followed_in_both_directions() {
        let mut window = ReplayWindow::default();
        window.commit(window.estimate(65_530));
        assert_eq!(window.estimate(3), 65_539);
        window.commit(65_539);
        assert_eq!(window.estimate(65_535), 65_535);
        assert_eq!(window.estimate(4), 65_540);
    }

    #[test]
    fn each_packet_is_new_once() {
        use rand::{RngExt, SeedableRng, rngs::SmallRng};
        let mut rng = SmallRng::seed_from_u64(11);
        let mut window = ReplayWindow::default();
        let mut seen = std::collections::HashSet::new();
        let mut newest = 5_000u64;
        window.commit(newest);
        seen.insert(newest);
        for _ in 0..50_000 {
            let index = if rng.random_range(0..4u8) == 0 {
                newest + u64::from(rng.random_range(1..40u8))
            } else {
                newest - u64::from(rng.random_range(0..1_000u16)).min(newest)
            };
            let expected = !seen.contains(&index) && index + WINDOW > newest;
            assert_eq!(window.is_new(index), expected, "{index} of {newest}");
            if expected {
                window.commit(index);
                seen.insert(index);
                newest = newest.max(index);
            }
        }
    }
}
