//! Data tracks: named streams of lossy frames on `_data_track`, which participants publish and
//! subscribe to. A frame names its track by a handle of two bytes: the publisher's own towards
//! the server, and one of the subscriber's connection towards each subscriber.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use moim_engine::command::{Command, DataChannel};
use moim_signaling::wire::{
    DataTrackInfo, DataTrackSubscriberHandles, PublishDataTrackRequest, PublishDataTrackResponse,
    RequestResponse, UnpublishDataTrackRequest, UnpublishDataTrackResponse, UpdateDataSubscription,
    data_track_subscriber_handles::PublishedDataTrack, request_response, signal_response,
};

use super::core::Room;
use super::data_track_table::{DataTrack, DataTracks};
use super::id::{ParticipantKey, sid};

/// Data tracks that one participant may publish.
const MAX_TRACKS: usize = 64;
/// Longest name, bytes; the protocol allows as many characters.
const MAX_NAME: usize = 256;
/// Longest name of an encoding or a schema, bytes.
const MAX_SCHEMA: usize = 512;
/// A frame's packet begins with 12 bytes, of which the third and fourth are the handle.
const HEADER_LEN: usize = 12;
const HANDLE: std::ops::Range<usize> = 2..4;

/// Why a data track is not published.
fn refusal(
    tracks: &DataTracks,
    key: ParticipantKey,
    request: &PublishDataTrackRequest,
) -> Option<(request_response::Reason, &'static str)> {
    use prost::Message as _;
    use request_response::Reason;
    let own = tracks.of(key);
    let schema = request
        .schema
        .as_ref()
        .map_or(0, |schema| schema.encoded_len())
        + request
            .frame_encoding
            .as_ref()
            .map_or(0, |encoding| encoding.encoded_len());
    if request.pub_handle == 0 || request.pub_handle > u32::from(u16::MAX) {
        Some((Reason::InvalidHandle, "a handle is 1 to 65535"))
    } else if request.name.is_empty() || request.name.len() > MAX_NAME {
        Some((Reason::InvalidName, "a name has 1 to 256 bytes"))
    } else if schema > MAX_SCHEMA {
        Some((
            Reason::InvalidRequest,
            "encoding and schema together may have 512 bytes",
        ))
    } else if own
        .iter()
        .any(|track| track.pub_handle == request.pub_handle)
    {
        Some((
            Reason::DuplicateHandle,
            "the handle is taken by another data track",
        ))
    } else if own.iter().any(|track| track.name == request.name) {
        Some((
            Reason::DuplicateName,
            "the name is taken by another data track",
        ))
    } else if own.len() >= MAX_TRACKS {
        Some((
            Reason::LimitExceeded,
            "a participant may publish 64 data tracks",
        ))
    } else {
        None
    }
}

impl Room {
    /// A client publishes a data track.
    pub(super) fn publish_data_track(
        &mut self,
        key: ParticipantKey,
        request: PublishDataTrackRequest,
    ) {
        let allowed = self
            .participants
            .get(&key)
            .is_some_and(|participant| participant.permissions.publish_data);
        let refused = if allowed {
            refusal(&self.data_tracks, key, &request)
        } else {
            let text = "the token does not allow publishing data";
            Some((request_response::Reason::NotAllowed, text))
        };
        if let Some((reason, message)) = refused {
            let response = RequestResponse {
                reason: reason as i32,
                message: message.to_owned(),
                request: Some(request_response::Request::PublishDataTrack(request)),
                ..Default::default()
            };
            self.send(key, signal_response::Message::RequestResponse(response));
            return;
        }
        let info = DataTrackInfo {
            pub_handle: request.pub_handle,
            sid: sid(&mut self.rng, "DTR_"),
            name: request.name,
            encryption: request.encryption,
            frame_encoding: request.frame_encoding,
            schema: request.schema,
        };
        let track = DataTrack {
            info: info.clone(),
            subscribers: BTreeMap::new(),
        };
        let handle = info.pub_handle as u16;
        self.data_tracks.0.insert((key, handle), track);
        let response = PublishDataTrackResponse { info: Some(info) };
        let message = signal_response::Message::PublishDataTrackResponse(response);
        self.send(key, message);
        self.touch(key);
        self.news.room = true;
        self.reconsider_data_tracks(key);
    }

