//! The life of one WebSocket: requests in, responses out, until either side ends it.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::SinkExt;
use futures_util::stream::{SplitSink, SplitStream, StreamExt};
use prost::Message as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use crate::admission::read_join;
use crate::rooms::{Refusal, Rooms, Seat, SessionEnd};
use crate::token::ApiKeys;
use crate::wire::{
    DisconnectReason, LeaveRequest, Pong, SignalRequest, SignalResponse, leave_request,
    signal_request, signal_response,
};

/// Largest message of a client, bytes.
const MAX_MESSAGE: usize = 2 << 20;
/// Bytes that a WebSocket reads and writes at once. Most sessions are silent most of the time:
/// their buffers are what they cost.
const IO_BUFFER: usize = 4 << 10;

/// A client has this long to close its side.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Bounds of a session.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A client that says nothing for this long is lost.
    pub silence: Duration,
    /// A client that does not read for this long is lost.
    pub write: Duration,
    /// Messages a second that a client may send for long.
    pub rate: u32,
    /// Messages that it may send at once.
    pub burst: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            silence: Duration::from_secs(15),
            write: Duration::from_secs(5),
            rate: 500,
            burst: 2_000,
        }
    }
}

struct Service<R> {
    rooms: R,
    keys: ApiKeys,
    limits: Limits,
}

impl<R: Clone> Clone for Service<R> {
    fn clone(&self) -> Self {
        Service {
            rooms: self.rooms.clone(),
            keys: self.keys.clone(),
            limits: self.limits,
        }
    }
}

/// The routes of the signaling service.
pub fn router<R: Rooms>(rooms: R, keys: ApiKeys, limits: Limits) -> Router {
    let service = Service {
        rooms,
        keys,
        limits,
    };
    Router::new()
        .route("/rtc", get(connect::<R>).options(preflight))
        .route("/rtc/validate", get(validate::<R>).options(preflight))
        .route("/rtc/{*rest}", axum::routing::any(not_found))
        .with_state(service)
}

/// An answer that scripts of other origins may read: clients ask from everywhere.
fn open_to_all(response: impl IntoResponse) -> Response {
    let mut response = response.into_response();
    let headers = response.headers_mut();
    let any = HeaderValue::from_static("*");
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, any.clone());
    headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, any);
    response
}

fn refused(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    open_to_all((status, refusal.to_string()))
}

async fn preflight() -> Response {
    open_to_all(StatusCode::NO_CONTENT)
}

/// Clients try newer paths first and fall back when there is nothing.
async fn not_found() -> Response {
    open_to_all((StatusCode::NOT_FOUND, "404 page not found\n"))
}

async fn validate<R: Rooms>(
    State(service): State<Service<R>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let join = match read_join(&service.keys, &query, &headers, unix_seconds()) {
        Ok(join) => join,
        Err(refusal) => return refused(&refusal),
    };
    match service.rooms.admits(&join).await {
        Ok(()) => open_to_all("success"),
        Err(refusal) => refused(&refusal),
    }
}

async fn connect<R: Rooms>(
    State(service): State<Service<R>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
) -> Response {
    // The token first: a stranger learns nothing else.
    let join = match read_join(&service.keys, &query, &headers, unix_seconds()) {
        Ok(join) => join,
        Err(refusal) => return refused(&refusal),
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return open_to_all(rejection),
    };
    let span = tracing::info_span!("session", room = %join.room, participant = %join.identity);
    let joined = service.rooms.join(join).instrument(span.clone()).await;
    let (seat, outbox) = match joined {
        Ok(joined) => joined,
        Err(refusal) => return refused(&refusal),
    };
    let limits = service.limits;
    let guard = SeatGuard(Some(seat));
    upgrade
        .read_buffer_size(IO_BUFFER)
        .write_buffer_size(IO_BUFFER)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(move |socket| run(socket, guard, outbox, limits).instrument(span))
}

/// Tells the room of the end also when the connection dies before the session has begun.
struct SeatGuard<S: Seat>(Option<S>);

impl<S: Seat> Drop for SeatGuard<S> {
    fn drop(&mut self) {
        if let (Some(seat), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(seat.end(SessionEnd::Lost));
        }
    }
}

/// Which form the client understands: that of its last message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Binary,
    Json,
}

/// Why a session is over.
#[derive(Debug)]
enum Over {
    /// The room has dismissed the participant.
    Dismissed,
    /// The client has left.
    Left,
    /// The socket is closed or broken, or the client does not read.
    Broken,
    /// Nothing was heard for too long.
    Silent,
    /// The client broke the protocol.
    Violation { code: u16, reason: String },
}

async fn run<S: Seat>(
    socket: WebSocket,
    mut guard: SeatGuard<S>,
    outbox: mpsc::Receiver<SignalResponse>,
    limits: Limits,
) {
    let (sink, mut stream) = socket.split();
    let mut session = Session {
        sink,
        form: Form::Binary,
        limits,
        tokens: f64::from(limits.burst),
        refilled: Instant::now(),
    };
    let Some(seat) = guard.0.as_mut() else {
        return;
    };
    let over = session.drive(&mut stream, seat, outbox).await;
    tracing::debug!(?over, "the session is over");
    let end = match over {
        Over::Left | Over::Violation { .. } | Over::Dismissed => SessionEnd::Final,
        Over::Broken | Over::Silent => SessionEnd::Lost,
    };
    // The room first: the seat should not wait for a socket that may not drain.
    if let Some(seat) = guard.0.take() {
        seat.end(end).await;
    }
    session.close(over, &mut stream).await;
}

