//! Publishing: tracks are announced, negotiated, described, muted and withdrawn.

use std::sync::Arc;

use moim_signaling::wire::{
    AddTrackRequest, RequestResponse, SessionDescription, TrackPublishedResponse, TrackSource,
    TrackUnpublishedResponse, request_response, signal_response,
};

use super::dynacast::WantedLayers;
use super::participant::{Participant, ParticipantKey, Publisher};
use super::state::{Room, Side, new_credentials};
use super::track::{self, Track};
use crate::media::negotiation::{
    NegotiatedTrack, OfferedTrack, PublisherNegotiation, TrackDecision,
};
use moim_engine::codec::Codec;
use moim_engine::command::{Command, NewTrack};
use moim_engine::ids::TrackId;

impl Room {
    /// A client says that it will publish a track.
    pub(super) fn add_track(&mut self, key: ParticipantKey, request: AddTrackRequest) {
        let published = self.tracks.values().filter(|t| t.owner == key).count();
        let limit = self.shared.settings.max_tracks;
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let source = TrackSource::try_from(request.source).unwrap_or(TrackSource::Unknown);
        let refusal = if !participant.permissions.may_publish(source) {
            Some((
                request_response::Reason::NotAllowed,
                "this participant may not publish such a track".to_owned(),
            ))
        } else if published + participant.pending.len() >= limit {
            Some((
                request_response::Reason::LimitExceeded,
                format!("a participant may publish {limit} tracks"),
            ))
        } else if track::kind_of(&request).is_none() {
            Some((
                request_response::Reason::UnsupportedType,
                "a track is audio or video".to_owned(),
            ))
        } else {
            None
        };
        if let Some((reason, message)) = refusal {
            tracing::info!(participant = %participant.identity, %message, "track refused");
            participant.send(signal_response::Message::RequestResponse(RequestResponse {
                reason: reason as i32,
                message,
                request: Some(request_response::Request::AddTrack(request)),
                ..Default::default()
            }));
            return;
        }
        // A further codec of a track that is there: only the first one is taken.
        if !request.sid.is_empty() {
            return;
        }
        let info = track::describe(&request);
        let id = self.media.track_id();
        let cid = request.cid.clone();
        let kind = track::kind_of(&request);
        participant.pending.push((id, request));
        let pending = Track {
            id,
            owner: key,
            kind: kind.unwrap_or(moim_engine::codec::MediaKind::Video),
            cid: cid.clone(),
            info: info.clone(),
            codec: None,
            layers: 1,
            subscribed: false,
            wanted_layers: WantedLayers::default(),
        };
        self.announced.insert(id, pending);
        let response = TrackPublishedResponse {
            cid,
            track: Some(info),
        };
        self.send(key, signal_response::Message::TrackPublished(response));
    }

    /// A client's offer on its publisher connection.
    pub(super) fn publisher_offer(&mut self, key: ParticipantKey, offer: SessionDescription) {
        self.open_publisher(key);
        let preparation = self.prepare_restart(key, &offer.sdp);
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let Participant {
            publisher: Some(publisher),
            pending,
            permissions,
            ..
        } = participant
        else {
            return;
        };
        let tracks = &self.tracks;
        let mut decide = |offered: &OfferedTrack| {
            if !permissions.publish {
                return TrackDecision::Refuse;
            }
            let known = tracks
                .values()
                .find(|track| track.owner == key && track.info.mid == offered.mid);
            let request = find_pending(pending, offered).map(|index| &pending[index].1);
            match (known, request) {
                (Some(track), _) => track.decision(),
                (None, Some(request)) => track::decision_on(request),
                (None, None) => TrackDecision::Refuse,
            }
        };
        let outcome =
            preparation.and_then(|()| publisher.negotiation.answer(&offer.sdp, &mut decide));
        let transport = publisher.transport;
        let answer = match outcome {
            Ok(answer) => answer,
            Err(error) => {
                tracing::info!(participant = %participant.identity, %error, "offer refused");
                participant.send(signal_response::Message::RequestResponse(RequestResponse {
                    reason: request_response::Reason::InvalidRequest as i32,
                    message: error.to_string(),
                    ..Default::default()
                }));
                return;
            }
        };
        self.media.command(Command::SetReceive {
            transport,
            mapping: Arc::new(answer.mapping),
        });
        self.media.command(Command::SetRemote {
            transport,
            ice: answer.remote.ice,
            fingerprint: answer.remote.fingerprint,
        });
        let stopped: Vec<TrackId> = self
            .tracks
            .values()
            .filter(|track| track.owner == key && answer.stopped_mids.contains(&track.info.mid))
            .map(|track| track.id)
            .collect();
        for track in stopped {
            self.unpublish(track);
        }
        let mut started = Vec::new();
        for negotiated in answer.tracks {
            started.extend(self.place_track(key, negotiated));
        }
        let message = SessionDescription {
            r#type: "answer".to_owned(),
            sdp: answer.sdp,
            id: offer.id,
            ..Default::default()
        };
        self.send(key, signal_response::Message::Answer(message));
        if !started.is_empty() {
            self.broadcast_participant(key);
        }
        for track in started {
            self.subscribe_all_to(track);
        }
    }

