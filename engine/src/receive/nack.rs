//! Which packets of a stream are missing, and when to ask for them (RFC 4585, section 6.2.1).

use std::time::{Duration, Instant};

/// A packet that is late by no more than this was only reordered.
const REORDER_DELAY: Duration = Duration::from_millis(10);
/// The least time between two requests for one packet.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
/// After this many requests a packet is given up.
const MAX_REQUESTS: u8 = 10;
/// After this long a packet is of no use any more.
const MAX_AGE: Duration = Duration::from_secs(1);
/// Missing packets remembered.
const MAX_MISSING: usize = 256;
/// A jump of more than this is a new beginning, not a loss.
const MAX_JUMP: u64 = 512;

#[derive(Debug, Clone, Copy)]
struct Missing {
    sequence: u64,
    since: Instant,
    /// When it was asked for last.
    asked: Instant,
    ask_at: Instant,
    requests: u8,
}

/// The gaps of one stream.
#[derive(Debug, Default)]
pub(crate) struct NackGenerator {
    highest: Option<u64>,
    /// By rising sequence number.
    missing: Vec<Missing>,
}

impl NackGenerator {
    /// A packet arrived, by any way.
    pub(crate) fn received(&mut self, sequence: u64, now: Instant) {
        let Some(highest) = self.highest else {
            self.highest = Some(sequence);
            return;
        };
        if sequence <= highest {
            if !self.missing.is_empty() {
                self.missing.retain(|missing| missing.sequence != sequence);
            }
            return;
        }
        self.highest = Some(sequence);
        if sequence - highest > MAX_JUMP {
            self.missing.clear();
            return;
        }
        for lost in highest + 1..sequence {
            if self.missing.len() == MAX_MISSING {
                self.missing.remove(0);
            }
            self.missing.push(Missing {
                sequence: lost,
                since: now,
                asked: now,
                ask_at: now + REORDER_DELAY,
                requests: 0,
            });
        }
    }

    /// A packet arrived as a retransmission. Gives the time since it was asked for, a round trip,
    /// when it was asked for once: the answer to one of several requests tells nothing.
    pub(crate) fn repaired(&mut self, sequence: u64, now: Instant) -> Option<Duration> {
        let found = self.missing.iter().find(|m| m.sequence == sequence);
        let round_trip = found
            .filter(|missing| missing.requests == 1)
            .map(|missing| now.saturating_duration_since(missing.asked));
        self.received(sequence, now);
        round_trip
    }

    /// Writes the numbers to ask for now and says how many. `rtt` is the round trip to the
    /// sender.
    pub(crate) fn poll(&mut self, now: Instant, rtt: Duration, out: &mut [u16]) -> usize {
        let mut count = 0;
        self.missing.retain_mut(|missing| {
            if now.saturating_duration_since(missing.since) > MAX_AGE {
                return false;
            }
            if missing.ask_at > now || count == out.len() {
                return true;
            }
            if missing.requests == MAX_REQUESTS {
                return false;
            }
            out[count] = missing.sequence as u16;
            count += 1;
            missing.requests += 1;
            missing.asked = now;
            missing.ask_at = now + rtt.max(MIN_INTERVAL);
            true
        });
        count
    }

    /// When [`NackGenerator::poll`] has something to say.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.missing.iter().map(|missing| missing.ask_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    const RTT: Duration = Duration::from_millis(50);

    fn asked(nack: &mut NackGenerator, now: Instant) -> Vec<u16> {
        let mut out = [0; 64];
        let count = nack.poll(now, RTT, &mut out);
        out[..count].to_vec()
    }

    #[test]
    fn a_reordered_packet_is_not_asked_for() {
        let now = test_clock::start();
        let mut nack = NackGenerator::default();
        for sequence in [1, 3, 2, 4] {
            nack.received(sequence, now);
        }
        assert!(asked(&mut nack, now + RTT).is_empty());
        assert_eq!(nack.next_timeout(), None);
    }

    #[test]
    fn a_lost_packet_is_asked_for_until_it_comes() {
        let now = test_clock::start();
        let mut nack = NackGenerator::default();
        nack.received(65_535, now);
        nack.received(65_538, now);
        assert!(asked(&mut nack, now).is_empty());
        let due = nack.next_timeout().unwrap();
        assert_eq!(asked(&mut nack, due), [0, 1]);
        assert!(asked(&mut nack, due + RTT / 2).is_empty());
        nack.received(65_536, due + RTT);
        assert_eq!(asked(&mut nack, due + RTT), [1]);
        assert!(asked(&mut nack, due + MAX_AGE * 2).is_empty());
        assert_eq!(nack.next_timeout(), None);
    }

    #[test]
    fn the_answer_to_the_only_request_tells_the_round_trip() {
        let now = test_clock::start();
        let mut nack = NackGenerator::default();
        nack.received(1, now);
        nack.received(4, now);
        let first = now + REORDER_DELAY;
        assert_eq!(asked(&mut nack, first), [2, 3]);
        assert_eq!(nack.repaired(2, first + RTT / 2), Some(RTT / 2));
        assert_eq!(asked(&mut nack, first + RTT), [3]);
        assert_eq!(nack.repaired(3, first + RTT), None);
        assert_eq!(nack.next_timeout(), None);
    }

    #[test]
    fn requests_for_one_packet_are_bounded() {
        let mut now = test_clock::start();
        let mut nack = NackGenerator::default();
        nack.received(1, now);
        nack.received(3, now);
        let mut requests = 0;
        for _ in 0..100 {
            now += Duration::from_millis(25);
            let mut out = [0; 8];
            requests += nack.poll(now, Duration::ZERO, &mut out);
        }
        assert_eq!(requests, usize::from(MAX_REQUESTS));
    }

    #[test]
    fn a_jump_is_a_new_beginning() {
        let now = test_clock::start();
        let mut nack = NackGenerator::default();
        nack.received(1, now);
        nack.received(30_000, now);
        assert_eq!(nack.next_timeout(), None);
    }
}
