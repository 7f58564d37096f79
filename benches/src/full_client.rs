//! Complete clients, made of the `webrtc` crate. They share nothing with the server's media path
//! and nothing with the lean clients but the WebSocket, so what they find, they find from
//! outside: whether packets decrypt to what was sent, whether anything is missing once the
//! crate has asked for retransmissions, whether sender reports come.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use moim_signaling::wire::{
    LeaveRequest, Ping, SignalRequest, SignalResponse, SignalTarget, signal_request,
    signal_response,
};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCConfigurationBuilder, RTCIceCandidateInit, RTCSessionDescription, Registry,
    register_default_interceptors,
};

use crate::receive::{Counts, Streams};
use crate::report_counter::{ReportCounter, last_slot};
use crate::session::{SIGNALING_QUERY, description, told_to_leave};
use crate::source::STAMP;

/// What complete clients found.
#[derive(Debug, Default, Clone, Copy, serde::Serialize)]
pub(crate) struct Findings {
    /// How many clients there were.
    pub(crate) clients: usize,
    /// How many of them received media.
    pub(crate) receiving: usize,
    pub(crate) tracks: usize,
    /// Of all their streams; what was lost stayed so after retransmission.
    pub(crate) counts: Counts,
    /// Packets that do not end with a time at which something was sent.
    pub(crate) unreadable: u64,
    /// Packets that were made before one with a lower sequence number.
    pub(crate) backwards: u64,
    /// RTCP sender reports.
    pub(crate) sender_reports: u64,
}

impl Findings {
    /// Adds those of another client.
    pub(crate) fn add(&mut self, other: &Findings) {
        self.clients += other.clients;
        self.receiving += other.receiving;
        self.tracks += other.tracks;
        self.counts.add(&other.counts);
        self.unreadable += other.unreadable;
        self.backwards += other.backwards;
        self.sender_reports += other.sender_reports;
    }
}

/// What the library's tasks write down.
#[derive(Default)]
struct Notebook {
    streams: Streams,
    /// Of each stream, the last packet in order: sequence number and time of making.
    last: HashMap<u32, (u16, u64)>,
    findings: Findings,
}

impl Notebook {
    /// `elapsed` is the time since the epoch of the stamps.
    fn packet(&mut self, ssrc: u32, sequence: u16, payload: &[u8], elapsed: u64) {
        // Padding alone: a probe.
        if payload.is_empty() {
            self.streams.receive(ssrc, sequence, 0, true);
            return;
        }
        self.streams.receive(ssrc, sequence, payload.len(), false);
        let stamp = payload.last_chunk::<STAMP>();
        let made = stamp
            .and_then(|stamp| stamp.first_chunk::<8>())
            .map_or(0, |bytes| u64::from_be_bytes(*bytes));
        if made == 0 || made > elapsed {
            self.findings.unreadable += 1;
            return;
        }
        let last = self.last.entry(ssrc).or_insert((sequence, made));
        // A retransmission fills a gap behind.
        if sequence.wrapping_sub(last.0) < 0x8000 {
            self.findings.backwards += u64::from(made < last.1);
            *last = (sequence, made);
        }
    }
}

struct Handler {
    epoch: Instant,
    notebook: Arc<Mutex<Notebook>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let (epoch, notebook) = (self.epoch, self.notebook.clone());
        tokio::spawn(async move {
            lock(&notebook).findings.tracks += 1;
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(packet) = event {
                    let elapsed = epoch.elapsed().as_nanos() as u64;
                    let (ssrc, sequence) = (packet.header.ssrc, packet.header.sequence_number);
                    lock(&notebook).packet(ssrc, sequence, &packet.payload, elapsed);
                }
            }
        });
    }
}

/// Counters stay usable if a task has panicked meanwhile.
fn lock(notebook: &Mutex<Notebook>) -> std::sync::MutexGuard<'_, Notebook> {
    notebook.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A subscriber that has joined.
pub(crate) struct FullClient {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    connection: Box<dyn PeerConnection>,
    notebook: Arc<Mutex<Notebook>>,
    sender_reports: Arc<AtomicU64>,
    described: bool,
    early: Vec<RTCIceCandidateInit>,
}

