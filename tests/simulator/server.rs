//! The engine as the only part of the server, with the SDP negotiation beside it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moim::media::codec::MediaKind;
use moim::media::engine::ids::{RoomId, SubscriptionId, TrackId, TransportId};
use moim::media::engine::io::{EngineConfig, LocalSocket};
use moim::media::engine::transport::ServerCertificate;
use moim::media::engine::{Command, Engine, Event};
use moim::media::negotiation::{Candidate, LocalEndpoint, RemoteDescription};

/// Where the server is.
pub(crate) const ADDRESS: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 7_882));

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
    /// The engine.
    pub(crate) engine: Engine,
    /// All events so far.
    pub(crate) events: Vec<Event>,
    /// All tracks so far.
    pub(crate) published: Vec<Published>,
    certificate: Arc<ServerCertificate>,
    next_id: u32,
    /// What the clients' SDP says, held back while this is `Some`.
    pub(super) late_sdp: Option<Vec<Command>>,
}

impl Server {
    pub(super) fn new(seed: u64, now: Instant) -> Server {
        let certificate = Arc::new(ServerCertificate::generate().expect("a certificate"));
        let config = EngineConfig {
            seed,
            certificate: certificate.clone(),
            wall_clock: Duration::from_secs(1_700_000_000),
        };
        Server {
            engine: Engine::new(config, now),
            events: Vec::new(),
            published: Vec::new(),
            certificate,
            next_id: 0,
            late_sdp: None,
        }
    }

    /// The one room.
    pub(crate) fn room(&self) -> RoomId {
        RoomId(1)
    }

    pub(super) fn next_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn transport_id(&mut self) -> TransportId {
        TransportId(self.next_id())
    }

    pub(super) fn track_id(&mut self) -> TrackId {
        TrackId(self.next_id())
    }

    pub(super) fn subscription_id(&mut self) -> SubscriptionId {
        SubscriptionId(self.next_id())
    }

    pub(super) fn endpoint(
        &self,
        ice: moim::media::engine::command::IceCredentials,
    ) -> LocalEndpoint {
        LocalEndpoint {
            ice,
            fingerprint: self.certificate.fingerprint(),
            candidates: vec![Candidate {
                ip: ADDRESS.ip(),
                port: ADDRESS.port(),
                tcp: false,
            }],
        }
    }

    pub(super) fn command(&mut self, now: Instant, command: Command) {
        match &mut self.late_sdp {
            Some(late) if matches!(command, Command::SetRemote { .. }) => late.push(command),
            _ => self.engine.handle_command(now, command),
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

    pub(super) fn receive(&mut self, now: Instant, from: SocketAddr, mut bytes: Vec<u8>) {
        self.engine
            .handle_datagram(now, from, LocalSocket::default(), &mut bytes);
    }

    pub(super) fn tick(&mut self, now: Instant) {
        self.engine.handle_timeout(now);
        while let Some(event) = self.engine.poll_event() {
            self.events.push(event.event);
        }
    }

    pub(super) fn drain(&mut self, now: Instant) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        let mut out = Vec::new();
        while let Some(transmit) = self.engine.poll_transmit(now) {
            let size = transmit.segment_size.unwrap_or(transmit.contents.len());
            for segment in transmit.contents.chunks(size) {
                out.push((ADDRESS, transmit.destination, segment.to_vec()));
            }
        }
        out
    }
}
