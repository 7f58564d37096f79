//! A participant: one connection to publish on, one to subscribe on, and the links between it
//! and the server.

use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Instant;

use moim_client_transport::Identity;
use moim_engine::codec::Codec;
use moim_engine::command::SubscriptionSettings;
use moim_engine::ids::{SubscriptionId, TrackId, TransportId};

use super::connection::Connection;
use super::encoder::Video;
use super::network::Route;
use super::publication::{Audio, Publication};
use super::publisher::Publisher;
use super::reception::Reception;
use super::server::Server;
use super::subscriber::Subscriber;

const PUBLISHER_PORT: u16 = 5_000;
const SUBSCRIBER_PORT: u16 = 5_001;
/// The address of an office, whose members have two ports each from here on.
const OFFICE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OFFICE_PORTS: u16 = 10_000;

/// One participant.
pub(super) struct Client {
    index: usize,
    pub(super) up: Route,
    pub(super) down: Route,
    pub(super) publisher: Option<Publisher>,
    pub(super) subscriber: Option<Subscriber>,
    subscriptions: Vec<(TrackId, SubscriptionId)>,
    /// It is behind the address of an office, as others are.
    in_office: bool,
    /// Networks that it was on before.
    handed_over: u8,
    /// When something is to be done.
    pub(super) due: Option<Instant>,
    /// Something happened since datagrams were taken last.
    pub(super) touched: bool,
}

/// Whose address it is.
pub(super) fn index_of(address: SocketAddr) -> Option<usize> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    if *address.ip() == OFFICE {
        return Some(usize::from((address.port() - OFFICE_PORTS) / 2));
    }
    let [_, _, high, low] = address.ip().octets();
    Some(usize::from(high) << 8 | usize::from(low))
}

impl Client {
    pub(super) fn new(index: usize, up: Route, down: Route, in_office: bool) -> Client {
        Client {
            index,
            in_office,
            up,
            down,
            publisher: None,
            subscriber: None,
            subscriptions: Vec::new(),
            handed_over: 0,
            due: None,
            touched: false,
        }
    }

    fn address(&self, port: u16) -> SocketAddr {
        if self.in_office && self.handed_over == 0 {
            let port = OFFICE_PORTS + 2 * self.index as u16 + (port - PUBLISHER_PORT);
            return SocketAddr::from((OFFICE, port));
        }
        let [high, low] = (self.index as u16).to_be_bytes();
        let ip = Ipv4Addr::new(10, 1 + self.handed_over, high, low);
        SocketAddr::from((ip, port))
    }

    pub(super) fn open_publisher(
        &mut self,
        start: Instant,
        now: Instant,
        identity: &Identity,
        id: u32,
    ) -> &Connection {
        let address = self.address(PUBLISHER_PORT);
        let connection = Connection::new(now, identity, TransportId(id.into()), address);
        let publisher = Publisher::new(start, now, connection);
        &self.publisher.insert(publisher).connection
    }

    pub(super) fn open_subscriber(
        &mut self,
        start: Instant,
        now: Instant,
        identity: &Identity,
        id: u32,
    ) -> &Connection {
        let address = self.address(SUBSCRIBER_PORT);
        let connection = Connection::new(now, identity, TransportId(id.into()), address);
        let subscriber = Subscriber::new(start, now, connection);
        &self.subscriber.insert(subscriber).connection
    }

    pub(super) fn connection(&mut self, publishes: bool) -> &mut Connection {
        let publisher = self.publisher.as_mut().map(|side| &mut side.connection);
        let subscriber = self.subscriber.as_mut().map(|side| &mut side.connection);
        let connection = if publishes { publisher } else { subscriber };
        connection.expect("the connection is open")
    }

    pub(super) fn publish_video(
        &mut self,
        start: Instant,
        now: Instant,
        server: &mut Server,
        video: Video,
        seed: u64,
    ) -> TrackId {
        let publisher = self.publisher.as_mut().expect("a publishing connection");
        let mid = b'0' + publisher.publications.len() as u8;
        let track = server.add_track(now, publisher.connection.id, mid, Some(video));
        let seed = seed ^ (track.0 << 20);
        let publication = Publication::video(start, now, track, mid, video, seed);
        publisher.publications.push(publication);
        self.touch();
        track
    }

