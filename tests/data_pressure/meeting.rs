//! A room with one sender and several receivers, on one shard or on two.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moim::media::handle::{
    EventSender, Media, RoomEvents, RoomMedia, ShardAddress, ShardHandle, ShardInbox, ShardInput,
};
use moim::media::placement::Spreading;
use moim_client_transport::{Identity, Transport};
use moim_engine::RelayBatch;
use moim_engine::command::{Command, IceCredentials, NewTransport};
use moim_engine::ids::{ShardId, TransportId};
use moim_engine::io::{EngineConfig, LocalSocket};
use moim_engine::transport::ServerCertificate;
use moim_engine::{Engine, Event};

/// Every receiver is on another shard than the sender.
const ALWAYS: Spreading = Spreading {
    busy: 0,
    connections: 0,
    margin: i32::MIN,
};
/// The time moves on by this much.
const STEP: Duration = Duration::from_millis(1);
/// The fastest that anybody sends to the server.
const UPLINK: Network = Network {
    rate: 50e6,
    delay: Duration::from_millis(2),
    queue: 1 << 20,
};

/// What lies between the server and a client, one way.
#[derive(Clone, Copy)]
pub(crate) struct Network {
    /// Bytes a second.
    pub(crate) rate: f64,
    pub(crate) delay: Duration,
    /// Bytes that wait before the bottleneck; more are lost.
    pub(crate) queue: usize,
}

struct Link {
    network: Network,
    /// When the bottleneck has sent what waits before it.
    free: Instant,
    under_way: VecDeque<(Instant, Vec<u8>)>,
}

impl Link {
    fn new(network: Network, now: Instant) -> Link {
        Link {
            network,
            free: now,
            under_way: VecDeque::new(),
        }
    }

    fn send(&mut self, now: Instant, datagram: Vec<u8>) {
        self.free = self.free.max(now);
        let waiting = (self.free - now).as_secs_f64() * self.network.rate;
        if waiting > self.network.queue as f64 {
            return;
        }
        self.free += Duration::from_secs_f64(datagram.len() as f64 / self.network.rate);
        let arrives = self.free + self.network.delay;
        self.under_way.push_back((arrives, datagram));
    }

    fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        let arrives = self.under_way.front()?.0;
        (arrives <= now)
            .then(|| self.under_way.pop_front())?
            .map(|(_, datagram)| datagram)
    }
}

struct Client {
    id: TransportId,
    address: SocketAddr,
    shard: usize,
    transport: Transport,
    connects: Instant,
    up: Link,
    down: Link,
    /// Nothing that the server sends reaches it but answers to its checks.
    deaf: bool,
    got: Vec<u32>,
}

struct Shard {
    engine: Engine,
    inbox: ShardInbox,
    address: SocketAddr,
    room: Option<EventSender>,
}

pub(crate) struct Meeting {
    pub(crate) now: Instant,
    /// Receivers that stalled, or read again.
    pub(crate) stalls: Vec<(usize, bool)>,
    pub(crate) failures: Vec<String>,
    /// The room does nothing with what it hears of.
    pub(crate) is_idle: bool,
    identity: Identity,
    shards: Vec<Shard>,
    media: Media,
    room: RoomMedia,
    events: RoomEvents,
    /// The first is the sender.
    clients: Vec<Client>,
}

impl Meeting {
    pub(crate) fn new(seed: u64, spread: bool) -> Meeting {
        let now = Instant::now();
        let certificate = Arc::new(ServerCertificate::generate().expect("a certificate"));
        let identity = Identity::new().expect("a certificate");
        let count = if spread { 2 } else { 1 };
        let mut handles = Vec::new();
        let mut shards = Vec::new();
        for index in 0..count {
            let address = SocketAddr::from(([10, 0, 0, 1], 7_882 + index));
            let (handle, inbox) = shard_handle(address);
            handles.push(handle);
            let config = EngineConfig {
                seed: seed + u64::from(index),
                certificate: certificate.clone(),
                wall_clock: Duration::from_secs(1_700_000_000),
            };
            shards.push(Shard {
                engine: Engine::new(config, now),
                inbox,
                address,
                room: None,
            });
        }
        let media = Media::with_spreading(handles, certificate.fingerprint(), ALWAYS);
        let (room, events) = media.place_room();
        let mut meeting = Meeting {
            now,
            stalls: Vec::new(),
            failures: Vec::new(),
            is_idle: false,
            identity,
            shards,
            media,
            room,
            events,
            clients: Vec::new(),
        };
        let sender = meeting.room.place_publisher();
        meeting.connect(sender, UPLINK, Duration::ZERO);
        meeting.clients[0].transport.open_reliable();
        meeting
    }

