//! A client that lost its WebSocket comes back: its connections and tracks are still there, and
//! it is told everything that may have changed meanwhile.

use moim_signaling::Join;
use moim_signaling::wire::{DisconnectReason, ReconnectResponse, leave_request, signal_response};

use super::core::{Room, leave};
use super::join::Seated;
use super::participant::Link;

impl Room {
    pub(super) fn resume(&mut self, join: &Join, sid: &str) -> Seated {
        let now = self.now;
        let server_info = self.server_info();
        let found = self
            .participants
            .values()
            .find(|participant| participant.identity == join.identity && participant.sid == sid);
        let away_since = |link| match link {
            Link::Up => now.instant,
            Link::Down { since } => since,
        };
        let Some(key) = found
            .filter(|participant| self.news.remembers(away_since(participant.session.link)))
            .map(|participant| participant.key)
        else {
            return Seated::Dismissed(Box::new(leave(
                DisconnectReason::StateMismatch,
                leave_request::Action::Reconnect,
            )));
        };
        // The former WebSocket, if it is still there, is cut.
        self.end_session(key);
        let Some(participant) = self.participants.get_mut(&key) else {
            unreachable!("it was found just now")
        };
        participant.session.renew(now);
        let seat = participant.seat();
        tracing::debug!(participant = %participant.identity, "resumed");
        let response = ReconnectResponse {
            server_info: Some(server_info),
            last_message_seq: participant.data.last_sequence,
            ..Default::default()
        };
        participant.send(signal_response::Message::Reconnect(response));
        // The path to the client may be another now.
        if let Some(subscriber) = &mut participant.subscriber {
            subscriber.restart_ice(&mut self.media, &mut self.rng);
        }
        let cut = std::mem::take(&mut participant.cuts_next_resume);
        self.forget_told(key);
        self.send_token(key);
        if cut {
            self.end_session(key);
        }
        Seated::Seat(seat)
    }
}