    pub(super) fn publish_audio(
        &mut self,
        start: Instant,
        now: Instant,
        server: &mut Server,
        audio: Audio,
        seed: u64,
    ) -> TrackId {
        let publisher = self.publisher.as_mut().expect("a publishing connection");
        let mid = b'0' + publisher.publications.len() as u8;
        let track = server.add_track(now, publisher.connection.id, mid, None);
        let seed = seed ^ (track.0 << 20);
        let publication = Publication::audio(start, now, track, mid, audio, seed);
        publisher.publications.push(publication);
        self.touch();
        track
    }

    pub(super) fn subscribe(
        &mut self,
        start: Instant,
        now: Instant,
        server: &mut Server,
        track: TrackId,
        codec: Codec,
        wish: SubscriptionSettings,
    ) {
        let subscriber = self.subscriber.as_mut().expect("a subscribing connection");
        let ssrc = 1_000_000 + 2 * server.next_id();
        let transport = subscriber.connection.id;
        let id = server.add_subscription(now, transport, track, codec, ssrc, wish);
        let reception = Reception::new(start, now, codec, ssrc);
        subscriber.receptions.push((track, reception));
        self.subscriptions.push((track, id));
        self.touch();
    }

    pub(super) fn subscription(&self, track: TrackId) -> SubscriptionId {
        let found = self.subscriptions.iter().find(|(of, _)| *of == track);
        found.expect("a subscription to the track").1
    }

    pub(super) fn reception(&self, track: TrackId) -> &Reception {
        let subscriber = self.subscriber.as_ref().expect("a subscribing connection");
        let found = subscriber.receptions.iter().find(|(of, _)| *of == track);
        &found.expect("a subscription to the track").1
    }

    pub(super) fn hand_over(&mut self, up: Route, down: Route) {
        self.up = up;
        self.down = down;
        self.handed_over += 1;
        let ports = [PUBLISHER_PORT, SUBSCRIBER_PORT];
        let [publisher, subscriber] = ports.map(|port| self.address(port));
        if let Some(side) = &mut self.publisher {
            side.connection.address = publisher;
            side.connection.check();
        }
        if let Some(side) = &mut self.subscriber {
            side.connection.address = subscriber;
            side.connection.check();
        }
        self.touch();
    }

    pub(super) fn receive(&mut self, now: Instant, to: SocketAddr, bytes: &[u8]) {
        let publisher = self.publisher.as_mut();
        let subscriber = self.subscriber.as_mut();
        if let Some(side) = publisher.filter(|side| side.connection.address == to) {
            match bytes {
                [0..=3, ..] => side.connection.handle_stun(now, bytes),
                [128..=191, 192..=223, ..] => side.handle_rtcp(bytes.to_vec()),
                _ => {}
            }
        } else if let Some(side) = subscriber.filter(|side| side.connection.address == to) {
            match bytes {
                [0..=3, ..] => side.connection.handle_stun(now, bytes),
                [128..=191, 192..=223, ..] => side.handle_rtcp(now, bytes.to_vec()),
                [128..=191, ..] => side.handle_rtp(now, bytes.to_vec()),
                _ => {}
            }
        }
        self.touch();
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some(side) = &mut self.publisher {
            side.handle_timeout(now);
        }
        if let Some(side) = &mut self.subscriber {
            side.handle_timeout(now);
        }
        self.touch();
    }

    fn touch(&mut self) {
        let publisher = self.publisher.as_ref().map(Publisher::poll_timeout);
        let subscriber = self.subscriber.as_ref().map(Subscriber::poll_timeout);
        self.due = publisher.into_iter().chain(subscriber).min();
        self.touched = true;
    }

    /// What it sends, and from where.
    pub(super) fn take_outgoing(&mut self) -> Vec<(SocketAddr, Rc<[u8]>)> {
        self.touched = false;
        let publisher = self.publisher.as_mut().map(|side| &mut side.connection);
        let subscriber = self.subscriber.as_mut().map(|side| &mut side.connection);
        let mut out = Vec::new();
        for connection in publisher.into_iter().chain(subscriber) {
            let address = connection.address;
            let taken = connection.take_outgoing();
            out.extend(taken.into_iter().map(|bytes| (address, bytes)));
        }
        out
    }
}
