//! Whole meetings on bad networks: the engine on one side, lean clients on the other, a virtual
//! clock and a seed.
//!
//! A lean client does ICE, DTLS and SRTP as every other, then sends what a browser's encoders
//! would and gives the feedback that libwebrtc gives. Its handshakes are done in no time and
//! on no link, because keys and signatures are not seeded and of varying size. What comes after
//! depends on the seed alone.

mod arrivals;
mod client;
mod connection;
mod decoder;
mod encoder;
mod network;
mod packet;
mod publication;
mod publisher;
mod reception;
mod rtcp;
mod server;
mod subscriber;
mod tcp;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use moim_client_transport::Identity;
use moim_engine::Command;
use moim_engine::codec::Codec;
use moim_engine::command::SubscriptionSettings;
use moim_engine::ids::TrackId;
use moim_engine::io::EngineStatistics;
use moim_network::{LinkConfig, Statistics};

use client::Client;
pub(crate) use decoder::Shown;
pub(crate) use encoder::Video;
use network::{Body, Network};
pub(crate) use network::{LinkId, LinkLog, Route};
pub(crate) use publication::Audio;
pub(crate) use publisher::Told;
pub(crate) use reception::{Received, Reception};
use server::Server;
use tcp::TcpFlow;

/// The server's estimates are looked at this often.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(100);

/// A participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClientId(usize);

/// A TCP flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FlowId(usize);

/// A published track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Track {
    id: TrackId,
    publisher: ClientId,
    codec: Codec,
}

struct Flow {
    sender: TcpFlow,
    down: Route,
    up: Route,
}

/// One datagram of a trace: when it left whom for whom, its size, and a print of the part that
/// is in the clear.
pub(crate) type Traced = (Duration, SocketAddr, SocketAddr, usize, u32);

/// A meeting under way.
pub(crate) struct Meeting {
    start: Instant,
    now: Instant,
    pub(crate) seed: u64,
    server: Server,
    network: Network,
    clients: Vec<Client>,
    flows: Vec<Flow>,
    identity: Identity,
    office: bool,
    /// When the server's estimates are looked at next.
    sample_due: Instant,
    /// Every datagram, when tracing.
    trace: Option<Vec<Traced>>,
}

impl Meeting {
    /// An empty one. The same seed and the same calls give the same meeting.
    pub(crate) fn new(seed: u64) -> Meeting {
        let now = Instant::now();
        let identity = Identity::new().expect("a certificate");
        let fingerprint = identity.fingerprint();
        Meeting {
            start: now,
            now,
            seed,
            server: Server::new(seed, now, fingerprint),
            network: Network::new(now, seed),
            clients: Vec::new(),
            flows: Vec::new(),
            identity,
            office: false,
            sample_due: now,
            trace: None,
        }
    }

    /// Keeps a record of every datagram from now on.
    pub(crate) fn start_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// The record.
    pub(crate) fn trace(&self) -> &[Traced] {
        self.trace.as_deref().unwrap_or(&[])
    }

    /// Time since the meeting began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Adds one direction of a link.
    pub(crate) fn link(&mut self, config: LinkConfig) -> LinkId {
        self.network.add_link(self.now, config)
    }

    /// Changes a link.
    pub(crate) fn set_link(&mut self, link: LinkId, change: impl FnOnce(&mut LinkConfig)) {
        let mut config = self.network.link_config(link);
        change(&mut config);
        self.network.set_link(self.now, link, config);
    }

    /// What happened on a link.
    pub(crate) fn log(&self, link: LinkId) -> &LinkLog {
        self.network.log(link)
    }

    /// A link's counts.
    pub(crate) fn link_statistics(&self, link: LinkId) -> Statistics {
        self.network.statistics(link)
    }

    /// A participant behind these links, those towards it in the order from the server.
    pub(crate) fn join(&mut self, up: &[LinkId], down: &[LinkId]) -> ClientId {
        let (index, office) = (self.clients.len(), self.office);
        self.clients
            .push(Client::new(index, up.into(), down.into(), office));
        ClientId(index)
    }

    /// Who joins from now on is behind one address with the others who do.
    pub(crate) fn open_office(&mut self) {
        self.office = true;
    }

