//! What is known of the quality of all connections of a room.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use moim_engine::ids::{SubscriptionId, TrackId, TransportId};
use moim_engine::quality::TransportQuality;

use super::id::ParticipantKey;
use super::score::Standing;

/// What is known of the quality of all connections of a room.
#[derive(Debug, Default)]
pub(super) struct Qualities {
    /// When the connections were asked about last.
    pub(super) asked_at: Option<Instant>,
    /// Connections that were asked about, and what has been answered.
    pub(super) asked: usize,
    pub(super) measured: Vec<TransportQuality>,
    /// Connections from which nothing arrives.
    pub(super) silent: BTreeSet<TransportId>,
    /// The counters of the last look: packets and losses.
    pub(super) tracks: BTreeMap<TrackId, (u64, u64)>,
    pub(super) subscriptions: BTreeMap<SubscriptionId, (u64, u64)>,
    pub(super) standings: BTreeMap<ParticipantKey, Standing>,
}
