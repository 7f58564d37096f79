//! A room for unit tests: connections whose keys are known, RTP packets made by hand, and a clock
//! that the test moves.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::api::codec::{Codec, MediaKind, PayloadTypes};
use crate::api::command::{
    Command, HeaderExtension, IceCredentials, NewSubscription, NewTrack, NewTransport, Payload,
    ReceiveMapping, SubscriptionSettings, TrackSource,
};
use crate::api::event::Event;
use crate::api::ids::{RoomId, ShardId, SubscriptionId, TrackId, TransportId};
use crate::api::io::EngineConfig;
use crate::engine::Engine;
use crate::forward::relay_batch::RelayBatch;
use crate::state::peer::Srtp;
use crate::test_clock;
use crate::transport::ServerCertificate;
use crate::wire::rtcp::{self, RtcpPacket};
use crate::wire::rtp;
use crate::wire::rtp::header::RtpHeader;
use crate::wire::srtp::{MAX_OVERHEAD, ReplayWindow, SrtpProfile, SrtpReceiver, SrtpSender};

pub(crate) const ROOM: RoomId = RoomId(1);
const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;
const KEY: [u8; 16] = [1; 16];
const SALT: [u8; 12] = [2; 12];
/// Ids of the header extensions that publishers use.
const MID: u8 = 4;
const AUDIO_LEVEL: u8 = 1;
const RID: u8 = 10;

/// A packet that a publisher sends.
#[derive(Debug, Clone)]
pub(crate) struct TestPacket<'a> {
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) codec: Codec,
    pub(crate) mid: &'a str,
    pub(crate) rid: &'a str,
    /// Level in -dBov.
    pub(crate) level: Option<u8>,
    pub(crate) payload: &'a [u8],
}

impl Default for TestPacket<'_> {
    fn default() -> Self {
        TestPacket {
            ssrc: 1,
            sequence: 0,
            timestamp: 0,
            codec: Codec::Opus,
            mid: "0",
            rid: "",
            level: None,
            payload: b"x payload of some length",
        }
    }
}

/// A packet that a subscriber got, decrypted.
#[derive(Debug, Clone)]
pub(crate) struct Got {
    pub(crate) header: RtpHeader,
    pub(crate) payload: Vec<u8>,
}

/// One engine with one room.
pub(crate) struct TestRoom {
    pub(crate) now: Instant,
    pub(crate) engine: Engine,
    pub(crate) events: Vec<Event>,
    got: FxHashMap<TransportId, Vec<Got>>,
    windows: FxHashMap<(TransportId, u32), ReplayWindow>,
    keyframe_requests: FxHashMap<TransportId, Vec<Instant>>,
}

fn address(transport: TransportId) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, 1], 10_000 + transport.0 as u16))
}

impl TestRoom {
    pub(crate) fn new() -> TestRoom {
        let now = test_clock::start();
        let config = EngineConfig {
            seed: 1,
            certificate: Arc::new(ServerCertificate::generate().unwrap()),
            wall_clock: Duration::from_secs(1),
        };
        TestRoom {
            now,
            engine: Engine::new(config, now),
            events: Vec::new(),
            got: FxHashMap::default(),
            windows: FxHashMap::default(),
            keyframe_requests: FxHashMap::default(),
        }
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.engine.handle_command(self.now, command);
        self.collect();
    }

    /// A connection that is through with ICE and DTLS.
    pub(crate) fn connect(&mut self, number: u32) -> TransportId {
        let transport = TransportId(number.into());
        self.command(Command::AddTransport(Box::new(NewTransport {
            transport,
            room: ROOM,
            local_ice: IceCredentials {
                ufrag: format!("ufrag{number}"),
                pwd: "a-password-that-is-long-enough".into(),
            },
            opens_data_channels: false,
        })));
        let payload = |codec: Codec| (codec.payload_type(), Payload::Media(codec));
        self.command(Command::SetReceive {
            transport,
            mapping: Arc::new(ReceiveMapping {
                payload_types: vec![payload(Codec::Opus), payload(Codec::Vp8)],
                extensions: vec![
                    (MID, HeaderExtension::Mid),
                    (AUDIO_LEVEL, HeaderExtension::AudioLevel),
                    (RID, HeaderExtension::Rid),
                ],
            }),
        });
        let peer = self.engine.media.peers.find(transport).unwrap();
        let state = &mut self.engine.media.peers[peer];
        state.srtp = Some(Srtp {
            sender: SrtpSender::new(PROFILE, &KEY, &SALT),
            receiver: SrtpReceiver::new(PROFILE, &KEY, &SALT),
        });
        state.transport.assume_validated(address(transport));
        let Engine {
            media,
            connections,
            allocator,
            ..
        } = &mut self.engine;
        connections.settle(media, allocator, self.now, peer);
        transport
    }

    pub(crate) fn publish(&mut self, transport: TransportId, number: u32, kind: MediaKind) {
        self.publish_from(
            transport,
            number,
            kind,
            TrackSource {
                mid: "0".into(),
                ..TrackSource::default()
            },
        );
    }

    pub(crate) fn publish_from(
        &mut self,
        transport: TransportId,
        number: u32,
        kind: MediaKind,
        source: TrackSource,
    ) {
        self.command(Command::AddTrack(Box::new(NewTrack {
            track: TrackId(number.into()),
            transport,
            kind,
            screen: false,
            encrypted: false,
            source,
        })));
    }