    /// The participant publishes a camera or screen. Its first frame comes at once.
    pub(crate) fn publish(&mut self, client: ClientId, video: Video) -> Track {
        self.connect_publisher(client);
        let seed = self.seed;
        let (now, start, server) = (self.now, self.start, &mut self.server);
        let id = self.clients[client.0].publish_video(start, now, server, video, seed);
        let codec = if video == Video::Svc {
            Codec::Vp9
        } else {
            Codec::Vp8
        };
        Track {
            id,
            publisher: client,
            codec,
        }
    }

    /// The participant publishes a microphone.
    pub(crate) fn publish_audio(&mut self, client: ClientId, audio: Audio) -> Track {
        self.connect_publisher(client);
        let seed = self.seed;
        let (now, start, server) = (self.now, self.start, &mut self.server);
        let id = self.clients[client.0].publish_audio(start, now, server, audio, seed);
        Track {
            id,
            publisher: client,
            codec: Codec::Opus,
        }
    }

    /// The participant subscribes to a track.
    pub(crate) fn subscribe(&mut self, client: ClientId, track: Track) {
        self.subscribe_as(client, track, SubscriptionSettings::default());
    }

    /// As [`Meeting::subscribe`], for what it wants of the track.
    pub(crate) fn subscribe_as(
        &mut self,
        client: ClientId,
        track: Track,
        wish: SubscriptionSettings,
    ) {
        if self.clients[client.0].subscriber.is_none() {
            let (now, start) = (self.now, self.start);
            let id = self.server.next_id();
            let connection = self.clients[client.0].open_subscriber(start, now, &self.identity, id);
            self.server.accept(now, connection);
            self.handshake(client.0, false);
        }
        let (now, start) = (self.now, self.start);
        let client = &mut self.clients[client.0];
        client.subscribe(start, now, &mut self.server, track.id, track.codec, wish);
        self.collect();
    }

    /// Changes what a subscriber wants of a track.
    pub(crate) fn wish(&mut self, client: ClientId, track: Track, wish: SubscriptionSettings) {
        let subscription = self.clients[client.0].subscription(track.id);
        let command = Command::SetSubscription {
            subscription,
            settings: wish,
        };
        self.server.command(self.now, command);
    }

    /// The publisher mutes a track, or does so no longer.
    pub(crate) fn mute(&mut self, track: Track, muted: bool) {
        let command = Command::SetTrackMuted {
            track: track.id,
            muted,
        };
        self.server.command(self.now, command);
        self.publication(track, |publication| publication.muted = muted);
    }

    /// Somebody begins or ends to speak.
    pub(crate) fn speak(&mut self, track: Track, speaking: bool) {
        self.publication(track, |publication| publication.set_speaking(speaking));
    }

    /// The publisher probes its network with this many packets.
    pub(crate) fn probe(&mut self, track: Track, packets: u32) {
        self.publication(track, |publication| publication.padding = packets);
    }

    /// Which layers the publisher sends, lowest first.
    pub(crate) fn set_layers(&mut self, track: Track, wanted: &[bool]) {
        self.publication(track, |publication| publication.set_layers(wanted));
    }

    fn publication(&mut self, track: Track, change: impl FnOnce(&mut publication::Publication)) {
        let publisher = self.clients[track.publisher.0].publisher.as_mut();
        let publications = publisher.map(|publisher| &mut publisher.publications);
        let mut all = publications.into_iter().flatten();
        if let Some(publication) = all.find(|publication| publication.track == track.id) {
            change(publication);
        }
    }

    /// The participant's network changes: another address, other links. What is under way on
    /// the old ones still arrives at the server; what is sent to the old address is lost. It
    /// checks the new way at once.
    pub(crate) fn hand_over(&mut self, client: ClientId, up: &[LinkId], down: &[LinkId]) {
        self.clients[client.0].hand_over(up.into(), down.into());
        self.collect();
    }

    /// Starts a TCP flow through these links, of this many bytes or without an end.
    pub(crate) fn tcp(&mut self, up: &[LinkId], down: &[LinkId], bytes: Option<u64>) -> FlowId {
        self.flows.push(Flow {
            sender: TcpFlow::new(self.now, bytes),
            down: down.into(),
            up: up.into(),
        });
        FlowId(self.flows.len() - 1)
    }

    /// Ends one.
    pub(crate) fn stop_tcp(&mut self, flow: FlowId) {
        self.flows[flow.0].sender.stopped = true;
    }