impl FullClient {
    /// Joins. `epoch` is that of the stamps in the payloads.
    ///
    /// # Errors
    /// When the server refuses, or there is no socket.
    pub(crate) async fn join(url: &str, token: &str, epoch: Instant) -> anyhow::Result<FullClient> {
        let url = format!("{url}/rtc?access_token={token}&{SIGNALING_QUERY}");
        let (socket, _) = connect_async(url).await.context("a full client")?;
        // The way to the media is the way to the WebSocket.
        let MaybeTlsStream::Plain(stream) = socket.get_ref() else {
            bail!("full clients join by ws:// only");
        };
        let local = SocketAddr::new(stream.local_addr()?.ip(), 0);
        let mut media_engine = MediaEngine::default();
        media_engine.register_default_codecs()?;
        let registry = register_default_interceptors(Registry::new(), &mut media_engine)?;
        let counter = ReportCounter::default();
        let sender_reports = counter.count();
        let registry = registry.with(last_slot(), counter);
        let notebook = Arc::new(Mutex::new(Notebook::default()));
        let handler = Handler {
            epoch,
            notebook: notebook.clone(),
        };
        let connection = PeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(media_engine)
            .with_interceptor_registry(registry)
            .with_handler(Arc::new(handler))
            .with_udp_addrs(vec![local])
            .build()
            .await?;
        Ok(FullClient {
            socket,
            connection: Box::new(connection),
            notebook,
            sender_reports,
            described: false,
            early: Vec::new(),
        })
    }

    /// Takes part until `leave` says so, and says what it found.
    ///
    /// # Errors
    /// When the session ends before.
    pub(crate) async fn run(
        mut self,
        mut leave: watch::Receiver<bool>,
    ) -> anyhow::Result<Findings> {
        let mut ping = tokio::time::interval(std::time::Duration::from_secs(5));
        loop {
            tokio::select! {
                message = self.socket.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        self.handle(SignalResponse::decode(&bytes[..])?).await?;
                    }
                    Some(Ok(Message::Close(_))) | None => bail!("the server ended a full client"),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error.into()),
                },
                _ = ping.tick() => {
                    self.send(signal_request::Message::PingReq(Ping::default())).await?;
                }
                () = told_to_leave(&mut leave) => break,
            }
        }
        let findings = self.findings();
        self.send(signal_request::Message::Leave(LeaveRequest::default()))
            .await?;
        let _ = self.socket.close(None).await;
        self.connection.close().await?;
        Ok(findings)
    }

    fn findings(&self) -> Findings {
        let notebook = lock(&self.notebook);
        let counts = notebook.streams.counts();
        Findings {
            clients: 1,
            receiving: usize::from(counts.received > 0),
            counts,
            sender_reports: self.sender_reports.load(Ordering::Relaxed),
            ..notebook.findings
        }
    }

    async fn handle(&mut self, response: SignalResponse) -> anyhow::Result<()> {
        match response.message {
            Some(signal_response::Message::Offer(offer)) => {
                let description_of = RTCSessionDescription::offer(offer.sdp)?;
                self.connection
                    .set_remote_description(description_of)
                    .await?;
                self.described = true;
                for candidate in std::mem::take(&mut self.early) {
                    self.connection.add_ice_candidate(candidate).await?;
                }
                let answer = self.connection.create_answer(None).await?;
                let sdp = answer.sdp.clone();
                self.connection.set_local_description(answer).await?;
                let answer = description("answer", sdp, offer.id);
                self.send(signal_request::Message::Answer(answer)).await?;
            }
            Some(signal_response::Message::Trickle(trickle))
                if trickle.target == SignalTarget::Subscriber as i32 =>
            {
                self.add_candidate(&trickle.candidate_init).await?;
            }
            Some(signal_response::Message::Leave(leave)) => {
                bail!(
                    "the server says leave to a full client: {:?}",
                    leave.reason()
                );
            }
            _ => {}
        }
        Ok(())
    }

    async fn add_candidate(&mut self, json: &str) -> anyhow::Result<()> {
        let json: serde_json::Value = serde_json::from_str(json)?;
        let candidate = RTCIceCandidateInit {
            candidate: json["candidate"].as_str().unwrap_or_default().to_owned(),
            sdp_mid: Some("0".into()),
            sdp_mline_index: Some(0),
            ..Default::default()
        };
        if self.described {
            self.connection.add_ice_candidate(candidate).await?;
        } else {
            self.early.push(candidate);
        }
        Ok(())
    }

    async fn send(&mut self, message: signal_request::Message) -> anyhow::Result<()> {
        let request = SignalRequest {
            message: Some(message),
        };
        let frame = Message::Binary(request.encode_to_vec().into());
        Ok(self.socket.send(frame).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(made: u64) -> Vec<u8> {
        let mut payload = vec![1; 20];
        payload.extend_from_slice(&made.to_be_bytes());
        payload.extend_from_slice(&[0; 4]);
        payload
    }

    #[test]
    fn what_is_missing_unreadable_or_in_the_wrong_order_is_noticed() {
        let mut notebook = Notebook::default();
        for (sequence, made) in [(10, 100), (12, 120), (11, 110), (14, 119), (15, 990)] {
            notebook.packet(7, sequence, &payload(made), 500);
        }
        notebook.packet(7, 16, &[], 500);
        let counts = notebook.streams.counts();
        assert_eq!((counts.lost, counts.received, counts.probes), (1, 6, 1));
        assert_eq!(notebook.findings.backwards, 1);
        assert_eq!(notebook.findings.unreadable, 1);
    }
}
