//! One room in the media plane: on which shards it is, and which of them gets which order.
//!
//! The room's home shard has its publishers. Subscribers' connections are there too until the
//! room or the shard is too big; then they go to other shards, to which the room's tracks are
//! mirrored.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::events::{CAPACITY, RoomEvents, Taken, WeakEventSender, events};
use super::orders::Orders;
use super::{Media, NODE, ShardAddress, ShardHandle, ShardInput};
use moim_engine::command::{Command, DataChannel, DataSource, Fingerprint, NewTrack};
use moim_engine::ids::{RoomId, ShardId, SubscriptionId, TrackId, TransportId};

/// One room's place in the media plane. The room is closed there when this is dropped.
pub struct RoomMedia {
    media: Media,
    /// Index of the shard of the publishers.
    home: usize,
    room: RoomId,
    /// Indexes of the other shards where the room is.
    spread: Vec<usize>,
    /// Index of the shard of each connection.
    connections: HashMap<TransportId, usize>,
    /// What is published, to be told to shards that the room comes to later.
    tracks: BTreeMap<TrackId, PublishedTrack>,
    /// How many audio tracks are forwarded at a time, to be told likewise.
    last_n: Option<u8>,
    /// What a further shard needs to reach the room. The shards alone keep the channel open.
    sender: WeakEventSender,
    /// What the room has taken of its events.
    taken: Arc<Taken>,
    /// What the shards have not been told yet.
    orders: Orders,
}

struct PublishedTrack {
    new: NewTrack,
    muted: bool,
}

impl RoomMedia {
    pub(super) fn open(media: Media, home: usize, room: RoomId) -> (RoomMedia, RoomEvents) {
        let (sender, events, taken) = events(CAPACITY, media.0.shards.len(), home);
        let weak = sender.downgrade();
        media.0.shards[home].load.place();
        let mut orders = Orders::new(media.clone());
        orders.push(home, ShardInput::OpenRoom(room, sender));
        let room = RoomMedia {
            media,
            home,
            room,
            spread: Vec::new(),
            connections: HashMap::new(),
            tracks: BTreeMap::new(),
            last_n: None,
            sender: weak,
            taken,
            orders,
        };
        (room, events)
    }

    /// Hands the orders over to the shards, and waits where one has no space for them. To be
    /// awaited after each round of orders; nothing is lost when it is given up in between.
    pub async fn flush(&mut self) {
        self.orders.flush().await;
        // Only now have the messages that the room has taken been passed on.
        self.say_what_was_taken();
        self.orders.flush().await;
    }

    /// As [`RoomMedia::flush`], without waiting. True when nothing is left to be handed over.
    pub fn try_flush(&mut self) -> bool {
        if self.orders.try_flush() {
            self.say_what_was_taken();
        }
        self.orders.try_flush()
    }

    fn say_what_was_taken(&mut self) {
        for index in self.spread.iter().copied().chain([self.home]) {
            let cost = self.taken.reset(index);
            if cost > 0 {
                let room = self.room;
                let taken = ShardInput::Command(Command::DataTaken { room, cost });
                self.orders.push(index, taken);
            }
        }
    }

    /// Gives an order to those of the room's shards that it concerns. They have it after the
    /// next [`RoomMedia::flush`].
    pub fn command(&mut self, command: Command) {
        match command {
            Command::AddTransport(_)
            | Command::SetRemote { .. }
            | Command::RestartIce { .. }
            | Command::SetReceive { .. }
            | Command::AddSubscription(_) => self.order_at_connection(command),
            Command::RemoveTransport(transport) => self.remove_transport(transport),
            Command::AddTrack(new) => self.add_track(new),
            // Mirrors are made here alone.
            Command::MirrorTrack { .. } => {}
            Command::SetTrackSource { track, ref source } => {
                if let Some(known) = self.tracks.get_mut(&track) {
                    known.new.source.clone_from(source);
                }
                self.order_everywhere(command);
            }
            Command::SetTrackMuted { track, muted } => {
                if let Some(known) = self.tracks.get_mut(&track) {
                    known.muted = muted;
                }
                self.order_everywhere(command);
            }
            Command::RemoveTrack(track) => {
                self.tracks.remove(&track);
                self.order_everywhere(command);
            }
            // A shard that does not have the subscription takes no notice.
            Command::RemoveSubscription(_)
            | Command::SetSubscription { .. }
            | Command::SetPayloadTypes { .. } => {
                self.order_everywhere(command);
            }
            // The home decides who is heard, and each shard who is heard whatever that says.
            Command::SetLastN { slots, .. } => {
                self.last_n = slots;
                self.order_everywhere(command);
            }
            // What the room's end is for its shards; see `Drop`.
            Command::CloseRoom(_) => {}
            // Each shard answers for the connections that it has.
            Command::MeasureQuality { .. } => self.order_everywhere(command),
            Command::SendData {
                transports,
                channel,
                payload,
                from,
            } => self.send_data(transports, channel, &payload, from),
            // Said at each flush.
            Command::DataTaken { .. } => {}
        }
    }

    /// The room's number in the media plane.
    pub fn room_id(&self) -> RoomId {
        self.room
    }

    /// Where a connection is reached.
    pub fn addresses(&self, transport: TransportId) -> &[ShardAddress] {
        &self.shard_of(transport).addresses
    }

    /// Fingerprint of the certificate that the media plane presents.
    pub fn fingerprint(&self) -> Fingerprint {
        self.media.0.fingerprint
    }

    /// A number for a new connection of a publisher, which has its place from now on.
    pub fn place_publisher(&mut self) -> TransportId {
        self.place(self.home)
    }

