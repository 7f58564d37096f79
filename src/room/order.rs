//! What those who run the server ask of a room, and what it answers.

use std::collections::HashMap;
use std::time::Duration;

use moim_signaling::wire::{
    self, DataPacket, ParticipantInfo, ParticipantPermission, RoomAgentDispatch, RoomConfiguration,
    TrackInfo, UpdateSubscription,
};

use super::core::About;
use super::rpcs::{CallError, CallId};

/// An order to a room.
#[derive(Debug, Clone)]
pub enum Order {
    /// Describes the room.
    Describe,
    /// Changes how the room behaves.
    Configure(RoomChanges),
    /// Lists the participants, hidden ones included.
    ListParticipants,
    /// Does something to one participant.
    Participant {
        /// Who.
        identity: String,
        /// What.
        order: ParticipantOrder,
    },
    /// Sends a message of the server's.
    SendData {
        /// The message.
        packet: Box<DataPacket>,
        /// All of it, in order; otherwise as `_lossy`.
        reliable: bool,
        /// To whom, by identity; to everybody when this and `sids` are empty.
        identities: Vec<String>,
        /// To whom, by participant sid.
        sids: Vec<String>,
    },
    /// Replaces the room's metadata.
    UpdateMetadata {
        /// The new metadata, at most 512 KiB.
        metadata: String,
    },
    /// Sends everybody away and ends the room.
    Delete,
}

/// An order about one participant.
#[derive(Debug, Clone)]
pub enum ParticipantOrder {
    /// Describes it.
    Describe,
    /// Changes what it is and may do. An empty text and an absent permission change nothing; an
    /// attribute with an empty value is taken away.
    Update {
        /// The new metadata.
        metadata: String,
        /// The new name.
        name: String,
        /// Attributes to be set.
        attributes: HashMap<String, String>,
        /// All that it may do from now on.
        permission: Option<ParticipantPermission>,
    },
    /// Mutes or unmutes one of its tracks.
    MuteTrack {
        /// Which one.
        track_sid: String,
        /// Mute or unmute.
        muted: bool,
    },
    /// Sends it away.
    Remove,
    /// Sends it to another room, as it is described.
    Move {
        /// The room that it joins next.
        room: Box<wire::Room>,
        /// Who is there.
        participants: Vec<ParticipantInfo>,
    },
    /// Subscribes or unsubscribes in its name.
    UpdateSubscriptions(Box<UpdateSubscription>),
    /// Calls one of its methods. The answer comes later.
    Call {
        /// Which method.
        method: String,
        /// Its input.
        payload: String,
        /// How long to wait; zero for the usual time.
        timeout: Duration,
    },
}

/// What a request to create a room says of it. What is absent is left as it is, or as the
/// configuration has it for a room that is new.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RoomChanges {
    /// Seconds after which the room ends when nobody has joined it.
    pub empty_timeout: Option<u32>,
    /// Seconds after which the room ends when everybody has left it.
    pub departure_timeout: Option<u32>,
    /// Seats.
    pub max_participants: Option<u32>,
    /// The room's metadata, at most [`MAX_METADATA`] bytes.
    pub metadata: Option<String>,
    /// Agents that are wanted in a room that is new.
    pub agents: Vec<RoomAgentDispatch>,
}

impl From<&RoomConfiguration> for RoomChanges {
    fn from(said: &RoomConfiguration) -> RoomChanges {
        let given = |value: u32| (value > 0).then_some(value);
        RoomChanges {
            empty_timeout: given(said.empty_timeout),
            departure_timeout: given(said.departure_timeout),
            max_participants: given(said.max_participants),
            metadata: (!said.metadata.is_empty()).then(|| said.metadata.clone()),
            agents: said.agents.clone(),
        }
    }
}

impl RoomChanges {
    /// Whether everything in them is small enough to be kept.
    ///
    /// # Errors
    /// When it is not.
    pub(super) fn check(&self) -> Result<(), OrderError> {
        match &self.metadata {
            Some(metadata) => check_metadata(metadata),
            None => Ok(()),
        }
    }

    /// Applies the changes to what a room is.
    pub(super) fn apply_to(self, about: &mut About) {
        let settings = &mut about.settings;
        for (change, setting) in [
            (self.empty_timeout, &mut settings.empty_timeout),
            (self.departure_timeout, &mut settings.departure_timeout),
            (self.max_participants, &mut settings.max_participants),
        ] {
            if let Some(change) = change {
                *setting = change;
            }
        }
        if let Some(metadata) = self.metadata {
            about.metadata = metadata;
        }
        about.agents = self.agents;
    }
}

/// What an order is answered with.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// It is done.
    Done,
    /// The room.
    Room(Box<wire::Room>),
    /// The participants.
    Participants(Vec<ParticipantInfo>),
    /// One participant.
    Participant(Box<ParticipantInfo>),
    /// One track.
    Track(Box<TrackInfo>),
    /// What a participant's method gave.
    Payload(String),
    /// It comes with [`Room::take_answers`](super::Room::take_answers).
    Later(CallId),
}

/// Why an order is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// Nobody has this identity.
    #[error("there is no participant `{0}` in the room")]
    NoParticipant(String),
    /// The participant has no such track.
    #[error("the participant has no track `{0}`")]
    NoTrack(String),
    /// The administrator may mute only.
    #[error("remote unmute not enabled")]
    RemoteUnmute,
    /// A call of a participant has failed.
    #[error(transparent)]
    Call(#[from] CallError),
    /// Something is larger than what is kept.
    #[error("{0}")]
    TooLarge(&'static str),
    /// The room has come to its end.
    #[error("the room is just ending")]
    Ending,
}

/// Bytes of a room's metadata; LiveKit's default.
pub const MAX_METADATA: usize = 512 << 10;

pub(super) fn check_metadata(metadata: &str) -> Result<(), OrderError> {
    if metadata.len() > MAX_METADATA {
        return Err(OrderError::TooLarge("a room's metadata may have 512 KiB"));
    }
    Ok(())
}
