//! The life of one WebSocket: requests in, responses out, until either side ends it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, close_code};
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use crate::encoding::{Encoding, Incoming, decode, encode, len_of};
use crate::outbox::{OutboxEnd, OutboxReceiver};
use crate::rate::{Rate, TokenBucket};
use crate::rooms::{Seat, SessionEnd};
use crate::wire::{
    DisconnectReason, LeaveRequest, Pong, SignalRequest, SignalResponse, leave_request,
    signal_request, signal_response,
};

/// Largest message of a client, bytes.
pub(crate) const MAX_MESSAGE: usize = 2 << 20;
/// How long the closing handshake may take (RFC 6455, section 7.1.1).
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest reason in a close frame, bytes: a control frame has 125, two of which are the code
/// (RFC 6455, section 5.5).
const MAX_CLOSE_REASON: usize = 123;

/// Bounds of a session.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The server sends a WebSocket PING this often (RFC 6455, section 5.5.2). Clients in Go
    /// send nothing of their own: their PONG shows that they are there.
    pub ping: Duration,
    /// A client of which no frame is heard for this long is lost.
    pub silence: Duration,
    /// A client that takes no byte of a message for this long is lost.
    pub write: Duration,
    /// Frames that a client may send.
    pub frames: Rate,
    /// Bytes that a client may send.
    pub bytes: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            ping: Duration::from_secs(10),
            silence: Duration::from_secs(15),
            write: Duration::from_secs(5),
            frames: Rate {
                per_second: 500.0,
                burst: 2_000.0,
            },
            bytes: Rate {
                per_second: (1 << 20) as f64,
                burst: (16 << 20) as f64,
            },
        }
    }
}

/// Why a session is over.
#[derive(Debug, PartialEq, Eq)]
enum SessionOutcome {
    /// The room has dismissed the participant.
    Dismissed,
    /// The client has said that it leaves.
    Left,
    /// The client has closed its WebSocket and may come back.
    Closed,
    /// The connection broke.
    Broken,
    /// Nothing was heard for too long.
    Silent,
    /// The client did not read, or too slowly for what it is sent.
    NotReading,
    /// The client broke the protocol.
    Violation { code: u16, reason: String },
}

impl SessionOutcome {
    fn end(&self) -> SessionEnd {
        match self {
            Self::Left | Self::Violation { .. } | Self::Dismissed => SessionEnd::Final,
            Self::Closed | Self::Broken | Self::Silent | Self::NotReading => SessionEnd::Lost,
        }
    }
}

/// Tells the room of the end also when the connection dies before the session has begun.
pub(crate) struct SeatGuard<S: Seat>(Option<S>);

impl<S: Seat> SeatGuard<S> {
    pub(crate) fn new(seat: S) -> SeatGuard<S> {
        SeatGuard(Some(seat))
    }
}

impl<S: Seat> Drop for SeatGuard<S> {
    fn drop(&mut self) {
        if let (Some(seat), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(seat.end(SessionEnd::Lost));
        }
    }
}

/// A WebSocket, or what stands for one.
pub(crate) trait Socket:
    Stream<Item = Result<Message, axum::Error>> + Sink<Message, Error = axum::Error> + Unpin + Send
{
}

impl<T> Socket for T where
    T: Stream<Item = Result<Message, axum::Error>>
        + Sink<Message, Error = axum::Error>
        + Unpin
        + Send
{
}

/// Runs a session until it is over, and closes its WebSocket.
pub(crate) async fn run<S: Seat>(
    socket: impl Socket,
    mut guard: SeatGuard<S>,
    mut outbox: OutboxReceiver,
    limits: Limits,
) {
    let Some(seat) = guard.0.as_mut() else {
        return;
    };
    let mut session = Session::new(socket, limits);
    let outcome = session.run_until_over(seat, &mut outbox).await;
    // What is queued is of no use any more, and may be much.
    drop(outbox);
    tracing::debug!(?outcome, "the session is over");
    // The room first: the seat should not wait for a socket that may not drain.
    if let Some(seat) = guard.0.take() {
        seat.end(outcome.end()).await;
    }
    session.close(outcome).await;
}

struct Session<T> {
    socket: T,
    encoding: Encoding,
    limits: Limits,
    frames: TokenBucket,
    bytes: TokenBucket,
}

impl<T: Socket> Session<T> {
    fn new(socket: T, limits: Limits) -> Session<T> {
        let now = Instant::now();
        Session {
            socket,
            encoding: Encoding::Binary,
            limits,
            frames: TokenBucket::new(limits.frames, now),
            bytes: TokenBucket::new(limits.bytes, now),
        }
    }

