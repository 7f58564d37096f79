//! What the rooms need of the media plane: a place on a shard, a way to give it orders, and
//! its events.
//!
//! Orders go through a bounded channel and block the sender for the instant that a shard needs
//! to make room; a shard never waits for rooms, so this cannot deadlock. Events come back
//! through one bounded channel a room.

mod room;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::SyncSender;

use tokio::sync::mpsc;

pub use room::RoomMedia;

use super::placement::{ShardLoad, Spreading};
use moim_engine::command::{Command, Fingerprint};
use moim_engine::event::Event;
use moim_engine::ids::RoomId;

/// Capacity, in events, of the channel from the shards to one room.
pub const EVENTS_CAPACITY: usize = 4096;

/// What a shard is told by the control plane.
#[derive(Debug)]
pub enum ShardInput {
    /// An order to the shard's engine.
    Command(Command),
    /// Events of this room go to this channel from now on.
    OpenRoom(RoomId, mpsc::Sender<Event>),
    /// The room is over. What is left of its connections has been removed by commands before.
    CloseRoom(RoomId),
}

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
    inbox: SyncSender<ShardInput>,
    wake: Arc<dyn Fn() + Send + Sync>,
    addresses: Arc<[ShardAddress]>,
    load: Arc<ShardLoad>,
}

impl ShardHandle {
    /// A handle on a shard that reads `inbox`, is woken by `wake` when something was put into
    /// it, and is reached at `addresses`.
    pub fn new(
        inbox: SyncSender<ShardInput>,
        wake: impl Fn() + Send + Sync + 'static,
        addresses: Vec<ShardAddress>,
    ) -> Self {
        Self {
            inbox,
            wake: Arc::new(wake),
            addresses: addresses.into(),
            load: Arc::default(),
        }
    }

    /// How loaded the shard is.
    pub fn load(&self) -> &Arc<ShardLoad> {
        &self.load
    }

    /// A shard that has ended takes nothing more; its rooms have heard of it by an event or
    /// because their event channels end.
    fn send(&self, input: ShardInput) {
        if self.inbox.send(input).is_ok() {
            (self.wake)();
        }
    }
}

/// The media plane.
#[derive(Clone)]
pub struct Media(Arc<Inner>);

struct Inner {
    /// By [`ShardId`](moim_engine::ids::ShardId).
    shards: Vec<ShardHandle>,
    fingerprint: Fingerprint,
    spreading: Spreading,
    rooms: AtomicU32,
    transports: AtomicU32,
    tracks: AtomicU32,
    subscriptions: AtomicU32,
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
            rooms: AtomicU32::new(1),
            transports: AtomicU32::new(1),
            tracks: AtomicU32::new(1),
            subscriptions: AtomicU32::new(1),
        }))
    }

    /// Puts a new room on the least loaded shard.
    pub fn place_room(&self) -> RoomMedia {
        let shards = self.0.shards.iter().enumerate();
        let (home, _) = shards
            .min_by_key(|(_, shard)| shard.load.rank())
            .expect("a media plane has at least one shard");
        let room = RoomId(self.0.rooms.fetch_add(1, Ordering::Relaxed));
        RoomMedia::open(self.clone(), home, room)
    }
}

#[cfg(test)]
mod tests;
