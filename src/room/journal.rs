//! What happened in a room, for those who count and tell it: metrics, webhooks, the store.
//!
//! The core writes facts, the shell takes them after each round. The journal is bounded: if
//! nobody takes them, the oldest are dropped and counted, and the meeting goes on.

use std::collections::VecDeque;

use moim_signaling::wire::{DisconnectReason, ParticipantInfo, Room, RoomAgentDispatch, TrackInfo};

/// Facts that wait for the shell. A round of 64 inputs rarely makes more than as many.
const CAPACITY: usize = 4_096;

/// One thing that happened in a room.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// The room exists.
    RoomStarted {
        /// The room.
        room: Box<Room>,
        /// The agents that are wanted in it.
        agents: Vec<RoomAgentDispatch>,
    },
    /// The room is over.
    RoomFinished(Box<Room>),
    /// A participant has taken a seat.
    ParticipantJoined(Box<ParticipantInfo>),
    /// A participant's media connection is up for the first time.
    ParticipantActive(Box<ParticipantInfo>),
    /// A participant is gone.
    ParticipantLeft {
        /// As it was at last.
        participant: Box<ParticipantInfo>,
        /// Why.
        reason: DisconnectReason,
    },
    /// A track is published.
    TrackPublished {
        /// Who publishes it.
        participant: Box<ParticipantInfo>,
        /// The track.
        track: Box<TrackInfo>,
    },
    /// A track has ended.
    TrackUnpublished {
        /// Who published it.
        participant: Box<ParticipantInfo>,
        /// The track.
        track: Box<TrackInfo>,
    },
    /// A participant subscribed to a track.
    Subscribed,
    /// A subscription has ended.
    Unsubscribed,
}

/// Somebody who is told every fact of every room, in the room's own order. It is called from a
/// room's task, and does not wait.
pub trait FactReader: Send + Sync {
    /// Reads a fact. `room` describes the room as it is after the fact.
    fn read(&self, room: &dyn Fn() -> Room, fact: &Fact);
}

/// The facts that have not been taken yet.
#[derive(Debug, Default)]
pub(super) struct Journal {
    facts: VecDeque<Fact>,
    dropped: u64,
}

impl Journal {
    pub(super) fn write(&mut self, fact: Fact) {
        if self.facts.len() >= CAPACITY {
            self.facts.pop_front();
            self.dropped += 1;
        }
        self.facts.push_back(fact);
    }

    /// The oldest fact that has not been taken.
    pub(super) fn take(&mut self) -> Option<Fact> {
        self.facts.pop_front()
    }

    /// Facts lost because nobody took them.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_nobody_reads_keeps_the_newest() {
        let mut journal = Journal::default();
        for _ in 0..CAPACITY {
            journal.write(Fact::Subscribed);
        }
        journal.write(Fact::Unsubscribed);
        assert_eq!(journal.dropped(), 1);
        let mut last = None;
        let mut count = 0;
        while let Some(fact) = journal.take() {
            last = Some(fact);
            count += 1;
        }
        assert_eq!((count, last), (CAPACITY, Some(Fact::Unsubscribed)));
    }
}
