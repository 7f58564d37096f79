//! A participant: two complete WebRTC peer connections without I/O, a camera and a microphone.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use moim::media::negotiation::{
    PublisherNegotiation, SdpToken, SendTrack, SubscriberNegotiation, TrackDecision,
    TrackParameters,
};
use moim_engine::Command;
use moim_engine::codec::{Codec, MediaKind, PayloadTypes};
use moim_engine::command::{
    IceCredentials, NewSubscription, NewTrack, NewTransport, SubscriptionSettings,
};
use moim_engine::ids::TransportId;
use rtc::interceptor::{Registry, Slot};
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::RTCConfigurationBuilder;
use rtc::peer_connection::configuration::interceptor_registry::register_default_interceptors;
use rtc::peer_connection::configuration::media_engine::{
    MIME_TYPE_OPUS, MIME_TYPE_VP8, MediaEngine,
};
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::rtp;
use rtc::rtp_transceiver::RTCRtpSenderId;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};

use super::report_order::ReportOrder;
use super::server::{Published, Server};

const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
const VIDEO_INTERVAL: Duration = Duration::from_millis(33);
/// Packets of one video frame.
const FRAME_PACKETS: u16 = 4;
/// Frames from one keyframe to the next.
const KEYFRAME_EVERY: u32 = 10;

/// What arrived of one stream, by SSRC.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    /// Packets, without repeats.
    pub(crate) packets: usize,
    /// Marks written into the payloads by the sender, in order, without repeats.
    pub(crate) marks: std::collections::BTreeSet<u32>,
    /// Sequence numbers seen.
    pub(crate) sequences: std::collections::BTreeSet<u16>,
}

struct Connection {
    pc: RTCPeerConnection,
    address: SocketAddr,
    due: Option<Instant>,
}

struct Source {
    sender: RTCRtpSenderId,
    kind: MediaKind,
    ssrc: u32,
    next: Instant,
    sequence: u16,
    timestamp: u32,
    /// Counts packets; carried in the payload.
    mark: u32,
}

/// One participant.
pub(crate) struct Peer {
    index: u16,
    publisher: Connection,
    subscriber: Connection,
    subscriber_negotiation: Option<SubscriberNegotiation>,
    sources: Vec<Source>,
    /// The server's numbers of both connections.
    pub(crate) transports: Vec<TransportId>,
    /// What came in, by SSRC.
    pub(crate) received: BTreeMap<u32, Received>,
    /// Which track of whom an SSRC carries.
    pub(crate) expected: BTreeMap<u32, Published>,
}

impl Peer {
    pub(super) fn new(now: Instant, index: u16) -> Peer {
        let mut publisher =
            Connection::new(now, SocketAddr::from(([10, 0, 1, index as u8], 5_000)));
        let subscriber = Connection::new(now, SocketAddr::from(([10, 0, 1, index as u8], 5_001)));
        let sources = [
            (MediaKind::Audio, MIME_TYPE_OPUS),
            (MediaKind::Video, MIME_TYPE_VP8),
        ]
        .into_iter()
        .map(|(kind, mime)| publisher.add_source(now, index, kind, mime))
        .collect();
        Peer {
            index,
            publisher,
            subscriber,
            subscriber_negotiation: None,
            sources,
            transports: Vec::new(),
            received: BTreeMap::new(),
            expected: BTreeMap::new(),
        }
    }

    /// How many packets of a kind have been sent.
    pub(crate) fn sent(&self, kind: MediaKind) -> u32 {
        self.sources
            .iter()
            .find(|source| source.kind == kind)
            .map_or(0, |source| source.mark)
    }

    pub(super) fn owns(&self, address: SocketAddr) -> bool {
        self.publisher.address == address || self.subscriber.address == address
    }

