//! Data blobs: small named values that a participant stores in the room for others to fetch,
//! such as the schema of a data track.

use moim_signaling::wire::{
    DataBlobKey, GetDataBlobRequest, GetDataBlobResponse, RequestResponse, StoreDataBlobRequest,
    StoreDataBlobResponse, request_response, signal_response,
};
use prost::Message as _;

use super::core::Room;
use super::id::ParticipantKey;
use super::participant::Participant;

/// Largest contents of one blob, bytes, as the protocol has it.
const MAX_CONTENTS: usize = 50_000;
/// Largest key, bytes: a schema's name of 256 and its encoding.
const MAX_KEY: usize = 512;
/// Bytes of all blobs of one participant, keys included.
const MAX_TOTAL: usize = 512 << 10;

/// Why a blob is not stored or found.
type Refused = (request_response::Reason, &'static str);

fn store(
    participant: &mut Participant,
    request: &StoreDataBlobRequest,
) -> Result<DataBlobKey, Refused> {
    use request_response::Reason;
    if !participant.permissions.publish_data {
        return Err((
            Reason::NotAllowed,
            "the token does not allow publishing data",
        ));
    }
    let blob = request.blob.as_ref();
    let blob = blob.ok_or((Reason::InvalidRequest, "there is no blob"))?;
    let key = blob.key.clone().filter(|key| key.key.is_some());
    let key = key.ok_or((Reason::InvalidRequest, "the blob has no key"))?;
    let encoded = key.encode_to_vec();
    if encoded.len() > MAX_KEY || blob.contents.is_empty() {
        let text = "a key may have 512 bytes, and contents may not be empty";
        return Err((Reason::InvalidRequest, text));
    }
    let others: usize = participant
        .blobs
        .iter()
        .filter(|(known, _)| **known != encoded)
        .map(|(known, blob)| known.len() + blob.contents.len())
        .sum();
    let total = others + encoded.len() + blob.contents.len();
    if blob.contents.len() > MAX_CONTENTS || total > MAX_TOTAL {
        let text = "a blob may have 50,000 bytes, those of a participant 512 KiB";
        return Err((Reason::LimitExceeded, text));
    }
    participant.blobs.insert(encoded, blob.clone());
    Ok(key)
}

impl Room {
    /// A client stores a blob.
    pub(super) fn store_data_blob(&mut self, key: ParticipantKey, request: &StoreDataBlobRequest) {
        let enabled = self.about.settings.data_blobs;
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let stored = if enabled {
            store(participant, request)
        } else {
            let reason = request_response::Reason::NotAllowed;
            Err((reason, "the server stores no data blobs"))
        };
        let message = match stored {
            Ok(key) => signal_response::Message::StoreDataBlobResponse(StoreDataBlobResponse {
                request_id: request.request_id,
                key: Some(key),
            }),
            Err(refused) => refusal(request.request_id, refused),
        };
        self.send(key, message);
    }

    /// A client asks for a blob of a participant.
    pub(super) fn get_data_blob(&mut self, key: ParticipantKey, request: &GetDataBlobRequest) {
        let owner = self.participants.values().find(|participant| {
            participant.identity == request.participant_identity
                && (participant.key == key || !participant.permissions.hidden)
        });
        let blob = owner
            .zip(request.key.as_ref())
            .and_then(|(owner, key)| owner.blobs.get(&key.encode_to_vec()));
        let message = match blob {
            Some(blob) => signal_response::Message::GetDataBlobResponse(GetDataBlobResponse {
                request_id: request.request_id,
                blob: Some(blob.clone()),
            }),
            None => {
                let text = "that participant has no such blob";
                refusal(
                    request.request_id,
                    (request_response::Reason::NotFound, text),
                )
            }
        };
        self.send(key, message);
    }
}

fn refusal(request_id: u32, (reason, message): Refused) -> signal_response::Message {
    signal_response::Message::RequestResponse(RequestResponse {
        request_id,
        reason: reason as i32,
        message: message.to_owned(),
        ..Default::default()
    })
}
