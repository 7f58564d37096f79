//! The signaling of one participant.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use moim_engine::command::{Fingerprint, IceCredentials};
use moim_signaling::wire::{
    AddTrackRequest, LeaveRequest, Ping, SessionDescription, SignalRequest, SignalResponse,
    TrackSource, TrackType, UpdateTrackSettings, VideoLayer, signal_request, signal_response,
};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::clip::Clip;
use crate::driver::{Order, Start};
use crate::published::PublishedTrack;
use crate::sdp::{self, OfferedTrack, ReceiveParameters, RemoteSide};
use crate::subscriber::identity;
use crate::voice::Speech;

const LAYERS: [(u32, u32, u32); 3] = [
    (320, 180, 150_000),
    (640, 360, 500_000),
    (1280, 720, 1_700_000),
];

/// How a client of the load tester presents itself.
pub(crate) const SIGNALING_QUERY: &str = "auto_subscribe=1&protocol=15&sdk=rust&version=0.7.0";

/// What one participant does.
#[derive(Debug, Clone)]
pub(crate) struct Role {
    pub(crate) index: usize,
    pub(crate) audio: bool,
    pub(crate) video: bool,
    pub(crate) simulcast: bool,
    /// What is said into its microphone.
    pub(crate) speech: Speech,
    /// How many cameras it looks at; the first of them large.
    pub(crate) visible: usize,
}

/// What all of them share.
pub(crate) struct Shared {
    pub(crate) url: String,
    pub(crate) orders: Sender<Order>,
    pub(crate) fingerprint: Fingerprint,
    /// Whether receivers report what arrives.
    pub(crate) feedback: bool,
    /// Whether publishers obey what is said of layers.
    pub(crate) dynacast: bool,
    /// What cameras show.
    pub(crate) clip: Option<Arc<Clip>>,
}

/// A participant that has joined.
pub(crate) struct Session {
    role: Role,
    shared: Arc<Shared>,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    since: Instant,
    subscriber: IceCredentials,
    subscriber_remote: Option<(IceCredentials, bool)>,
    receive: ReceiveParameters,
    publisher: IceCredentials,
    publisher_remote: Option<(IceCredentials, bool)>,
    unannounced: usize,
    /// The qualities of its camera that the server wants, the lowest first.
    qualities: [bool; 3],
    seen: Vec<String>,
    settled: usize,
    /// Who offers is in control, unless it is lite.
    controls_subscriber: bool,
}

impl Session {
    /// Connects and reads the join response. Time counts from here.
    ///
    /// # Errors
    /// When the server refuses.
    pub(crate) async fn join(
        shared: Arc<Shared>,
        role: Role,
        token: &str,
    ) -> anyhow::Result<Session> {
        let since = Instant::now();
        let url = format!("{}/rtc?access_token={token}&{SIGNALING_QUERY}", shared.url);
        let (socket, _) = connect_async(url)
            .await
            .context("the server refuses a join")?;
        let index = role.index;
        let credentials = |kind: &str| IceCredentials {
            ufrag: format!("{kind}{index:06}"),
            pwd: format!("{kind}{index:024}"),
        };
        Ok(Session {
            unannounced: usize::from(role.audio) + usize::from(role.video),
            subscriber: credentials("su"),
            publisher: credentials("pu"),
            role,
            shared,
            socket,
            since,
            subscriber_remote: None,
            receive: ReceiveParameters::default(),
            publisher_remote: None,
            qualities: [true; 3],
            seen: Vec::new(),
            settled: 0,
            controls_subscriber: true,
        })
    }