    pub(super) fn negotiate(&mut self, now: Instant, server: &mut Server) {
        let (transport, ice) = self.publisher.open(now, server, self.index, "pub", false);
        self.transports.push(transport);
        let offer = self.publisher.pc.create_offer(None).expect("an offer");
        self.publisher
            .pc
            .set_local_description(now, offer.clone())
            .expect("local offer");
        let fresh = ice.clone();
        let mut negotiation = PublisherNegotiation::new(server.endpoint(transport, ice));
        let answer = negotiation
            .answer(&offer.sdp, fresh, &mut |_| {
                TrackDecision::Accept(TrackParameters::default())
            })
            .expect("an answer");
        server.command(
            now,
            Command::SetReceive {
                transport,
                mapping: answer.mapping.into(),
            },
        );
        for negotiated in &answer.tracks {
            let track = server.track_id();
            server.published.push(Published {
                peer: usize::from(self.index),
                track,
                kind: negotiated.kind,
            });
            server.command(
                now,
                Command::AddTrack(Box::new(NewTrack {
                    track,
                    transport,
                    kind: negotiated.kind,
                    screen: false,
                    encrypted: false,
                    source: negotiated.source.clone(),
                })),
            );
        }
        server.set_remote(now, transport, answer.remote);
        let answer = RTCSessionDescription::answer(answer.sdp).expect("a readable answer");
        self.publisher
            .pc
            .set_remote_description(now, answer)
            .expect("remote answer");
    }

    pub(super) fn subscribe(&mut self, now: Instant, me: usize, server: &mut Server) {
        let (transport, ice) = self.subscriber.open(now, server, self.index, "sub", true);
        self.transports.push(transport);
        let mut negotiation = SubscriberNegotiation::new(server.endpoint(transport, ice), 1);
        let mut subscriptions = Vec::new();
        for published in server.published.clone() {
            if published.peer == me {
                continue;
            }
            let subscription = server.subscription_id();
            let ssrc = 100_000 * (u32::from(self.index) + 1) + subscription.0 as u32;
            let rtx_ssrc = (published.kind == MediaKind::Video).then_some(ssrc + 50_000);
            let track_sid = format!("TR_{}", published.track.0);
            let stream_id = SdpToken::track_stream(&format!("PA_{}", published.peer), &track_sid);
            negotiation.add_track(SendTrack {
                key: subscription.0,
                kind: published.kind,
                codecs: vec![match published.kind {
                    MediaKind::Audio => Codec::Opus,
                    MediaKind::Video => Codec::Vp8,
                }],
                stereo: false,
                stream_id: stream_id.clone(),
                own_stream_id: stream_id,
                track_id: SdpToken::track(&track_sid),
                ssrc,
                rtx_ssrc,
            });
            self.expected.insert(ssrc, published);
            subscriptions.push(NewSubscription {
                shown_as: None,
                subscription,
                track: published.track,
                transport,
                ssrc,
                rtx_ssrc,
                transport_cc: true,
                payload_types: PayloadTypes::as_offered().without_red(),
                settings: SubscriptionSettings::default(),
            });
        }
        let offer = negotiation.offer().expect("an offer");
        let description = RTCSessionDescription::offer(offer.sdp).expect("a readable offer");
        let pc = &mut self.subscriber.pc;
        pc.set_remote_description(now, description)
            .expect("remote offer");
        let answer = pc.create_answer(None).expect("an answer");
        pc.set_local_description(now, answer.clone())
            .expect("local answer");
        let answer = negotiation
            .answer(offer.id, &answer.sdp)
            .expect("an accepted answer");
        assert!(answer.rejected.is_empty(), "all tracks are accepted");
        server.set_remote(now, transport, answer.remote);
        for mut new in subscriptions {
            let accepted = answer
                .accepted
                .iter()
                .find(|accepted| accepted.key == new.subscription.0)
                .expect("every track is answered");
            new.transport_cc = accepted.takes_transport_cc;
            if !accepted.payload_types.has_rtx() {
                new.rtx_ssrc = None;
            }
            server.command(now, Command::AddSubscription(new));
        }
        self.subscriber_negotiation = Some(negotiation);
    }

