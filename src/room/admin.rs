//! Administration: what those who run the server ask of a room. Each order is answered once.

use std::time::Duration;

use moim_engine::command::DataChannel;
use moim_signaling::Permissions;
use moim_signaling::wire::{
    self, DisconnectReason, MuteTrackRequest, ParticipantInfo, ParticipantPermission,
    RoomMovedResponse, RpcRequest, TrackSource, UpdateParticipantMetadata, leave_request,
    signal_response,
};

use super::clock::Now;
use super::core::Room;
use super::id::{ParticipantKey, TrackKey, random_text};
use super::order::{Answer, Order, OrderError, ParticipantOrder, check_metadata};
use super::requests::apply_metadata;
use super::rpcs::CallId;

/// Characters of a call's id after its prefix.
const CALL_ID_LEN: usize = 32;

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
            Order::Participant { identity, order } => {
                let key = self.by_identity(&identity)?;
                self.administer_participant(key, order)
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

    /// The answers that were put off and have come.
    pub fn take_answers(&mut self) -> Vec<(CallId, Result<Answer, OrderError>)> {
        let ended = self.rpcs.take_ended().into_iter();
        let answers = ended.map(|(call, outcome)| match outcome {
            Ok(payload) => (call, Ok(Answer::Payload(payload))),
            Err(error) => (call, Err(error.into())),
        });
        answers.collect()
    }

    fn administer_participant(
        &mut self,
        key: ParticipantKey,
        order: ParticipantOrder,
    ) -> Result<Answer, OrderError> {
        match order {
            ParticipantOrder::Describe => self.describe_participant(key),
            ParticipantOrder::Update {
                metadata,
                name,
                attributes,
                permission,
            } => {
                let update = UpdateParticipantMetadata {
                    metadata,
                    name,
                    attributes,
                    ..Default::default()
                };
                self.update_participant(key, &update, permission.as_ref())
            }
            ParticipantOrder::MuteTrack { track_sid, muted } => {
                self.mute_track(key, track_sid, muted)
            }
            ParticipantOrder::Remove => {
                let action = leave_request::Action::Disconnect;
                self.dismiss(key, DisconnectReason::ParticipantRemoved, action);
                Ok(Answer::Done)
            }
            ParticipantOrder::Move { room, participants } => {
                self.move_away(key, *room, participants);
                Ok(Answer::Done)
            }
            ParticipantOrder::UpdateSubscriptions(update) => {
                self.update_subscription(key, &update);
                Ok(Answer::Done)
            }
            ParticipantOrder::Call {
                method,
                payload,
                timeout,
            } => {
                let request = RpcRequest {
                    id: format!("RPC_{}", random_text(&mut self.rng, CALL_ID_LEN)),
                    method,
                    payload,
                    ..Default::default()
                };
                self.call(key, request, timeout)
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

    /// Calls a method of a participant.
    fn call(
        &mut self,
        key: ParticipantKey,
        request: RpcRequest,
        timeout: Duration,
    ) -> Result<Answer, OrderError> {
        let participant = self.participants.get(&key).ok_or(OrderError::Ending)?;
        let receiver = vec![participant.sid.clone()];
        let now = self.now.instant;
        let (call, packet) = self.rpcs.begin(now, key, request, timeout)?;
        self.send_data(DataChannel::Reliable, packet, Vec::new(), receiver);
        Ok(Answer::Later(call))
    }

    fn mute_track(
        &mut self,
        key: ParticipantKey,
        track_sid: String,
        muted: bool,
    ) -> Result<Answer, OrderError> {
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
