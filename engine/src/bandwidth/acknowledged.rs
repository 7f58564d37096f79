//! The rate at which packets arrive, by the receiver's clock.

use super::units::Micros;

/// Bytes are counted in slots of this length.
const SLOT: Micros = 50_000;
const SLOTS: usize = 10;
/// Slots of the short rate.
const SHORT: usize = 5;

/// Bytes that arrived in the last half second.
#[derive(Debug, Default)]
pub(super) struct AcknowledgedRate {
    /// A ring by slot number.
    bytes: [u32; SLOTS],
    /// Number of the slot in which the latest packet arrived, and of the first one ever.
    latest: Option<i64>,
    first: i64,
}

impl AcknowledgedRate {
    /// A packet arrived.
    pub(super) fn on_packet(&mut self, arrival: Micros, len: u16) {
        let slot = arrival.div_euclid(SLOT);
        let latest = match self.latest {
            Some(latest) if slot - latest < 2 * SLOTS as i64 && latest - slot < SLOTS as i64 => {
                latest
            }
            // The first packet, or the first after a pause, or a clock that jumped.
            _ => {
                self.bytes = [0; SLOTS];
                self.first = slot;
                slot
            }
        };
        for empty in (latest + 1)..=slot {
            self.bytes[Self::index(empty)] = 0;
        }
        self.latest = Some(latest.max(slot));
        let bytes = &mut self.bytes[Self::index(slot)];
        *bytes = bytes.saturating_add(u32::from(len));
    }

    fn index(slot: i64) -> usize {
        slot.rem_euclid(SLOTS as i64) as usize
    }

    /// Bits per second over half a second, once there are enough packets to say.
    pub(super) fn rate(&self) -> Option<f64> {
        self.over(SLOTS)
    }

    /// Over a quarter of a second.
    pub(super) fn short_rate(&self) -> Option<f64> {
        self.over(SHORT)
    }

    /// The slot of the latest packet may not be complete and is left out.
    fn over(&self, slots: usize) -> Option<f64> {
        let latest = self.latest?;
        let slots = (slots as i64 - 1).min(latest - self.first);
        if slots < SHORT as i64 - 1 {
            return None;
        }
        let bytes: u64 = ((latest - slots)..latest)
            .map(|slot| u64::from(self.bytes[Self::index(slot)]))
            .sum();
        Some(bytes as f64 * 8_000_000.0 / (slots * SLOT) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_half_second() {
        let mut rate = AcknowledgedRate::default();
        for count in 0..100 {
            rate.on_packet(count * 10_000, 1_250);
            assert_eq!(rate.rate().is_some(), count >= 20, "{count}");
        }
        assert_eq!(rate.rate(), Some(1_000_000.0));
        for count in 0..30 {
            rate.on_packet(1_000_000 + count * 10_000, 625);
        }
        assert_eq!(rate.short_rate(), Some(500_000.0));
        assert!(rate.rate().is_some_and(|bps| bps > 600_000.0));
    }

    #[test]
    fn a_pause_or_a_jump_resets_it() {
        let mut rate = AcknowledgedRate::default();
        for count in 0..100 {
            rate.on_packet(count * 10_000, 1_250);
        }
        rate.on_packet(i64::MAX / 2, 1_250);
        assert_eq!(rate.rate(), None);
        rate.on_packet(-5, 1_250);
        assert_eq!(rate.rate(), None);
    }
}
