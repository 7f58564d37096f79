//! The engine, with the numbers that the rest of the server would hand out.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moim_engine::codec::{Codec, MediaKind, PayloadTypes, RED_PAYLOAD_TYPE};
use moim_engine::command::{
    Fingerprint, HeaderExtension, NewSubscription, NewTrack, NewTransport, Payload, ReceiveMapping,
    SubscriptionSettings, TrackSource,
};
use moim_engine::ids::{RoomId, SubscriptionId, TrackId, TransportId};
use moim_engine::io::{EngineConfig, LocalSocket};
use moim_engine::transport::ServerCertificate;
use moim_engine::{Command, Engine, Event};

use super::connection::Connection;
use super::encoder::Video;
use super::packet::extension;
use super::publication::RIDS;

/// Where the server is.
pub(super) const ADDRESS: SocketAddr =
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 7_882));
const ROOM: RoomId = RoomId(1);
/// How often the shell reads reports at the most, and at the least.
const READ_INTERVAL: Duration = Duration::from_millis(10);
const LONGEST_WAIT: Duration = Duration::from_millis(40);

/// The server under test.
pub(super) struct Server {
    pub(super) engine: Engine,
    last_id: u32,
    fingerprint: Fingerprint,
    reports: Vec<Report>,
    reports_read: Instant,
}

/// A report that waits, since when, and whom it is from.
type Report = (Instant, SocketAddr, Vec<u8>);

impl Server {
    /// `fingerprint` is that of all clients' certificate.
    pub(super) fn new(seed: u64, now: Instant, fingerprint: Fingerprint) -> Server {
        let config = EngineConfig {
            seed,
            certificate: Arc::new(ServerCertificate::generate().expect("a certificate")),
            wall_clock: Duration::from_secs(1_700_000_000),
        };
        Server {
            engine: Engine::new(config, now),
            last_id: 0,
            fingerprint,
            reports: Vec::new(),
            reports_read: now,
        }
    }

    pub(super) fn next_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    pub(super) fn command(&mut self, now: Instant, command: Command) {
        self.engine.handle_command(now, command);
    }

    /// Makes the server's end of a connection.
    pub(super) fn accept(&mut self, now: Instant, connection: &Connection) {
        let transport = connection.id;
        let new = NewTransport {
            transport,
            room: ROOM,
            local_ice: connection.server_ice.clone(),
            opens_data_channels: false,
        };
        self.command(now, Command::AddTransport(Box::new(new)));
        let remote = Command::SetRemote {
            transport,
            ice: connection.local_ice.clone(),
            fingerprint: self.fingerprint,
        };
        self.command(now, remote);
        let mapping = Command::SetReceive {
            transport,
            mapping: Arc::new(mapping()),
        };
        self.command(now, mapping);
    }

    /// Adds a track of the m-line `mid`; a video one has a `video`.
    pub(super) fn add_track(
        &mut self,
        now: Instant,
        transport: TransportId,
        mid: u8,
        video: Option<Video>,
    ) -> TrackId {
        let track = TrackId(self.next_id().into());
        let simulcast = video.is_some_and(Video::simulcast);
        let rids = RIDS.iter().filter(|_| simulcast);
        let new = NewTrack {
            track,
            transport,
            kind: match video {
                Some(_) => MediaKind::Video,
                None => MediaKind::Audio,
            },
            screen: video == Some(Video::Screen),
            encrypted: false,
            source: TrackSource {
                mid: char::from(mid).to_string(),
                rids: rids.map(|rid| (*rid).to_owned()).collect(),
                ssrcs: Vec::new(),
            },
        };
        self.command(now, Command::AddTrack(Box::new(new)));
        track
    }

    /// Subscribes a connection to a track. The SSRC of retransmissions is the one after `ssrc`.
    pub(super) fn add_subscription(
        &mut self,
        now: Instant,
        transport: TransportId,
        track: TrackId,
        codec: Codec,
        ssrc: u32,
        wish: SubscriptionSettings,
    ) -> SubscriptionId {
        let subscription = SubscriptionId(self.next_id().into());
        let new = NewSubscription {
            shown_as: None,
            subscription,
            track,
            transport,
            ssrc,
            rtx_ssrc: (codec.kind() == MediaKind::Video).then_some(ssrc + 1),
            transport_cc: true,
            payload_types: PayloadTypes::as_offered(),
            settings: wish,
        };
        self.command(now, Command::AddSubscription(new));
        subscription
    }

    /// Transport-wide feedback waits until the server does something else, as its shell lets it.
    pub(super) fn receive(&mut self, now: Instant, from: SocketAddr, bytes: &mut [u8]) {
        if let [0x8f | 0xaf, 205, ..] = bytes {
            self.reports.push((now, from, bytes.to_vec()));
            return;
        }
        self.engine
            .handle_datagram(now, from, LocalSocket::default(), bytes);
        self.read_reports(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let reports = self.reports_read + LONGEST_WAIT;
        let reports = (!self.reports.is_empty()).then_some(reports);
        self.engine.poll_timeout().into_iter().chain(reports).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.engine.handle_timeout(now);
        self.read_reports(now);
    }

    fn read_reports(&mut self, now: Instant) {
        if now.saturating_duration_since(self.reports_read) < READ_INTERVAL {
            return;
        }
        self.reports_read = now;
        for (arrived, from, mut bytes) in self.reports.drain(..) {
            let local = LocalSocket::default();
            self.engine
                .handle_datagram_received_at(now, arrived, from, local, &mut bytes);
        }
    }

    pub(super) fn poll_event(&mut self) -> Option<Event> {
        self.engine.poll_event().map(|event| event.event)
    }

    /// The datagrams to send, and where.
    pub(super) fn drain(&mut self, now: Instant, mut send: impl FnMut(SocketAddr, &[u8])) {
        while let Some(transmits) = self.engine.poll_transmits(now) {
            for transmit in transmits {
                for datagram in transmit.datagrams() {
                    send(transmit.destination, datagram);
                }
            }
        }
    }
}

/// What all clients negotiate for publishing.
fn mapping() -> ReceiveMapping {
    let codecs = [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::Av1];
    let media = codecs.map(|codec| (codec.payload_type(), Payload::Media(codec)));
    let repairs = codecs.iter().filter_map(|codec| {
        let payload_type = codec.rtx_payload_type()?;
        Some((payload_type, Payload::Rtx(*codec)))
    });
    let red = (RED_PAYLOAD_TYPE, Payload::Red);
    ReceiveMapping {
        payload_types: media.into_iter().chain(repairs).chain([red]).collect(),
        extensions: vec![
            (extension::MID, HeaderExtension::Mid),
            (extension::RID, HeaderExtension::Rid),
            (extension::REPAIRED_RID, HeaderExtension::RepairedRid),
            (extension::AUDIO_LEVEL, HeaderExtension::AudioLevel),
            (extension::TRANSPORT_CC, HeaderExtension::TransportCc),
        ],
    }
}
