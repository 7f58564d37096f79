//! What was sent when, by transport-wide sequence number, until its feedback is there.
//!
//! With hundreds of subscribers none of this is in the processor's cache when it is wanted: a
//! packet is written down once and looked at twice, a long time apart. So what is kept of one is
//! 8 bytes, and its tag, which is hardly ever looked at, lies elsewhere.

use std::collections::VecDeque;

use super::units::Micros;
use moim_native::prefetch::{LINE, prefetch, prefetch_onwards};

/// Packets are remembered for this long: more than a long way, a full queue and late feedback.
const KEPT_FOR: Micros = 2_000_000;
/// The most packets that are kept.
const MAX_PACKETS: usize = 8_192;
/// What is too old is looked for once in this time, as it lies where nothing else is.
const FORGET_EVERY: Micros = 1_000_000;

/// Memory asked for before a report, in lines. Who reports nothing is not to cost more.
const REPORTED_LINES: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Unknown,
    /// Taken for received, as the feedback that told of it got lost.
    Assumed,
    Lost,
    Received,
}

#[derive(Debug, Clone, Copy)]
struct SentPacket {
    /// The lower half of the time; what is kept is far younger than the 71 minutes of it.
    sent: u32,
    len: u16,
    fate: Fate,
    is_repeated: bool,
}

/// A packet of which feedback tells something new.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reported {
    /// Its number, counted from the first packet without wrapping.
    pub(super) number: u64,
    pub(super) sent: Micros,
    pub(super) len: u16,
    /// It had been reported missing before.
    pub(super) was_lost: bool,
    /// It had been taken for received before.
    pub(super) was_assumed: bool,
    /// It was sent twice under the same number, and either may have arrived.
    pub(super) is_repeated: bool,
}

/// The packets sent last. Empty it holds no memory, and it grows with the packet rate.
#[derive(Debug, Default)]
pub(super) struct SentPackets {
    packets: VecDeque<SentPacket>,
    /// Tags of the same packets.
    tags: VecDeque<u64>,
    /// Number of the next packet; its low 16 bits go on the wire.
    next: u64,
    /// When the last one was sent.
    newest: Micros,
    /// When what is too old is looked for next.
    forget_due: Micros,
}

impl SentPackets {
    /// Number of the packet that will be sent next.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Asks for the memory where the next packets are noted.
    pub(super) fn prefetch_next(&self) {
        if let (Some(packet), Some(tag)) = (self.packets.back(), self.tags.back()) {
            prefetch_onwards(packet);
            prefetch_onwards(tag);
        }
    }

    /// Asks for what is noted of the packets from that number on, of as many as a report tells of.
    pub(super) fn prefetch_from(&self, number: u64) {
        let unreported = self.next.saturating_sub(number) as usize;
        let from = self.packets.len().saturating_sub(unreported);
        let a_line = LINE / size_of::<SentPacket>();
        let lines = self.packets.range(from..).step_by(a_line);
        lines.take(REPORTED_LINES).for_each(prefetch);
    }

    /// Remembers a packet and returns its number.
    pub(super) fn push(&mut self, sent: Micros, len: u16, tag: u64) -> u64 {
        if sent - self.newest > KEPT_FOR {
            self.packets.clear();
            self.tags.clear();
        }
        self.newest = sent;
        if sent >= self.forget_due || self.packets.len() == MAX_PACKETS {
            self.forget_old(sent);
            self.forget_due = sent + FORGET_EVERY;
        }
        self.packets.push_back(SentPacket {
            sent: sent as u32,
            len,
            fate: Fate::Unknown,
            is_repeated: false,
        });
        self.tags.push_back(tag);
        self.next += 1;
        self.next - 1
    }

    fn forget_old(&mut self, now: Micros) {
        while let Some(first) = self.packets.front()
            && (departure(now, first) < now - KEPT_FOR || self.packets.len() == MAX_PACKETS)
        {
            self.packets.pop_front();
            self.tags.pop_front();
        }
    }

    /// Notes whether the packet of that sequence number arrived. `None` when it is not known, or
    /// when that was known already.
    pub(super) fn report(&mut self, sequence: u16, received: bool) -> Option<Reported> {
        let back = (self.next as u16).wrapping_sub(sequence);
        let index = self.packets.len().checked_sub(usize::from(back))?;
        let packet = self.packets.get_mut(index)?;
        let fate = if received { Fate::Received } else { Fate::Lost };
        if packet.fate == fate || packet.fate == Fate::Received {
            return None;
        }
        let was_lost = packet.fate == Fate::Lost;
        let was_assumed = packet.fate == Fate::Assumed;
        packet.fate = fate;
        Some(Reported {
            number: self.next - u64::from(back),
            sent: departure(self.newest, packet),
            len: packet.len,
            was_lost,
            was_assumed,
            is_repeated: packet.is_repeated,
        })
    }

