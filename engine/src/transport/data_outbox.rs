//! What waits to be sent to a peer on its data channels, and whether the peer keeps up.
//!
//! SCTP is given little at a time, because what it has been given cannot be taken back: the
//! rest waits here. When much reliable data waits, the peer *holds up* those that send to it:
//! they are not read until it has caught up. A peer that acknowledges nothing for a while has
//! *stalled*: what waits for it is discarded, in whole messages, and so is whatever reliable
//! data comes for it until it acknowledges something. Lossy data never holds anybody up: the
//! oldest makes space for the newest.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::byte_queue::ByteQueue;
use super::sctp_budget::SctpBudget;
use crate::api::command::DataChannel;

/// Bytes of reliable data, waiting and unacknowledged, at which the peer holds up its senders.
const HIGH: usize = 1 << 20;
/// Bytes at which it does so no longer: enough for a receiver of 6 Mbit/s to be kept busy for
/// 0.7 s while its senders are read again.
const LOW: usize = 512 << 10;
/// Bytes of reliable data that may wait. Senders are held up long before; what they had on
/// its way when they were is far below this.
const MAX_RELIABLE: usize = 8 << 20;
/// Bytes of lossy data that may wait.
const MAX_LOSSY: usize = 256 << 10;
/// Bytes of lossy data of one channel that SCTP has at a time: it does not drop old for new.
const MAX_LOSSY_IN_SCTP: usize = 64 << 10;
/// A peer that holds up others and acknowledges nothing for this long has stalled.
const STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// One whose channel has not opened holds up others for this long: that takes a second on most
/// networks, and a peer that tries again and again to connect must not hold them up each time.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);
/// A peer that holds up others for this long without a break has stalled too, although it
/// acknowledges a little now and then: that is less than 70 kbit/s.
const MAX_HOLD: Duration = Duration::from_secs(60);

/// Whether the peer keeps up with reliable data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    KeepsUp,
    /// Senders are held up.
    Behind {
        since: Instant,
        /// When something was last acknowledged, from `since` on.
        progress: Instant,
    },
    /// Reliable data is discarded.
    Stalled,
}

/// What waits for one peer.
pub(super) struct DataOutbox {
    reliable: ByteQueue<Bytes>,
    lossy: ByteQueue<(DataChannel, Bytes)>,
    /// Bytes of reliable data that SCTP has.
    in_sctp: usize,
    budget: SctpBudget,
    /// The reliable channel was open.
    was_open: bool,
    pace: Pace,
    /// The peer has stalled or reads again, and nobody was told.
    news: Option<bool>,
    /// Messages that were dropped.
    dropped: u64,
}

impl DataOutbox {
    pub(super) fn new() -> DataOutbox {
        DataOutbox {
            reliable: ByteQueue::new(MAX_RELIABLE),
            lossy: ByteQueue::new(MAX_LOSSY),
            in_sctp: 0,
            budget: SctpBudget::new(),
            was_open: false,
            pace: Pace::KeepsUp,
            news: None,
            dropped: 0,
        }
    }

    /// Takes a message, or drops it, or older ones for it.
    pub(super) fn push(&mut self, now: Instant, channel: DataChannel, payload: &Bytes) {
        if channel != DataChannel::Reliable {
            self.dropped += self.lossy.push_over_oldest((channel, payload.clone()));
            return;
        }
        if self.pace == Pace::Stalled {
            self.dropped += 1;
        } else if !self.reliable.push(payload.clone()) {
            self.dropped += 1;
            self.stall();
        } else if self.pace == Pace::KeepsUp && self.waiting() >= HIGH {
            self.pace = Pace::Behind {
                since: now,
                progress: now,
            };
        }
    }

    /// The next reliable message for SCTP, if that has space for it.
    pub(super) fn pop_reliable(&mut self) -> Option<Bytes> {
        let len = self.reliable.front()?.len();
        if self.in_sctp > 0 && self.in_sctp + len > self.budget.bytes() {
            return None;
        }
        self.in_sctp += len;
        self.reliable.pop()
    }

    /// The channel of the next lossy message.
    pub(super) fn next_lossy(&self) -> Option<DataChannel> {
        self.lossy.front().map(|(channel, _)| *channel)
    }

