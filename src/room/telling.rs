//! Bringing clients up to date. What a client is told is derived from the room's state and from
//! what it was told before, at the end of each round; nothing is told at the moment at which it
//! happens. So a change cannot be missed: a client that was away is told everything that may
//! differ, and several changes in a round are told once.

use std::collections::BTreeMap;

use moim_engine::codec::{Codec, MediaKind};
use moim_engine::command::Command;
use moim_signaling::wire::{
    MuteTrackRequest, ParticipantInfo, ParticipantUpdate, RoomUpdate, SpeakerInfo, SpeakersChanged,
    StreamState, StreamStateInfo, StreamStateUpdate, SubscribedAudioCodec,
    SubscribedAudioCodecUpdate, SubscribedCodec, SubscribedQuality, SubscribedQualityUpdate,
    SubscriptionError, SubscriptionPermissionUpdate, SubscriptionResponse, VideoQuality,
    participant_info, signal_response,
};

use super::core::Room;
use super::id::{ParticipantKey, TrackKey};
use super::publication::Publication;
use super::subscription::Progress;
use super::wanted_layers::WantedLayers;

/// A participant update.
pub(super) fn update(participants: Vec<ParticipantInfo>) -> signal_response::Message {
    signal_response::Message::Update(ParticipantUpdate { participants })
}

impl Room {
    /// Something that is told of a participant has changed.
    pub(super) fn touch(&mut self, key: ParticipantKey) {
        if let Some(participant) = self.participants.get_mut(&key) {
            participant.version += 1;
            self.news.changed.insert(key);
        }
    }

    /// Ends a round: brings every client up to date with the room as it is now.
    pub(super) fn tell_news(&mut self) {
        self.tell_demand();
        self.tell_roster();
        self.tell_speakers();
        let permissions = std::mem::take(&mut self.news.permissions);
        for (key, track) in permissions {
            self.tell_permission(key, track);
        }
        let viewers = std::mem::take(&mut self.news.viewers);
        for key in viewers {
            self.tell_subscriptions(key);
            self.tell_handles(key);
            self.offer_if_needed(key);
        }
    }

