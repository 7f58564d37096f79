//! Messages on data channels, from one participant to others.

use bytes::Bytes;
use moim_signaling::wire::{DataPacket, data_packet};
use prost::Message as _;
use prost::encoding::{string, uint32};

use super::participant::Participant;
use super::state::Room;
use moim_engine::command::{Command, DataChannel};
use moim_engine::ids::TransportId;

/// Numbers of the fields of `DataPacket` that the server sets.
const KIND: u32 = 1;
const PARTICIPANT_IDENTITY: u32 = 4;
const PARTICIPANT_SID: u32 = 17;

impl Room {
    /// Passes a message on to those it is for, with who sent it as we know it.
    pub(super) fn relay(&mut self, transport: TransportId, channel: DataChannel, payload: Bytes) {
        // Data tracks are frames of their own, which nobody can subscribe to here.
        if channel == DataChannel::DataTrack {
            return;
        }
        let Some((key, _)) = self.transports.get(&transport).copied() else {
            return;
        };
        let Some(sender) = self.participants.get_mut(&key) else {
            return;
        };
        let Ok(packet) = DataPacket::decode(payload.clone()) else {
            tracing::debug!(participant = %sender.identity, "malformed data");
            return;
        };
        if !sender.permissions.publish_data || !is_relayed(sender, &packet) {
            return;
        }
        if channel == DataChannel::Reliable && packet.sequence > 0 {
            if packet.sequence <= sender.data_sequence {
                return;
            }
            sender.data_sequence = packet.sequence;
        }
        let destinations = packet.destination_identities.clone();
        let payload = with_sender(sender, channel, payload, packet);
        let transports: Vec<TransportId> = self
            .participants
            .values()
            .filter(|other| other.key != key)
            .filter(|other| destinations.is_empty() || destinations.contains(&other.identity))
            .filter_map(|other| Some(other.subscriber.as_ref()?.transport))
            .collect();
        if !transports.is_empty() {
            self.media.command(Command::SendData {
                transports,
                channel,
                payload,
                from: Some(transport.into()),
            });
        }
    }
}

/// Transcriptions come from agents alone, metrics are for the server.
#[allow(deprecated)]
fn is_relayed(sender: &Participant, packet: &DataPacket) -> bool {
    match &packet.value {
        Some(data_packet::Value::Transcription(_)) => sender.permissions.agent,
        Some(data_packet::Value::Metrics(_) | data_packet::Value::Speaker(_)) => false,
        _ => true,
    }
}

/// The message with its sender filled in. Where the contents need no change they are kept byte
/// for byte, so that what newer clients put in arrives; of a field that stands twice the last
/// counts (protobuf's encoding guide, "last one wins").
#[allow(deprecated)]
fn with_sender(
    sender: &Participant,
    channel: DataChannel,
    payload: Bytes,
    mut packet: DataPacket,
) -> Bytes {
    let kind = match channel {
        DataChannel::Reliable => data_packet::Kind::Reliable,
        _ => data_packet::Kind::Lossy,
    };
    if let Some(data_packet::Value::User(user)) = &mut packet.value {
        packet.kind = kind as i32;
        packet.participant_sid.clone_from(&sender.sid);
        packet.participant_identity.clone_from(&sender.identity);
        user.participant_sid.clone_from(&sender.sid);
        user.participant_identity.clone_from(&sender.identity);
        return packet.encode_to_vec().into();
    }
    let mut out = Vec::with_capacity(payload.len() + 64);
    out.extend_from_slice(&payload);
    uint32::encode(KIND, &(kind as u32), &mut out);
    string::encode(PARTICIPANT_IDENTITY, &sender.identity, &mut out);
    string::encode(PARTICIPANT_SID, &sender.sid, &mut out);
    out.into()
}
