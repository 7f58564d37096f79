//! One peer connection of a client, by the `webrtc` crate.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use moim_signaling::wire::TrackType;
use rtc::media_stream::MediaStreamTrack;
use rtc::peer_connection::configuration::media_engine::{MIME_TYPE_OPUS, MIME_TYPE_VP8};
use rtc::rtp;
use rtc::rtp_transceiver::rtp_sender::{
    RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind,
};
use tokio::sync::Notify;
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCConfigurationBuilder, RTCIceCandidateInit, RTCSessionDescription, Registry,
    register_default_interceptors,
};

/// What has come in over a connection.
#[derive(Debug, Default, Clone)]
pub(crate) struct Received {
    /// Marks that senders put into their payloads, by remote track id.
    pub(crate) marks: HashMap<String, Vec<u32>>,
    /// RTP packets' sequence numbers, by remote track id.
    pub(crate) sequences: HashMap<String, Vec<u16>>,
    /// Messages on data channels: label and bytes.
    pub(crate) messages: Vec<(String, Bytes)>,
    /// Labels of the channels that are open.
    pub(crate) open: Vec<String>,
}

/// What handlers, which run in the library's tasks, write down.
#[derive(Default)]
struct Notebook {
    received: Mutex<Received>,
    news: Arc<Notify>,
}

impl Notebook {
    fn write(&self, change: impl FnOnce(&mut Received)) {
        change(&mut self.received.lock().expect("the notebook"));
        self.news.notify_one();
    }

    fn listen(self: &Arc<Self>, label: String, channel: Arc<dyn DataChannel>) {
        let notebook = self.clone();
        tokio::spawn(async move {
            while let Some(event) = channel.poll().await {
                let label = label.clone();
                match event {
                    DataChannelEvent::OnOpen => notebook.write(|r| r.open.push(label)),
                    DataChannelEvent::OnMessage(message) => {
                        let bytes = message.data.freeze();
                        notebook.write(|r| r.messages.push((label, bytes)));
                    }
                    _ => {}
                }
            }
        });
    }
}

struct Handler(Arc<Notebook>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        let label = channel.label().await.expect("a label");
        self.0.listen(label, channel);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let notebook = self.0.clone();
        tokio::spawn(async move {
            let id = track.track_id().await;
            while let Some(event) = track.poll().await {
                let TrackRemoteEvent::OnRtpPacket(packet) = event else {
                    continue;
                };
                let payload = &packet.payload;
                let Some(mark) = payload.last_chunk::<4>() else {
                    continue;
                };
                notebook.write(|r| {
                    let marks = r.marks.entry(id.clone()).or_default();
                    marks.push(u32::from_be_bytes(*mark));
                    let sequences = r.sequences.entry(id.clone()).or_default();
                    sequences.push(packet.header.sequence_number);
                });
            }
        });
    }
}

/// One peer connection.
pub(crate) struct Connection {
    pc: Box<dyn PeerConnection>,
    notebook: Arc<Notebook>,
    channels: HashMap<&'static str, Arc<dyn DataChannel>>,
    described: bool,
    early: Vec<RTCIceCandidateInit>,
    /// Answers that have been taken.
    pub(crate) answers: u32,
}