    /// Adds a receiver, which begins to connect after a while.
    pub(crate) fn join(&mut self, network: Network, after: Duration) {
        let id = self.room.place_subscriber();
        self.connect(id, network, after);
    }

    fn connect(&mut self, id: TransportId, network: Network, after: Duration) {
        let number = self.clients.len() as u8;
        let ice = |side: &str| IceCredentials {
            ufrag: format!("{side}{number}"),
            pwd: format!("a-long-password-of-{side}-{number}"),
        };
        let (local, remote) = (ice("client"), ice("server"));
        let room = self.room.room_id();
        self.room
            .command(Command::AddTransport(Box::new(NewTransport {
                transport: id,
                room,
                local_ice: remote.clone(),
                opens_data_channels: number > 0,
            })));
        self.room.command(Command::SetRemote {
            transport: id,
            ice: local.clone(),
            fingerprint: self.identity.fingerprint(),
        });
        let port = self.room.addresses(id)[0].port;
        let shard = usize::from(port - self.shards[0].address.port());
        let server = self.shards[shard].address;
        let (now, identity) = (self.now, &self.identity);
        let transport = Transport::new(now, identity, &local, &remote, server, true);
        self.clients.push(Client {
            id,
            address: SocketAddr::from(([10, 0, 1, number], 5_000)),
            shard,
            transport: transport.with_data_channels(),
            connects: now + after,
            up: Link::new(UPLINK, now),
            down: Link::new(network, now),
            deaf: false,
            got: Vec::new(),
        });
    }

    /// Sends a message with a number to everybody. False when the sender is to wait.
    pub(crate) fn send(&mut self, number: u32, len: usize) -> bool {
        let message = message(number, len);
        self.clients[0].transport.send_reliable(self.now, &message)
    }

    /// From now on nothing reaches a receiver, or everything does again.
    pub(crate) fn set_deaf(&mut self, receiver: usize, deaf: bool) {
        self.clients[receiver + 1].deaf = deaf;
    }

    /// The room's task is gone, with orders that it had not handed over; the shards hear of it.
    pub(crate) fn drop_room(&mut self) {
        self.join(UPLINK, Duration::ZERO);
        (self.room, self.events) = self.media.place_room();
        self.is_idle = true;
        self.run(STEP);
    }

    /// Connections on all shards.
    pub(crate) fn transports(&self) -> u64 {
        let engines = self.shards.iter().map(|shard| &shard.engine);
        engines.map(|engine| engine.statistics().transports).sum()
    }

    /// Messages that the room has been given.
    pub(crate) fn messages_in(&self) -> u64 {
        let engines = self.shards.iter().map(|shard| &shard.engine);
        engines.map(|engine| engine.statistics().messages_in).sum()
    }

