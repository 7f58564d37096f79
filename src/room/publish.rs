//! Publishing: tracks are announced, negotiated, described, muted and withdrawn.

use moim_engine::codec::Codec;
use moim_engine::command::{Command, NewTrack};
use moim_engine::ids::TrackId;
use moim_signaling::wire::{
    AddTrackRequest, MuteTrackRequest, RequestResponse, SessionDescription, TrackInfo,
    TrackPublishedResponse, TrackSource, TrackUnpublishedResponse, UpdateLocalAudioTrack,
    UpdateLocalVideoTrack, request_response, signal_response,
};

use prost::Message;

use super::announcement::{AnnounceError, Announcement, Purpose, decision_for};
use super::core::{Room, Side};
use super::id::{ParticipantKey, TrackKey};
use super::journal::Fact;
use super::publication::{Encoding, Publication};
use crate::media::connection::PublisherConnection;
use crate::media::negotiation::{NegotiatedTrack, OfferedTrack, TrackDecision};

/// Bytes of the descriptions of all tracks that one participant publishes: everybody is told
/// them.
const MAX_DESCRIBED_BYTES: usize = 128 << 10;

/// What an offered m-line turned out to be.
enum Offered {
    /// An encoding that is published.
    Published(TrackId),
    /// The announcement at this index.
    Announced(usize),
}

impl Room {
    /// A client says that it will offer a track.
    pub(super) fn add_track(&mut self, key: ParticipantKey, request: AddTrackRequest) {
        match self.announce(key, &request) {
            Ok(info) => {
                let response = TrackPublishedResponse {
                    cid: request.cid,
                    track: Some(info),
                };
                self.send(key, signal_response::Message::TrackPublished(response));
            }
            Err((reason, message)) => {
                tracing::debug!(participant = ?key, %message, "track refused");
                let response = RequestResponse {
                    reason: reason as i32,
                    message,
                    request: Some(request_response::Request::AddTrack(request)),
                    ..Default::default()
                };
                self.send(key, signal_response::Message::RequestResponse(response));
            }
        }
    }

    fn announce(
        &mut self,
        key: ParticipantKey,
        request: &AddTrackRequest,
    ) -> Result<TrackInfo, (request_response::Reason, String)> {
        use request_response::Reason;
        let limit = self.about.settings.max_tracks;
        let published = self.tracks_of(key).count();
        let described: usize = self
            .tracks_of(key)
            .map(|track| track.info.encoded_len())
            .sum();
        let existing = self
            .tracks_of(key)
            .find(|track| track.info.sid == request.sid);
        let existing = existing.map(|track| (track.key, track.kind, track.info.clone()));
        let now = self.now;
        let participant = self.participants.get_mut(&key);
        let participant = participant.ok_or((Reason::NotFound, "nobody is here".to_owned()))?;
        // A request that names a published track need not repeat its kind and source.
        let source = existing
            .as_ref()
            .map_or(request.source, |(.., info)| info.source);
        let source = TrackSource::try_from(source).unwrap_or(TrackSource::Unknown);
        if !participant.permissions.may_publish(source) {
            let text = "this participant may not publish such a track";
            return Err((Reason::NotAllowed, text.to_owned()));
        }
        let backup = !request.sid.is_empty();
        if !backup && published >= limit {
            let text = format!("a participant may publish {limit} tracks");
            return Err((Reason::LimitExceeded, text));
        }
        let announcement = match (backup, &existing) {
            (true, Some((track, kind, _))) => Announcement::backup(request, *track, *kind),
            (true, None) => {
                let text = "the track of which this is a further codec is not published";
                return Err((Reason::NotFound, text.to_owned()));
            }
            (false, _) => Announcement::new_track(request, now, &mut self.rng),
        };
        let announcement = announcement.map_err(|error| {
            let reason = match error {
                AnnounceError::Kind => Reason::UnsupportedType,
                AnnounceError::Text | AnnounceError::Count => Reason::LimitExceeded,
            };
            (reason, error.to_string())
        })?;
        let info = announcement
            .info()
            .cloned()
            .or(existing.map(|(.., info)| info));
        let new = announcement.info().map_or(0, Message::encoded_len);
        if described + new > MAX_DESCRIBED_BYTES {
            let text = format!("the tracks of a participant may have {MAX_DESCRIBED_BYTES} bytes");
            return Err((Reason::LimitExceeded, text));
        }
        // The oldest one was given up: it was never offered.
        while participant.announcements.len() >= limit.max(1) {
            participant.announcements.pop_front();
        }
        participant.announcements.push_back(announcement);
        info.ok_or((Reason::NotFound, "nothing was announced".to_owned()))
    }

