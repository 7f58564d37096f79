//! What a room's task is told, and what it answers.

use moim_signaling::outbox::OutboxReceiver;
use moim_signaling::wire::SignalRequest;
use moim_signaling::{Join, Refusal, Seat, SeatClosed, SessionEnd};
use tokio::sync::{mpsc, oneshot};

use super::id::SeatId;
use super::order::{Answer, Order, OrderError};

/// Messages that wait for a room; a sender waits while it is full.
pub(super) const INBOX_CAPACITY: usize = 1_024;

/// What a join is answered with.
pub(super) type Joined = Result<(RoomSeat, OutboxReceiver), Refusal>;

/// What a room's task is told.
#[derive(Debug)]
pub(super) enum RoomMessage {
    Join {
        join: Box<Join>,
        reply: oneshot::Sender<Joined>,
    },
    Admits {
        identity: String,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    Request {
        seat: SeatId,
        request: Box<SignalRequest>,
    },
    SessionEnded {
        seat: SeatId,
        end: SessionEnd,
    },
    Administer {
        order: Box<Order>,
        reply: oneshot::Sender<Result<Answer, OrderError>>,
    },
    /// The server is going down.
    Close,
}

/// One session's hold on its seat, as its WebSocket has it.
#[derive(Debug)]
pub struct RoomSeat {
    pub(super) room: mpsc::Sender<RoomMessage>,
    /// `None` for a session that was refused and only hears why.
    pub(super) seat: Option<SeatId>,
}

impl Seat for RoomSeat {
    async fn request(&mut self, request: SignalRequest) -> Result<(), SeatClosed> {
        let seat = self.seat.ok_or(SeatClosed)?;
        let message = RoomMessage::Request {
            seat,
            request: Box::new(request),
        };
        self.room.send(message).await.map_err(|_| SeatClosed)
    }

    async fn end(self, end: SessionEnd) {
        if let Some(seat) = self.seat {
            // A room that is gone needs no news.
            let _ = self
                .room
                .send(RoomMessage::SessionEnded { seat, end })
                .await;
        }
    }
}
