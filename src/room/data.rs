//! Messages on data channels, from one participant to others: who gets them, and in whose name.

use bytes::Bytes;
use moim_engine::command::{Command, DataChannel};
use moim_engine::ids::TransportId;
use moim_signaling::wire::{
    DataPacket, DisconnectReason, UserPacket, data_packet, data_stream, leave_request,
    signal_response,
};
use prost::Message as _;
use prost::encoding::{string, uint32};

use super::core::{Room, leave};
use super::id::ParticipantKey;
use super::participant::Participant;

/// Numbers of the fields of `DataPacket` that the server sets.
const KIND: u32 = 1;
const PARTICIPANT_IDENTITY: u32 = 4;
const PARTICIPANT_SID: u32 = 17;
/// Bytes of reliable messages that are kept for a participant that has no connection to get
/// them on yet.
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Whom a message is for.
#[derive(Debug, PartialEq, Eq)]
enum Destinations {
    /// Everybody but its sender.
    Others,
    /// Those with these identities or sids, and not the sender.
    Named {
        identities: Vec<String>,
        sids: Vec<String>,
    },
}

/// In whose name a message goes out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sender {
    identity: String,
    sid: String,
    /// An agent's text in the name of the participant who said it.
    speaks_for_another: bool,
}

impl Room {
    /// Passes a message on.
    pub(super) fn relay(&mut self, transport: TransportId, channel: DataChannel, payload: &Bytes) {
        let Some((key, _)) = self.transports.get(&transport).copied() else {
            return;
        };
        match channel {
            DataChannel::DataTrack => return self.relay_frame(key, payload),
            DataChannel::Other => return self.relay_raw(key, transport, payload),
            DataChannel::Reliable | DataChannel::Lossy => {}
        }
        let Some(sender) = self.participants.get_mut(&key) else {
            return;
        };
        let Ok(mut packet) = DataPacket::decode(payload.clone()) else {
            tracing::debug!(participant = %sender.identity, "malformed data");
            return;
        };
        if channel == DataChannel::Reliable && packet.sequence > 0 {
            // A client that resumes sends again what may not have arrived.
            if packet.sequence <= sender.data.last_sequence {
                return;
            }
            sender.data.last_sequence = packet.sequence;
        }
        if !sender.permissions.publish_data || !is_relayed(sender, &packet) {
            return;
        }
        if self.rpcs.take(key, &packet) {
            return;
        }
        let destinations = destinations(&packet);
        let named = sender_name(sender, &mut packet);
        let payload = with_sender(&named, channel, payload, packet);
        self.deliver(Some((key, transport)), &destinations, channel, &payload);
    }

    /// Passes a message on that came on a channel with a label of the client's own: everybody
    /// else gets its bytes in a packet, as what the sender's user sent.
    fn relay_raw(&mut self, key: ParticipantKey, transport: TransportId, payload: &Bytes) {
        let Some(sender) = self.participants.get(&key) else {
            return;
        };
        if !sender.permissions.publish_data {
            return;
        }
        let user = UserPacket {
            payload: payload.clone(),
            ..Default::default()
        };
        let mut packet = DataPacket {
            value: Some(data_packet::Value::User(user)),
            ..Default::default()
        };
        let named = sender_name(sender, &mut packet);
        let channel = DataChannel::Reliable;
        let payload = with_sender(&named, channel, payload, packet);
        let sender = Some((key, transport));
        self.deliver(sender, &Destinations::Others, channel, &payload);
    }

    /// Sends a message of the server's own, unless it was sent before.
    pub(super) fn send_data(
        &mut self,
        channel: DataChannel,
        mut packet: DataPacket,
        identities: Vec<String>,
        sids: Vec<String>,
    ) {
        if let Some(data_packet::Value::User(user)) = &packet.value
            && !self.nonces.is_new(&user.nonce)
        {
            return;
        }
        let destinations = if identities.is_empty() && sids.is_empty() {
            Destinations::Others
        } else {
            Destinations::Named { identities, sids }
        };
        #[allow(deprecated)]
        {
            packet.kind = kind_of(channel);
        }
        let payload = Bytes::from(packet.encode_to_vec());
        self.deliver(None, &destinations, channel, &payload);
    }

    fn deliver(
        &mut self,
        sender: Option<(ParticipantKey, TransportId)>,
        destinations: &Destinations,
        channel: DataChannel,
        payload: &Bytes,
    ) {
        let mut transports = Vec::new();
        for receiver in self.participants.values_mut() {
            let own = sender.is_some_and(|(key, _)| key == receiver.key);
            if own || !is_for(destinations, receiver) {
                continue;
            }
            match receiver.data_transport() {
                Some(transport) => transports.push(transport),
                None => keep(receiver, channel, payload),
            }
        }
        if !transports.is_empty() {
            self.media.command(Command::SendData {
                transports,
                channel,
                payload: payload.clone(),
                from: sender.map(|(_, transport)| transport.into()),
            });
        }
    }

    /// A receiver does not read its reliable data, of which it has lost some, or reads again.
    /// Its client is told to resume: media goes on, and everything else is told from scratch.
    pub(super) fn data_stalled(&mut self, transport: TransportId, stalled: bool) {
        let Some((key, _)) = self.transports.get(&transport).copied() else {
            return;
        };
        tracing::info!(participant = ?key, stalled, "a receiver's reliable data");
        if stalled {
            let leave = leave(
                DisconnectReason::StateMismatch,
                leave_request::Action::Resume,
            );
            self.send(key, signal_response::Message::Leave(leave));
        }
    }