    /// A client withdraws a data track.
    pub(super) fn unpublish_data_track(
        &mut self,
        key: ParticipantKey,
        request: UnpublishDataTrackRequest,
    ) {
        let handle = u16::try_from(request.pub_handle).unwrap_or(0);
        let message = match self.end_data_track((key, handle)) {
            Some(info) => {
                let response = UnpublishDataTrackResponse { info: Some(info) };
                signal_response::Message::UnpublishDataTrackResponse(response)
            }
            None => signal_response::Message::RequestResponse(RequestResponse {
                reason: request_response::Reason::NotFound as i32,
                message: "no data track has this handle".to_owned(),
                request: Some(request_response::Request::UnpublishDataTrack(request)),
                ..Default::default()
            }),
        };
        self.send(key, message);
    }

    fn end_data_track(&mut self, track: (ParticipantKey, u16)) -> Option<DataTrackInfo> {
        let ended = self.data_tracks.0.remove(&track)?;
        self.news.viewers.extend(ended.subscribers.keys());
        for participant in self.participants.values_mut() {
            participant.demands.forget(&ended.info.sid);
        }
        self.news.room = true;
        self.touch(track.0);
        Some(ended.info)
    }

    /// A participant may not publish data any more.
    pub(super) fn remove_data_tracks_published_by(&mut self, key: ParticipantKey) {
        for track in self.data_tracks.keys_of(key) {
            if let Some(info) = self.end_data_track(track) {
                let response = UnpublishDataTrackResponse { info: Some(info) };
                let message = signal_response::Message::UnpublishDataTrackResponse(response);
                self.send(key, message);
            }
        }
    }

    /// A participant is gone, with what it published and subscribed to.
    pub(super) fn remove_data_tracks_of(&mut self, key: ParticipantKey) {
        for track in self.data_tracks.keys_of(key) {
            self.end_data_track(track);
        }
        for track in self.data_tracks.0.values_mut() {
            track.subscribers.remove(&key);
        }
    }

