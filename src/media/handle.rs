//! What the rooms need of the media plane: a place on a shard, a way to give it orders, and
//! its events.
//!
//! A room gives orders without waiting; they gather in its [`RoomMedia`], and its task awaits
//! that the shards have space for them ([`RoomMedia::flush`]). No thread ever blocks on a
//! shard, and a shard never waits for rooms, so this cannot deadlock. Events come back through
//! one bounded channel a room.

pub(super) mod events;
mod inbox;
mod orders;
mod room;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use events::{EventSender, RoomEvents};
pub use inbox::{ShardInbox, ShardInput};
pub use room::RoomMedia;

use super::placement::{ShardLoad, Spreading};
use inbox::InboxSender;
use moim_engine::command::Fingerprint;
use moim_engine::ids::RoomId;

/// An address at which a shard is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardAddress {
    /// IP address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// ICE over TCP (RFC 6544, passive) instead of UDP.
    pub tcp: bool,
}

/// One shard as the control plane sees it.
#[derive(Clone)]
pub struct ShardHandle {
    inbox: InboxSender,
    wake: Arc<dyn Fn() + Send + Sync>,
    addresses: Arc<[ShardAddress]>,
    load: Arc<ShardLoad>,
}

impl ShardHandle {
    /// A handle on a shard that is reached at `addresses` and woken by `wake` when an order was
    /// put into the inbox, which is what the shard reads.
    pub fn new(
        wake: impl Fn() + Send + Sync + 'static,
        addresses: Vec<ShardAddress>,
    ) -> (Self, ShardInbox) {
        let (sender, inbox) = inbox::inbox();
        let handle = Self {
            inbox: sender,
            wake: Arc::new(wake),
            addresses: addresses.into(),
            load: Arc::default(),
        };
        (handle, inbox)
    }

    /// How loaded the shard is.
    pub fn load(&self) -> &Arc<ShardLoad> {
        &self.load
    }
}

/// This node's number in the ids that it hands out.
const NODE: u16 = 0;

/// The media plane.
#[derive(Clone)]
pub struct Media(Arc<Inner>);

struct Inner {
    /// By [`ShardId`](moim_engine::ids::ShardId).
    shards: Vec<ShardHandle>,
    fingerprint: Fingerprint,
    spreading: Spreading,
    rooms: AtomicU64,
    transports: AtomicU64,
    tracks: AtomicU64,
    subscriptions: AtomicU64,
}

impl Media {
    /// The media plane made of these shards, in the order of their numbers, which all present
    /// the certificate with this fingerprint.
    ///
    /// # Panics
    /// When `shards` is empty.
    pub fn new(shards: Vec<ShardHandle>, fingerprint: Fingerprint) -> Self {
        Media::with_spreading(shards, fingerprint, Spreading::default())
    }

    /// As [`Media::new`], with other bounds past which a room spreads over shards.
    ///
    /// # Panics
    /// When `shards` is empty.
    pub fn with_spreading(
        shards: Vec<ShardHandle>,
        fingerprint: Fingerprint,
        spreading: Spreading,
    ) -> Self {
        assert!(!shards.is_empty(), "a media plane has at least one shard");
        Self(Arc::new(Inner {
            shards,
            fingerprint,
            spreading,
            rooms: AtomicU64::new(1),
            transports: AtomicU64::new(1),
            tracks: AtomicU64::new(1),
            subscriptions: AtomicU64::new(1),
        }))
    }

    /// Puts a new room on the least loaded shard: the way to give it orders, and its events.
    pub fn place_room(&self) -> (RoomMedia, RoomEvents) {
        let shards = self.0.shards.iter().enumerate();
        let (home, _) = shards
            .min_by_key(|(_, shard)| shard.load.rank())
            .expect("a media plane has at least one shard");
        let room = RoomId::new(NODE, self.0.rooms.fetch_add(1, Ordering::Relaxed));
        RoomMedia::open(self.clone(), home, room)
    }
}

#[cfg(test)]
mod tests;
