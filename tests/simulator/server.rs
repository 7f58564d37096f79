//! The engines as the only part of the server, with the SDP negotiation beside them. There is
//! one, or two between which a room is spread.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moim::media::handle::{
    Media, RoomEvents, RoomMedia, ShardAddress, ShardHandle, ShardInbox, ShardInput,
};
use moim::media::negotiation::{Candidate, LocalEndpoint, RemoteDescription};
use moim::media::placement::Spreading;
use moim_engine::RelayBatch;
use moim_engine::codec::MediaKind;
use moim_engine::command::IceCredentials;
use moim_engine::ids::{RoomId, ShardId, SubscriptionId, TrackId, TransportId};
use moim_engine::io::{EngineConfig, LocalSocket};
use moim_engine::transport::ServerCertificate;
use moim_engine::{Command, Engine, Event};

/// Where the server is: its first shard.
pub(crate) const ADDRESS: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 7_882));
/// Its second one.
const FAR_ADDRESS: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 7_883));
/// Every subscriber goes to another shard than the publishers, where there is one.
const ALWAYS: Spreading = Spreading {
    busy: 0,
    connections: 0,
    margin: i32::MIN,
};

/// A published track that others may subscribe to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Published {
    /// Index of the publishing peer.
    pub(crate) peer: usize,
    /// Its number in the engine.
    pub(crate) track: TrackId,
    /// Audio or video.
    pub(crate) kind: MediaKind,
}

/// The server under test.
pub(crate) struct Server {
    /// The engine; of two, the one that has the publishers.
    pub(crate) engine: Engine,
    /// The second one, if there is one.
    pub(crate) far: Option<Engine>,
    /// All events so far.
    pub(crate) events: Vec<Event>,
    /// All tracks so far.
    pub(crate) published: Vec<Published>,
    room: RoomMedia,
    /// Nothing is read of it: the engines' events are taken where they come out.
    _room_events: RoomEvents,
    /// Orders to the engines.
    inboxes: Vec<ShardInbox>,
    /// The rooms that the shards were told to open: they hold their channels.
    open: Vec<ShardInput>,
    /// What the clients' SDP says, held back while this is `Some`.
    pub(super) late_sdp: Option<Vec<Command>>,
}

impl Server {
    pub(super) fn new(seed: u64, now: Instant, spread: bool) -> Server {
        let certificate = Arc::new(ServerCertificate::generate().expect("a certificate"));
        let engine = |seed| {
            let config = EngineConfig {
                seed,
                certificate: certificate.clone(),
                wall_clock: Duration::from_secs(1_700_000_000),
            };
            Engine::new(config, now)
        };
        let count = if spread { 2 } else { 1 };
        let (handles, inboxes) = [ADDRESS, FAR_ADDRESS]
            .into_iter()
            .take(count)
            .map(shard)
            .unzip();
        let media = Media::with_spreading(handles, certificate.fingerprint(), ALWAYS);
        let (room, room_events) = media.place_room();
        Server {
            engine: engine(seed),
            far: spread.then(|| engine(seed + 1)),
            events: Vec::new(),
            published: Vec::new(),
            room,
            _room_events: room_events,
            inboxes,
            open: Vec::new(),
            late_sdp: None,
        }
    }

    /// The one room.
    pub(crate) fn room(&self) -> RoomId {
        self.room.room_id()
    }

    pub(super) fn publisher_id(&mut self) -> TransportId {
        self.room.place_publisher()
    }

    pub(super) fn subscriber_id(&mut self) -> TransportId {
        self.room.place_subscriber()
    }

    pub(super) fn track_id(&mut self) -> TrackId {
        self.room.track_id()
    }

    pub(super) fn subscription_id(&mut self) -> SubscriptionId {
        self.room.subscription_id()
    }