    pub(super) fn next(&self, media: bool) -> Option<Instant> {
        let connections = [&self.publisher, &self.subscriber]
            .into_iter()
            .filter_map(|connection| connection.timeout());
        let sources = self
            .sources
            .iter()
            .filter(|_| media)
            .map(|source| source.next);
        connections.chain(sources).min()
    }

    pub(super) fn tick(&mut self, now: Instant, media: bool) {
        for connection in [&mut self.publisher, &mut self.subscriber] {
            if connection.timeout().is_some_and(|due| due <= now) {
                connection.pc.handle_timeout(now).expect("a timeout");
                connection.due = None;
            }
        }
        for source in &mut self.sources {
            if !media {
                source.next = now;
            }
            while media && source.next <= now {
                source.send(now, &mut self.publisher.pc);
            }
        }
    }

    pub(super) fn receive(&mut self, now: Instant, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        let connection = if self.publisher.address == to {
            &mut self.publisher
        } else {
            &mut self.subscriber
        };
        let message = TaggedBytesMut {
            now,
            transport: TransportContext {
                local_addr: to,
                peer_addr: from,
                ecn: None,
                transport_protocol: TransportProtocol::UDP,
            },
            message: BytesMut::from(bytes),
        };
        connection
            .pc
            .handle_read(message)
            .expect("a readable datagram");
    }

    pub(super) fn drain(&mut self) -> Vec<(SocketAddr, SocketAddr, Vec<u8>)> {
        let mut out = Vec::new();
        for connection in [&mut self.publisher, &mut self.subscriber] {
            while let Some(TaggedRTCMessage { message, .. }) = connection.pc.poll_read() {
                if let RTCMessage::RtpPacket(_, packet) = message
                    && packet.payload.len() >= 4
                {
                    let received = self.received.entry(packet.header.ssrc).or_default();
                    let mark = &packet.payload[packet.payload.len() - 4..];
                    let mark = u32::from_be_bytes(mark.try_into().expect("four bytes"));
                    if received.marks.insert(mark) {
                        received.packets += 1;
                    }
                    received.sequences.insert(packet.header.sequence_number);
                }
            }
            while connection.pc.poll_event().is_some() {}
            while let Some(sent) = connection.pc.poll_write() {
                out.push((
                    connection.address,
                    sent.transport.peer_addr,
                    sent.message.to_vec(),
                ));
            }
            connection.due = connection.pc.poll_timeout();
        }
        out
    }
}

impl Connection {
    fn new(now: Instant, address: SocketAddr) -> Connection {
        let mut media_engine = MediaEngine::default();
        media_engine
            .register_default_codecs()
            .expect("default codecs");
        let registry = register_default_interceptors(Registry::new(), &mut media_engine)
            .expect("default interceptors")
            .with(Slot::from(0), ReportOrder::default());
        let pc = RTCPeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(media_engine)
            .with_interceptor_registry(registry)
            .build(now)
            .expect("a peer connection");
        Connection {
            pc,
            address,
            due: Some(now),
        }
    }