    fn open_publisher(&mut self, key: ParticipantKey) {
        let open = self
            .participants
            .get(&key)
            .is_some_and(|p| p.publisher.is_some());
        if open || !self.participants.contains_key(&key) {
            return;
        }
        let (transport, local) = self.open_transport(key, Side::Publisher);
        if let Some(participant) = self.participants.get_mut(&key) {
            participant.publisher = Some(Publisher {
                transport,
                negotiation: PublisherNegotiation::new(local),
                connected: false,
            });
        }
    }

    /// New credentials of ours when the offer has new ones of the client's.
    fn prepare_restart(
        &mut self,
        key: ParticipantKey,
        sdp: &str,
    ) -> Result<(), crate::media::negotiation::NegotiationError> {
        let publisher = self
            .participants
            .get_mut(&key)
            .and_then(|participant| participant.publisher.as_mut());
        if let Some(publisher) = publisher
            && publisher.negotiation.offer_restarts_ice(sdp)?
        {
            let ice = new_credentials();
            publisher.negotiation.set_local_ice(ice.clone());
            self.media.command(Command::RestartIce {
                transport: publisher.transport,
                local_ice: ice,
            });
        }
        Ok(())
    }

    /// Makes a negotiated m-line's track known to the engine, or tells it what has changed.
    /// Gives the track when it is new.
    fn place_track(&mut self, key: ParticipantKey, negotiated: NegotiatedTrack) -> Option<TrackId> {
        let known = self
            .tracks
            .values()
            .find(|track| track.owner == key && track.info.mid == negotiated.mid)
            .map(|track| track.id);
        if let Some(track) = known {
            self.media.command(Command::SetTrackSource {
                track,
                source: negotiated.source,
            });
            return None;
        }
        let participant = self.participants.get_mut(&key)?;
        let transport = participant.publisher.as_ref()?.transport;
        let offered = OfferedTrack {
            mid: negotiated.mid.clone(),
            kind: negotiated.kind,
            stream_id: String::new(),
            track_id: negotiated.cid.clone(),
            codecs: Vec::new(),
            source: negotiated.source.clone(),
        };
        let index = find_pending(&participant.pending, &offered)?;
        let (id, request) = participant.pending.remove(index);
        let mut track = self.announced.remove(&id)?;
        track.kind = negotiated.kind;
        track.info.mid.clone_from(&negotiated.mid);
        track.layers = count_layers(&track, &negotiated.source.rids);
        name_layers(&mut track, &negotiated.source.rids);
        if let Some(codec) = negotiated.codecs.first() {
            track.set_codec(*codec);
        }
        self.media.command(Command::AddTrack(Box::new(NewTrack {
            track: id,
            transport,
            kind: negotiated.kind,
            screen: [TrackSource::ScreenShare, TrackSource::ScreenShareAudio]
                .into_iter()
                .any(|source| request.source == source as i32),
            source: negotiated.source,
        })));
        if request.muted {
            self.media.command(Command::SetTrackMuted {
                track: id,
                muted: true,
            });
        }
        self.shared.metrics.add_published(1);
        tracing::info!(participant = %participant.identity, track = %track.info.sid, "published");
        self.tracks.insert(id, track);
        self.rewished.insert(id);
        Some(id)
    }

