//! The engine with its two clients, on a virtual clock and without a network between them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moim_client_transport::Identity;
use moim_engine::codec::{Codec, MediaKind, PayloadTypes};
use moim_engine::command::{
    HeaderExtension, NewSubscription, NewTrack, NewTransport, Payload, ReceiveMapping,
    SubscriptionSettings, TrackSource,
};
use moim_engine::ids::{RoomId, SubscriptionId, TrackId, TransportId};
use moim_engine::io::{EngineConfig, LocalSocket};
use moim_engine::transport::ServerCertificate;
use moim_engine::{Command, Engine};

use crate::client::Client;

const SERVER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 7_882));
const ROOM: RoomId = RoomId(1);
const TRACK: TrackId = TrackId(1);
const SUBSCRIPTION: SubscriptionId = SubscriptionId(1);
/// SSRC of the subscriber's media; the next one is that of retransmissions.
const SSRC: u32 = 70_000;
/// The track's m-line.
const MID: &str = "v";
/// Header extension ids of the publisher.
const EXTENSIONS: [(u8, HeaderExtension); 4] = [
    (1, HeaderExtension::Mid),
    (2, HeaderExtension::Rid),
    (3, HeaderExtension::RepairedRid),
    (4, HeaderExtension::DependencyDescriptor),
];
/// Turns in which a handshake is done.
const HANDSHAKE: usize = 50;

/// One meeting of two.
pub(crate) struct Session {
    start: Instant,
    now: Instant,
    engine: Engine,
    publisher: Client,
    subscriber: Client,
}

impl Session {
    /// Both connected, the one publishing, the other subscribed.
    pub(crate) fn new(seed: u64, codec: Codec, rids: Vec<String>) -> anyhow::Result<Session> {
        let now = Instant::now();
        let config = EngineConfig {
            seed,
            certificate: Arc::new(ServerCertificate::generate()?),
            wall_clock: Duration::from_secs(1_700_000_000),
        };
        let identity = Identity::new()?;
        let client = |id, port| {
            let address = SocketAddr::from(([10, 0, 1, 1], port));
            Client::new(now, &identity, TransportId(id), address, SERVER)
        };
        let mut session = Session {
            start: now,
            now,
            engine: Engine::new(config, now),
            publisher: client(1, 5_000),
            subscriber: client(2, 5_001),
        };
        session.accept(&identity, codec);
        for _ in 0..HANDSHAKE {
            session.publisher.handle_timeout(now);
            session.subscriber.handle_timeout(now);
            session.engine.handle_timeout(now);
            session.exchange();
        }
        let secure = session.publisher.is_secure() && session.subscriber.is_secure();
        anyhow::ensure!(secure, "the handshakes came to no end");
        session.publish(codec, rids);
        Ok(session)
    }

    fn command(&mut self, command: Command) {
        self.engine.handle_command(self.now, command);
    }

    /// The server's ends of both connections.
    fn accept(&mut self, identity: &Identity, codec: Codec) {
        let repair = codec.rtx_payload_type().map(|payload_type| {
            let payload = Payload::Rtx(codec);
            (payload_type, payload)
        });
        let mapping = Arc::new(ReceiveMapping {
            payload_types: [(codec.payload_type(), Payload::Media(codec))]
                .into_iter()
                .chain(repair)
                .collect(),
            extensions: EXTENSIONS.to_vec(),
        });
        for client in [&self.publisher, &self.subscriber] {
            let transport = client.id;
            let new = NewTransport {
                transport,
                room: ROOM,
                local_ice: client.server_ice.clone(),
                opens_data_channels: false,
            };
            let commands = [
                Command::AddTransport(Box::new(new)),
                Command::SetRemote {
                    transport,
                    ice: client.local_ice.clone(),
                    fingerprint: identity.fingerprint(),
                },
                Command::SetReceive {
                    transport,
                    mapping: mapping.clone(),
                },
            ];
            for command in commands {
                self.engine.handle_command(self.now, command);
            }
        }
    }

    fn publish(&mut self, codec: Codec, rids: Vec<String>) {
        self.command(Command::AddTrack(Box::new(NewTrack {
            track: TRACK,
            transport: self.publisher.id,
            kind: MediaKind::Video,
            screen: false,
            encrypted: false,
            source: TrackSource {
                mid: MID.to_owned(),
                rids,
                ssrcs: Vec::new(),
            },
        })));
        self.command(Command::AddSubscription(NewSubscription {
            shown_as: None,
            subscription: SUBSCRIPTION,
            track: TRACK,
            transport: self.subscriber.id,
            ssrc: SSRC,
            rtx_ssrc: codec.rtx_payload_type().map(|_| SSRC + 1),
            // Without reports what is wished is what is sent.
            transport_cc: false,
            payload_types: PayloadTypes::as_offered().without_red(),
            settings: SubscriptionSettings::default(),
        }));
    }

    /// Lets the time pass until `at` microseconds after the start.
    pub(crate) fn advance(&mut self, at: u64) {
        let end = self.start + Duration::from_micros(at);
        loop {
            let clients = [
                self.publisher.poll_timeout(),
                self.subscriber.poll_timeout(),
            ];
            let due = self.engine.poll_timeout().into_iter().chain(clients).min();
            self.now = due.unwrap_or(end).clamp(self.now, end.max(self.now));
            for client in [&mut self.publisher, &mut self.subscriber] {
                if client.poll_timeout() <= self.now {
                    client.handle_timeout(self.now);
                }
            }
            self.engine.handle_timeout(self.now);
            self.exchange();
            if self.now >= end {
                return;
            }
        }
    }

    pub(crate) fn wish(&mut self, wish: SubscriptionSettings) {
        self.command(Command::SetSubscription {
            subscription: SUBSCRIPTION,
            settings: wish,
        });
    }

    pub(crate) fn mute(&mut self, muted: bool) {
        self.command(Command::SetTrackMuted {
            track: TRACK,
            muted,
        });
    }

    /// A plain packet of the publisher.
    pub(crate) fn publisher_sends(&mut self, packet: Vec<u8>) {
        self.publisher.send(packet);
        self.exchange();
    }

    /// A plain packet of the subscriber.
    pub(crate) fn subscriber_sends(&mut self, packet: Vec<u8>) {
        self.subscriber.send(packet);
        self.exchange();
    }

    /// What has arrived at the publisher and at the subscriber since the last call.
    pub(crate) fn take_sent(&mut self) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
        (
            std::mem::take(&mut self.publisher.arrived),
            std::mem::take(&mut self.subscriber.arrived),
        )
    }

    /// Carries datagrams both ways.
    fn exchange(&mut self) {
        for client in [&mut self.publisher, &mut self.subscriber] {
            for mut datagram in client.take_outgoing() {
                let (from, local) = (client.address, LocalSocket::default());
                self.engine
                    .handle_datagram(self.now, from, local, &mut datagram);
            }
        }
        while self.engine.poll_event().is_some() {}
        while let Some(transmits) = self.engine.poll_transmits(self.now) {
            for transmit in transmits {
                for client in [&mut self.publisher, &mut self.subscriber] {
                    if client.address == transmit.destination {
                        for datagram in transmit.datagrams() {
                            client.receive(self.now, datagram);
                        }
                    }
                }
            }
        }
    }
}