    /// Feedback tells of that packet, and should have told of all before it: those from `from`
    /// on of which none did are taken for received. Gives the departure and length of each.
    pub(super) fn assume_received(
        &mut self,
        from: u64,
        before: u64,
    ) -> impl Iterator<Item = (Micros, u16)> {
        let first = self.next - self.packets.len() as u64;
        let index = |number: u64| (number.max(first) - first) as usize;
        let range = index(from.min(before))..index(before);
        let newest = self.newest;
        self.packets.range_mut(range).filter_map(move |packet| {
            let unknown = packet.fate == Fate::Unknown;
            unknown.then(|| {
                packet.fate = Fate::Assumed;
                (departure(newest, packet), packet.len)
            })
        })
    }

    /// The tag of a packet that is remembered.
    pub(super) fn tag(&self, number: u64) -> Option<u64> {
        let back = usize::try_from(self.next - number).ok()?;
        let index = self.tags.len().checked_sub(back)?;
        self.tags.get(index).copied()
    }

    /// The latest packet with that tag is sent again under the sequence number it had.
    pub(super) fn repeat(&mut self, tag: u64) -> Option<u16> {
        let back = self.tags.iter().rev().position(|known| *known == tag)?;
        let index = self.packets.len() - 1 - back;
        self.packets[index].is_repeated = true;
        Some((self.next - 1 - back as u64) as u16)
    }
}

/// When a packet was sent, of which the newest was sent at `newest`.
fn departure(newest: Micros, packet: &SentPacket) -> Micros {
    newest - Micros::from((newest as u32).wrapping_sub(packet.sent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fate_is_news_once_and_an_arrival_outdoes_a_loss() {
        let mut sent = SentPackets::default();
        for count in 0..70_000u64 {
            sent.push(count as Micros, 100, count);
        }
        let sequence = 69_990u64 as u16;
        let lost = sent.report(sequence, false).unwrap();
        assert_eq!(
            (lost.number, lost.sent, lost.was_lost),
            (69_990, 69_990, false)
        );
        assert!(sent.report(sequence, false).is_none());
        assert!(sent.report(sequence, true).unwrap().was_lost);
        assert!(sent.report(sequence, true).is_none());
        assert!(sent.report(sequence, false).is_none());
    }

    #[test]
    fn what_was_never_sent_or_is_forgotten_is_not_known() {
        let mut sent = SentPackets::default();
        assert!(sent.report(0, true).is_none());
        let count = 20_000u64;
        for count in 0..count {
            sent.push(count as Micros, 100, 0);
        }
        assert_eq!(sent.packets.len(), MAX_PACKETS);
        let oldest = count - MAX_PACKETS as u64;
        assert!(sent.report(count as u16, true).is_none());
        assert!(sent.report((oldest - 1) as u16, true).is_none());
        assert!(sent.report(oldest as u16, true).is_some());
        sent.push(count as Micros + KEPT_FOR, 100, 0);
        assert_eq!(sent.packets.len(), 1);
    }

    #[test]
    fn what_no_feedback_told_of_is_assumed_once() {
        let mut sent = SentPackets::default();
        for count in 0..100 {
            sent.push(count, 100, 0);
        }
        sent.report(10, true);
        let assumed: Vec<_> = sent.assume_received(9, 12).collect();
        assert_eq!(assumed, [(9, 100), (11, 100)]);
        assert_eq!(sent.assume_received(0, 12).count(), 9);
        assert!(sent.report(9, true).unwrap().was_assumed);
        assert_eq!(sent.assume_received(50, 40).count(), 0);
    }

    #[test]
    fn a_tag_finds_the_latest_number() {
        let mut sent = SentPackets::default();
        for count in 0..65_540u64 {
            sent.push(0, 100, count % 1_000);
        }
        assert_eq!(sent.repeat(539), Some(65_539u64 as u16));
        assert_eq!(sent.repeat(540), Some(64_540));
        assert_eq!(sent.repeat(1_000), None);
        assert!(sent.report(64_540, true).unwrap().is_repeated);
        assert!(!sent.report(64_541, true).unwrap().is_repeated);
    }
}
