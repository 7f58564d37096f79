//! Administration: what those who run the server ask of a room. Each order is answered once.

use std::collections::HashMap;
use std::time::Duration;

use moim_engine::command::DataChannel;
use moim_signaling::Permissions;
use moim_signaling::wire::{
    self, DataPacket, DisconnectReason, MuteTrackRequest, ParticipantInfo, ParticipantPermission,
    RoomMovedResponse, TrackInfo, TrackSource, UpdateParticipantMetadata, UpdateSubscription,
    leave_request, signal_response,
};

use super::clock::Now;
use super::core::{About, Room};
use super::id::{ParticipantKey, TrackKey};
use super::requests::apply_metadata;
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
    /// Describes one participant.
    GetParticipant {
        /// Who.
        identity: String,
    },
    /// Changes what a participant is and may do. An empty text and an absent permission change
    /// nothing; an attribute with an empty value is taken away.
    UpdateParticipant {
        /// Who.
        identity: String,
        /// The new metadata.
        metadata: String,
        /// The new name.
        name: String,
        /// Attributes to be set.
        attributes: HashMap<String, String>,
        /// All that it may do from now on.
        permission: Option<ParticipantPermission>,
    },
    /// Mutes or unmutes a participant's track.
    MuteTrack {
        /// Whose.
        identity: String,
        /// Which one.
        track_sid: String,
        /// Mute or unmute.
        muted: bool,
    },
    /// Sends a participant away.
    RemoveParticipant {
        /// Who.
        identity: String,
    },
    /// Sends a participant to another room, as it is described.
    Move {
        /// Who.
        identity: String,
        /// The room that it joins next.
        room: Box<wire::Room>,
        /// Who is there.
        participants: Vec<ParticipantInfo>,
    },
    /// Subscribes or unsubscribes in a participant's name.
    UpdateSubscriptions {
        /// Whose subscriptions.
        identity: String,
        /// Which tracks.
        update: Box<UpdateSubscription>,
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
    /// Calls a method of a participant. The answer comes later.
    Call {
        /// Who.
        identity: String,
        /// Which method.
        method: String,
        /// What it is given.
        payload: String,
        /// How long to wait; zero for the usual time.
        timeout: Duration,
    },
    /// Replaces the room's metadata.
    UpdateMetadata {
        /// The new metadata, at most 512 KiB.
        metadata: String,
    },
    /// Sends everybody away and ends the room.
    Delete,
}

/// What a request to create a room says of it. What is absent is left as it is, or as the
/// configuration has it for a room that is new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomChanges {
    /// Seconds after which the room ends when nobody has joined it.
    pub empty_timeout: Option<u32>,
    /// Seconds after which the room ends when everybody has left it.
    pub departure_timeout: Option<u32>,
    /// Seats.
    pub max_participants: Option<u32>,
    /// The room's metadata, at most [`MAX_METADATA`] bytes.
    pub metadata: Option<String>,
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
    /// It comes with [`Room::take_answers`].
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

fn check_metadata(metadata: &str) -> Result<(), OrderError> {
    if metadata.len() > MAX_METADATA {
        return Err(OrderError::TooLarge("a room's metadata may have 512 KiB"));
    }
    Ok(())
}

impl Room {
    /// Carries out an order.
    ///
    /// # Errors
    /// When it names what is not there, or asks for too much; nothing has changed then.
    pub fn administer(&mut self, now: Now, order: Order) -> Result<Answer, OrderError> {
        self.now = now;
        match order {
            Order::Describe => Ok(Answer::Room(Box::new(self.room_info()))),
            Order::Configure(changes) => {
                changes.check()?;
                changes.apply_to(&mut self.about);
                self.news.room = true;
                Ok(Answer::Room(Box::new(self.room_info())))
            }
            Order::ListParticipants => {
                let keys = self.participants.keys();
                let infos = keys.filter_map(|key| self.participant_info(*key));
                Ok(Answer::Participants(infos.collect()))
            }
            Order::GetParticipant { identity } => {
                let key = self.by_identity(&identity)?;
                self.describe_participant(key)
            }
            Order::UpdateParticipant {
                identity,
                metadata,
                name,
                attributes,
                permission,
            } => {
                let key = self.by_identity(&identity)?;
                let update = UpdateParticipantMetadata {
                    metadata,
                    name,
                    attributes,
                    ..Default::default()
                };
                self.update_participant(key, &update, permission.as_ref())
            }
            Order::MuteTrack {
                identity,
                track_sid,
                muted,
            } => self.mute_track(&identity, track_sid, muted),
            Order::RemoveParticipant { identity } => {
                let key = self.by_identity(&identity)?;
                self.dismiss(
                    key,
                    DisconnectReason::ParticipantRemoved,
                    leave_request::Action::Disconnect,
                );
                Ok(Answer::Done)
            }
            Order::Move {
                identity,
                room,
                participants,
            } => {
                let key = self.by_identity(&identity)?;
                self.move_away(key, *room, participants);
                Ok(Answer::Done)
            }
            Order::UpdateSubscriptions { identity, update } => {
                let key = self.by_identity(&identity)?;
                self.update_subscription(key, &update);
                Ok(Answer::Done)
            }
            Order::SendData {
                packet,
                reliable,
                identities,
                sids,
            } => {
                let channel = if reliable {
                    DataChannel::Reliable
                } else {
                    DataChannel::Lossy
                };
                self.send_data(channel, *packet, identities, sids);
                Ok(Answer::Done)
            }
            Order::Call {
                identity,
                method,
                payload,
                timeout,
            } => {
                let key = self.by_identity(&identity)?;
                self.call(key, method, payload, timeout)
            }
            Order::UpdateMetadata { metadata } => {
                check_metadata(&metadata)?;
                self.about.metadata = metadata;
                self.news.room = true;
                Ok(Answer::Room(Box::new(self.room_info())))
            }
            Order::Delete => {
                self.close_for(now, DisconnectReason::RoomDeleted);
                Ok(Answer::Done)
            }
        }
    }