    pub(super) fn endpoint(&self, transport: TransportId, ice: IceCredentials) -> LocalEndpoint {
        let candidate = |address: &ShardAddress| Candidate {
            ip: address.ip,
            port: address.port,
            tcp: address.tcp,
        };
        LocalEndpoint {
            ice,
            fingerprint: self.room.fingerprint(),
            candidates: self
                .room
                .addresses(transport)
                .iter()
                .map(candidate)
                .collect(),
        }
    }

    /// Gives an order to the room's engines.
    pub(crate) fn command(&mut self, now: Instant, command: Command) {
        match &mut self.late_sdp {
            Some(late) if matches!(command, Command::SetRemote { .. }) => late.push(command),
            _ => {
                self.room.command(command);
                assert!(self.room.try_flush(), "the engines take orders at once");
                self.take_commands(now);
            }
        }
    }

    pub(super) fn set_remote(
        &mut self,
        now: Instant,
        transport: TransportId,
        remote: RemoteDescription,
    ) {
        let command = Command::SetRemote {
            transport,
            ice: remote.ice,
            fingerprint: remote.fingerprint,
        };
        self.command(now, command);
    }

    pub(super) fn owns(&self, address: SocketAddr) -> bool {
        address == ADDRESS || address == FAR_ADDRESS
    }

    pub(super) fn receive(
        &mut self,
        now: Instant,
        from: SocketAddr,
        to: SocketAddr,
        mut bytes: Vec<u8>,
    ) {
        let engine = match &mut self.far {
            Some(far) if to == FAR_ADDRESS => far,
            _ => &mut self.engine,
        };
        engine.handle_datagram(now, from, LocalSocket::default(), &mut bytes);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let engines = [Some(&self.engine), self.far.as_ref()];
        let timeouts = engines.into_iter().flatten().map(Engine::poll_timeout);
        timeouts.flatten().min()
    }

    pub(super) fn tick(&mut self, now: Instant) {
        let engines = [Some(&mut self.engine), self.far.as_mut()];
        for engine in engines.into_iter().flatten() {
            engine.handle_timeout(now);
            while let Some(event) = engine.poll_event() {
                // This room passes everything on at once.
                let (room, cost) = (event.room, event.event.window_cost());
                engine.handle_command(now, Command::DataTaken { room, cost });
                self.events.push(event.event);
            }
        }
        self.cross(now);
    }

    pub(super) fn drain(&mut self, now: Instant) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        let mut out = Vec::new();
        let home = (ADDRESS, Some(&mut self.engine));
        for (address, engine) in [home, (FAR_ADDRESS, self.far.as_mut())] {
            let Some(engine) = engine else {
                continue;
            };
            while let Some(transmits) = engine.poll_transmits(now) {
                for transmit in transmits {
                    let datagrams = transmit.datagrams().map(<[u8]>::to_vec);
                    out.extend(datagrams.map(|bytes| (address, transmit.destination, bytes)));
                }
            }
        }
        out
    }

    /// Carries what the engines have for each other.
    fn cross(&mut self, now: Instant) {
        let Some(far) = &mut self.far else {
            return;
        };
        let (home_id, far_id) = (ShardId(0), ShardId(1));
        let mut batch = RelayBatch::default();
        if self.engine.poll_relay(far_id, &mut batch) {
            far.handle_relay(now, now, home_id, &batch);
            batch.clear();
        }
        if far.poll_relay(home_id, &mut batch) {
            self.engine.handle_relay(now, now, far_id, &batch);
        }
    }

    fn take_commands(&mut self, now: Instant) {
        let engines = [Some(&mut self.engine), self.far.as_mut()];
        for (engine, inbox) in engines.into_iter().flatten().zip(&self.inboxes) {
            while let Some(input) = inbox.try_recv() {
                match input {
                    ShardInput::Command(command) => engine.handle_command(now, command),
                    open => self.open.push(open),
                }
            }
        }
    }
}

fn shard(address: SocketAddr) -> (ShardHandle, ShardInbox) {
    let ip: IpAddr = address.ip();
    let address = ShardAddress {
        ip,
        port: address.port(),
        tcp: false,
    };
    ShardHandle::new(|| {}, vec![address])
}