    /// The first packet of a layer: now it is known what the track is encoded with.
    pub(super) fn layer_started(&mut self, track: TrackId, layer: u8, codec: Codec, ssrc: u32) {
        let Some(track) = self.tracks.get_mut(&track) else {
            return;
        };
        #[allow(deprecated)]
        if let Some(described) = track.info.layers.get_mut(usize::from(layer)) {
            described.ssrc = ssrc;
        }
        let owner = track.owner;
        if track.set_codec(codec) {
            self.broadcast_participant(owner);
        }
    }

    /// A client mutes or unmutes one of its tracks.
    pub(super) fn mute(&mut self, key: ParticipantKey, sid: &str, muted: bool) {
        let all = self.tracks.values_mut().chain(self.announced.values_mut());
        let found = all
            .filter(|track| track.owner == key)
            .find(|track| track.info.sid == sid);
        let Some(track) = found else {
            return;
        };
        if track.info.muted == muted {
            return;
        }
        track.info.muted = muted;
        let id = track.id;
        self.media
            .command(Command::SetTrackMuted { track: id, muted });
        self.broadcast_participant(key);
    }

    /// Withdraws a track: everybody who gets it is told.
    pub(super) fn unpublish(&mut self, id: TrackId) {
        let Some(track) = self.tracks.remove(&id) else {
            return;
        };
        self.media.command(Command::RemoveTrack(id));
        self.shared.metrics.add_published(-1);
        for participant in self.participants.values_mut() {
            participant.wishes.remove(&id);
            if let Some(subscription) = participant.subscriptions.remove(&id) {
                self.shared.metrics.add_subscribed(-1);
                if let Some(subscriber) = &mut participant.subscriber {
                    subscriber.negotiation.remove_track(subscription.id.0);
                }
            }
        }
        let unpublished = TrackUnpublishedResponse {
            track_sid: track.info.sid.clone(),
        };
        let message = signal_response::Message::TrackUnpublished(unpublished);
        self.send(track.owner, message);
        self.broadcast_participant(track.owner);
    }
}

/// The announced track that an m-line is: by its id, else the only one of its kind.
fn find_pending(pending: &[(TrackId, AddTrackRequest)], offered: &OfferedTrack) -> Option<usize> {
    let by_id = pending.iter().position(|(_, request)| {
        request.cid == offered.track_id
            || (!offered.stream_id.is_empty() && request.cid == offered.stream_id)
            || request
                .simulcast_codecs
                .iter()
                .any(|codec| !codec.cid.is_empty() && codec.cid == offered.track_id)
    });
    by_id.or_else(|| {
        let mut of_kind = pending
            .iter()
            .enumerate()
            .filter(|(_, (_, request))| track::kind_of(request) == Some(offered.kind));
        let (index, _) = of_kind.next()?;
        of_kind.next().is_none().then_some(index)
    })
}

/// How many layers a track has: one a stream, or as many as are described where they are all in
/// one stream (scalable coding).
#[allow(deprecated)]
fn count_layers(track: &Track, rids: &[String]) -> usize {
    match rids.len() {
        0 | 1 => track.info.layers.len().max(1),
        streams => streams,
    }
}

/// Gives the described layers the names under which they are sent.
#[allow(deprecated)]
fn name_layers(track: &mut Track, rids: &[String]) {
    for (index, layer) in track.info.layers.iter_mut().enumerate() {
        layer.spatial_layer = index as i32;
        layer.rid = rids.get(index).cloned().unwrap_or_default();
    }
    track.info.simulcast = rids.len() > 1;
}