    async fn run_until_over<S: Seat>(
        &mut self,
        seat: &mut S,
        outbox: &mut OutboxReceiver,
    ) -> SessionOutcome {
        let mut heard = Instant::now();
        let mut pings = interval_at(heard + self.limits.ping, self.limits.ping);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // What was received goes first: after a long wait for a busy room, it is not silence.
            let step = tokio::select! {
                biased;
                message = self.socket.next() => {
                    let step = match message {
                        Some(Ok(message)) => self.receive(message, seat).await,
                        Some(Err(error)) => Err(broken(&error)),
                        None => Err(SessionOutcome::Broken),
                    };
                    heard = Instant::now();
                    step
                }
                response = outbox.receive() => match response {
                    Ok(response) => self.send(&response).await,
                    Err(OutboxEnd::Dropped) => Err(SessionOutcome::Dismissed),
                    Err(OutboxEnd::Overflowed) => Err(SessionOutcome::NotReading),
                },
                _ = pings.tick() => self.write(Message::Ping(Default::default())).await,
                () = tokio::time::sleep_until(heard + self.limits.silence) => {
                    Err(SessionOutcome::Silent)
                }
            };
            if let Err(outcome) = step {
                return outcome;
            }
        }
    }

    async fn receive<S: Seat>(
        &mut self,
        message: Message,
        seat: &mut S,
    ) -> Result<(), SessionOutcome> {
        self.take_tokens(&message)?;
        let (request, encoding) = match decode(message).map_err(|error| malformed(&error))? {
            Incoming::Request(request, encoding) => (request, encoding),
            Incoming::Control => return Ok(()),
            Incoming::Close => return Err(SessionOutcome::Closed),
        };
        self.encoding = encoding;
        match request.message {
            // A message of a newer protocol.
            None => Ok(()),
            Some(signal_request::Message::Ping(_)) => {
                let pong = signal_response::Message::Pong(unix_millis());
                self.answer(pong).await
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
                // A seat that is closed has its last words in the outbox, and then its end.
                let _ = seat.request(request).await;
                if leaves {
                    return Err(SessionOutcome::Left);
                }
                Ok(())
            }
        }
    }

    fn take_tokens(&mut self, message: &Message) -> Result<(), SessionOutcome> {
        let now = Instant::now();
        let reason = if !self.frames.take(1.0, now) {
            "too many messages"
        } else if !self.bytes.take(len_of(message) as f64, now) {
            "too many bytes"
        } else {
            return Ok(());
        };
        Err(SessionOutcome::Violation {
            code: close_code::POLICY,
            reason: reason.into(),
        })
    }

    async fn answer(&mut self, message: signal_response::Message) -> Result<(), SessionOutcome> {
        let message = Some(message);
        self.send(&SignalResponse { message }).await
    }

    async fn send(&mut self, response: &SignalResponse) -> Result<(), SessionOutcome> {
        match encode(response, self.encoding) {
            Some(message) => self.write(message).await,
            None => Ok(()),
        }
    }

    async fn write(&mut self, message: Message) -> Result<(), SessionOutcome> {
        match timeout(self.limits.write, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(SessionOutcome::Broken),
            Err(_) => Err(SessionOutcome::NotReading),
        }
    }

    /// Completes the closing handshake (RFC 6455, section 7.1.2), or begins it and says why.
    /// Reads on until the client has closed its side as well: data that is unread when a socket
    /// is dropped makes TCP reset the connection, and the last words are lost.
    async fn close(&mut self, outcome: SessionOutcome) {
        let frame = match outcome {
            // Its close frame is answered by the library when the socket is read.
            SessionOutcome::Closed => None,
            SessionOutcome::Broken => return,
            SessionOutcome::Dismissed | SessionOutcome::Left => {
                Some((close_code::NORMAL, String::new()))
            }
            SessionOutcome::Silent => Some((close_code::AWAY, "nothing was heard".into())),
            SessionOutcome::NotReading => {
                let reason = "messages were not read in time";
                Some((close_code::POLICY, reason.into()))
            }
            SessionOutcome::Violation { code, reason } => {
                let leave = LeaveRequest {
                    reason: DisconnectReason::UnknownReason as i32,
                    action: leave_request::Action::Disconnect as i32,
                    ..Default::default()
                };
                let _ = self.answer(signal_response::Message::Leave(leave)).await;
                Some((code, reason))
            }
        };
        let handshake = async {
            if let Some((code, reason)) = frame {
                let reason = Utf8Bytes::from(reason);
                let close = Message::Close(Some(CloseFrame { code, reason }));
                if self.socket.send(close).await.is_err() {
                    return;
                }
            }
            while let Some(Ok(_)) = self.socket.next().await {}
        };
        let _ = timeout(CLOSE_TIMEOUT, handshake).await;
    }
}

fn malformed(error: &str) -> SessionOutcome {
    let mut reason = format!("malformed message: {error}");
    reason.truncate(reason.floor_char_boundary(MAX_CLOSE_REASON));
    SessionOutcome::Violation {
        code: close_code::INVALID,
        reason,
    }
}

fn broken(error: &axum::Error) -> SessionOutcome {
    // The library's error is not reachable through axum's.
    let text = error.to_string();
    if text.contains("too long") || text.contains("too big") {
        return SessionOutcome::Violation {
            code: close_code::SIZE,
            reason: format!("a message may have at most {MAX_MESSAGE} bytes"),
        };
    }
    SessionOutcome::Broken
}

fn unix_millis() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests;