    /// Whether a flow has delivered all.
    pub(crate) fn tcp_done(&self, flow: FlowId) -> bool {
        self.flows[flow.0].sender.is_done()
    }

    /// Bytes that a flow has delivered, headers included.
    pub(crate) fn tcp_bytes(&self, flow: FlowId) -> u64 {
        self.flows[flow.0].sender.delivered * tcp::SEGMENT as u64
    }

    /// What a participant receives of a track.
    pub(crate) fn reception(&self, client: ClientId, track: Track) -> &Reception {
        self.clients[client.0].reception(track.id)
    }

    /// Shorthand for what arrived.
    pub(crate) fn received(&self, client: ClientId, track: Track) -> &Received {
        self.reception(client, track).received()
    }

    /// Shorthand for what is shown.
    pub(crate) fn shown(&self, client: ClientId, track: Track) -> &Shown {
        self.reception(client, track).shown()
    }

    /// Bytes that arrived at a subscriber as RTP of any kind, in tenths of a second.
    pub(crate) fn arrived(&self, client: ClientId) -> &[u64] {
        let subscriber = self.clients[client.0].subscriber.as_ref();
        subscriber.map_or(&[], |subscriber| &subscriber.bytes)
    }

    /// What the server took a subscriber's network to carry, in bits a second: ten times a second
    /// while it was known.
    pub(crate) fn estimates(&self, client: ClientId) -> &[(Duration, u64)] {
        let subscriber = self.clients[client.0].subscriber.as_ref();
        subscriber.map_or(&[], |subscriber| &subscriber.estimates)
    }

    /// Keyframes that a subscriber asked for.
    pub(crate) fn keyframe_requests(&self, client: ClientId) -> u32 {
        let subscriber = self.clients[client.0].subscriber.as_ref();
        subscriber.map_or(0, |subscriber| subscriber.keyframe_requests)
    }

    /// A subscriber does not ask for what it misses.
    pub(crate) fn never_ask(&mut self, client: ClientId) {
        if let Some(subscriber) = &mut self.clients[client.0].subscriber {
            subscriber.asks = false;
        }
    }

    /// What the server told a publisher.
    pub(crate) fn told(&self, client: ClientId) -> Told {
        let publisher = self.clients[client.0].publisher.as_ref();
        publisher.map_or(Told::default(), |publisher| publisher.told)
    }

    /// Audio frames with sound that a publisher made.
    pub(crate) fn audio_frames(&mut self, track: Track) -> u32 {
        let mut frames = 0;
        self.publication(track, |publication| frames = publication.frames);
        frames
    }

    /// The engine's counters.
    pub(crate) fn statistics(&self) -> EngineStatistics {
        self.server.engine.statistics()
    }

    fn connect_publisher(&mut self, client: ClientId) {
        if self.clients[client.0].publisher.is_some() {
            return;
        }
        let (now, start) = (self.now, self.start);
        let id = self.server.next_id();
        let connection = self.clients[client.0].open_publisher(start, now, &self.identity, id);
        self.server.accept(now, connection);
        self.handshake(client.0, true);
    }

    /// ICE and DTLS of one connection, in no time.
    fn handshake(&mut self, client: usize, publishes: bool) {
        let now = self.now;
        for _ in 0..50 {
            let connection = self.clients[client].connection(publishes);
            connection.handle_timeout(now);
            let address = connection.address;
            for datagram in connection.take_outgoing() {
                self.server.receive(now, address, &mut datagram.to_vec());
            }
            self.server.engine.handle_timeout(now);
            let mut others: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
            let connection = self.clients[client].connection(publishes);
            self.server
                .drain(now, |to, bytes| match (to == address, bytes.first()) {
                    (true, Some(0..=3)) => connection.handle_stun(now, bytes),
                    (true, Some(20..=63)) => connection.handle_dtls(now, bytes),
                    _ => others.push((to, bytes.to_vec())),
                });
            for (to, bytes) in others {
                self.send_to_client(to, &bytes);
            }
            let connection = self.clients[client].connection(publishes);
            if connection.is_secure() {
                return;
            }
        }
        panic!("the handshake came to no end");
    }

