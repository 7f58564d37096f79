//! How fast packets leave for one peer.
//!
//! A keyframe is ten times a frame, and a link takes it only as fast as it can: what comes faster
//! waits in a router's queue, where it delays the audio behind it. So video waits here instead,
//! in the order in which it came, and audio, retransmissions and RTCP overtake it.
//!
//! The engine sends in ticks, so the budget of a tick is what leaves as one burst, and a burst is
//! what the kernel sends as runs.
//!
//! Invariant: while anything is delayed, video that comes is delayed too, so that a stream's
//! packets leave in their order.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::send::send_queue::QueuedPacket;
use crate::state::table::TrackIx;

/// Time for which unused budget is kept. Our choice: three ticks of the engine.
const BURST: Duration = Duration::from_millis(10);
/// Delayed packets leave at least as fast as would empty the queue in this time, however low the
/// rate is, and half as fast whatever overtakes them: much later they are of no use. The debt of
/// packets that overtook holds back later ones for no longer than this either. Our choice: a picture
/// that is a quarter of a second late is shown as a freeze.
const DRAIN_TIME: Duration = Duration::from_millis(250);
/// Packets that are delayed at most.
const MAX_DELAYED: usize = 4_096;
/// Memory that an empty queue may keep, in packets.
const KEPT_CAPACITY: usize = 64;

/// One peer's budget and what waits for it.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    /// Bits that may leave now; below zero after a packet larger than what was left.
    budget: i64,
    /// Bits of the delayed packets that may leave now whatever the budget is.
    guaranteed_drain: i64,
    /// Bits a second by which `guaranteed_drain` grows, as of the last packet that was delayed.
    guaranteed_drain_rate: u64,
    refilled: Option<Instant>,
    delayed: VecDeque<QueuedPacket>,
    delayed_bytes: usize,
}

impl Pacer {
    /// Whether video may leave at once.
    pub(crate) fn is_open(&self) -> bool {
        self.delayed.is_empty() && self.budget > 0
    }

    /// Whether anything waits.
    pub(crate) fn is_delaying(&self) -> bool {
        !self.delayed.is_empty()
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.delayed.capacity() * size_of::<QueuedPacket>()
    }

    /// Time has passed: the budget of `rate` bits a second is added, `None` without a bound.
    pub(crate) fn refill(&mut self, now: Instant, rate: Option<u64>) {
        let Some(rate) = rate else {
            self.budget = i64::MAX / 2;
            self.refilled = Some(now);
            return;
        };
        let rate = rate.max(self.draining());
        let bits = |rate: u64, time: Duration| (rate * time.as_micros() as u64 / 1_000_000) as i64;
        let elapsed = self
            .refilled
            .map_or(BURST, |at| now.saturating_duration_since(at).min(BURST));
        self.refilled = Some(now);
        let budget = self.budget.saturating_add(bits(rate, elapsed));
        self.budget = budget.clamp(-bits(rate, DRAIN_TIME), bits(rate, BURST));
        self.guaranteed_drain += bits(self.guaranteed_drain_rate, elapsed);
    }

    /// The bits a second that empty the queue in its time.
    fn draining(&self) -> u64 {
        self.delayed_bytes as u64 * 8 * 1_000 / DRAIN_TIME.as_millis() as u64
    }

    /// A packet of this length, in bytes, leaves.
    pub(crate) fn spend(&mut self, len: u16) {
        self.add_debt(8 * u64::from(len));
    }

    /// Takes bits that were sent beyond the rate out of the budget.
    pub(crate) fn add_debt(&mut self, bits: u64) {
        self.budget = self.budget.saturating_sub(bits as i64);
    }

    /// Makes a packet wait. False when too many do.
    pub(crate) fn delay(&mut self, packet: QueuedPacket) -> bool {
        if self.delayed.len() >= MAX_DELAYED {
            return false;
        }
        if self.delayed.is_empty() {
            self.guaranteed_drain = -8 * i64::from(packet.len);
        }
        self.delayed_bytes += usize::from(packet.len);
        self.guaranteed_drain_rate = self.draining() / 2;
        self.delayed.push_back(packet);
        true
    }

    /// The next packet whose time has come; its length is spent.
    pub(crate) fn release(&mut self) -> Option<QueuedPacket> {
        if self.budget <= 0 && self.guaranteed_drain <= 0 {
            return None;
        }
        let packet = self.delayed.pop_front()?;
        let bits = 8 * i64::from(packet.len);
        self.guaranteed_drain = (self.guaranteed_drain - bits).max(-bits);
        self.delayed_bytes -= usize::from(packet.len);
        self.spend(packet.len);
        if self.delayed.is_empty() && self.delayed.capacity() > 2 * KEPT_CAPACITY {
            self.delayed.shrink_to(KEPT_CAPACITY);
        }
        Some(packet)
    }