impl Connection {
    /// One that nothing is known of yet.
    pub(crate) async fn new() -> Connection {
        let mut media_engine = MediaEngine::default();
        media_engine
            .register_default_codecs()
            .expect("default codecs");
        let registry = register_default_interceptors(Registry::new(), &mut media_engine)
            .expect("default interceptors");
        let notebook = Arc::new(Notebook::default());
        let pc = PeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(media_engine)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(Handler(notebook.clone())))
            .with_udp_addrs(vec!["127.0.0.1:0"])
            .build()
            .await
            .expect("a peer connection");
        Connection {
            pc: Box::new(pc),
            notebook,
            channels: HashMap::new(),
            described: false,
            early: Vec::new(),
            answers: 0,
        }
    }

    /// Wakes when something has come in.
    pub(crate) fn news(&self) -> Arc<Notify> {
        self.notebook.news.clone()
    }

    /// What has come in so far.
    pub(crate) fn received(&self) -> Received {
        self.notebook.received.lock().expect("the notebook").clone()
    }

    /// Opens the channels that a client has to open on its publisher connection.
    pub(crate) async fn open_data_channels(&mut self) {
        let lossy = RTCDataChannelInit {
            ordered: false,
            max_retransmits: Some(0),
            ..Default::default()
        };
        for (label, init) in [("_reliable", None), ("_lossy", Some(lossy))] {
            let channel = self.pc.create_data_channel(label, init).await;
            let channel = channel.expect("a data channel");
            self.notebook.listen(label.to_owned(), channel.clone());
            self.channels.insert(label, channel);
        }
    }

    /// Sends on the reliable channel, which must be open.
    pub(crate) async fn send_reliable(&self, bytes: &[u8]) {
        let sent = self.channels["_reliable"].send(BytesMut::from(bytes)).await;
        sent.expect("a sent message");
    }

    /// Adds a track to be sent.
    pub(crate) async fn add_media(&mut self, kind: TrackType) -> Media {
        static NEXT_SSRC: AtomicU32 = AtomicU32::new(1_000);
        let ssrc = NEXT_SSRC.fetch_add(1, Ordering::Relaxed);
        let (kind, mime_type, clock_rate, channels) = match kind {
            TrackType::Video => (RtpCodecKind::Video, MIME_TYPE_VP8, 90_000, 0),
            _ => (RtpCodecKind::Audio, MIME_TYPE_OPUS, 48_000, 2),
        };
        let codec = RTCRtpCodec {
            mime_type: mime_type.to_owned(),
            clock_rate,
            channels,
            ..Default::default()
        };
        let cid = format!("track-{ssrc}");
        let track = Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
            format!("stream-{ssrc}"),
            cid.clone(),
            String::new(),
            kind,
            vec![RTCRtpEncodingParameters {
                rtp_coding_parameters: RTCRtpCodingParameters {
                    ssrc: Some(ssrc),
                    ..Default::default()
                },
                codec,
                ..Default::default()
            }],
        )));
        let sender = self.pc.add_track(track.clone()).await;
        sender.expect("an added track");
        Media {
            cid,
            track,
            ssrc,
            kind,
            count: 0,
        }
    }

    /// An offer, already set as the local description.
    pub(crate) async fn offer(&mut self) -> String {
        let offer = self.pc.create_offer(None).await.expect("an offer");
        let sdp = offer.sdp.clone();
        let set = self.pc.set_local_description(offer).await;
        set.expect("a local offer");
        sdp
    }

    /// Takes the answer to the offer.
    pub(crate) async fn accept_answer(&mut self, sdp: String) {
        let answer = RTCSessionDescription::answer(sdp).expect("a readable answer");
        self.describe(answer).await;
        self.answers += 1;
    }

    /// The answer to an offer of the server.
    pub(crate) async fn answer(&mut self, sdp: String) -> String {
        let offer = RTCSessionDescription::offer(sdp).expect("a readable offer");
        self.describe(offer).await;
        let answer = self.pc.create_answer(None).await.expect("an answer");
        let sdp = answer.sdp.clone();
        let set = self.pc.set_local_description(answer).await;
        set.expect("a local answer");
        sdp
    }

    /// A candidate of the server, as it trickles in: JSON.
    pub(crate) async fn add_candidate(&mut self, json: &str) {
        let json: serde_json::Value = serde_json::from_str(json).expect("a candidate in JSON");
        let candidate = RTCIceCandidateInit {
            candidate: json["candidate"].as_str().unwrap_or_default().to_owned(),
            sdp_mid: Some("0".into()),
            sdp_mline_index: Some(0),
            ..Default::default()
        };
        if self.described {
            let added = self.pc.add_ice_candidate(candidate).await;
            added.expect("a good candidate");
        } else {
            self.early.push(candidate);
        }
    }

    /// Ends it.
    pub(crate) async fn close(&self) {
        let _ = self.pc.close().await;
    }

    async fn describe(&mut self, description: RTCSessionDescription) {
        let set = self.pc.set_remote_description(description).await;
        set.expect("a good description");
        self.described = true;
        for candidate in std::mem::take(&mut self.early) {
            let added = self.pc.add_ice_candidate(candidate).await;
            added.expect("a good candidate");
        }
    }
}

/// A track that is being sent.
pub(crate) struct Media {
    /// By what name the client announces it.
    pub(crate) cid: String,
    track: Arc<TrackLocalStaticRTP>,
    ssrc: u32,
    kind: RtpCodecKind,
    count: u32,
}

impl Media {
    /// Sends one packet: a whole frame, and a keyframe if it is video. It ends with a mark
    /// that counts from 0.
    pub(crate) async fn send(&mut self) {
        let mut payload = BytesMut::new();
        let step = if self.kind == RtpCodecKind::Video {
            // A VP8 payload descriptor without extensions (RFC 7741, section 4.2), then the
            // header of a keyframe of 640x360 (RFC 6386, section 9.1).
            payload.put_slice(&[0x10, 0x10, 0x02, 0x00, 0x9d, 0x01, 0x2a]);
            payload.put_slice(&[0x80, 0x02, 0x68, 0x01]);
            payload.put_bytes(0, 600);
            3_000
        } else {
            payload.put_bytes(0xfc, 80);
            960
        };
        payload.put_u32(self.count);
        let packet = rtp::Packet {
            header: rtp::Header {
                version: 2,
                marker: self.kind == RtpCodecKind::Video,
                // What the crate's default codecs are offered as.
                payload_type: if self.kind == RtpCodecKind::Video {
                    96
                } else {
                    111
                },
                sequence_number: self.count as u16,
                timestamp: self.count * step,
                ssrc: self.ssrc,
                ..Default::default()
            },
            payload: payload.freeze(),
        };
        self.count += 1;
        let sent = self.track.write_rtp(packet).await;
        sent.expect("a sent packet");
    }
}
