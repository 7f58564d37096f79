//! A client that lost its WebSocket comes back: its connections and tracks are still there.

use moim_signaling::Join;
use moim_signaling::outbox::{Outbox, outbox};
use moim_signaling::wire::{
    DisconnectReason, LeaveRequest, ReconnectResponse, RoomUpdate, SignalResponse, leave_request,
    signal_response,
};
use tokio::time::Instant;

use super::actor::Joined;
use super::participant::ParticipantKey;
use super::seat::RoomSeat;
use super::state::{Room, new_credentials, update};
use moim_engine::command::Command;

impl Room {
    pub(super) fn resume(&mut self, join: Join, sid: &str) -> Joined {
        let found = self
            .participants
            .values_mut()
            .find(|participant| participant.identity == join.identity && participant.sid == sid);
        let (outbox, responses) = outbox();
        let Some(participant) = found else {
            return Ok((self.refuse_resume(&outbox)?, responses));
        };
        tracing::info!(participant = %participant.identity, "resumed");
        participant.outbox = Some(outbox);
        participant.session += 1;
        participant.session_since = Instant::now();
        participant.lost_since = None;
        let (key, last_message_seq) = (participant.key, participant.data_sequence);
        let response = ReconnectResponse {
            server_info: Some(self.server_info()),
            last_message_seq,
            ..Default::default()
        };
        self.send(key, signal_response::Message::Reconnect(response));
        let visible: Vec<ParticipantKey> = self
            .participants
            .values()
            .filter(|other| other.key == key || !other.permissions.hidden)
            .map(|other| other.key)
            .collect();
        let infos = visible
            .into_iter()
            .filter_map(|other| self.participant_info(other))
            .collect();
        self.send(key, update(infos));
        let room = RoomUpdate {
            room: Some(self.room_info()),
        };
        self.send(key, signal_response::Message::RoomUpdate(room));
        for track in self.tracks.values_mut().filter(|t| t.owner == key) {
            track.wanted_layers.forget();
            self.rewished.insert(track.id);
        }
        self.send_token(key);
        self.restart_subscriber(key);
        let seat = self.seat(key)?;
        Ok((seat, responses))
    }

    /// The client is told to join anew: nothing of it is known here.
    fn refuse_resume(&self, outbox: &Outbox) -> Result<RoomSeat, moim_signaling::Refusal> {
        let leave = LeaveRequest {
            can_reconnect: true,
            reason: DisconnectReason::StateMismatch as i32,
            action: leave_request::Action::Reconnect as i32,
            ..Default::default()
        };
        // The channel is new and empty: there is room.
        let _ = outbox.send(SignalResponse {
            message: Some(signal_response::Message::Leave(leave)),
        });
        let gone = || moim_signaling::Refusal::Unavailable("the room is just ending".into());
        Ok(RoomSeat {
            room: self.sender.upgrade().ok_or_else(gone)?,
            // Nobody: keys start at one.
            participant: 0,
            session: 0,
        })
    }

    /// The way to the client may be another now (RFC 8445, section 2.4).
    fn restart_subscriber(&mut self, key: ParticipantKey) {
        let subscriber = self
            .participants
            .get_mut(&key)
            .and_then(|participant| participant.subscriber.as_mut());
        if let Some(subscriber) = subscriber {
            let ice = new_credentials();
            subscriber.negotiation.restart_ice(ice.clone());
            subscriber.offered_at = None;
            self.media.command(Command::RestartIce {
                transport: subscriber.transport,
                local_ice: ice,
            });
        }
    }
}