    /// That message, if SCTP has space for it beside the `in_sctp` bytes that it has of its
    /// channel.
    pub(super) fn pop_lossy(&mut self, in_sctp: usize) -> Option<Bytes> {
        if in_sctp >= MAX_LOSSY_IN_SCTP {
            return None;
        }
        self.lossy.pop().map(|(_, payload)| payload)
    }

    /// The peer has acknowledged some bytes of reliable data, of which SCTP has `in_sctp` left,
    /// with this smoothed round-trip time.
    pub(super) fn acknowledged(
        &mut self,
        now: Instant,
        bytes: usize,
        rtt: Duration,
        in_sctp: usize,
    ) {
        let is_busy = self.reliable.front().is_some();
        self.budget.acknowledged(now, bytes, rtt, is_busy);
        self.progressed(now, in_sctp);
    }

    /// The reliable channel is open. SCTP has `in_sctp` bytes of its stream.
    pub(super) fn opened(&mut self, now: Instant, in_sctp: usize) {
        self.was_open = true;
        self.progressed(now, in_sctp);
    }

    fn progressed(&mut self, now: Instant, in_sctp: usize) {
        self.in_sctp = in_sctp;
        match &mut self.pace {
            Pace::KeepsUp => {}
            Pace::Behind { progress, .. } => *progress = now,
            Pace::Stalled => {
                self.pace = Pace::KeepsUp;
                self.news = Some(false);
            }
        }
        if self.waiting() <= LOW && self.pace != Pace::Stalled {
            self.pace = Pace::KeepsUp;
        }
    }

    /// Whether those that send reliable data to the peer are not to be read for now.
    pub(super) fn holds_up(&self) -> bool {
        matches!(self.pace, Pace::Behind { .. })
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.pace {
            Pace::Behind { since, .. } if !self.was_open => Some(since + OPEN_TIMEOUT),
            Pace::Behind { since, progress } => {
                Some((progress + STALL_TIMEOUT).min(since + MAX_HOLD))
            }
            Pace::KeepsUp | Pace::Stalled => None,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.stall();
        }
    }

    /// Whether the peer has stalled, or reads again after that; said once.
    pub(super) fn poll_news(&mut self) -> Option<bool> {
        self.news.take()
    }

    /// Messages that were dropped since this was last asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// What waits for a channel that has not opened is kept for it: it is the beginning of what
    /// is meant for it. Of what an open one does not read, SCTP has the beginning.
    fn stall(&mut self) {
        if self.was_open {
            self.dropped += self.reliable.clear();
        }
        self.pace = Pace::Stalled;
        self.news = Some(true);
    }