    /// Takes part until `leave` says so.
    ///
    /// # Errors
    /// When the session ends before.
    pub(crate) async fn run(mut self, mut leave: watch::Receiver<bool>) -> anyhow::Result<()> {
        let mut ping = tokio::time::interval(Duration::from_secs(5));
        loop {
            tokio::select! {
                message = self.socket.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => self.handle(SignalResponse::decode(&bytes[..])?).await?,
                    Some(Ok(Message::Close(_))) | None => bail!("the server ended the session"),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.into()),
                },
                _ = ping.tick() => {
                    self.send(signal_request::Message::PingReq(Ping::default())).await?;
                }
                () = told_to_leave(&mut leave) => {
                    self.send(signal_request::Message::Leave(LeaveRequest::default())).await?;
                    let _ = self.socket.close(None).await;
                    let _ = self.shared.orders.send(Order::Stop(self.role.index));
                    return Ok(());
                }
            }
        }
    }

    async fn handle(&mut self, response: SignalResponse) -> anyhow::Result<()> {
        use signal_response::Message as M;
        match response.message {
            Some(M::Join(join)) => {
                for other in &join.other_participants {
                    self.look_at(&other.tracks).await?;
                }
                self.announce().await?;
            }
            Some(M::Update(update)) => {
                let own = identity(self.role.index);
                for other in update
                    .participants
                    .iter()
                    .filter(|other| other.identity != own)
                {
                    self.look_at(&other.tracks).await?;
                }
            }
            Some(M::TrackPublished(_)) => {
                self.unannounced -= 1;
                if self.unannounced == 0 {
                    let sdp = sdp::offer(&self.tracks(), &self.publisher, self.shared.fingerprint);
                    self.send(signal_request::Message::Offer(description("offer", sdp, 1)))
                        .await?;
                }
            }
            Some(M::Answer(answer)) => {
                let side = sdp::remote_side(&answer.sdp)?;
                self.publisher_remote = Some((side.ice.clone(), false));
                if let Some(address) = side.address {
                    self.start_publisher(address)?;
                }
            }
            Some(M::Offer(offer)) => {
                let RemoteSide { ice, lite, address } = sdp::remote_side(&offer.sdp)?;
                let sdp = if self.shared.feedback {
                    offer.sdp
                } else {
                    sdp::without_feedback(&offer.sdp)
                };
                self.note_parameters(ReceiveParameters::of_offer(&sdp))?;
                let answer = sdp::answer(&sdp, &self.subscriber, self.shared.fingerprint);
                let answer = description("answer", answer, offer.id);
                self.send(signal_request::Message::Answer(answer)).await?;
                if self.subscriber_remote.is_none() {
                    self.subscriber_remote = Some((ice, false));
                    self.controls_subscriber = lite;
                    if let Some(address) = address {
                        self.start_subscriber(address)?;
                    }
                }
            }
            Some(M::Trickle(trickle)) => {
                let init: serde_json::Value = serde_json::from_str(&trickle.candidate_init)?;
                let text = init["candidate"].as_str().unwrap_or_default();
                if let Ok(address) = sdp::candidate(text) {
                    match trickle.target {
                        0 => self.start_publisher(address)?,
                        _ => self.start_subscriber(address)?,
                    }
                }
            }
            Some(M::SubscribedQualityUpdate(update)) if self.shared.dynacast => {
                for codec in update.subscribed_codecs.iter().take(1) {
                    for quality in &codec.qualities {
                        if let Some(wanted) = self.qualities.get_mut(quality.quality as usize) {
                            *wanted = quality.enabled;
                        }
                    }
                }
                self.order(Order::SendQualities(self.role.index, self.qualities))?;
            }
            Some(M::Leave(leave)) => bail!("the server says leave: {:?}", leave.reason()),
            _ => {}
        }
        Ok(())
    }

    /// The media thread has to know how to read what comes before the server knows that it may
    /// send it, and once: every newcomer brings an offer.
    fn note_parameters(&mut self, parameters: ReceiveParameters) -> anyhow::Result<()> {
        if parameters == self.receive {
            return Ok(());
        }
        self.receive = parameters;
        self.order(Order::Receive(self.role.index, parameters))
    }

    async fn announce(&mut self) -> anyhow::Result<()> {
        for track in self.tracks() {
            let all = self.layers();
            let [.., (width, height, _)] = all;
            let layers = (0..).zip(all).map(|(quality, layer)| VideoLayer {
                quality,
                width: layer.0,
                height: layer.1,
                bitrate: layer.2,
                ..Default::default()
            });
            let (kind, source) = if track.video {
                (TrackType::Video, TrackSource::Camera)
            } else {
                (TrackType::Audio, TrackSource::Microphone)
            };
            self.send(signal_request::Message::AddTrack(AddTrackRequest {
                cid: track.cid,
                r#type: kind as i32,
                source: source as i32,
                width: if track.video { width } else { 0 },
                height: if track.video { height } else { 0 },
                layers: if !track.video {
                    Vec::new()
                } else if self.role.simulcast {
                    layers.collect()
                } else {
                    layers.skip(2).collect()
                },
                ..Default::default()
            }))
            .await?;
        }
        Ok(())
    }

    /// Says of cameras that are new how large they are shown, or that they are not.
    async fn look_at(&mut self, tracks: &[moim_signaling::wire::TrackInfo]) -> anyhow::Result<()> {
        for track in tracks {
            if track.r#type != TrackType::Video as i32 || self.seen.contains(&track.sid) {
                continue;
            }
            self.seen.push(track.sid.clone());
            let place = self.settled;
            self.settled += 1;
            let (width, height, _) = LAYERS[if place == 0 { 2 } else { 0 }];
            self.send(signal_request::Message::TrackSetting(UpdateTrackSettings {
                track_sids: vec![track.sid.clone()],
                disabled: place >= self.role.visible,
                width,
                height,
                ..Default::default()
            }))
            .await?;
        }
        Ok(())
    }

    /// Width, height and bits a second of the layers of its camera, the lowest first.
    fn layers(&self) -> [(u32, u32, u32); 3] {
        let mut layers = LAYERS;
        if let Some(clip) = &self.shared.clip {
            for (layer, encoding) in layers.iter_mut().zip(&clip.layers) {
                let bitrate = encoding.bitrate(clip.interval);
                *layer = (encoding.width, encoding.height, bitrate);
            }
        }
        layers
    }

    fn tracks(&self) -> Vec<OfferedTrack> {
        let track = |video: bool| OfferedTrack {
            cid: format!(
                "{}-{}",
                if video { "camera" } else { "microphone" },
                self.role.index
            ),
            video,
            simulcast: self.role.simulcast,
            ssrc: self.ssrc(video),
        };
        let kinds = [(false, self.role.audio), (true, self.role.video)];
        kinds
            .into_iter()
            .filter(|(_, wanted)| *wanted)
            .map(|(video, _)| track(video))
            .collect()
    }

    fn ssrc(&self, video: bool) -> u32 {
        1_000_000 + 8 * self.role.index as u32 + if video { 4 } else { 0 }
    }

    fn start_publisher(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let offered = self.tracks();
        let tracks = offered.iter().map(|track| PublishedTrack {
            video: track.video,
            ssrc: track.ssrc,
            layers: if self.role.simulcast { 3 } else { 1 },
            qualities: self.qualities,
            speech: self.role.speech,
            clip: self.shared.clip.clone(),
        });
        let tracks = tracks.collect();
        let remote = unstarted(&mut self.publisher_remote);
        self.start(remote, self.publisher.clone(), address, tracks)
    }

    fn start_subscriber(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let remote = unstarted(&mut self.subscriber_remote);
        self.start(remote, self.subscriber.clone(), address, Vec::new())
    }

    fn start(
        &self,
        remote: Option<IceCredentials>,
        local: IceCredentials,
        address: SocketAddr,
        tracks: Vec<PublishedTrack>,
    ) -> anyhow::Result<()> {
        let Some(remote) = remote else {
            return Ok(());
        };
        let tracks_are_received = tracks.is_empty();
        self.order(Order::Start(Box::new(Start {
            participant: self.role.index,
            local,
            remote,
            address,
            tracks,
            receive: self.receive,
            controls: !tracks_are_received || self.controls_subscriber,
            since: self.since,
        })))
    }

    fn order(&self, order: Order) -> anyhow::Result<()> {
        let sent = self.shared.orders.send(order);
        sent.ok().context("the media thread has ended")
    }

    async fn send(&mut self, message: signal_request::Message) -> anyhow::Result<()> {
        let request = SignalRequest {
            message: Some(message),
        };
        let frame = Message::Binary(request.encode_to_vec().into());
        Ok(self.socket.send(frame).await?)
    }
}

pub(crate) async fn told_to_leave(leave: &mut watch::Receiver<bool>) {
    // Whoever could say it is gone: that says it too.
    let _ = leave.wait_for(|leave| *leave).await;
}

/// The server's credentials, the first time that they are asked for.
fn unstarted(remote: &mut Option<(IceCredentials, bool)>) -> Option<IceCredentials> {
    let (ice, started) = remote.as_mut()?;
    if std::mem::replace(started, true) {
        return None;
    }
    Some(ice.clone())
}

pub(crate) fn description(kind: &str, sdp: String, id: u32) -> SessionDescription {
    SessionDescription {
        r#type: kind.into(),
        sdp,
        id,
        ..Default::default()
    }
}