    /// Lets go of what waits of a track.
    pub(crate) fn cancel(&mut self, track: TrackIx) {
        self.delayed.retain(|packet| packet.track != track);
        self.delayed_bytes = self.delayed.iter().map(|p| usize::from(p.len)).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::send::send_queue::tests::packet;
    use crate::test_clock;

    const TICK: Duration = Duration::from_millis(3);

    #[test]
    fn a_burst_is_spread_in_its_order() {
        let mut now = test_clock::start();
        let mut pacer = Pacer::default();
        // 937 bytes a tick.
        pacer.refill(now, Some(2_500_000));
        let mut released = Vec::new();
        for sequence in 0..30 {
            if pacer.is_open() {
                pacer.spend(1_000);
                released.push(sequence);
            } else {
                assert!(pacer.delay(packet(1, sequence, 1_000)));
            }
        }
        assert!((3..=4).contains(&released.len()), "{}", released.len());
        let mut ticks = 0;
        while pacer.is_delaying() {
            now += TICK;
            ticks += 1;
            pacer.refill(now, Some(2_500_000));
            let mut burst = 0;
            while let Some(packet) = pacer.release() {
                released.push(packet.sequence);
                burst += 1;
            }
            assert!(burst <= 2);
        }
        assert!((24..=32).contains(&ticks), "{ticks} ticks for 26 packets");
        assert_eq!(released, (0..30).collect::<Vec<_>>());
    }

    #[test]
    fn what_waits_is_gone_in_time_however_low_the_rate() {
        let mut now = test_clock::start();
        let mut pacer = Pacer::default();
        for sequence in 0..100 {
            pacer.delay(packet(1, sequence, 1_000));
        }
        let began = now;
        while pacer.is_delaying() {
            pacer.refill(now, Some(1_000));
            while pacer.release().is_some() {}
            now += TICK;
        }
        // The rate falls with what is left: 250 ms bring it to a third, a second to nothing.
        assert!(
            now - began < Duration::from_millis(1_600),
            "{:?}",
            now - began
        );
    }

    #[test]
    fn what_is_owed_is_made_up_for_at_the_rate_but_not_for_ever() {
        let ticks_until_open = |bits| {
            let mut now = test_clock::start();
            let mut pacer = Pacer::default();
            pacer.refill(now, Some(1_000_000));
            pacer.add_debt(bits);
            let mut ticks = 0;
            while !pacer.is_open() {
                now += TICK;
                ticks += 1;
                pacer.refill(now, Some(1_000_000));
            }
            TICK * ticks
        };
        // 100 kbit, less the burst of 10 ms that was there.
        let waited = ticks_until_open(100_000);
        assert!(
            waited.abs_diff(Duration::from_millis(90)) <= TICK,
            "{waited:?}"
        );
        let waited = ticks_until_open(u64::from(u32::MAX));
        assert!(waited <= DRAIN_TIME + 2 * TICK, "{waited:?}");
    }

    #[test]
    fn what_passes_does_not_hold_up_what_waits() {
        let mut now = test_clock::start();
        let mut pacer = Pacer::default();
        let rate = Some(300_000);
        // Voices of 2.4 Mbit/s in all, in each tick.
        let mut tick = |pacer: &mut Pacer| {
            pacer.spend(900);
            now += TICK;
            pacer.refill(now, rate);
        };
        for _ in 0..1_000 {
            tick(&mut pacer);
        }
        for sequence in 0..10 {
            pacer.delay(packet(1, sequence, 1_000));
        }
        let mut ticks = 0;
        while pacer.is_delaying() {
            while pacer.release().is_some() {}
            tick(&mut pacer);
            ticks += 1;
            assert!(TICK * ticks <= 2 * DRAIN_TIME + BURST, "still waits");
        }
        // Nor do they once there is room again.
        let mut ticks = 0;
        while !pacer.is_open() {
            now += TICK;
            pacer.refill(now, rate);
            ticks += 1;
            assert!(
                TICK * ticks <= DRAIN_TIME + BURST,
                "in debt for what passed"
            );
        }
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let mut pacer = Pacer::default();
        pacer.refill(test_clock::start(), None);
        for _ in 0..10_000 {
            assert!(pacer.is_open());
            pacer.spend(1_200);
        }
    }
}
