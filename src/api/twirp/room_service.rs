//! `livekit.RoomService`: rooms made, listed, watched, moderated and ended.

use std::time::Duration;

use axum::response::Response;
use moim_signaling::wire::{
    self, CreateRoomRequest, DataPacket, DeleteRoomRequest, DeleteRoomResponse,
    ForwardParticipantRequest, ForwardParticipantResponse, ListParticipantsRequest,
    ListParticipantsResponse, ListRoomsRequest, ListRoomsResponse, MoveParticipantRequest,
    MoveParticipantResponse, MuteRoomTrackRequest, MuteRoomTrackResponse, ParticipantInfo,
    PerformRpcRequest, PerformRpcResponse, RemoveParticipantResponse, RoomParticipantIdentity,
    SendDataRequest, SendDataResponse, UpdateParticipantRequest, UpdateRoomMetadataRequest,
    UpdateSubscription, UpdateSubscriptionsRequest, UpdateSubscriptionsResponse, UserPacket,
    data_packet,
};

use super::access::Caller;
use super::call::Call;
use super::error::{Code, TwirpError};
use super::limits::{
    check_attributes, check_destination, check_dispatch, check_metadata, check_name,
    check_room_name,
};
use crate::room::{Answer, Order, ParticipantOrder, Registry, RoomChanges};

pub(super) const NAME: &str = "livekit.RoomService";

/// Bytes of a message's nonce, which is a UUID.
const NONCE: usize = 16;

/// The methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    CreateRoom,
    ListRooms,
    DeleteRoom,
    ListParticipants,
    GetParticipant,
    RemoveParticipant,
    MutePublishedTrack,
    UpdateParticipant,
    UpdateSubscriptions,
    SendData,
    UpdateRoomMetadata,
    ForwardParticipant,
    MoveParticipant,
    PerformRpc,
}

impl Method {
    /// The method that a path names.
    pub(super) fn named(name: &str) -> Option<Method> {
        let method = match name {
            "CreateRoom" => Method::CreateRoom,
            "ListRooms" => Method::ListRooms,
            "DeleteRoom" => Method::DeleteRoom,
            "ListParticipants" => Method::ListParticipants,
            "GetParticipant" => Method::GetParticipant,
            "RemoveParticipant" => Method::RemoveParticipant,
            "MutePublishedTrack" => Method::MutePublishedTrack,
            "UpdateParticipant" => Method::UpdateParticipant,
            "UpdateSubscriptions" => Method::UpdateSubscriptions,
            "SendData" => Method::SendData,
            "UpdateRoomMetadata" => Method::UpdateRoomMetadata,
            "ForwardParticipant" => Method::ForwardParticipant,
            "MoveParticipant" => Method::MoveParticipant,
            "PerformRpc" => Method::PerformRpc,
            _ => return None,
        };
        Some(method)
    }

    /// Answers a call of the method.
    pub(super) async fn answer(self, rooms: &Registry, call: Call) -> Result<Response, TwirpError> {
        let service = RoomService {
            rooms,
            caller: &call.caller,
        };
        let encoding = call.encoding;
        Ok(match self {
            Method::CreateRoom => encoding.encode(&service.create_room(call.message()?).await?),
            Method::ListRooms => encoding.encode(&service.list_rooms(call.message()?).await?),
            Method::DeleteRoom => encoding.encode(&service.delete_room(call.message()?).await?),
            Method::ListParticipants => {
                encoding.encode(&service.list_participants(call.message()?).await?)
            }
            Method::GetParticipant => {
                encoding.encode(&service.get_participant(call.message()?).await?)
            }
            Method::RemoveParticipant => {
                encoding.encode(&service.remove_participant(call.message()?).await?)
            }
            Method::MutePublishedTrack => {
                encoding.encode(&service.mute_published_track(call.message()?).await?)
            }
            Method::UpdateParticipant => {
                encoding.encode(&service.update_participant(call.message()?).await?)
            }
            Method::UpdateSubscriptions => {
                encoding.encode(&service.update_subscriptions(call.message()?).await?)
            }
            Method::SendData => encoding.encode(&service.send_data(call.message()?).await?),
            Method::UpdateRoomMetadata => {
                encoding.encode(&service.update_room_metadata(call.message()?).await?)
            }
            Method::ForwardParticipant => {
                encoding.encode(&service.forward_participant(call.message()?)?)
            }
            Method::MoveParticipant => {
                encoding.encode(&service.move_participant(call.message()?).await?)
            }
            Method::PerformRpc => encoding.encode(&service.perform_rpc(call.message()?).await?),
        })
    }
}