    fn timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Makes the server's half of this connection.
    fn open(
        &mut self,
        now: Instant,
        server: &mut Server,
        index: u16,
        name: &str,
        opens_data_channels: bool,
    ) -> (TransportId, IceCredentials) {
        let transport = if opens_data_channels {
            server.subscriber_id()
        } else {
            server.publisher_id()
        };
        let ice = IceCredentials {
            ufrag: format!("{name}{index:013}"),
            pwd: format!("{name}{index:029}"),
        };
        server.command(
            now,
            Command::AddTransport(Box::new(NewTransport {
                transport,
                room: server.room(),
                local_ice: ice.clone(),
                opens_data_channels,
            })),
        );
        let candidate = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".to_owned(),
                address: self.address.ip().to_string(),
                port: self.address.port(),
                component: 1,
                ..Default::default()
            },
            ..Default::default()
        }
        .new_candidate_host()
        .expect("a candidate");
        let candidate = RTCIceCandidate::from(&candidate)
            .to_json()
            .expect("a candidate");
        self.pc
            .add_local_candidate(candidate)
            .expect("a local candidate");
        (transport, ice)
    }

    fn add_source(&mut self, now: Instant, index: u16, kind: MediaKind, mime: &str) -> Source {
        let (codec_kind, ssrc, clock_rate, channels) = match kind {
            MediaKind::Audio => (RtpCodecKind::Audio, 1_000 + u32::from(index), 48_000, 2),
            MediaKind::Video => (RtpCodecKind::Video, 2_000 + u32::from(index), 90_000, 0),
        };
        let track = MediaStreamTrack::new(
            format!("stream-{index}"),
            format!("{kind:?}-{index}"),
            format!("{kind:?}"),
            codec_kind,
            vec![RTCRtpEncodingParameters {
                rtp_coding_parameters: RTCRtpCodingParameters {
                    ssrc: Some(ssrc),
                    ..Default::default()
                },
                codec: RTCRtpCodec {
                    mime_type: mime.to_owned(),
                    clock_rate,
                    channels,
                    sdp_fmtp_line: String::new(),
                    rtcp_feedback: vec![],
                },
                ..Default::default()
            }],
        );
        let sender = self.pc.add_track(track).expect("a sender");
        Source {
            sender,
            kind,
            ssrc,
            next: now,
            sequence: 65_500,
            timestamp: u32::MAX - 50_000,
            mark: 0,
        }
    }
}

impl Source {
    fn send(&mut self, now: Instant, pc: &mut RTCPeerConnection) {
        let (packets, ticks, interval) = match self.kind {
            MediaKind::Audio => (1, 960, AUDIO_INTERVAL),
            MediaKind::Video => (FRAME_PACKETS, 2_970, VIDEO_INTERVAL),
        };
        let Some(mut sender) = pc.rtp_sender(self.sender) else {
            return;
        };
        let mime = match self.kind {
            MediaKind::Audio => MIME_TYPE_OPUS,
            MediaKind::Video => MIME_TYPE_VP8,
        };
        let payload_type = sender
            .get_parameters()
            .rtp_parameters
            .codecs
            .iter()
            .find(|codec| codec.rtp_codec.mime_type.eq_ignore_ascii_case(mime))
            .map(|codec| codec.payload_type)
            .expect("the codec is negotiated");
        for index in 0..packets {
            let packet = rtp::packet::Packet {
                header: rtp::header::Header {
                    version: 2,
                    marker: index + 1 == packets,
                    payload_type,
                    sequence_number: self.sequence,
                    timestamp: self.timestamp,
                    ssrc: self.ssrc,
                    ..Default::default()
                },
                payload: self.payload(index),
            };
            let _ = sender.write_rtp(now, packet);
            self.sequence = self.sequence.wrapping_add(1);
            self.mark += 1;
        }
        self.timestamp = self.timestamp.wrapping_add(ticks);
        self.next = now + interval;
    }

    /// A keyframe comes several times a second, asked for or not: what is tested is the way, not
    /// the encoder.
    fn payload(&self, index: u16) -> Bytes {
        let mut payload = BytesMut::new();
        match self.kind {
            MediaKind::Audio => payload.put_bytes(0x78, 60),
            MediaKind::Video => {
                // RFC 7741: S bit on the first packet of a frame; an even first byte of the
                // frame header means a keyframe.
                payload.put_u8(if index == 0 { 0x10 } else { 0x00 });
                let frame = self.mark / u32::from(FRAME_PACKETS);
                let keyframe = frame.is_multiple_of(KEYFRAME_EVERY);
                payload.put_u8(if keyframe { 0x10 } else { 0x11 });
                payload.put_slice(&[0x00, 0x00, 0x9d, 0x01, 0x2a]);
                payload.put_bytes(0, 900);
            }
        }
        payload.put_u32(self.mark);
        payload.freeze()
    }
}