    /// A client's offer on its publisher connection.
    pub(super) fn publisher_offer(&mut self, key: ParticipantKey, offer: &SessionDescription) {
        self.open_publisher(key);
        let mut plan = Vec::new();
        let outcome = self.answer_offer(key, &offer.sdp, &mut plan);
        let answered = match outcome {
            Some(Ok(answered)) => answered,
            Some(Err(error)) => {
                tracing::debug!(participant = ?key, %error, "offer refused");
                let response = RequestResponse {
                    reason: request_response::Reason::InvalidRequest as i32,
                    message: error.to_string(),
                    ..Default::default()
                };
                self.send(key, signal_response::Message::RequestResponse(response));
                return;
            }
            None => return,
        };
        for mid in &answered.stopped_mids {
            self.end_mid(key, mid);
        }
        let mid_to_track_id = self.place_tracks(key, answered.tracks, plan);
        let message = SessionDescription {
            r#type: "answer".to_owned(),
            sdp: answered.sdp,
            id: offer.id,
            mid_to_track_id,
        };
        self.send(key, signal_response::Message::Answer(message));
    }

    /// Answers an offer, and notes in `plan` what each accepted m-line is. `None` when there is
    /// no such participant.
    fn answer_offer(
        &mut self,
        key: ParticipantKey,
        sdp: &str,
        plan: &mut Vec<(String, Offered)>,
    ) -> Option<
        Result<crate::media::connection::Answered, crate::media::negotiation::NegotiationError>,
    > {
        let participant = self.participants.get_mut(&key)?;
        let publisher = participant.publisher.as_mut()?;
        let announcements = &participant.announcements;
        let may_publish = participant.permissions.publish;
        let unusable = &participant.client.unusable_codecs;
        let publications = &self.publications;
        let mut decide = |offered: &OfferedTrack| {
            if !may_publish {
                return TrackDecision::Refuse;
            }
            let published = publications
                .values()
                .filter(|track| track.owner == key)
                .flat_map(|track| track.encodings.iter().map(move |of| (track, of)))
                .find(|(_, encoding)| encoding.mid == offered.mid);
            let taken: Vec<usize> = plan
                .iter()
                .filter_map(|(_, what)| match what {
                    Offered::Announced(index) => Some(*index),
                    Offered::Published(_) => None,
                })
                .collect();
            let announced = announcements
                .iter()
                .enumerate()
                .filter(|(index, announcement)| {
                    !taken.contains(index) && announcement.kind == offered.kind
                });
            let announced: Vec<(usize, &Announcement)> = announced.collect();
            let named = announced
                .iter()
                .find(|(_, announcement)| names(&announcement.cids, offered));
            let (index, announcement) = match (published, named) {
                // The m-line says the same as before, or nothing that was announced.
                (Some((track, encoding)), None) => {
                    plan.push((offered.mid.clone(), Offered::Published(encoding.id)));
                    return track.decision(encoding, unusable);
                }
                (Some((track, encoding)), Some(_)) if encoding.cid == offered.track_id => {
                    plan.push((offered.mid.clone(), Offered::Published(encoding.id)));
                    return track.decision(encoding, unusable);
                }
                (_, Some(named)) => *named,
                // Firefox's SDP does not have the ids of its tracks. Of several announcements
                // the last one is meant: those before were given up.
                (None, None) => match announced.last() {
                    Some(last) => *last,
                    None => return TrackDecision::Refuse,
                },
            };
            plan.push((offered.mid.clone(), Offered::Announced(index)));
            decision_on(announcement, publications, unusable)
        };
        Some(publisher.answer(&mut self.media, &mut self.rng, sdp, &mut decide))
    }

