//! A participant's seat, as its signaling session holds it.

use moim_signaling::wire::SignalRequest;
use moim_signaling::{Seat, SeatClosed, SessionEnd};
use tokio::sync::mpsc;

use super::actor::RoomMessage;
use super::participant::ParticipantKey;

/// One session's hold on its seat. A resumed session gets a new one; the old one then says
/// nothing any more.
#[derive(Debug)]
pub struct RoomSeat {
    pub(super) room: mpsc::Sender<RoomMessage>,
    pub(super) participant: ParticipantKey,
    pub(super) session: u32,
}

impl Seat for RoomSeat {
    async fn request(&mut self, request: SignalRequest) -> Result<(), SeatClosed> {
        let message = RoomMessage::Request {
            participant: self.participant,
            session: self.session,
            request: Box::new(request),
        };
        self.room.send(message).await.map_err(|_| SeatClosed)
    }

    async fn end(self, end: SessionEnd) {
        let message = RoomMessage::SessionEnded {
            participant: self.participant,
            session: self.session,
            end,
        };
        // A room that is gone needs no news.
        let _ = self.room.send(message).await;
    }
}
