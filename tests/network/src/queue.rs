//! The queue in front of a bottleneck: drop-tail, and controlled delay after RFC 8289.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::config::Queue;

/// RFC 8289, section 4.2: the wait that is acceptable for good.
const TARGET: Duration = Duration::from_millis(5);
/// RFC 8289, section 4.2: a wait above the target for this long is one too many.
const INTERVAL: Duration = Duration::from_millis(100);
/// RFC 8289, section 5.4: a queue of one datagram of this size is never too long.
const MTU: usize = 1_500;

/// A datagram that waits.
#[derive(Debug)]
pub(crate) struct Waiting<T> {
    since: Instant,
    pub(crate) bytes: usize,
    pub(crate) payload: T,
}

/// Datagrams in the order in which they came.
#[derive(Debug)]
pub(crate) struct Waiters<T> {
    waiting: VecDeque<Waiting<T>>,
    /// What waits, in bytes.
    pub(crate) bytes: usize,
    codel: CoDel,
}

/// RFC 8289, section 5.3: what the algorithm remembers.
#[derive(Debug, Default)]
struct CoDel {
    /// When the wait will have been above the target for a whole interval.
    first_above: Option<Instant>,
    dropping: bool,
    /// When the next one is dropped, or would have been when dropping ended.
    drop_next: Option<Instant>,
    /// Drops since dropping began, and in the period before.
    count: u32,
    last_count: u32,
}

impl<T> Waiters<T> {
    pub(crate) fn new() -> Waiters<T> {
        Waiters {
            waiting: VecDeque::new(),
            bytes: 0,
            codel: CoDel::default(),
        }
    }

    pub(crate) fn push(&mut self, now: Instant, bytes: usize, payload: T) {
        self.bytes += bytes;
        self.waiting.push_back(Waiting {
            since: now,
            bytes,
            payload,
        });
    }

    /// The next one to send, and how many were dropped before it.
    pub(crate) fn pop(&mut self, now: Instant, queue: Queue) -> (Option<Waiting<T>>, u64) {
        match queue {
            Queue::DropTail { .. } => (self.pop_front(), 0),
            Queue::CoDel { .. } => self.pop_controlled(now),
        }
    }

    fn pop_front(&mut self) -> Option<Waiting<T>> {
        let next = self.waiting.pop_front()?;
        self.bytes -= next.bytes;
        Some(next)
    }

    /// RFC 8289, section 5.5.
    fn pop_controlled(&mut self, now: Instant) -> (Option<Waiting<T>>, u64) {
        let mut dropped = 0;
        let (mut next, mut too_long) = self.pop_judged(now);
        if !too_long {
            self.codel.dropping = false;
        } else if !self.codel.dropping {
            dropped += 1;
            (next, _) = self.pop_judged(now);
            self.codel.start_dropping(now);
        }
        while self.codel.dropping
            && let Some(at) = self.codel.drop_next
            && now >= at
            && next.is_some()
        {
            dropped += 1;
            self.codel.count += 1;
            (next, too_long) = self.pop_judged(now);
            self.codel.dropping = too_long;
            self.codel.drop_next = Some(at + self.codel.pause());
        }
        (next, dropped)
    }

    /// The first one, and whether the wait has been too long for a whole interval.
    fn pop_judged(&mut self, now: Instant) -> (Option<Waiting<T>>, bool) {
        let Some(next) = self.pop_front() else {
            self.codel.first_above = None;
            return (None, false);
        };
        if now.duration_since(next.since) < TARGET || self.bytes <= MTU {
            self.codel.first_above = None;
            return (Some(next), false);
        }
        let first_above = *self.codel.first_above.get_or_insert(now + INTERVAL);
        (Some(next), now >= first_above)
    }
}

impl CoDel {
    /// Drops come faster the longer the wait stays: with the square root of their number.
    fn pause(&self) -> Duration {
        INTERVAL.div_f64(f64::from(self.count.max(1)).sqrt())
    }

    /// RFC 8289, section 5.5: starts from the rate of drops that the last period ended with, when
    /// that was not long ago.
    fn start_dropping(&mut self, now: Instant) {
        let delta = self.count - self.last_count;
        let recent = self
            .drop_next
            .is_some_and(|at| now.saturating_duration_since(at) < 16 * INTERVAL);
        self.count = if delta > 1 && recent { delta } else { 1 };
        self.last_count = self.count;
        self.dropping = true;
        self.drop_next = Some(now + self.pause());
    }
}