    /// A client that has resumed may have missed anything: nothing that it was told counts.
    pub(super) fn forget_told(&mut self, key: ParticipantKey) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        participant.told = super::participant::Told::default();
        for (track, subscription) in &mut participant.subscriptions {
            subscription.paused_told = None;
            if let Progress::Refused { told } = &mut subscription.progress {
                *told = false;
            }
            self.news.permissions.insert((key, *track));
        }
        for publication in self.publications.values_mut() {
            if publication.owner == key {
                // Of backup codecs it is told with the first one.
                if let Some((_, first)) = publication.wanted.first_mut() {
                    first.forget();
                }
                publication.subscribed_told = false;
                self.news.demand.insert(publication.key);
            } else {
                self.news.permissions.insert((key, publication.key));
            }
        }
        self.news.viewers.insert(key);
        self.news.speakers = true;
    }

    /// Who is here, what they publish, and the room itself.
    fn tell_roster(&mut self) {
        let room = self.news.takes_room(self.now.instant);
        let room = room.then(|| RoomUpdate {
            room: Some(self.room_info()),
        });
        let changed = std::mem::take(&mut self.news.changed);
        let left = std::mem::take(&mut self.news.left);
        let behind = |p: &super::participant::Participant| p.session.is_up() && !p.told.roster;
        let behind: Vec<ParticipantKey> = self
            .participants
            .values()
            .filter(|p| behind(p))
            .map(|p| p.key)
            .collect();
        for key in behind {
            self.tell_everything(key);
        }
        if room.is_none() && changed.is_empty() && left.is_empty() {
            return;
        }
        let infos: Vec<(ParticipantKey, bool, ParticipantInfo)> = changed
            .iter()
            .filter_map(|key| {
                let hidden = self.participants.get(key)?.permissions.hidden;
                Some((*key, hidden, self.participant_info(*key)?))
            })
            .collect();
        for viewer in self.participants.values_mut() {
            let seen = infos
                .iter()
                .filter(|(key, hidden, info)| {
                    if *key == viewer.key {
                        info.version != viewer.told.own_version
                    } else {
                        !hidden
                    }
                })
                .map(|(_, _, info)| info.clone());
            let seen: Vec<ParticipantInfo> = left.iter().cloned().chain(seen).collect();
            if !seen.is_empty() {
                viewer.send(update(seen));
            }
            if let Some(room) = &room {
                viewer.send(signal_response::Message::RoomUpdate(room.clone()));
            }
        }
    }

    /// Everybody who is here or left lately, to a client that may know any earlier state.
    fn tell_everything(&mut self, key: ParticipantKey) {
        let here = self
            .participants
            .values()
            .filter(|other| other.key == key || !other.permissions.hidden)
            .filter_map(|other| self.participant_info(other.key));
        let gone = self
            .news
            .departures
            .log
            .iter()
            .map(|(_, info)| info.clone());
        let everybody: Vec<ParticipantInfo> = gone.chain(here).collect();
        let room = RoomUpdate {
            room: Some(self.room_info()),
        };
        let muted: Vec<String> = self
            .tracks_of(key)
            .filter(|track| track.muted_by_server)
            .map(|track| track.info.sid.clone())
            .collect();
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        participant.told.roster = true;
        participant.send(update(everybody));
        participant.send(signal_response::Message::RoomUpdate(room));
        for sid in muted {
            let mute = MuteTrackRequest { sid, muted: true };
            participant.send(signal_response::Message::Mute(mute));
        }
        self.tell_qualities_to(key);
    }

    /// Who speaks, and who does not any more.
    fn tell_speakers(&mut self) {
        if !std::mem::take(&mut self.news.speakers) {
            return;
        }
        let speaking = self.speaking();
        let sids: BTreeMap<ParticipantKey, String> = self
            .participants
            .values()
            .filter(|participant| !participant.permissions.hidden)
            .map(|participant| (participant.key, participant.sid.clone()))
            .collect();
        for viewer in self.participants.values_mut() {
            if !viewer.session.is_up() {
                continue;
            }
            let silent = match &viewer.told.speakers {
                Some(told) => told.keys().copied().collect::<Vec<_>>(),
                // Anybody may be shown as speaking at a client that was away.
                None => sids.keys().copied().collect(),
            };
            let told = viewer
                .told
                .speakers
                .replace(speaking.clone())
                .unwrap_or_default();
            let info = |key: &ParticipantKey, level: f32, active: bool| {
                sids.get(key).map(|sid| SpeakerInfo {
                    sid: sid.clone(),
                    level,
                    active,
                })
            };
            let louder = speaking
                .iter()
                .filter(|(key, level)| told.get(key) != Some(level))
                .filter_map(|(key, level)| info(key, *level, true));
            let fell_silent = silent
                .iter()
                .filter(|key| !speaking.contains_key(key))
                .filter_map(|key| info(key, 0.0, false));
            let speakers: Vec<SpeakerInfo> = louder.chain(fell_silent).collect();
            if !speakers.is_empty() {
                let changed = SpeakersChanged { speakers };
                viewer.send(signal_response::Message::SpeakersChanged(changed));
            }
        }
    }

    /// Whether a participant may see a track, when it knows otherwise or nothing.
    fn tell_permission(&mut self, key: ParticipantKey, track: TrackKey) {
        let (Some(allowed), Some(publication)) =
            (self.may_see(key, track), self.publications.get(&track))
        else {
            return;
        };
        let owner = self.participants.get(&publication.owner);
        let Some(participant_sid) = owner.map(|owner| owner.sid.clone()) else {
            return;
        };
        let track_sid = publication.info.sid.clone();
        let Some(viewer) = self.participants.get_mut(&key) else {
            return;
        };
        if !viewer.session.is_up()
            || viewer.told.permissions.insert(track, allowed) == Some(allowed)
        {
            return;
        }
        let update = SubscriptionPermissionUpdate {
            participant_sid,
            track_sid,
            allowed,
        };
        viewer.send(signal_response::Message::SubscriptionPermissionUpdate(
            update,
        ));
    }

    /// What a participant's own subscriptions come to: codecs that it does not decode, and
    /// video that its network does not carry.
    fn tell_subscriptions(&mut self, key: ParticipantKey) {
        let Some(viewer) = self.participants.get_mut(&key) else {
            return;
        };
        if !viewer.session.is_up() {
            return;
        }
        let mut states = Vec::new();
        let mut refused = Vec::new();
        for (track, subscription) in &mut viewer.subscriptions {
            let Some(publication) = self.publications.get(track) else {
                continue;
            };
            if let Progress::Refused { told: told @ false } = &mut subscription.progress {
                *told = true;
                refused.push(publication.info.sid.clone());
            }
            if subscription.paused_told != Some(subscription.paused) {
                subscription.paused_told = Some(subscription.paused);
                states.push((
                    publication.owner,
                    publication.info.sid.clone(),
                    subscription.paused,
                ));
            }
        }
        for track_sid in refused {
            let response = SubscriptionResponse {
                track_sid,
                err: SubscriptionError::SeCodecUnsupported as i32,
            };
            self.send(
                key,
                signal_response::Message::SubscriptionResponse(response),
            );
        }
        let stream_states: Vec<StreamStateInfo> = states
            .into_iter()
            .filter_map(|(owner, track_sid, paused)| {
                let state = if paused {
                    StreamState::Paused
                } else {
                    StreamState::Active
                };
                Some(StreamStateInfo {
                    participant_sid: self.participants.get(&owner)?.sid.clone(),
                    track_sid,
                    state: state as i32,
                })
            })
            .collect();
        if !stream_states.is_empty() {
            let update = StreamStateUpdate { stream_states };
            self.send(key, signal_response::Message::StreamStateUpdate(update));
        }
    }

    /// Tells publishers which codecs of their tracks, and which layers of video, somebody wants.
    fn tell_demand(&mut self) {
        for track in std::mem::take(&mut self.news.demand) {
            let Some(publication) = self.publications.get(&track) else {
                continue;
            };
            let codecs = publication.codecs();
            // Audio in one codec leaves nothing to be chosen.
            if publication.kind == MediaKind::Audio && codecs.len() < 2 {
                continue;
            }
            let wanted: Vec<(Codec, u8, u8)> = codecs
                .into_iter()
                .map(|codec| self.wanted_of(publication, codec))
                .collect();
            let now = self.now.instant;
            let Some(publication) = self.publications.get_mut(&track) else {
                continue;
            };
            let mut tell = false;
            for (codec, count, all) in &wanted {
                let known = publication
                    .wanted
                    .iter()
                    .position(|(known, _)| known == codec);
                let index = known.unwrap_or_else(|| {
                    let first = publication.wanted.is_empty();
                    let wanted = if first {
                        WantedLayers::default()
                    } else {
                        WantedLayers::of_backup()
                    };
                    publication.wanted.push((*codec, wanted));
                    publication.wanted.len() - 1
                });
                tell |= publication.wanted[index].1.update(*count, *all, now);
            }
            if tell {
                use signal_response::Message;
                let owner = publication.owner;
                let message = match publication.kind {
                    MediaKind::Audio => {
                        Message::SubscribedAudioCodecUpdate(audio_codec_update(publication))
                    }
                    MediaKind::Video => {
                        Message::SubscribedQualityUpdate(quality_update(publication))
                    }
                };
                self.send(owner, message);
            }
        }
    }

    /// How many layers of one of a track's codecs its subscribers want, and how many there are.
    /// Of a backup codec that is not sent, as many as of the first.
    fn wanted_of(&self, publication: &Publication, codec: Codec) -> (Codec, u8, u8) {
        let sent = publication
            .encodings
            .iter()
            .find(|encoding| encoding.codec.mime_type() == codec.mime_type());
        let all = match sent {
            Some(encoding) => publication.spatial_layers(encoding),
            None => publication.primary_layers(),
        };
        let wanted = self
            .participants
            .values()
            .filter_map(|viewer| viewer.subscriptions.get(&publication.key))
            .map(|subscription| subscription.wanted_layers(publication, codec))
            .max();
        (codec, wanted.unwrap_or(0).min(all), all)
    }

    /// Tells the engine how many audio tracks it is to forward when that has changed.
    pub(super) fn choose_last_n(&mut self) {
        let slots = self.about.settings.loudest(self.participants.len());
        if std::mem::replace(&mut self.last_n, slots) != slots {
            let room = self.media.room_id();
            self.media.command(Command::SetLastN { room, slots });
        }
    }

    /// Whether somebody is present for the others.
    pub(super) fn is_active(&self, key: ParticipantKey) -> bool {
        self.participants
            .get(&key)
            .is_some_and(|participant| participant.state == participant_info::State::Active)
    }
}