    /// The subscription's number is its SSRC.
    pub(crate) fn subscribe(&mut self, transport: TransportId, track: u32, number: u32) {
        self.command(Command::AddSubscription(NewSubscription {
            shown_as: None,
            subscription: SubscriptionId(number.into()),
            track: TrackId(track.into()),
            transport,
            ssrc: number,
            rtx_ssrc: None,
            transport_cc: false,
            payload_types: PayloadTypes::as_offered(),
            settings: SubscriptionSettings::default(),
        }));
    }

    pub(crate) fn send(&mut self, transport: TransportId, packet: &TestPacket<'_>) {
        self.send_in_cycle(transport, packet, 0);
    }

    /// As [`Self::send`], with the SRTP roll-over counter `roc`.
    pub(crate) fn send_in_cycle(
        &mut self,
        transport: TransportId,
        packet: &TestPacket<'_>,
        roc: u32,
    ) {
        let mut bytes = vec![0x90, 0x80 | packet.codec.payload_type()];
        bytes.extend(packet.sequence.to_be_bytes());
        bytes.extend(packet.timestamp.to_be_bytes());
        bytes.extend(packet.ssrc.to_be_bytes());
        let mut extensions = Vec::new();
        let mut extend = |id: u8, data: &[u8]| {
            if !data.is_empty() {
                extensions.push(id << 4 | (data.len() as u8 - 1));
                extensions.extend(data);
            }
        };
        extend(MID, packet.mid.as_bytes());
        extend(RID, packet.rid.as_bytes());
        if let Some(level) = packet.level {
            extend(AUDIO_LEVEL, &[level]);
        }
        extensions.resize(extensions.len().next_multiple_of(4), 0);
        bytes.extend([0xbe, 0xde, 0, extensions.len() as u8 / 4]);
        bytes.extend(extensions);
        let header_len = bytes.len();
        bytes.extend(packet.payload);
        let len = bytes.len();
        bytes.resize(len + MAX_OVERHEAD, 0);
        let sender = SrtpSender::new(PROFILE, &KEY, &SALT);
        let len = sender.protect_rtp(roc, header_len, &mut bytes, len);
        bytes.truncate(len);
        let peer = self.engine.media.peers.find(transport).unwrap();
        self.engine.handle_rtp(self.now, self.now, peer, &mut bytes);
        self.collect();
    }

    /// Delivers the other engine's relay items to this one.
    pub(crate) fn handle_relay(&mut self, from: ShardId, batch: &RelayBatch) {
        self.engine.handle_relay(self.now, self.now, from, batch);
        self.collect();
    }

    /// Lets the time pass until there is nothing to do before `duration` is over.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due < end) {
            self.now = due.max(self.now);
            self.engine.handle_timeout(self.now);
            self.collect();
        }
        self.now = end;
        self.engine.handle_timeout(self.now);
        self.collect();
    }

    /// What a subscriber has got under an SSRC, in the order in which it was sent.
    pub(crate) fn got(&self, transport: TransportId, ssrc: u32) -> Vec<Got> {
        let all = self.got.get(&transport).into_iter().flatten();
        all.filter(|got| got.header.ssrc == ssrc).cloned().collect()
    }

    /// When a publisher was asked for keyframes.
    pub(crate) fn keyframe_requests(&self, transport: TransportId) -> Vec<Instant> {
        let requests = self.keyframe_requests.get(&transport);
        requests.cloned().unwrap_or_default()
    }

    fn collect(&mut self) {
        while let Some(event) = self.engine.poll_event() {
            self.events.push(event.event);
        }
        let mut datagrams = Vec::new();
        while let Some(transmits) = self.engine.poll_transmits(self.now) {
            for transmit in transmits {
                let to = TransportId(u64::from(transmit.destination.port()) - 10_000);
                datagrams.extend(transmit.datagrams().map(|bytes| (to, bytes.to_vec())));
            }
        }
        for (to, mut bytes) in datagrams {
            if rtp::is_rtcp(&bytes) {
                self.note_rtcp(to, &mut bytes);
            } else {
                self.note_rtp(to, &mut bytes);
            }
        }
    }

    fn note_rtp(&mut self, to: TransportId, bytes: &mut [u8]) {
        let header = RtpHeader::parse(bytes).unwrap();
        let window = self.windows.entry((to, header.ssrc)).or_default();
        let index = window.estimate(header.sequence);
        assert!(window.is_new(index), "an index is used once");
        window.commit(index);
        let receiver = SrtpReceiver::new(PROFILE, &KEY, &SALT);
        let roc = (index >> 16) as u32;
        let len = receiver
            .unprotect_rtp(roc, header.header_len, bytes)
            .unwrap();
        let payload = header.payload(&bytes[..len]).unwrap().to_vec();
        self.got
            .entry(to)
            .or_default()
            .push(Got { header, payload });
    }

    fn note_rtcp(&mut self, to: TransportId, bytes: &mut [u8]) {
        let mut receiver = SrtpReceiver::new(PROFILE, &KEY, &SALT);
        let len = receiver.unprotect_rtcp(bytes).unwrap();
        for packet in rtcp::packets(&bytes[..len]) {
            if matches!(packet, RtcpPacket::PictureLoss { .. }) {
                let requests = self.keyframe_requests.entry(to).or_default();
                requests.push(self.now);
            }
        }
    }
}

/// The payload of a VP8 picture in one packet (RFC 7741).
pub(crate) fn vp8(picture: u16, keyframe: bool) -> Vec<u8> {
    let [high, low] = picture.to_be_bytes();
    let mut payload = vec![0x90, 0x80, 0x80 | high, low, u8::from(!keyframe), 0, 0];
    if keyframe {
        payload.extend([0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00]);
    }
    payload.resize(400, 7);
    payload
}