/// What a request says of a room; a zero says nothing.
pub(super) fn changes(request: CreateRoomRequest) -> RoomChanges {
    let said = |value: u32| (value > 0).then_some(value);
    RoomChanges {
        empty_timeout: said(request.empty_timeout),
        departure_timeout: said(request.departure_timeout),
        max_participants: said(request.max_participants),
        metadata: (!request.metadata.is_empty()).then_some(request.metadata),
        agents: request.agents,
    }
}

/// The service as one caller sees it.
struct RoomService<'a> {
    rooms: &'a Registry,
    caller: &'a Caller,
}

impl RoomService<'_> {
    async fn create_room(&self, request: CreateRoomRequest) -> Result<wire::Room, TwirpError> {
        self.caller.may_create()?;
        check_room_name(&request.name)?;
        check_metadata(&request.metadata)?;
        request.agents.iter().try_for_each(check_dispatch)?;
        if request.egress.is_some() {
            let text = "this server does not record (egress)";
            return Err(TwirpError::new(Code::Unimplemented, text));
        }
        if !request.room_preset.is_empty() {
            let text = "unknown room configuration in create room request";
            return Err(TwirpError::new(Code::InvalidArgument, text));
        }
        let name = request.name.clone();
        Ok(self.rooms.create(&name, changes(request)).await?)
    }

    async fn list_rooms(&self, request: ListRoomsRequest) -> Result<ListRoomsResponse, TwirpError> {
        self.caller.may_list()?;
        let rooms = self.rooms.list(&request.names).await;
        Ok(ListRoomsResponse { rooms })
    }

    async fn delete_room(
        &self,
        request: DeleteRoomRequest,
    ) -> Result<DeleteRoomResponse, TwirpError> {
        self.caller.may_create()?;
        if self.rooms.delete(&request.room).await {
            Ok(DeleteRoomResponse {})
        } else {
            Err(TwirpError::no_room())
        }
    }

    /// A room that is not there has nobody in it.
    async fn list_participants(
        &self,
        request: ListParticipantsRequest,
    ) -> Result<ListParticipantsResponse, TwirpError> {
        self.caller.may_administer(&request.room)?;
        let order = Order::ListParticipants;
        let participants = match self.rooms.administer(&request.room, order).await {
            None => Vec::new(),
            Some(answer) => match answer? {
                Answer::Participants(participants) => participants,
                _ => return Err(TwirpError::internal()),
            },
        };
        Ok(ListParticipantsResponse { participants })
    }

    async fn get_participant(
        &self,
        request: RoomParticipantIdentity,
    ) -> Result<ParticipantInfo, TwirpError> {
        self.caller.may_administer(&request.room)?;
        let (room, identity) = (request.room, request.identity);
        let order = ParticipantOrder::Describe;
        participant(self.administer_participant(&room, identity, order).await?)
    }

    async fn remove_participant(
        &self,
        request: RoomParticipantIdentity,
    ) -> Result<RemoveParticipantResponse, TwirpError> {
        self.caller.may_administer(&request.room)?;
        let identity = request.identity;
        if let Ok(before @ 1..) = u64::try_from(request.revoke_token_ts) {
            self.rooms.revoke(&request.room, &identity, before);
        }
        let order = ParticipantOrder::Remove;
        self.administer_participant(&request.room, identity, order)
            .await?;
        Ok(RemoveParticipantResponse {})
    }

    async fn mute_published_track(
        &self,
        request: MuteRoomTrackRequest,
    ) -> Result<MuteRoomTrackResponse, TwirpError> {
        self.caller.may_administer(&request.room)?;
        let order = ParticipantOrder::MuteTrack {
            track_sid: request.track_sid,
            muted: request.muted,
        };
        let (room, identity) = (request.room, request.identity);
        match self.administer_participant(&room, identity, order).await? {
            Answer::Track(track) => Ok(MuteRoomTrackResponse {
                track: Some(*track),
            }),
            _ => Err(TwirpError::internal()),
        }
    }

    async fn update_participant(
        &self,
        request: UpdateParticipantRequest,
    ) -> Result<ParticipantInfo, TwirpError> {
        check_name(&request.name)?;
        check_metadata(&request.metadata)?;
        check_attributes(&request.attributes)?;
        self.caller.may_administer(&request.room)?;
        let order = ParticipantOrder::Update {
            metadata: request.metadata,
            name: request.name,
            attributes: request.attributes,
            permission: request.permission,
        };
        let (room, identity) = (request.room, request.identity);
        participant(self.administer_participant(&room, identity, order).await?)
    }

    async fn update_subscriptions(
        &self,
        request: UpdateSubscriptionsRequest,
    ) -> Result<UpdateSubscriptionsResponse, TwirpError> {
        self.caller.may_administer(&request.room)?;
        let update = UpdateSubscription {
            track_sids: request.track_sids,
            subscribe: request.subscribe,
            participant_tracks: request.participant_tracks,
        };
        let order = ParticipantOrder::UpdateSubscriptions(Box::new(update));
        self.administer_participant(&request.room, request.identity, order)
            .await?;
        Ok(UpdateSubscriptionsResponse {})
    }

    #[allow(deprecated)]
    async fn send_data(&self, request: SendDataRequest) -> Result<SendDataResponse, TwirpError> {
        self.caller.may_administer(&request.room)?;
        if !request.nonce.is_empty() && request.nonce.len() != NONCE {
            let len = request.nonce.len();
            let text = format!("nonce should be 16-bytes or not present, got: {len} bytes");
            return Err(TwirpError::new(Code::InvalidArgument, text));
        }
        let reliable = request.kind() == data_packet::Kind::Reliable;
        let user = UserPacket {
            payload: request.data,
            destination_sids: request.destination_sids.clone(),
            destination_identities: request.destination_identities.clone(),
            topic: request.topic,
            nonce: request.nonce,
            ..Default::default()
        };
        let packet = DataPacket {
            destination_identities: request.destination_identities.clone(),
            value: Some(data_packet::Value::User(user)),
            ..Default::default()
        };
        let order = Order::SendData {
            packet: Box::new(packet),
            reliable,
            identities: request.destination_identities,
            sids: request.destination_sids,
        };
        self.administer(&request.room, order).await?;
        Ok(SendDataResponse {})
    }

    async fn update_room_metadata(
        &self,
        request: UpdateRoomMetadataRequest,
    ) -> Result<wire::Room, TwirpError> {
        check_metadata(&request.metadata)?;
        self.caller.may_administer(&request.room)?;
        let metadata = request.metadata;
        let order = Order::UpdateMetadata { metadata };
        match self.administer(&request.room, order).await? {
            Answer::Room(room) => Ok(*room),
            _ => Err(TwirpError::internal()),
        }
    }

    fn forward_participant(
        &self,
        request: ForwardParticipantRequest,
    ) -> Result<ForwardParticipantResponse, TwirpError> {
        self.caller
            .may_move(&request.room, &request.destination_room)?;
        check_destination(&request.room, &request.destination_room)?;
        let text = "this server does not forward participants: move them, or let them join twice";
        Err(TwirpError::new(Code::Unimplemented, text))
    }

    async fn move_participant(
        &self,
        request: MoveParticipantRequest,
    ) -> Result<MoveParticipantResponse, TwirpError> {
        self.caller
            .may_move(&request.room, &request.destination_room)?;
        check_destination(&request.room, &request.destination_room)?;
        let (from, to) = (&request.room, &request.destination_room);
        let moved = self.rooms.move_participant(from, &request.identity, to);
        moved.await.ok_or_else(TwirpError::no_room)??;
        Ok(MoveParticipantResponse {})
    }

    async fn perform_rpc(
        &self,
        request: PerformRpcRequest,
    ) -> Result<PerformRpcResponse, TwirpError> {
        self.caller.may_administer(&request.room)?;
        if request.destination_identity.is_empty() {
            let text = "destination identity is required";
            return Err(TwirpError::new(Code::InvalidArgument, text));
        }
        let order = ParticipantOrder::Call {
            method: request.method,
            payload: request.payload,
            timeout: Duration::from_millis(request.response_timeout_ms.into()),
        };
        let (room, identity) = (request.room, request.destination_identity);
        match self.administer_participant(&room, identity, order).await? {
            Answer::Payload(payload) => Ok(PerformRpcResponse { payload }),
            _ => Err(TwirpError::internal()),
        }
    }

    async fn administer_participant(
        &self,
        room: &str,
        identity: String,
        order: ParticipantOrder,
    ) -> Result<Answer, TwirpError> {
        self.administer(room, Order::Participant { identity, order })
            .await
    }

    async fn administer(&self, room: &str, order: Order) -> Result<Answer, TwirpError> {
        let answer = self.rooms.administer(room, order).await;
        Ok(answer.ok_or_else(TwirpError::no_room)??)
    }
}

fn participant(answer: Answer) -> Result<ParticipantInfo, TwirpError> {
    match answer {
        Answer::Participant(participant) => Ok(*participant),
        _ => Err(TwirpError::internal()),
    }
}