fn audio_codec_update(publication: &Publication) -> SubscribedAudioCodecUpdate {
    let codecs = publication.wanted.iter();
    let codecs = codecs.map(|(codec, wanted)| SubscribedAudioCodec {
        codec: codec.mime_type().to_ascii_lowercase(),
        enabled: wanted.asked_for(1) > 0,
    });
    SubscribedAudioCodecUpdate {
        track_sid: publication.info.sid.clone(),
        subscribed_audio_codecs: codecs.collect(),
    }
}

#[allow(deprecated)]
fn quality_update(publication: &Publication) -> SubscribedQualityUpdate {
    let all = publication.primary_layers();
    let subscribed_codecs: Vec<SubscribedCodec> = publication
        .wanted
        .iter()
        .map(|(codec, wanted)| {
            let best = publication.quality_of_layers(wanted.asked_for(all), all);
            let name = codec.mime_type().rsplit('/').next().unwrap_or_default();
            SubscribedCodec {
                codec: name.to_ascii_lowercase(),
                qualities: qualities(best),
            }
        })
        .collect();
    SubscribedQualityUpdate {
        track_sid: publication.info.sid.clone(),
        // What clients read that know of one codec only.
        subscribed_qualities: subscribed_codecs
            .first()
            .map(|codec| codec.qualities.clone())
            .unwrap_or_default(),
        subscribed_codecs,
    }
}

/// Every quality up to the best one that is wanted.
fn qualities(best: Option<i32>) -> Vec<SubscribedQuality> {
    [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High]
        .into_iter()
        .map(|quality| SubscribedQuality {
            quality: quality as i32,
            enabled: best.is_some_and(|best| quality as i32 <= best),
        })
        .collect()
}
