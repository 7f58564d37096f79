//! When the engine has to look at which peer or room again.
//!
//! A heap with lazy deletion: an owner remembers the time for which it is armed, and an entry
//! that does not match it is stale. Arming for a later time than already armed costs nothing.

use crate::state::table::PeerIx;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::api::ids::RoomId;

/// Whose time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerOwner {
    /// A peer, by its index.
    Peer(PeerIx),
    /// A room.
    Room(RoomId),
}

/// The earliest time at which an owner wants to be called.
pub(crate) type Armed = Option<Instant>;

/// All armed timers of an engine.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, TimerOwner)>>,
}

impl Timers {
    /// Arms `owner` for `when`, unless it is armed for an earlier time already.
    pub(crate) fn arm(&mut self, owner: TimerOwner, armed: &mut Armed, when: Instant) {
        if armed.is_none_or(|earlier| when < earlier) {
            *armed = Some(when);
            self.heap.push(Reverse((when, owner)));
        }
    }

    /// The next owner whose time is not after `now`, with the time for which it was armed. The
    /// caller compares it with what the owner remembers, and skips stale ones.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Instant, TimerOwner)> {
        if self.heap.peek()?.0.0 > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }

    /// The earliest time in the heap, stale ones included.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((when, _))| *when)
    }
}
