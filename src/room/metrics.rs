//! Counts over all rooms, for `/metrics`.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::journal::Fact;

/// Gauges and counters over all rooms of a server.
#[derive(Debug, Default)]
pub struct RoomMetrics {
    rooms: AtomicI64,
    participants: AtomicI64,
    published: AtomicI64,
    subscribed: AtomicI64,
    joins: AtomicU64,
    refusals: AtomicU64,
}

/// The values at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomCounts {
    /// Rooms that exist; each is one task.
    pub rooms: i64,
    /// Participants in them.
    pub participants: i64,
    /// Tracks published.
    pub published: i64,
    /// Tracks subscribed to.
    pub subscribed: i64,
    /// Joins since the start.
    pub joins: u64,
    /// Joins refused since the start.
    pub refusals: u64,
}

impl RoomMetrics {
    /// The values now.
    pub fn counts(&self) -> RoomCounts {
        RoomCounts {
            rooms: self.rooms.load(Ordering::Relaxed),
            participants: self.participants.load(Ordering::Relaxed),
            published: self.published.load(Ordering::Relaxed),
            subscribed: self.subscribed.load(Ordering::Relaxed),
            joins: self.joins.load(Ordering::Relaxed),
            refusals: self.refusals.load(Ordering::Relaxed),
        }
    }

    /// Counts what a room's journal says.
    pub(super) fn count(&self, fact: &Fact) {
        let add = |gauge: &AtomicI64, change| {
            gauge.fetch_add(change, Ordering::Relaxed);
        };
        match fact {
            Fact::RoomStarted { .. } => add(&self.rooms, 1),
            Fact::RoomFinished(_) => add(&self.rooms, -1),
            Fact::ParticipantJoined(_) => {
                add(&self.participants, 1);
                self.joins.fetch_add(1, Ordering::Relaxed);
            }
            Fact::ParticipantActive(_) => {}
            Fact::ParticipantLeft { .. } => add(&self.participants, -1),
            Fact::TrackPublished { .. } => add(&self.published, 1),
            Fact::TrackUnpublished { .. } => add(&self.published, -1),
            Fact::Subscribed => add(&self.subscribed, 1),
            Fact::Unsubscribed => add(&self.subscribed, -1),
        }
    }

    pub(super) fn refused(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }
}
