//! What a signaling session needs of the rooms, and nothing more.
//!
//! The server implements [`Rooms`]; the session ([`crate::session`]) drives it. Requests go in
//! through the [`Seat`], one at a time, so that a room that is busy slows only the client that
//! asks; responses come out through a bounded queue ([`crate::outbox`]), so that a room never
//! waits for a client that does not read: its session ends.

use std::future::Future;

use crate::outbox::OutboxReceiver;
use crate::token::Claims;
use crate::wire::{ClientInfo, SignalRequest};

/// A client that wants a seat, its token already verified.
#[derive(Debug, Clone)]
pub struct Join {
    /// Name of the room, from the token's grant. Never empty.
    pub room: String,
    /// Who asks. Never empty.
    pub identity: String,
    /// The verified token.
    pub claims: Claims,
    /// API key that signed the token, so that refreshed tokens are signed by the same one.
    pub api_key: String,
    /// The SDK, its version and its capabilities.
    pub client: ClientInfo,
    /// Protocol number of the client (`protocol` query parameter).
    pub protocol: i32,
    /// Subscribe to every track at once.
    pub auto_subscribe: bool,
    /// Subscribe to every data track at once.
    pub auto_subscribe_data_track: bool,
    /// The client announces sizes and visibility itself (`UpdateTrackSettings`).
    pub adaptive_stream: bool,
    /// Pictures that its network does not carry may be paused. Otherwise their smallest layer is
    /// sent all the same.
    pub allow_pause: bool,
    /// Attributes given at connect, merged over those of the token when it may update its own.
    pub attributes: std::collections::HashMap<String, String>,
    /// `Some(participant sid)` when the client resumes a session whose WebSocket it lost.
    pub resume: Option<String>,
}

/// Why a client gets no seat. The text is for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 400: a name is empty or too long, a parameter makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// 401: no token, or one that does not verify.
    #[error("{0}")]
    Unauthorized(String),
    /// 403: the token does not allow it, or the room is full.
    #[error("{0}")]
    Forbidden(String),
    /// 404: the room does not exist and is not created on join.
    #[error("{0}")]
    NotFound(String),
    /// 429: too many of the same kind, or too fast.
    #[error("{0}")]
    TooMany(String),
    /// 503: the server takes no more for now.
    #[error("{0}")]
    Unavailable(String),
}

impl Refusal {
    /// The HTTP status that carries this refusal.
    pub fn status(&self) -> u16 {
        match self {
            Refusal::Invalid(_) => 400,
            Refusal::Unauthorized(_) => 401,
            Refusal::Forbidden(_) => 403,
            Refusal::NotFound(_) => 404,
            Refusal::TooMany(_) => 429,
            Refusal::Unavailable(_) => 503,
        }
    }
}

/// How a session's WebSocket came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The client said `leave`, or broke the protocol: it does not come back to this seat.
    Final,
    /// The connection broke or fell silent: the client may resume.
    Lost,
}

/// The room (or this participant's place in it) is gone; the session ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the seat is closed")]
pub struct SeatClosed;

/// One participant's place in a room, as its session sees it.
pub trait Seat: Send + 'static {
    /// Hands one request to the room, waiting while the room's inbox is full.
    fn request(
        &mut self,
        request: SignalRequest,
    ) -> impl Future<Output = Result<(), SeatClosed>> + Send;

    /// Tells the room that the WebSocket has ended. Called exactly once, last.
    fn end(self, end: SessionEnd) -> impl Future<Output = ()> + Send;
}

/// The rooms of this server.
pub trait Rooms: Clone + Send + Sync + 'static {
    /// The seat that [`Rooms::join`] gives.
    type Seat: Seat;

    /// Whether [`Rooms::join`] would give a seat now, without taking it (`/rtc/validate`).
    fn admits(&self, join: &Join) -> impl Future<Output = Result<(), Refusal>> + Send;

    /// Takes a seat. The first message on the receiver is the `JoinResponse` (or
    /// `ReconnectResponse`, or a `LeaveRequest` when a resume is not possible); the receiver
    /// ends when the room has dismissed the participant, and the session then closes the
    /// WebSocket after sending what is left in it.
    fn join(
        &self,
        join: Join,
    ) -> impl Future<Output = Result<(Self::Seat, OutboxReceiver), Refusal>> + Send;
}