struct Session {
    sink: SplitSink<WebSocket, Message>,
    form: Form,
    limits: Limits,
    /// Messages that may come now.
    tokens: f64,
    refilled: Instant,
}

impl Session {
    async fn drive<S: Seat>(
        &mut self,
        stream: &mut SplitStream<WebSocket>,
        seat: &mut S,
        mut outbox: mpsc::Receiver<SignalResponse>,
    ) -> Over {
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                response = outbox.recv() => match response {
                    Some(response) => {
                        if let Err(over) = self.send(response).await {
                            return over;
                        }
                    }
                    None => return Over::Dismissed,
                },
                message = stream.next() => {
                    heard = Instant::now();
                    let message = match message {
                        Some(Ok(message)) => message,
                        Some(Err(error)) => return broken(&error),
                        None => return Over::Broken,
                    };
                    if let Err(over) = self.receive(message, seat).await {
                        return over;
                    }
                }
                () = tokio::time::sleep_until(heard + self.limits.silence) => return Over::Silent,
            }
        }
    }

    async fn receive<S: Seat>(&mut self, message: Message, seat: &mut S) -> Result<(), Over> {
        self.take_token()?;
        let request = match message {
            Message::Binary(bytes) => {
                self.form = Form::Binary;
                SignalRequest::decode(bytes).map_err(|error| malformed(&error))?
            }
            Message::Text(text) => {
                self.form = Form::Json;
                serde_json::from_str(&text).map_err(|error| malformed(&error))?
            }
            Message::Close(_) => return Err(Over::Broken),
            // Answered by the library.
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
        };
        match request.message {
            // A message from a newer protocol.
            None => Ok(()),
            Some(signal_request::Message::Ping(_)) => {
                self.answer(signal_response::Message::Pong(unix_millis()))
                    .await
            }
            Some(signal_request::Message::PingReq(ping)) => {
                let pong = Pong {
                    last_ping_timestamp: ping.timestamp,
                    timestamp: unix_millis(),
                };
                self.answer(signal_response::Message::PongResp(pong)).await
            }
            Some(message) => {
                let leaves = matches!(message, signal_request::Message::Leave(_));
                let request = SignalRequest {
                    message: Some(message),
                };
                if seat.request(request).await.is_err() {
                    // What the room said last is still in the outbox.
                    return Ok(());
                }
                if leaves { Err(Over::Left) } else { Ok(()) }
            }
        }
    }

    fn take_token(&mut self) -> Result<(), Over> {
        let now = Instant::now();
        let earned = (now - self.refilled).as_secs_f64() * f64::from(self.limits.rate);
        self.tokens = (self.tokens + earned).min(f64::from(self.limits.burst));
        self.refilled = now;
        self.tokens -= 1.0;
        if self.tokens < 0.0 {
            return Err(Over::Violation {
                code: 1008,
                reason: "too many messages".into(),
            });
        }
        Ok(())
    }

    async fn answer(&mut self, message: signal_response::Message) -> Result<(), Over> {
        self.send(SignalResponse {
            message: Some(message),
        })
        .await
    }

    async fn send(&mut self, response: SignalResponse) -> Result<(), Over> {
        let message = match self.form {
            Form::Binary => Message::Binary(response.encode_to_vec().into()),
            Form::Json => match serde_json::to_string(&response) {
                Ok(text) => Message::Text(text.into()),
                Err(_) => return Ok(()),
            },
        };
        match timeout(self.limits.write, self.sink.send(message)).await {
            Ok(Ok(())) => Ok(()),
            _ => Err(Over::Broken),
        }
    }

    /// Says why, where somebody listens, and waits for the client to close its side: what is
    /// still unread when a socket is dropped takes the last words with it.
    async fn close(&mut self, over: Over, stream: &mut SplitStream<WebSocket>) {
        let (code, reason) = match over {
            Over::Violation { code, reason } => {
                let leave = LeaveRequest {
                    reason: DisconnectReason::UnknownReason as i32,
                    action: leave_request::Action::Disconnect as i32,
                    ..Default::default()
                };
                let _ = self.answer(signal_response::Message::Leave(leave)).await;
                (code, reason)
            }
            Over::Silent => (1001, "nothing was heard".into()),
            Over::Dismissed | Over::Left => (1000, String::new()),
            Over::Broken => return,
        };
        let frame = CloseFrame {
            code,
            reason: Utf8Bytes::from(reason),
        };
        let close = async {
            if self.sink.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = stream.next().await {}
            }
        };
        let _ = timeout(CLOSE_TIMEOUT, close).await;
    }
}

fn malformed(error: &dyn std::fmt::Display) -> Over {
    Over::Violation {
        code: 1007,
        // A close frame holds 123 bytes.
        reason: format!("malformed message: {error}")
            .chars()
            .take(100)
            .collect(),
    }
}

fn broken(error: &axum::Error) -> Over {
    let text = error.to_string();
    if text.contains("too long") || text.contains("too big") {
        return Over::Violation {
            code: 1009,
            reason: format!("a message may have at most {MAX_MESSAGE} bytes"),
        };
    }
    Over::Broken
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn unix_millis() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
