//! What the rooms need of the media plane: a place on a shard, a way to give it orders, and
//! its events.
//!
//! Orders go through a bounded channel and block the sender for the instant that a shard needs
//! to make room; a shard never waits for rooms, so this cannot deadlock. Events come back
//! through one bounded channel a room.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;

use tokio::sync::mpsc;

use super::engine::command::{Command, Fingerprint};
use super::engine::event::Event;
use super::engine::ids::{RoomId, SubscriptionId, TrackId, TransportId};

/// Capacity, in events, of the channel from a shard to one room.
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
    /// Rooms and connections that are placed here.
    load: Arc<AtomicUsize>,
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

    /// How many rooms and connections are placed on this shard.
    pub fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }

    /// A shard that has ended takes nothing more; its rooms hear of it because their event
    /// channels end.
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
    shards: Vec<ShardHandle>,
    fingerprint: Fingerprint,
    rooms: AtomicU32,
    transports: AtomicU32,
    tracks: AtomicU32,
    subscriptions: AtomicU32,
}

impl Media {
    /// The media plane made of these shards, which all present the certificate with this
    /// fingerprint.
    ///
    /// # Panics
    /// When `shards` is empty.
    pub fn new(shards: Vec<ShardHandle>, fingerprint: Fingerprint) -> Self {
        assert!(!shards.is_empty(), "a media plane has at least one shard");
        Self(Arc::new(Inner {
            shards,
            fingerprint,
            rooms: AtomicU32::new(1),
            transports: AtomicU32::new(1),
            tracks: AtomicU32::new(1),
            subscriptions: AtomicU32::new(1),
        }))
    }

    /// Puts a new room on the least loaded shard.
    pub fn place_room(&self) -> RoomMedia {
        let shard = self
            .0
            .shards
            .iter()
            .min_by_key(|shard| shard.load())
            .expect("a media plane has at least one shard")
            .clone();
        let room = RoomId(self.0.rooms.fetch_add(1, Ordering::Relaxed));
        let (sender, events) = mpsc::channel(EVENTS_CAPACITY);
        shard.load.fetch_add(1, Ordering::Relaxed);
        shard.send(ShardInput::OpenRoom(room, sender));
        RoomMedia {
            media: self.clone(),
            shard,
            room,
            connections: AtomicUsize::new(0),
            events,
        }
    }
}

/// One room's place in the media plane. The room is closed there when this is dropped.
pub struct RoomMedia {
    media: Media,
    shard: ShardHandle,
    room: RoomId,
    connections: AtomicUsize,
    /// What happens in the room's media. Ends when the shard has ended.
    pub events: mpsc::Receiver<Event>,
}

impl RoomMedia {
    /// Gives an order to the room's shard.
    pub fn command(&self, command: Command) {
        match &command {
            Command::AddTransport(_) => {
                self.connections.fetch_add(1, Ordering::Relaxed);
                self.shard.load.fetch_add(1, Ordering::Relaxed);
            }
            Command::RemoveTransport(_) => {
                self.connections.fetch_sub(1, Ordering::Relaxed);
                self.shard.load.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
        self.shard.send(ShardInput::Command(command));
    }

    /// The room's number in the media plane.
    pub fn room_id(&self) -> RoomId {
        self.room
    }

    /// Where the room's connections are reached.
    pub fn addresses(&self) -> &[ShardAddress] {
        &self.shard.addresses
    }

    /// Fingerprint of the certificate that the media plane presents.
    pub fn fingerprint(&self) -> Fingerprint {
        self.media.0.fingerprint
    }

    /// A number for a new connection.
    pub fn transport_id(&self) -> TransportId {
        TransportId(self.media.0.transports.fetch_add(1, Ordering::Relaxed))
    }

    /// A number for a new track.
    pub fn track_id(&self) -> TrackId {
        TrackId(self.media.0.tracks.fetch_add(1, Ordering::Relaxed))
    }

    /// A number for a new subscription.
    pub fn subscription_id(&self) -> SubscriptionId {
        SubscriptionId(self.media.0.subscriptions.fetch_add(1, Ordering::Relaxed))
    }
}

impl Drop for RoomMedia {
    fn drop(&mut self) {
        let placed = 1 + *self.connections.get_mut();
        self.shard.load.fetch_sub(placed, Ordering::Relaxed);
        self.shard.send(ShardInput::CloseRoom(self.room));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;
    use crate::media::engine::command::{IceCredentials, NewTransport};

    fn shard() -> (ShardHandle, Receiver<ShardInput>) {
        let (sender, receiver) = sync_channel(64);
        (ShardHandle::new(sender, || {}, Vec::new()), receiver)
    }

    fn add_transport(room: &RoomMedia) {
        room.command(Command::AddTransport(Box::new(NewTransport {
            transport: room.transport_id(),
            room: room.room_id(),
            local_ice: IceCredentials {
                ufrag: "u".into(),
                pwd: "p".into(),
            },
            opens_data_channels: false,
        })));
    }

    #[test]
    fn rooms_go_to_the_least_loaded_shard() {
        let (first, _first_inbox) = shard();
        let (second, _second_inbox) = shard();
        let media = Media::new(vec![first.clone(), second.clone()], Fingerprint([0; 32]));
        let room = media.place_room();
        add_transport(&room);
        let _other = media.place_room();
        let _third = media.place_room();
        assert_eq!((first.load(), second.load()), (2, 2));
    }

    #[test]
    fn a_dropped_room_is_closed_and_frees_its_load() {
        let (shard, inbox) = shard();
        let media = Media::new(vec![shard.clone()], Fingerprint([0; 32]));
        let room = media.place_room();
        add_transport(&room);
        let id = room.room_id();
        drop(room);
        assert_eq!(shard.load(), 0);
        let inputs: Vec<_> = inbox.try_iter().collect();
        assert!(matches!(inputs[0], ShardInput::OpenRoom(room, _) if room == id));
        assert!(matches!(inputs[2], ShardInput::CloseRoom(room) if room == id));
    }
}