    /// A number for a new connection of a subscriber, which has its place from now on.
    pub fn place_subscriber(&mut self) -> TransportId {
        let at_home = self.connections.values().filter(|at| **at == self.home);
        let shards = self.media.0.shards.iter().enumerate();
        let loads = shards.map(|(index, shard)| (&*shard.load, self.spread.contains(&index)));
        let spreading = &self.media.0.spreading;
        let shard = spreading
            .elsewhere(self.home, at_home.count(), loads)
            .unwrap_or(self.home);
        let shard = if self.spread_to(shard) {
            shard
        } else {
            self.home
        };
        self.place(shard)
    }

    /// A number for a new track.
    pub fn track_id(&self) -> TrackId {
        TrackId::new(NODE, self.media.0.tracks.fetch_add(1, Ordering::Relaxed))
    }

    /// A number for a new subscription.
    pub fn subscription_id(&self) -> SubscriptionId {
        SubscriptionId::new(
            NODE,
            self.media.0.subscriptions.fetch_add(1, Ordering::Relaxed),
        )
    }

    fn place(&mut self, shard: usize) -> TransportId {
        let number = self.media.0.transports.fetch_add(1, Ordering::Relaxed);
        let transport = TransportId::new(NODE, number);
        self.media.0.shards[shard].load.place();
        self.connections.insert(transport, shard);
        transport
    }

    /// Makes the room known on a shard, with all its tracks. False when it cannot be there.
    fn spread_to(&mut self, index: usize) -> bool {
        if index == self.home || self.spread.contains(&index) {
            return true;
        }
        // Without it the shards have ended, and the room will.
        let Some(sender) = self.sender.upgrade(index) else {
            return false;
        };
        self.spread.push(index);
        self.media.0.shards[index].load.place();
        let open = ShardInput::OpenRoom(self.room, sender);
        self.orders.push(index, open);
        let mut tell = |command| self.orders.push(index, ShardInput::Command(command));
        if self.last_n.is_some() {
            let (room, slots) = (self.room, self.last_n);
            tell(Command::SetLastN { room, slots });
        }
        for track in self.tracks.values() {
            tell(mirror_of(&track.new, self.room, self.home));
            if track.muted {
                tell(Command::SetTrackMuted {
                    track: track.new.track,
                    muted: true,
                });
            }
        }
        true
    }

    fn add_track(&mut self, new: Box<NewTrack>) {
        // The home comes first, so that it knows the track when another shard asks for it.
        let published = PublishedTrack {
            new: NewTrack::clone(&new),
            muted: false,
        };
        self.order(self.home, Command::AddTrack(new));
        for index in self.spread.clone() {
            let mirror = mirror_of(&published.new, self.room, self.home);
            self.order(index, mirror);
        }
        if self.media.0.shards.len() > 1 {
            self.tracks.insert(published.new.track, published);
        }
    }

    fn remove_transport(&mut self, transport: TransportId) {
        let Some(index) = self.connections.remove(&transport) else {
            return;
        };
        self.media.0.shards[index].load.release(1);
        self.order(index, Command::RemoveTransport(transport));
        // What it published ends with it on its own shard, and on the others by this.
        self.tracks.retain(|track, published| {
            let keep = published.new.transport != transport;
            if !keep {
                for &index in &self.spread {
                    let remove = ShardInput::Command(Command::RemoveTrack(*track));
                    self.orders.push(index, remove);
                }
            }
            keep
        });
    }

    fn send_data(
        &mut self,
        transports: Vec<TransportId>,
        channel: DataChannel,
        payload: &bytes::Bytes,
        from: Option<DataSource>,
    ) {
        let from = from.map(|source| DataSource {
            shard: ShardId(self.index_of(source.transport) as u32),
            ..source
        });
        let mut by_shard: BTreeMap<usize, Vec<TransportId>> = BTreeMap::new();
        for transport in transports {
            if let Some(shard) = self.connections.get(&transport) {
                by_shard.entry(*shard).or_default().push(transport);
            }
        }
        for (shard, transports) in by_shard {
            let command = Command::SendData {
                transports,
                channel,
                payload: payload.clone(),
                from,
            };
            self.order(shard, command);
        }
    }

    /// To the shard of the connection that the order names.
    fn order_at_connection(&mut self, command: Command) {
        let transport = match &command {
            Command::AddTransport(new) => new.transport,
            Command::AddSubscription(new) => new.transport,
            Command::SetRemote { transport, .. }
            | Command::RestartIce { transport, .. }
            | Command::SetReceive { transport, .. } => *transport,
            _ => return,
        };
        self.order(self.index_of(transport), command);
    }

    fn order_everywhere(&mut self, command: Command) {
        for index in self.spread.clone() {
            self.order(index, command.clone());
        }
        self.order(self.home, command);
    }

    fn order(&mut self, shard: usize, command: Command) {
        self.orders.push(shard, ShardInput::Command(command));
    }

    fn index_of(&self, transport: TransportId) -> usize {
        let index = self.connections.get(&transport).copied();
        index.unwrap_or(self.home)
    }

    fn shard_of(&self, transport: TransportId) -> &ShardHandle {
        &self.media.0.shards[self.index_of(transport)]
    }
}

fn mirror_of(new: &NewTrack, room: RoomId, home: usize) -> Command {
    Command::MirrorTrack {
        track: Box::new(new.clone()),
        room,
        home: ShardId(home as u32),
    }
}

impl Drop for RoomMedia {
    fn drop(&mut self) {
        for index in self.connections.values() {
            self.media.0.shards[*index].load.release(1);
        }
        let shards = self.spread.iter().copied().chain([self.home]);
        for index in shards.clone() {
            self.media.0.shards[index].load.release(1);
        }
        self.orders.close(self.room, shards);
    }
}