    /// Bytes of reliable data that the peer has not acknowledged.
    fn waiting(&self) -> usize {
        self.reliable.bytes() + self.in_sctp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock::start;

    const LEN: usize = 15_000;

    /// Pushes reliable messages until the peer holds up; how many.
    fn fill(outbox: &mut DataOutbox, now: Instant) -> usize {
        let mut pushed = 0;
        while !outbox.holds_up() {
            outbox.push(now, DataChannel::Reliable, &vec![0; LEN].into());
            pushed += 1;
        }
        pushed
    }

    fn open_outbox(now: Instant) -> DataOutbox {
        let mut outbox = DataOutbox::new();
        outbox.opened(now, 0);
        outbox
    }

    fn give_to_sctp(outbox: &mut DataOutbox) -> usize {
        std::iter::from_fn(|| outbox.pop_reliable()).count()
    }

    #[test]
    fn senders_are_held_up_between_the_marks() {
        let now = start();
        let mut outbox = DataOutbox::new();
        let pushed = fill(&mut outbox, now);
        assert!(
            (HIGH / LEN - 1..=HIGH / LEN + 1).contains(&pushed),
            "{pushed}"
        );
        let mut given = give_to_sctp(&mut outbox);
        let budget = outbox.budget.bytes();
        assert!(given * LEN <= budget && given * LEN > budget - LEN);
        while outbox.holds_up() {
            outbox.progressed(now, 0);
            given += give_to_sctp(&mut outbox);
        }
        assert!((pushed - given) * LEN <= LOW);
        assert_eq!(outbox.take_dropped(), 0);
        assert_eq!(outbox.poll_news(), None);
    }

    #[test]
    fn a_peer_that_acknowledges_nothing_stalls_after_five_seconds_and_no_sooner() {
        let start = start();
        let mut outbox = open_outbox(start);
        fill(&mut outbox, start);
        let in_sctp = give_to_sctp(&mut outbox) * LEN;
        // It acknowledges something after 4 s, and then nothing.
        outbox.progressed(start + Duration::from_secs(4), in_sctp - 1_000);
        let due = outbox.poll_timeout().unwrap();
        assert_eq!(due, start + Duration::from_secs(9));
        outbox.handle_timeout(due - Duration::from_millis(1));
        assert!(outbox.holds_up());
        outbox.handle_timeout(due);
        assert_eq!(outbox.poll_news(), Some(true));
        assert!(!outbox.holds_up());
        assert!(outbox.poll_timeout().is_none());
        // What comes now is dropped, and what comes after it reads again is not.
        let message: Bytes = vec![0; LEN].into();
        assert!(outbox.take_dropped() > 0);
        outbox.push(due, DataChannel::Reliable, &message);
        assert_eq!(outbox.take_dropped(), 1);
        outbox.progressed(due, 0);
        assert_eq!(outbox.poll_news(), Some(false));
        outbox.push(due, DataChannel::Reliable, &message);
        assert_eq!(outbox.pop_reliable(), Some(message));
        assert_eq!(outbox.take_dropped(), 0);
    }

    #[test]
    fn a_peer_that_acknowledges_a_crumb_now_and_then_does_not_hold_others_up_for_ever() {
        let start = start();
        let mut outbox = open_outbox(start);
        fill(&mut outbox, start);
        let in_sctp = give_to_sctp(&mut outbox) * LEN;
        let mut held = 0;
        while outbox.holds_up() {
            held += 1;
            let now = start + Duration::from_secs(held);
            outbox.progressed(now, in_sctp - held as usize);
            outbox.handle_timeout(now);
        }
        assert_eq!(held, MAX_HOLD.as_secs());
    }

    #[test]
    fn a_channel_that_opens_late_gets_what_was_kept_for_it_and_holds_up_others_only_briefly() {
        let start = start();
        let mut outbox = DataOutbox::new();
        let pushed = fill(&mut outbox, start);
        let due = outbox.poll_timeout().unwrap();
        assert_eq!(due, start + OPEN_TIMEOUT);
        outbox.handle_timeout(due);
        assert!(!outbox.holds_up());
        assert_eq!(outbox.poll_news(), Some(true));
        outbox.push(due, DataChannel::Reliable, &vec![0; LEN].into());
        assert_eq!(outbox.take_dropped(), 1);
        outbox.opened(due, 0);
        assert_eq!(outbox.poll_news(), Some(false));
        let mut given = 0;
        while given < pushed {
            let more = give_to_sctp(&mut outbox);
            assert!(more > 0, "{given} of {pushed}");
            given += more;
            outbox.progressed(due, 0);
        }
        assert_eq!(give_to_sctp(&mut outbox), 0);
    }

    #[test]
    fn a_flood_that_no_sender_is_held_up_for_costs_a_bounded_memory() {
        let now = start();
        let mut outbox = DataOutbox::new();
        let message: Bytes = vec![0; 64 << 10].into();
        for _ in 0..10_000 {
            outbox.push(now, DataChannel::Reliable, &message);
            outbox.push(now, DataChannel::Lossy, &message);
            assert!(outbox.reliable.bytes() <= MAX_RELIABLE);
            assert!(outbox.lossy.bytes() <= MAX_LOSSY);
        }
        assert_eq!(outbox.poll_news(), Some(true));
    }

    #[test]
    fn lossy_data_loses_its_oldest_and_holds_nobody_up() {
        let now = start();
        let mut outbox = DataOutbox::new();
        for number in 0..1_000u32 {
            let mut message = vec![0; 10_000];
            message[..4].copy_from_slice(&number.to_be_bytes());
            outbox.push(now, DataChannel::Lossy, &message.into());
            assert!(!outbox.holds_up());
        }
        let mut numbers = Vec::new();
        while outbox.next_lossy() == Some(DataChannel::Lossy) {
            let message = outbox.pop_lossy(0).unwrap();
            numbers.push(u32::from_be_bytes(message[..4].try_into().unwrap()));
        }
        let first = 1_000 - numbers.len() as u32;
        assert_eq!(numbers, (first..1_000).collect::<Vec<_>>());
        assert_eq!(outbox.take_dropped(), u64::from(first));
        assert_eq!(outbox.poll_news(), None);
    }
}