    /// Sends a participant what came for it before it had a connection.
    pub(super) fn flush_waiting_data(&mut self, key: ParticipantKey) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let Some(transport) = participant.data_transport() else {
            return;
        };
        participant.data.waiting_bytes = 0;
        for (channel, payload) in participant.data.waiting.drain(..) {
            self.media.command(Command::SendData {
                transports: vec![transport],
                channel,
                payload,
                from: None,
            });
        }
    }
}

/// Keeps a reliable message for a participant that has no connection yet, while there is room.
fn keep(receiver: &mut Participant, channel: DataChannel, payload: &Bytes) {
    let data = &mut receiver.data;
    let fits = data.waiting_bytes + payload.len() <= MAX_WAITING_BYTES;
    if channel == DataChannel::Reliable && fits {
        data.waiting_bytes += payload.len();
        data.waiting.push_back((channel, payload.clone()));
    }
}

fn is_for(destinations: &Destinations, receiver: &Participant) -> bool {
    match destinations {
        Destinations::Others => true,
        Destinations::Named { identities, sids } => {
            identities.contains(&receiver.identity) || sids.contains(&receiver.sid)
        }
    }
}

/// Whom a message is for: as `DataPacket` says, else as `UserPacket` does, where older SDKs and
/// some mobile ones put it.
#[allow(deprecated)]
fn destinations(packet: &DataPacket) -> Destinations {
    let mut identities = packet.destination_identities.clone();
    let mut sids = Vec::new();
    if let Some(data_packet::Value::User(user)) = &packet.value
        && identities.is_empty()
    {
        identities.clone_from(&user.destination_identities);
        sids.clone_from(&user.destination_sids);
    }
    if identities.is_empty() && sids.is_empty() {
        Destinations::Others
    } else {
        Destinations::Named { identities, sids }
    }
}

/// Transcriptions come from agents alone, metrics and speaker updates are for the server.
#[allow(deprecated)]
fn is_relayed(sender: &Participant, packet: &DataPacket) -> bool {
    match &packet.value {
        Some(data_packet::Value::Transcription(_)) => sender.is_agent(),
        Some(data_packet::Value::Metrics(_) | data_packet::Value::Speaker(_)) => false,
        _ => true,
    }
}

/// A text that an agent may send in the name of the participant whose speech it is.
fn spoken_text(packet: &mut DataPacket) -> bool {
    match &mut packet.value {
        Some(data_packet::Value::Transcription(_)) => true,
        Some(data_packet::Value::ChatMessage(message)) => {
            message.generated = true;
            true
        }
        Some(data_packet::Value::StreamHeader(header)) => match &mut header.content_header {
            Some(data_stream::header::ContentHeader::TextHeader(text)) => {
                text.generated = true;
                true
            }
            _ => false,
        },
        _ => false,
    }
}

/// In whose name a message goes out: a hidden sender is not named; an agent may speak for
/// another participant, and its text is then marked as generated.
fn sender_name(sender: &Participant, packet: &mut DataPacket) -> Sender {
    let named = |identity: &str| match sender.permissions.hidden {
        true => Sender::default(),
        false => Sender {
            identity: identity.to_owned(),
            sid: sender.sid.clone(),
            speaks_for_another: false,
        },
    };
    let other = packet.participant_identity.clone();
    if sender.is_agent() && !other.is_empty() && other != sender.identity && spoken_text(packet) {
        return Sender {
            identity: other,
            speaks_for_another: true,
            ..named("")
        };
    }
    named(&sender.identity)
}

fn kind_of(channel: DataChannel) -> i32 {
    let kind = match channel {
        DataChannel::Reliable | DataChannel::Other => data_packet::Kind::Reliable,
        DataChannel::Lossy | DataChannel::DataTrack => data_packet::Kind::Lossy,
    };
    kind as i32
}

/// The message with its sender filled in. Where the contents need no change they are kept byte
/// for byte, so that what newer clients put in arrives; of a field that stands twice the last
/// counts (protobuf's encoding guide, "last one wins").
#[allow(deprecated)]
fn with_sender(
    sender: &Sender,
    channel: DataChannel,
    payload: &Bytes,
    mut packet: DataPacket,
) -> Bytes {
    let kind = kind_of(channel);
    if let Some(data_packet::Value::User(user)) = &mut packet.value {
        packet.kind = kind;
        packet.participant_sid.clone_from(&sender.sid);
        packet.participant_identity.clone_from(&sender.identity);
        user.participant_sid.clone_from(&sender.sid);
        user.participant_identity.clone_from(&sender.identity);
        return packet.encode_to_vec().into();
    }
    if sender.speaks_for_another {
        packet.kind = kind;
        packet.participant_sid.clone_from(&sender.sid);
        return packet.encode_to_vec().into();
    }
    let mut out = Vec::with_capacity(payload.len() + 64);
    out.extend_from_slice(payload);
    uint32::encode(KIND, &(kind as u32), &mut out);
    string::encode(PARTICIPANT_IDENTITY, &sender.identity, &mut out);
    string::encode(PARTICIPANT_SID, &sender.sid, &mut out);
    out.into()
}