    fn open_publisher(&mut self, key: ParticipantKey) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        if participant.publisher.is_some() {
            return;
        }
        let publisher = PublisherConnection::open(&mut self.media, &mut self.rng);
        self.transports
            .insert(publisher.transport(), (key, Side::Publisher));
        participant.publisher = Some(publisher);
        self.flush_waiting_data(key);
    }

    /// Makes what was negotiated known to the engine and, when it is new, to everybody. Gives
    /// the sid of the track on each m-line.
    fn place_tracks(
        &mut self,
        key: ParticipantKey,
        negotiated: Vec<NegotiatedTrack>,
        plan: Vec<(String, Offered)>,
    ) -> std::collections::HashMap<String, String> {
        // Taken out from the last to the first, so that the indexes stay right.
        let mut indexes: Vec<usize> = plan
            .iter()
            .filter_map(|(_, what)| match what {
                Offered::Announced(index) => Some(*index),
                Offered::Published(_) => None,
            })
            .collect();
        indexes.sort_unstable_by(|a, b| b.cmp(a));
        let mut announced = std::collections::BTreeMap::new();
        if let Some(participant) = self.participants.get_mut(&key) {
            for index in indexes {
                if let Some(announcement) = participant.announcements.remove(index) {
                    announced.insert(index, announcement);
                }
            }
        }
        let mut sids = std::collections::HashMap::new();
        for track in negotiated {
            let mid = track.mid.clone();
            let what = plan.iter().find(|(planned, _)| *planned == mid);
            let placed = match what {
                Some((_, Offered::Published(id))) => self.renegotiate(*id, track),
                Some((_, Offered::Announced(index))) => announced
                    .remove(index)
                    .and_then(|announcement| self.place_track(key, track, announcement)),
                None => None,
            };
            let sid = placed.and_then(|track| self.publications.get(&track));
            if let Some(publication) = sid {
                sids.insert(mid, publication.info.sid.clone());
            }
        }
        sids
    }

    /// The m-line of a published encoding was negotiated another time.
    fn renegotiate(&mut self, id: TrackId, negotiated: NegotiatedTrack) -> Option<TrackKey> {
        let track = *self.media_tracks.get(&id)?;
        let publication = self.publications.get_mut(&track)?;
        let encoding = publication
            .encodings
            .iter_mut()
            .find(|encoding| encoding.id == id)?;
        let streams = negotiated.source.rids.len().max(1);
        if encoding.streams != streams && !negotiated.source.rids.is_empty() {
            encoding.streams = streams;
            self.news.demand.insert(track);
        }
        if !negotiated.cid.is_empty() {
            encoding.cid = negotiated.cid;
        }
        self.media.command(Command::SetTrackSource {
            track: id,
            source: negotiated.source,
        });
        Some(track)
    }

    fn place_track(
        &mut self,
        key: ParticipantKey,
        negotiated: NegotiatedTrack,
        announcement: Announcement,
    ) -> Option<TrackKey> {
        // Another track on an m-line that carried one: that one has ended.
        self.end_mid(key, &negotiated.mid);
        let transport = self
            .participants
            .get(&key)?
            .publisher
            .as_ref()
            .map(PublisherConnection::transport)?;
        let codec = negotiated.codecs.first().copied()?;
        let id = self.media.track_id();
        let rids = negotiated.source.rids.clone();
        let encoding = Encoding {
            id,
            mid: negotiated.mid.clone(),
            cid: negotiated.cid.clone(),
            codec,
            streams: rids.len().max(1),
        };
        let (track, new) = match announcement.purpose {
            Purpose::NewTrack(info) => {
                let track = TrackKey(self.next_track);
                self.next_track += 1;
                let publication =
                    Publication::new(track, key, negotiated.kind, *info, encoding, &rids);
                self.publications.insert(track, publication);
                (track, true)
            }
            Purpose::BackupCodec(track) => {
                let publication = self.publications.get_mut(&track)?;
                publication.add_encoding(encoding, &rids);
                (track, false)
            }
        };
        self.media_tracks.insert(id, track);
        let publication = self.publications.get(&track)?;
        let muted = publication.info.muted;
        self.media.command(Command::AddTrack(Box::new(NewTrack {
            track: id,
            transport,
            kind: negotiated.kind,
            screen: publication.is_screen(),
            encrypted: publication.is_encrypted(),
            source: negotiated.source,
        })));
        if muted {
            self.media
                .command(Command::SetTrackMuted { track: id, muted });
        }
        self.news.demand.insert(track);
        self.touch(key);
        if new {
            self.published(key, track);
        } else {
            self.encodings_changed(track);
        }
        Some(track)
    }

    fn published(&mut self, key: ParticipantKey, track: TrackKey) {
        let info = self
            .publications
            .get(&track)
            .map(|track| track.info.clone());
        if let (Some(participant), Some(info)) = (self.participant_info(key), info) {
            tracing::debug!(participant = %participant.identity, track = %info.sid, "published");
            self.journal.write(Fact::TrackPublished {
                participant: Box::new(participant),
                track: Box::new(info),
            });
        }
        self.news.room = true;
        self.reconsider_track(track);
    }

    /// The first packet of a layer: now it is known what the track is encoded with.
    pub(super) fn layer_started(&mut self, id: TrackId, layer: u8, codec: Codec, ssrc: u32) {
        let Some(&track) = self.media_tracks.get(&id) else {
            return;
        };
        let Some(publication) = self.publications.get_mut(&track) else {
            return;
        };
        #[allow(deprecated)]
        if let Some(described) = publication.info.layers.get_mut(usize::from(layer)) {
            described.ssrc = ssrc;
        }
        let owner = publication.owner;
        if publication.set_codec(id, codec) {
            self.touch(owner);
            self.encodings_changed(track);
            self.news.demand.insert(track);
        }
    }

    /// A client mutes or unmutes one of its tracks, announced or published.
    pub(super) fn mute(&mut self, key: ParticipantKey, mute: &MuteTrackRequest) {
        if let Some(info) = self.announced_info(key, &mute.sid) {
            info.muted = mute.muted;
            return;
        }
        let track = self.track_of(key, &mute.sid);
        if let Some(track) = track {
            self.set_muted(track, mute.muted, false);
        }
    }

    /// The one place where a published track is muted: what everybody is told and what the
    /// engine is told change together.
    pub(super) fn set_muted(&mut self, track: TrackKey, muted: bool, by_server: bool) {
        let Some(publication) = self.publications.get_mut(&track) else {
            return;
        };
        publication.muted_by_server = by_server && muted;
        if publication.info.muted == muted {
            return;
        }
        publication.info.muted = muted;
        let owner = publication.owner;
        for encoding in &publication.encodings {
            self.media.command(Command::SetTrackMuted {
                track: encoding.id,
                muted,
            });
        }
        self.news.speakers = true;
        self.touch(owner);
    }

    /// A client's microphone track has other features.
    pub(super) fn update_audio_track(
        &mut self,
        key: ParticipantKey,
        update: &UpdateLocalAudioTrack,
    ) {
        let features: Vec<i32> = update.features.iter().copied().take(32).collect();
        if let Some(info) = self.own_info(key, &update.track_sid) {
            info.audio_features = features;
            self.touch(key);
        }
    }

    /// A client's video track has another size.
    pub(super) fn update_video_track(
        &mut self,
        key: ParticipantKey,
        update: &UpdateLocalVideoTrack,
    ) {
        if let Some(info) = self.own_info(key, &update.track_sid) {
            (info.width, info.height) = (update.width, update.height);
            self.touch(key);
        }
    }

    /// The encodings on an m-line have ended.
    fn end_mid(&mut self, key: ParticipantKey, mid: &str) {
        let ended: Vec<(TrackKey, usize, TrackId)> = self
            .tracks_of(key)
            .flat_map(|track| {
                let encodings = track.encodings.iter().enumerate();
                encodings.map(move |(index, encoding)| (track.key, index, encoding))
            })
            .filter(|(_, _, encoding)| encoding.mid == mid)
            .map(|(track, index, encoding)| (track, index, encoding.id))
            .collect();
        for (track, index, id) in ended {
            if index == 0 {
                self.unpublish(track);
            } else if let Some(publication) = self.publications.get_mut(&track) {
                publication.encodings.remove(index);
                self.media_tracks.remove(&id);
                self.media.command(Command::RemoveTrack(id));
                self.encodings_changed(track);
                self.news.demand.insert(track);
                self.touch(key);
            }
        }
    }

    /// Withdraws a track: everybody who gets it is told, and so is its publisher while it is
    /// here.
    pub(super) fn unpublish(&mut self, track: TrackKey) {
        let Some(publication) = self.publications.remove(&track) else {
            return;
        };
        for encoding in &publication.encodings {
            self.media_tracks.remove(&encoding.id);
            self.media.command(Command::RemoveTrack(encoding.id));
        }
        let owner = publication.owner;
        for participant in self.participants.values_mut() {
            participant.demands.forget(&publication.info.sid);
            participant.told.permissions.remove(&track);
            if let Some(subscription) = participant.subscriptions.remove(&track) {
                self.journal.write(Fact::Unsubscribed);
                self.news.viewers.insert(participant.key);
                if let Some(subscriber) = &mut participant.subscriber {
                    subscriber.remove_track(subscription.id.0);
                }
            }
        }
        self.news.speakers = true;
        self.news.room = true;
        if let Some(participant) = self.participant_info(owner) {
            self.journal.write(Fact::TrackUnpublished {
                participant: Box::new(participant),
                track: Box::new(publication.info.clone()),
            });
        }
        let unpublished = TrackUnpublishedResponse {
            track_sid: publication.info.sid,
        };
        let message = signal_response::Message::TrackUnpublished(unpublished);
        self.send(owner, message);
        self.touch(owner);
    }

    /// The published tracks of a participant.
    pub(super) fn tracks_of(&self, key: ParticipantKey) -> impl Iterator<Item = &Publication> {
        self.publications
            .values()
            .filter(move |track| track.owner == key)
    }

    /// A participant's published track by sid.
    pub(super) fn track_of(&self, key: ParticipantKey, sid: &str) -> Option<TrackKey> {
        self.tracks_of(key)
            .find(|track| track.info.sid == sid)
            .map(|track| track.key)
    }

    /// Whether a track is announced that is not published yet.
    pub(super) fn has_announced(&self, key: ParticipantKey, sid: &str) -> bool {
        let participant = self.participants.get(&key);
        let announcements = participant.map(|participant| &participant.announcements);
        announcements
            .into_iter()
            .flatten()
            .filter_map(Announcement::info)
            .any(|info| info.sid == sid)
    }

    fn announced_info(&mut self, key: ParticipantKey, sid: &str) -> Option<&mut TrackInfo> {
        let participant = self.participants.get_mut(&key)?;
        participant
            .announcements
            .iter_mut()
            .filter_map(Announcement::info_mut)
            .find(|info| info.sid == sid)
    }

    /// What is told of a participant's track, announced or published.
    fn own_info(&mut self, key: ParticipantKey, sid: &str) -> Option<&mut TrackInfo> {
        if let Some(track) = self.track_of(key, sid) {
            return self
                .publications
                .get_mut(&track)
                .map(|track| &mut track.info);
        }
        self.announced_info(key, sid)
    }
}

/// Whether an m-line has one of these ids.
fn names(cids: &[String], offered: &OfferedTrack) -> bool {
    cids.iter()
        .any(|cid| *cid == offered.track_id || *cid == offered.stream_id)
}

fn decision_on(
    announcement: &Announcement,
    publications: &std::collections::BTreeMap<TrackKey, Publication>,
    unusable: &[&'static str],
) -> TrackDecision {
    let info = match &announcement.purpose {
        Purpose::NewTrack(info) => Some(&**info),
        Purpose::BackupCodec(track) => publications.get(track).map(|track| &track.info),
    };
    info.map_or(TrackDecision::Refuse, |info| {
        decision_for(info, announcement.preferred, unusable)
    })
}
