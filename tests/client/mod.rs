//! A client of the protocol made of the `webrtc` crate and a WebSocket: an implementation of
//! WebRTC that shares nothing with the browsers' and phones' one.
// Each test file takes what it needs.
#![allow(dead_code)]

mod connection;
mod server;

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use moim_signaling::wire::{
    AddTrackRequest, DataPacket, LeaveRequest, SessionDescription, SignalRequest, SignalResponse,
    SignalTarget, TrackInfo, TrackSource, TrackType, UserPacket, data_packet, signal_request,
    signal_response,
};
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use connection::Connection;
pub(crate) use connection::Media;
pub(crate) use server::Server;

/// Nothing on loopback takes longer than this.
const PATIENCE: Duration = Duration::from_secs(15);

/// One participant.
pub(crate) struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// The publisher connection.
    pub(crate) publisher: Connection,
    /// The subscriber connection.
    pub(crate) subscriber: Connection,
    /// Track sids by cid, as the server confirmed them.
    pub(crate) published: HashMap<String, TrackInfo>,
    /// The server's last offer.
    pub(crate) offered: String,
    offers: u32,
}

impl Client {
    /// Joins a room over `/rtc`.
    pub(crate) async fn join(server: &Server, room: &str, identity: &str) -> Client {
        let token = server.token(room, identity);
        let url = format!(
            "ws://{}/rtc?access_token={token}&auto_subscribe=1&protocol=16&sdk=rust&version=0.0.0",
            server.http
        );
        let (mut socket, _) = connect_async(url).await.expect("the upgrade");
        let first = receive(&mut socket).await.expect("a join response");
        let Some(signal_response::Message::Join(_)) = first.message else {
            panic!("the first message is {first:?}");
        };
        let mut client = Client {
            socket,
            publisher: Connection::new().await,
            subscriber: Connection::new().await,
            published: HashMap::new(),
            offered: String::new(),
            offers: 0,
        };
        client.publisher.open_data_channels().await;
        client.offer().await;
        client
    }

    /// Says that a track comes, adds it and negotiates it.
    pub(crate) async fn publish(&mut self, kind: TrackType, source: TrackSource) -> Media {
        let media = self.publisher.add_media(kind).await;
        self.send(signal_request::Message::AddTrack(AddTrackRequest {
            cid: media.cid.clone(),
            r#type: kind as i32,
            source: source as i32,
            width: 640,
            height: 360,
            ..Default::default()
        }))
        .await;
        let cid = media.cid.clone();
        self.run_until(|client| client.published.contains_key(&cid))
            .await;
        self.offer().await;
        media
    }

    /// Sends a message to everybody.
    pub(crate) async fn send_data(&mut self, payload: &[u8], topic: &str) {
        let packet = DataPacket {
            value: Some(data_packet::Value::User(UserPacket {
                payload: payload.to_vec().into(),
                topic: Some(topic.to_owned()),
                ..Default::default()
            })),
            ..Default::default()
        };
        self.publisher.send_reliable(&packet.encode_to_vec()).await;
    }

    /// Leaves in order.
    pub(crate) async fn leave(mut self) {
        self.send(signal_request::Message::Leave(LeaveRequest::default()))
            .await;
        let _ = self.socket.close(None).await;
        self.publisher.close().await;
        self.subscriber.close().await;
    }

    /// Handles what the server says until `done`.
    pub(crate) async fn run_until(&mut self, mut done: impl FnMut(&Client) -> bool) {
        let run = async {
            while !done(self) {
                let (ours, theirs) = (self.publisher.news(), self.subscriber.news());
                tokio::select! {
                    response = receive(&mut self.socket) => {
                        let response = response.expect("the session goes on");
                        self.handle(response).await;
                    }
                    () = ours.notified() => {}
                    () = theirs.notified() => {}
                }
            }
        };
        timeout(PATIENCE, run)
            .await
            .expect("what was waited for came");
    }

    /// Handles what the server has said already.
    pub(crate) async fn handle_pending(&mut self) {
        while let Some(response) = receive(&mut self.socket).now_or_never() {
            self.handle(response.expect("the session goes on")).await;
        }
    }

    async fn offer(&mut self) {
        self.offers += 1;
        let sdp = self.publisher.offer().await;
        self.send(signal_request::Message::Offer(SessionDescription {
            r#type: "offer".into(),
            sdp,
            id: self.offers,
            ..Default::default()
        }))
        .await;
        let answered = self.publisher.answers;
        // Boxed: the handler of a message may itself lead here.
        Box::pin(self.run_until(|client| client.publisher.answers > answered)).await;
    }

    async fn handle(&mut self, response: SignalResponse) {
        match response.message {
            Some(signal_response::Message::Answer(answer)) => {
                self.publisher.accept_answer(answer.sdp).await;
            }
            Some(signal_response::Message::Offer(offer)) => {
                self.offered.clone_from(&offer.sdp);
                let sdp = self.subscriber.answer(offer.sdp).await;
                self.send(signal_request::Message::Answer(SessionDescription {
                    r#type: "answer".into(),
                    sdp,
                    id: offer.id,
                    ..Default::default()
                }))
                .await;
            }
            Some(signal_response::Message::Trickle(trickle)) => {
                let connection = if trickle.target == SignalTarget::Publisher as i32 {
                    &mut self.publisher
                } else {
                    &mut self.subscriber
                };
                connection.add_candidate(&trickle.candidate_init).await;
            }
            Some(signal_response::Message::TrackPublished(published)) => {
                if let Some(track) = published.track {
                    self.published.insert(published.cid, track);
                }
            }
            _ => {}
        }
    }

    async fn send(&mut self, message: signal_request::Message) {
        let request = SignalRequest {
            message: Some(message),
        };
        self.socket
            .send(Message::Binary(request.encode_to_vec().into()))
            .await
            .expect("a sent request");
    }
}

async fn receive(
    socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>,
) -> Option<SignalResponse> {
    loop {
        match socket.next().await? {
            Ok(Message::Binary(bytes)) => {
                return Some(SignalResponse::decode(&bytes[..]).expect("a readable response"));
            }
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}