    /// Lets the time pass.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let next = self.next_step().filter(|next| *next < end);
            self.now = next.unwrap_or(end).max(self.now);
            self.step();
            if next.is_none() {
                return;
            }
        }
    }

    fn next_step(&self) -> Option<Instant> {
        let clients = self.clients.iter().filter_map(|client| client.due);
        let flows = self
            .flows
            .iter()
            .filter_map(|flow| flow.sender.poll_timeout());
        [self.network.poll_timeout(), self.server.poll_timeout()]
            .into_iter()
            .flatten()
            .chain(clients)
            .chain(flows)
            .min()
    }

    fn step(&mut self) {
        let now = self.now;
        self.network.advance(now);
        while let Some(body) = self.network.poll_arrived() {
            self.deliver(body);
        }
        if self.server.poll_timeout().is_some_and(|due| due <= now) {
            self.server.handle_timeout(now);
        }
        for client in &mut self.clients {
            if client.due.is_some_and(|due| due <= now) {
                client.handle_timeout(now);
            }
        }
        for index in 0..self.flows.len() {
            self.flows[index].sender.handle_timeout(now);
            self.send_tcp(index);
        }
        while self.server.poll_event().is_some() {}
        self.sample();
        self.collect();
    }

    /// Notes the server's estimates.
    fn sample(&mut self) {
        if self.now < self.sample_due {
            return;
        }
        self.sample_due = self.now + SAMPLE_INTERVAL;
        let at = self.now - self.start;
        for subscriber in self
            .clients
            .iter_mut()
            .filter_map(|client| client.subscriber.as_mut())
        {
            let estimate = self.server.engine.estimate(subscriber.connection.id);
            subscriber.estimates.extend(estimate.map(|bps| (at, bps)));
        }
    }

    fn deliver(&mut self, body: Body) {
        let now = self.now;
        match body {
            Body::Udp { from, to, bytes } if to == server::ADDRESS => {
                self.server.receive(now, from, &mut bytes.to_vec());
            }
            Body::Udp { to, bytes, .. } => {
                if let Some(index) = client::index_of(to)
                    && let Some(client) = self.clients.get_mut(index)
                {
                    client.receive(now, to, &bytes);
                }
            }
            Body::Tcp {
                flow,
                segment,
                acknowledges: true,
            } => self.flows[flow].sender.acknowledged(now, segment),
            Body::Tcp { flow, segment, .. } => {
                let up = self.flows[flow].up.clone();
                let body = Body::Tcp {
                    flow,
                    segment,
                    acknowledges: true,
                };
                self.network.send(now, &up, tcp::ACKNOWLEDGEMENT, body);
            }
        }
    }

    fn send_tcp(&mut self, flow: usize) {
        while let Some(segment) = self.flows[flow].sender.poll_send(self.now) {
            let body = Body::Tcp {
                flow,
                segment,
                acknowledges: false,
            };
            let down = self.flows[flow].down.clone();
            self.network.send(self.now, &down, tcp::SEGMENT, body);
        }
    }

    /// Puts what everybody has to send onto the network.
    fn collect(&mut self) {
        let mut sent: Vec<(SocketAddr, Rc<[u8]>)> = Vec::new();
        self.server
            .drain(self.now, |to, bytes| sent.push((to, bytes.into())));
        for (to, bytes) in sent {
            self.send_to_client(to, &bytes);
        }
        for index in 0..self.clients.len() {
            if !self.clients[index].touched {
                continue;
            }
            for (from, bytes) in self.clients[index].take_outgoing() {
                self.note(from, server::ADDRESS, &bytes);
                let up = self.clients[index].up.clone();
                self.network
                    .send_udp(self.now, &up, from, server::ADDRESS, &bytes);
            }
        }
    }

    fn send_to_client(&mut self, to: SocketAddr, bytes: &[u8]) {
        self.note(server::ADDRESS, to, bytes);
        let client = client::index_of(to).and_then(|index| self.clients.get(index));
        if let Some(client) = client {
            let down = client.down.clone();
            self.network
                .send_udp(self.now, &down, server::ADDRESS, to, bytes);
        }
    }

    fn note(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let at = self.now - self.start;
        if let Some(trace) = &mut self.trace {
            // Headers of RTP and RTCP; checks and handshakes have random bytes early.
            let clear = if bytes[0] >= 128 {
                bytes.len().min(8)
            } else {
                1
            };
            trace.push((at, from, to, bytes.len(), crc32fast::hash(&bytes[..clear])));
        }
    }
}
