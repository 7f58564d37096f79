//! The traces of the server API's calls in the store: an entry of the audit log, and the rooms that
//! are made.

use axum::response::Response;
use moim_signaling::ClientAddress;
use moim_signaling::wire::CreateRoomRequest;
use prost_reflect::DynamicMessage;

use super::call::Call;
use super::encoding::input_of;
use super::error::{Code, TwirpError};
use super::room_service::changes;
use crate::room::Now;
use crate::store::Store;
use crate::store::audit::{Entry, Person};
use crate::store::rooms::KeptRoom;

/// Fields in which requests name their room.
const ROOM: [&str; 2] = ["room", "name"];
/// Fields in which requests name the participant that they are about.
const SUBJECT: [&str; 2] = ["identity", "participant_identity"];
/// Methods that carry what participants say and see, and are called too often for a log.
const UNRECORDED: [&str; 3] = ["SendData", "PerformRpc", "UpdateSubscriptions"];

/// A call that leaves a trace in the store.
pub(super) struct Attempt<'a> {
    store: &'a Store,
    /// Its outcome is still missing. `None` for calls that change nothing.
    entry: Option<Entry>,
    room: Option<KeptRoom>,
}

impl<'a> Attempt<'a> {
    /// Of a call, before it is carried out.
    pub(super) fn of(
        store: &'a Store,
        (service, method): (&str, &str),
        origin: Option<ClientAddress>,
        call: &Call,
    ) -> Attempt<'a> {
        let reads = method.starts_with("List") || method.starts_with("Get");
        let is_recorded = !reads && !UNRECORDED.contains(&method);
        let entry = || {
            let kind = input_of(service, method)?;
            let message = call.encoding.decode_as(kind, call.body.clone())?;
            Some(Entry {
                action: format!("{}.{method}", service.trim_start_matches("livekit.")),
                room: text(&message, &ROOM),
                person: Person {
                    actor: call.caller.name(),
                    subject: text(&message, &SUBJECT),
                    origin: origin.map_or(String::new(), |ClientAddress(ip)| ip.to_string()),
                },
                ..Entry::default()
            })
        };
        let room = (method == "CreateRoom")
            .then(|| call.message().map(kept).ok())
            .flatten();
        Attempt {
            store,
            entry: is_recorded.then(entry).flatten(),
            room,
        }
    }

    /// Keeps what there is to keep, before the call is answered.
    pub(super) async fn keep(
        self,
        answered: Result<Response, TwirpError>,
    ) -> Result<Response, TwirpError> {
        let mut answered = answered;
        if answered.is_ok()
            && let Some(room) = self.room
            && self.store.keep_room(room).await.is_err()
        {
            let text = "the room is there, but cannot be kept for the next start";
            answered = Err(TwirpError::new(Code::Unavailable, text));
        }
        if let Some(mut entry) = self.entry {
            entry.at = Now::read().unix_ms();
            entry.outcome = match &answered {
                Ok(_) => "ok".into(),
                Err(error) => error.code_name(),
            };
            // The call has been carried out. That this was not kept is counted, and told by the
            // next entry that can be.
            let _ = self.store.audit(entry).await;
        }
        answered
    }
}

fn kept(request: CreateRoomRequest) -> KeptRoom {
    let name = request.name.clone();
    let changes = changes(request);
    KeptRoom {
        name,
        empty_timeout: changes.empty_timeout,
        departure_timeout: changes.departure_timeout,
        max_participants: changes.max_participants,
        metadata: changes.metadata,
    }
}

/// The first of these fields that is there and not empty.
fn text(message: &DynamicMessage, names: &[&str]) -> String {
    let texts = names.iter().filter_map(|name| {
        let value = message.get_field_by_name(name)?;
        value.as_str().map(str::to_owned)
    });
    texts
        .into_iter()
        .find(|text| !text.is_empty())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use moim_signaling::wire::RoomParticipantIdentity;
    use prost::Message as _;

    use super::super::encoding::Encoding;
    use super::*;

    #[test]
    fn requests_tell_their_room_and_participant_in_both_forms() {
        let kind = || input_of("livekit.RoomService", "RemoveParticipant").unwrap();
        let request = RoomParticipantIdentity {
            room: "weekly".into(),
            identity: "ada".into(),
            ..Default::default()
        };
        let json = Bytes::from_static(b"{\"room\":\"weekly\",\"identity\":\"ada\",\"new\":1}");
        for (encoding, body) in [
            (Encoding::Protobuf, request.encode_to_vec().into()),
            (Encoding::Json, json),
        ] {
            let message = encoding.decode_as(kind(), body).unwrap();
            assert_eq!(
                (text(&message, &ROOM), text(&message, &SUBJECT)),
                ("weekly".into(), "ada".into())
            );
        }
        let kind = input_of("livekit.RoomService", "CreateRoom").unwrap();
        let request = CreateRoomRequest {
            name: "weekly".into(),
            ..Default::default()
        };
        let message = Encoding::Protobuf
            .decode_as(kind, request.encode_to_vec().into())
            .unwrap();
        assert_eq!(
            (text(&message, &ROOM), text(&message, &SUBJECT)),
            ("weekly".into(), String::new())
        );
        assert!(input_of("livekit.RoomService", "None").is_none());
    }
}