    /// A client wants data tracks, or does not want them any more; they need not exist yet.
    pub(super) fn update_data_subscription(
        &mut self,
        key: ParticipantKey,
        update: &UpdateDataSubscription,
    ) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        for update in &update.updates {
            participant
                .demands
                .set_subscribe(&update.track_sid, update.subscribe);
        }
        self.reconsider_data_viewer(key);
    }

    /// Looks at every data track for one participant.
    pub(super) fn reconsider_data_viewer(&mut self, key: ParticipantKey) {
        let tracks: Vec<(ParticipantKey, u16)> = self.data_tracks.0.keys().copied().collect();
        for track in tracks {
            self.reconsider_data_track(key, track);
        }
    }

    /// Looks at one participant's data tracks for everybody.
    pub(super) fn reconsider_data_tracks(&mut self, owner: ParticipantKey) {
        let keys: Vec<ParticipantKey> = self.participants.keys().copied().collect();
        for track in self.data_tracks.keys_of(owner) {
            for key in &keys {
                self.reconsider_data_track(*key, track);
            }
        }
    }

    fn reconsider_data_track(&mut self, key: ParticipantKey, track: (ParticipantKey, u16)) {
        let (Some(viewer), Some(owner), Some(found)) = (
            self.participants.get(&key),
            self.participants.get(&track.0),
            self.data_tracks.0.get(&track),
        ) else {
            return;
        };
        let sid = &found.info.sid;
        let permitted = viewer.permissions.subscribe
            && (viewer.permissions.recorder
                || owner.audience.permits(&viewer.identity, &viewer.sid, sid));
        // Unlike media, data tracks are sent by default only to those who said so at their join.
        let wished = viewer
            .demands
            .subscribe(sid)
            .unwrap_or(viewer.client.auto_subscribe_data_track);
        let wanted = key != track.0 && !owner.permissions.hidden && permitted && wished;
        let subscribed = found.subscribers.contains_key(&key);
        if wanted == subscribed {
            return;
        }
        self.news.viewers.insert(key);
        if wanted {
            let handle = self.free_handle(key);
            if let (Some(handle), Some(found)) = (handle, self.data_tracks.0.get_mut(&track)) {
                found.subscribers.insert(key, handle);
            }
        } else if let Some(found) = self.data_tracks.0.get_mut(&track) {
            found.subscribers.remove(&key);
        }
    }

    /// A handle that none of a participant's data tracks has. Late frames of a former track
    /// are not taken for those of another: handles are used in turn.
    fn free_handle(&mut self, key: ParticipantKey) -> Option<u16> {
        let used: Vec<u16> = self
            .data_tracks
            .0
            .values()
            .filter_map(|track| track.subscribers.get(&key).copied())
            .collect();
        let data = &mut self.participants.get_mut(&key)?.data;
        for _ in 0..u16::MAX {
            data.last_handle = data.last_handle.wrapping_add(1).max(1);
            if !used.contains(&data.last_handle) {
                return Some(data.last_handle);
            }
        }
        None
    }

    /// Tells a participant which data tracks it gets under which handles, when it knows
    /// otherwise or nothing.
    pub(super) fn tell_handles(&mut self, key: ParticipantKey) {
        let tracks = self.data_tracks.0.iter().filter_map(|((owner, _), track)| {
            let handle = *track.subscribers.get(&key)?;
            let owner = self.participants.get(owner)?;
            let published = PublishedDataTrack {
                publisher_identity: owner.identity.clone(),
                publisher_sid: owner.sid.clone(),
                track_sid: track.info.sid.clone(),
            };
            Some((handle, published))
        });
        let handles: BTreeMap<u16, PublishedDataTrack> = tracks.collect();
        let sids: BTreeMap<u16, String> = handles
            .iter()
            .map(|(handle, track)| (*handle, track.track_sid.clone()))
            .collect();
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        if !participant.session.is_up() || participant.told.handles.as_ref() == Some(&sids) {
            return;
        }
        participant.told.handles = Some(sids);
        let handles = handles
            .into_iter()
            .map(|(handle, track)| (u32::from(handle), track));
        let message = DataTrackSubscriberHandles {
            sub_handles: handles.collect(),
        };
        participant.send(signal_response::Message::DataTrackSubscriberHandles(
            message,
        ));
    }

    /// Passes a frame's packet on to those who subscribe, each under its own handle.
    pub(super) fn relay_frame(&mut self, key: ParticipantKey, packet: &Bytes) {
        let allowed = self
            .participants
            .get(&key)
            .is_some_and(|sender| sender.permissions.publish_data);
        if !allowed || packet.len() < HEADER_LEN {
            return;
        }
        let handle = u16::from_be_bytes([packet[HANDLE.start], packet[HANDLE.start + 1]]);
        let Some(track) = self.data_tracks.0.get(&(key, handle)) else {
            return;
        };
        for (subscriber, handle) in &track.subscribers {
            let transport = self
                .participants
                .get(subscriber)
                .and_then(|participant| participant.data_transport());
            let Some(transport) = transport else {
                continue;
            };
            let mut payload = BytesMut::from(&packet[..]);
            payload[HANDLE].copy_from_slice(&handle.to_be_bytes());
            self.media.command(Command::SendData {
                transports: vec![transport],
                channel: DataChannel::DataTrack,
                payload: payload.freeze(),
                from: None,
            });
        }
    }
}