    fn by_identity(&self, identity: &str) -> Result<ParticipantKey, OrderError> {
        self.participants
            .values()
            .find(|participant| participant.identity == identity)
            .map(|participant| participant.key)
            .ok_or_else(|| OrderError::NoParticipant(identity.to_owned()))
    }

    fn describe_participant(&self, key: ParticipantKey) -> Result<Answer, OrderError> {
        let info = self.participant_info(key).ok_or(OrderError::Ending)?;
        Ok(Answer::Participant(Box::new(info)))
    }

    fn update_participant(
        &mut self,
        key: ParticipantKey,
        update: &UpdateParticipantMetadata,
        permission: Option<&ParticipantPermission>,
    ) -> Result<Answer, OrderError> {
        let participant = self.participants.get_mut(&key).ok_or(OrderError::Ending)?;
        let mut changed =
            apply_metadata(participant, update).map_err(|(_, text)| OrderError::TooLarge(text))?;
        if let Some(permission) = permission {
            changed |= self.set_permissions(key, Permissions::from_wire(permission));
        }
        if changed {
            self.touch(key);
            self.send_token(key);
        }
        self.describe_participant(key)
    }

    /// A participant may do something else from now on: what it publishes and gets follows.
    /// True when anything has changed.
    pub(super) fn set_permissions(&mut self, key: ParticipantKey, now: Permissions) -> bool {
        let Some(participant) = self.participants.get_mut(&key) else {
            return false;
        };
        if participant.permissions == now {
            return false;
        }
        participant.permissions = now.clone();
        let forbidden: Vec<TrackKey> = self
            .tracks_of(key)
            .filter(|track| {
                let source = TrackSource::try_from(track.info.source);
                !now.may_publish(source.unwrap_or(TrackSource::Unknown))
            })
            .map(|track| track.key)
            .collect();
        for track in forbidden {
            self.unpublish(track);
        }
        if let Some(participant) = self.participants.get_mut(&key) {
            participant.announcements.retain(|announcement| {
                let source = announcement.info().map_or(0, |info| info.source);
                now.may_publish(TrackSource::try_from(source).unwrap_or(TrackSource::Unknown))
            });
        }
        if !now.publish_data {
            self.remove_data_tracks_published_by(key);
        }
        if now.subscribe {
            self.open_subscriber(key);
        }
        self.reconsider_viewer(key);
        self.reconsider_data_viewer(key);
        let own: Vec<TrackKey> = self.tracks_of(key).map(|track| track.key).collect();
        for track in own {
            self.reconsider_track(track);
        }
        true
    }

    /// A participant goes to another room: its client is given a token for that one, and is sent
    /// to join there from scratch, by which its tracks are published there.
    fn move_away(
        &mut self,
        key: ParticipantKey,
        room: wire::Room,
        participants: Vec<ParticipantInfo>,
    ) {
        let token = self.token_for(key, &room.name).unwrap_or_default();
        let visible = participants
            .into_iter()
            .filter(|other| !other.permission.as_ref().is_some_and(|is| is.hidden));
        let moved = RoomMovedResponse {
            room: Some(room),
            token: token.clone(),
            participant: self.participant_info(key),
            other_participants: visible.collect(),
        };
        self.send(key, signal_response::Message::RoomMoved(moved));
        // Clients that do not know of moves read the token here.
        self.send(key, signal_response::Message::RefreshToken(token));
        let action = leave_request::Action::Reconnect;
        self.dismiss(key, DisconnectReason::Migration, action);
    }

    fn mute_track(
        &mut self,
        identity: &str,
        track_sid: String,
        muted: bool,
    ) -> Result<Answer, OrderError> {
        let key = self.by_identity(identity)?;
        if !muted && !self.about.settings.enable_remote_unmute {
            return Err(OrderError::RemoteUnmute);
        }
        let track = self.track_of(key, &track_sid);
        let track = track.ok_or_else(|| OrderError::NoTrack(track_sid.clone()))?;
        self.set_muted(track, muted, true);
        let mute = MuteTrackRequest {
            sid: track_sid,
            muted,
        };
        self.send(key, signal_response::Message::Mute(mute));
        let info = self
            .publications
            .get(&track)
            .map(|track| track.info.clone());
        Ok(Answer::Track(Box::new(info.ok_or(OrderError::Ending)?)))
    }
}
