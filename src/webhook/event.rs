//! The webhook event of a fact.

use moim_signaling::wire::{ParticipantInfo, Room, WebhookEvent, participant_info};
use rand::distr::{Alphanumeric, SampleString};

use crate::room::Fact;

/// Characters of an event's id after its prefix, as long as those of rooms.
const ID_LEN: usize = 12;

/// The name of the event that tells a fact; `None` for what no receiver is told.
pub(super) fn name_of(fact: &Fact) -> Option<&'static str> {
    Some(match fact {
        Fact::RoomStarted { .. } => "room_started",
        Fact::RoomFinished(_) => "room_finished",
        // A participant counts as joined when its media connection is up.
        Fact::ParticipantActive(_) => "participant_joined",
        Fact::ParticipantLeft { participant, .. } => {
            if participant.state == participant_info::State::Active as i32 {
                "participant_left"
            } else {
                "participant_connection_aborted"
            }
        }
        Fact::TrackPublished { .. } => "track_published",
        Fact::TrackUnpublished { .. } => "track_unpublished",
        Fact::ParticipantJoined(_) | Fact::Subscribed | Fact::Unsubscribed => return None,
    })
}

/// The event that tells a fact of a room at a time in unix seconds.
pub(super) fn event_of(room: &Room, fact: &Fact, now: u64) -> Option<WebhookEvent> {
    let name = name_of(fact)?;
    // Of tracks only the names of room and participant are told.
    let minimal_room = || Room {
        sid: room.sid.clone(),
        name: room.name.clone(),
        ..Default::default()
    };
    let minimal = |participant: &ParticipantInfo| ParticipantInfo {
        sid: participant.sid.clone(),
        identity: participant.identity.clone(),
        ..Default::default()
    };
    let (room, participant, track) = match fact {
        Fact::RoomStarted { room, .. } | Fact::RoomFinished(room) => ((**room).clone(), None, None),
        Fact::ParticipantActive(participant) | Fact::ParticipantJoined(participant) => {
            (room.clone(), Some((**participant).clone()), None)
        }
        Fact::ParticipantLeft {
            participant,
            reason,
        } => {
            let mut gone = (**participant).clone();
            gone.state = participant_info::State::Disconnected as i32;
            gone.disconnect_reason = *reason as i32;
            (room.clone(), Some(gone), None)
        }
        Fact::TrackPublished { participant, track }
        | Fact::TrackUnpublished { participant, track } => (
            minimal_room(),
            Some(minimal(participant)),
            Some((**track).clone()),
        ),
        Fact::Subscribed | Fact::Unsubscribed => return None,
    };
    let id = Alphanumeric.sample_string(&mut rand::rng(), ID_LEN);
    Some(WebhookEvent {
        event: name.to_owned(),
        room: Some(room),
        participant,
        track,
        id: format!("EV_{id}"),
        created_at: i64::try_from(now).unwrap_or(i64::MAX),
        ..Default::default()
    })
}

#[cfg(test)]
mod tests {
    use moim_signaling::wire::{DisconnectReason, TrackInfo};

    use super::*;

    fn participant(state: participant_info::State) -> Box<ParticipantInfo> {
        Box::new(ParticipantInfo {
            sid: "PA_a".into(),
            identity: "alice".into(),
            metadata: "m".into(),
            state: state as i32,
            ..Default::default()
        })
    }

    #[test]
    fn who_was_never_connected_did_not_leave() {
        use participant_info::State;
        for (state, name) in [
            (State::Active, "participant_left"),
            (State::Joined, "participant_connection_aborted"),
        ] {
            let fact = Fact::ParticipantLeft {
                participant: participant(state),
                reason: DisconnectReason::ParticipantRemoved,
            };
            let event = event_of(&Room::default(), &fact, 7).unwrap();
            let gone = event.participant.unwrap();
            assert_eq!((event.event.as_str(), event.created_at), (name, 7));
            assert_eq!(gone.state(), State::Disconnected);
            assert_eq!(
                gone.disconnect_reason(),
                DisconnectReason::ParticipantRemoved
            );
        }
    }

    #[test]
    fn of_a_track_only_names_are_told_beside_it() {
        let room = Room {
            name: "r".into(),
            metadata: "long".into(),
            ..Default::default()
        };
        let fact = Fact::TrackPublished {
            participant: participant(participant_info::State::Active),
            track: Box::new(TrackInfo {
                sid: "TR_a".into(),
                ..Default::default()
            }),
        };
        let event = event_of(&room, &fact, 0).unwrap();
        let (room, participant) = (event.room.unwrap(), event.participant.unwrap());
        assert_eq!((room.name.as_str(), room.metadata.as_str()), ("r", ""));
        assert_eq!(
            (participant.identity.as_str(), participant.metadata.as_str()),
            ("alice", "")
        );
        assert_eq!(event.track.unwrap().sid, "TR_a");
    }
}
