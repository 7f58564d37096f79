//! The media plane as the room sees it: it obeys orders and remembers what they came to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use moim::media::handle::{
    Media, RoomEvents, RoomMedia, ShardAddress, ShardHandle, ShardInbox, ShardInput,
};
use moim_engine::codec::Codec;
use moim_engine::command::{Command, DataChannel, Fingerprint};
use moim_engine::ids::{SubscriptionId, TrackId, TransportId};

/// One shard, without an engine.
pub(crate) struct Plane {
    media: Media,
    inbox: ShardInbox,
    /// Connections that exist, and whether the client's side of each is known.
    pub(crate) transports: BTreeMap<TransportId, bool>,
    /// Tracks that exist: whose connection, and whether they are muted.
    pub(crate) tracks: BTreeMap<TrackId, (TransportId, bool)>,
    /// What is sent: which track, to which connection, wanted at all, up to which layer.
    pub(crate) subscriptions: BTreeMap<SubscriptionId, Sent>,
    /// Messages sent since this was last taken.
    pub(crate) data: Vec<(TransportId, DataChannel, Bytes)>,
}

/// One subscription in the media plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) track: TrackId,
    pub(crate) transport: TransportId,
    /// What stands for it while it is silent.
    pub(crate) shown_as: Option<Codec>,
}

impl Plane {
    pub(crate) fn new() -> Plane {
        let address = ShardAddress {
            ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 7_882,
            tcp: false,
        };
        let (shard, inbox) = ShardHandle::new(|| {}, vec![address]);
        Plane {
            media: Media::new(vec![shard], Fingerprint([7; 32])),
            inbox,
            transports: BTreeMap::new(),
            tracks: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            data: Vec::new(),
        }
    }

    pub(crate) fn place_room(&self) -> (RoomMedia, RoomEvents) {
        self.media.place_room()
    }

    /// Obeys what was ordered since the last time.
    pub(crate) fn obey(&mut self, media: &mut RoomMedia) {
        loop {
            let all = media.try_flush();
            while let Some(input) = self.inbox.try_recv() {
                if let ShardInput::Command(command) = input {
                    self.command(command);
                }
            }
            if all {
                break;
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::AddTransport(new) => {
                let former = self.transports.insert(new.transport, false);
                assert_eq!(former, None, "a connection's number is used twice");
            }
            Command::SetRemote { transport, .. } => {
                if let Some(known) = self.transports.get_mut(&transport) {
                    *known = true;
                }
            }
            Command::RemoveTransport(transport) => {
                self.transports.remove(&transport);
                self.tracks.retain(|_, (of, _)| *of != transport);
                self.subscriptions
                    .retain(|_, sent| sent.transport != transport);
            }
            Command::AddTrack(new) => {
                assert!(self.transports.contains_key(&new.transport));
                let former = self.tracks.insert(new.track, (new.transport, false));
                assert_eq!(former, None, "a track's number is used twice");
            }
            Command::RemoveTrack(track) => {
                self.tracks.remove(&track);
                self.subscriptions.retain(|_, sent| sent.track != track);
            }
            Command::SetTrackMuted { track, muted } => {
                if let Some((_, known)) = self.tracks.get_mut(&track) {
                    *known = muted;
                }
            }
            Command::AddSubscription(new) => {
                let sent = Sent {
                    track: new.track,
                    transport: new.transport,
                    shown_as: new.shown_as,
                };
                assert!(
                    self.tracks.contains_key(&new.track),
                    "a track that is not there"
                );
                let former = self.subscriptions.insert(new.subscription, sent);
                assert_eq!(former, None, "a subscription that is there already");
            }
            Command::RemoveSubscription(subscription) => {
                self.subscriptions.remove(&subscription);
            }
            Command::SendData {
                transports,
                channel,
                payload,
                ..
            } => {
                let distinct: BTreeSet<&TransportId> = transports.iter().collect();
                assert_eq!(
                    distinct.len(),
                    transports.len(),
                    "a message twice to one connection"
                );
                for transport in transports {
                    self.data.push((transport, channel, payload.clone()));
                }
            }
            _ => {}
        }
    }
}
