//! What is sent again to one peer, and what is not: a packet that was sent again less than a
//! round trip ago is still under way, and what is sent again takes no more than a share of what
//! the network carries. A full queue loses many packets at once; to send all of them again,
//! each time that they are asked for, would keep it full. Of what little may then be sent again,
//! most is kept for packets that somebody needs: where the queue was full before a change to a
//! smaller stream, hundreds are missed from before the keyframe that is all that matters.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Packets remembered. A peer that loses nothing has memory for none.
const REMEMBERED: usize = 128;
/// An older one is another packet by now, as sequence numbers come again.
const REMEMBERED_FOR: Duration = Duration::from_secs(10);
/// The part of a round trip that has to pass before a packet is sent again: the estimate of it
/// is a mean.
const PASSED: (u32, u32) = (3, 4);
/// The part of the estimate that retransmissions may take.
const SHARE: (u64, u64) = (1, 2);
/// A packet is sent again so often at most: who still asks for it then takes none.
const MOST_TIMES: u8 = 10;
/// Time for which unused budget is kept.
const BURST: Duration = Duration::from_millis(300);
/// The part of that which is kept for what is needed.
const KEPT: (i64, i64) = (3, 4);

/// A packet that was sent again.
#[derive(Debug, Clone, Copy)]
struct SentAgain {
    ssrc: u32,
    sequence: u16,
    times: u8,
    at: Instant,
}

/// The retransmissions to one peer.
#[derive(Debug, Default)]
pub(crate) struct Retransmissions {
    lately: VecDeque<SentAgain>,
    /// Bits that may be sent again now; below zero after a packet larger than what was left.
    budget: i64,
    /// The part of the budget that is for needed packets alone.
    kept: i64,
    refilled: Option<Instant>,
}

impl Retransmissions {
    /// Time has passed: the budget grows by a share of `estimate` bits a second, `None` without
    /// a bound.
    pub(crate) fn refill(&mut self, now: Instant, estimate: Option<u64>) {
        let Some(estimate) = estimate else {
            self.budget = i64::MAX / 2;
            return;
        };
        let rate = estimate * SHARE.0 / SHARE.1;
        let bits = |time: Duration| (rate * time.as_micros() as u64 / 1_000_000) as i64;
        let elapsed = self
            .refilled
            .map_or(BURST, |at| now.saturating_duration_since(at).min(BURST));
        self.refilled = Some(now);
        self.budget = self.budget.saturating_add(bits(elapsed)).min(bits(BURST));
        self.kept = bits(BURST) * KEPT.0 / KEPT.1;
    }

    /// Whether a packet may be sent again now. `ssrc` and `sequence` are those under which it was
    /// sent first; `needed` when something depends on it.
    pub(crate) fn may_send(
        &self,
        now: Instant,
        ssrc: u32,
        sequence: u16,
        rtt: Duration,
        needed: bool,
    ) -> bool {
        let least = if needed { 0 } else { self.kept };
        let may_again = |sent: &SentAgain| {
            let passed = now.saturating_duration_since(sent.at);
            sent.times < MOST_TIMES && passed >= rtt * PASSED.0 / PASSED.1
        };
        self.budget > least && self.find(now, ssrc, sequence).is_none_or(may_again)
    }

    fn find(&self, now: Instant, ssrc: u32, sequence: u16) -> Option<&SentAgain> {
        let lately = self.lately.iter().rev();
        let is_new = |sent: &&SentAgain| now.saturating_duration_since(sent.at) < REMEMBERED_FOR;
        lately
            .take_while(is_new)
            .find(|sent| sent.ssrc == ssrc && sent.sequence == sequence)
    }

    /// Whether a packet has been sent again lately.
    pub(crate) fn has_sent(&self, now: Instant, ssrc: u32, sequence: u16) -> bool {
        self.find(now, ssrc, sequence).is_some()
    }

    /// It is retransmitted, with this length in bytes.
    pub(crate) fn sent(&mut self, now: Instant, ssrc: u32, sequence: u16, len: u16) {
        self.budget = self.budget.saturating_sub(8 * i64::from(len));
        let before = self.find(now, ssrc, sequence).map_or(0, |sent| sent.times);
        let times = before.saturating_add(1);
        if self.lately.len() == REMEMBERED {
            self.lately.pop_front();
        }
        self.lately.push_back(SentAgain {
            ssrc,
            sequence,
            times,
            at: now,
        });
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.lately.capacity() * size_of::<SentAgain>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    const RTT: Duration = Duration::from_millis(100);

    #[test]
    fn a_packet_under_way_is_not_sent_once_more() {
        let now = test_clock::start();
        let mut again = Retransmissions::default();
        again.refill(now, None);
        assert!(again.may_send(now, 1, 7, RTT, true));
        again.sent(now, 1, 7, 1_200);
        assert!(!again.may_send(now + RTT / 2, 1, 7, RTT, true));
        assert!(again.may_send(now + RTT / 2, 1, 8, RTT, true));
        assert!(again.may_send(now + RTT / 2, 2, 7, RTT, true));
        assert!(again.may_send(now + RTT, 1, 7, RTT, true));
    }

    #[test]
    fn who_asks_for_the_same_packet_for_ever_gets_it_a_few_times() {
        let mut now = test_clock::start();
        let mut again = Retransmissions::default();
        again.refill(now, None);
        let mut sent = 0;
        for _ in 0..50 {
            now += RTT;
            if again.may_send(now, 1, 7, RTT, true) {
                again.sent(now, 1, 7, 1_200);
                sent += 1;
            }
        }
        assert_eq!(sent, MOST_TIMES);
        assert!(again.may_send(now, 1, 8, RTT, true));
        // Another packet of the same number is another packet.
        now += REMEMBERED_FOR;
        assert!(again.may_send(now, 1, 7, RTT, true));
        assert!(!again.has_sent(now, 1, 7));
    }

    #[test]
    fn what_is_needed_is_sent_when_the_rest_is_not() {
        let now = test_clock::start();
        let mut again = Retransmissions::default();
        again.refill(now, Some(300_000));
        let mut sent = 0;
        for sequence in 0..100 {
            if again.may_send(now, 1, sequence, RTT, false) {
                again.sent(now, 1, sequence, 1_200);
                sent += 1;
            }
        }
        assert_eq!(sent, 2);
        assert!(again.may_send(now, 1, 100, RTT, true));
    }

    #[test]
    fn retransmissions_take_half_of_the_estimate() {
        let start = test_clock::start();
        let mut again = Retransmissions::default();
        let mut bits = 0;
        for millis in 0..2_000 {
            let now = start + Duration::from_millis(millis);
            again.refill(now, Some(1_000_000));
            let sequence = millis as u16;
            if again.may_send(now, 1, sequence, RTT, true) {
                again.sent(now, 1, sequence, 1_250);
                bits += 10_000;
            }
        }
        // Two seconds, and the first burst.
        assert!((1_140_000..=1_160_000).contains(&bits), "{bits}");
        assert!(again.lately.len() <= REMEMBERED);
    }
}