    /// The numbers of the messages that each receiver has got.
    pub(crate) fn receivers(&self) -> impl Iterator<Item = &[u32]> {
        self.clients.iter().skip(1).map(|client| &client.got[..])
    }

    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += STEP;
            self.step();
        }
    }

    pub(crate) fn run_until(&mut self, limit: Duration, done: impl Fn(&Meeting) -> bool) -> bool {
        let end = self.now + limit;
        while self.now < end && !done(self) {
            self.run(5 * STEP);
        }
        done(self)
    }

    fn step(&mut self) {
        let now = self.now;
        for client in &mut self.clients {
            client.step(now);
            let shard = &mut self.shards[client.shard];
            while let Some(mut datagram) = client.up.receive(now) {
                let (from, socket) = (client.address, LocalSocket::default());
                shard
                    .engine
                    .handle_datagram(now, from, socket, &mut datagram);
            }
        }
        if !self.is_idle {
            self.pass_on();
        }
        for shard in &mut self.shards {
            shard.step(now);
        }
        self.cross();
        for index in 0..self.shards.len() {
            self.send_out(index);
        }
    }

    /// What the room does: every message goes to all others.
    fn pass_on(&mut self) {
        while let Some(event) = self.events.try_recv() {
            match event {
                Event::Data {
                    transport,
                    channel,
                    payload,
                } => {
                    let clients = self.clients.iter().map(|client| client.id);
                    self.room.command(Command::SendData {
                        transports: clients.filter(|id| *id != transport).collect(),
                        channel,
                        payload,
                        from: Some(transport.into()),
                    });
                }
                Event::DataStalled { transport, stalled } => {
                    let mut receivers = self.clients.iter().skip(1);
                    let index = receivers.position(|client| client.id == transport);
                    self.stalls.push((index.expect("a receiver"), stalled));
                }
                Event::TransportFailed { reason, .. } => self.failures.push(reason),
                Event::ShardEnded => self.failures.push("the room was ended".into()),
                _ => {}
            }
        }
        self.room.try_flush();
    }

    fn cross(&mut self) {
        let [home, far] = &mut self.shards[..] else {
            return;
        };
        let (home_id, far_id) = (ShardId(0), ShardId(1));
        let mut batch = RelayBatch::default();
        if home.engine.poll_relay(far_id, &mut batch) {
            far.engine.handle_relay(self.now, self.now, home_id, &batch);
            batch.clear();
        }
        if far.engine.poll_relay(home_id, &mut batch) {
            home.engine.handle_relay(self.now, self.now, far_id, &batch);
        }
    }

    fn send_out(&mut self, index: usize) {
        let engine = &mut self.shards[index].engine;
        while let Some(transmits) = engine.poll_transmits(self.now) {
            for transmit in transmits {
                let mut clients = self.clients.iter_mut();
                let client = clients.find(|client| client.address == transmit.destination);
                let Some(client) = client else {
                    continue;
                };
                for datagram in transmit.datagrams() {
                    client.down.send(self.now, datagram.to_vec());
                }
            }
        }
    }
}

impl Client {
    fn step(&mut self, now: Instant) {
        if now < self.connects {
            return;
        }
        while let Some(datagram) = self.down.receive(now) {
            // RFC 7983: STUN is below 4, DTLS from 20 to 63.
            match datagram.first() {
                Some(0..=3) => self.transport.handle_stun(now, &datagram),
                Some(20..=63) if !self.deaf => {
                    self.transport.handle_dtls(now, &datagram);
                }
                _ => {}
            }
        }
        if self.transport.poll_timeout() <= now {
            self.transport.handle_timeout(now);
        }
        for datagram in self.transport.take_outgoing() {
            self.up.send(now, datagram.to_vec());
        }
        let messages = self.transport.take_messages();
        self.got
            .extend(messages.iter().map(|message| number_of(message)));
    }
}

impl Shard {
    fn step(&mut self, now: Instant) {
        while let Some(input) = self.inbox.try_recv() {
            match input {
                ShardInput::Command(command) => self.engine.handle_command(now, command),
                ShardInput::OpenRoom(_, sender) => self.room = Some(sender),
                ShardInput::CloseRoom(room) => {
                    let close = Command::CloseRoom(room);
                    self.engine.handle_command(now, close);
                }
            }
        }
        self.engine.handle_timeout(now);
        while let Some(event) = self.engine.poll_event() {
            let room = self.room.as_ref().expect("the room is open");
            room.try_send(event.event).expect("the room keeps up");
        }
    }
}

fn shard_handle(address: SocketAddr) -> (ShardHandle, ShardInbox) {
    let ip: IpAddr = address.ip();
    let address = ShardAddress {
        ip,
        port: address.port(),
        tcp: false,
    };
    ShardHandle::new(|| {}, vec![address])
}

/// A message that tells its number, and whether it is whole.
fn message(number: u32, len: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(8 + len);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&(len as u32).to_be_bytes());
    bytes.extend((0..len).map(|index| filling(number, index)));
    bytes.into()
}

fn filling(number: u32, index: usize) -> u8 {
    (number as usize).wrapping_mul(31).wrapping_add(index) as u8
}

/// The number of a message, which must be whole.
fn number_of(message: &[u8]) -> u32 {
    let field = |at: usize| u32::from_be_bytes(message[at..at + 4].try_into().expect("4 bytes"));
    let (number, len) = (field(0), field(4) as usize);
    let contents = &message[8..];
    assert_eq!(contents.len(), len, "message {number} is cut");
    let whole = contents.iter().enumerate();
    assert!(
        whole
            .into_iter()
            .all(|(index, byte)| *byte == filling(number, index))
    );
    number
}
