//! What a client knows of the room, from the messages that reached it alone.

use std::collections::{BTreeMap, BTreeSet};

use moim_signaling::wire::{
    ConnectionQualityUpdate, JoinResponse, LeaveRequest, ParticipantInfo, Room, SpeakersChanged,
    participant_info, signal_response::Message,
};

/// A client's knowledge.
#[derive(Debug, Default, Clone)]
pub(crate) struct View {
    pub(crate) sid: String,
    pub(crate) room: Room,
    /// Everybody it knows of, itself included, by sid.
    pub(crate) participants: BTreeMap<String, ParticipantInfo>,
    /// Whether it may see tracks, by track sid.
    pub(crate) permissions: BTreeMap<String, bool>,
    /// Who speaks, by participant sid.
    pub(crate) speakers: BTreeSet<String>,
    pub(crate) paused: BTreeMap<String, bool>,
    pub(crate) refused: BTreeSet<String>,
    /// The best quality that it was asked for of its own tracks; `None` for none.
    pub(crate) wanted: BTreeMap<String, Option<i32>>,
    /// Its own tracks of which it knows that somebody gets them.
    pub(crate) subscribed: BTreeSet<String>,
    /// Connection quality by participant sid.
    pub(crate) qualities: BTreeMap<String, i32>,
    /// Data tracks that it gets, by handle.
    pub(crate) handles: BTreeMap<u32, String>,
    /// Answers to `AddTrack`: cid and sid, oldest first.
    pub(crate) published: Vec<(String, String)>,
    /// Offers that it has not answered.
    pub(crate) offers: Vec<(u32, String)>,
    /// Tracks of the last offer.
    pub(crate) offered: BTreeSet<String>,
    pub(crate) answers: usize,
    pub(crate) unpublished: Vec<String>,
    pub(crate) token: String,
    pub(crate) left: Option<LeaveRequest>,
}

impl View {
    /// Takes in one message.
    pub(crate) fn take(&mut self, message: Message) {
        match message {
            Message::Join(join) => self.join(join),
            Message::Update(update) => update
                .participants
                .into_iter()
                .for_each(|info| self.update(info)),
            Message::RoomUpdate(update) => self.room = update.room.unwrap_or_default(),
            Message::SubscriptionPermissionUpdate(update) => {
                self.permissions.insert(update.track_sid, update.allowed);
            }
            Message::SpeakersChanged(changed) => self.speakers(changed),
            Message::StreamStateUpdate(update) => {
                for state in update.stream_states {
                    self.paused.insert(state.track_sid, state.state == 1);
                }
            }
            Message::SubscriptionResponse(response) => {
                self.refused.insert(response.track_sid);
            }
            Message::SubscribedQualityUpdate(update) => {
                let first = update.subscribed_codecs.first();
                let qualities = first
                    .map(|codec| codec.qualities.as_slice())
                    .unwrap_or_default();
                let enabled = qualities.iter().filter(|quality| quality.enabled);
                let best = enabled.map(|quality| quality.quality).max();
                self.wanted.insert(update.track_sid, best);
            }
            Message::TrackSubscribed(subscribed) => {
                self.subscribed.insert(subscribed.track_sid);
            }
            Message::ConnectionQuality(update) => self.qualities(update),
            Message::DataTrackSubscriberHandles(handles) => {
                let handles = handles.sub_handles.into_iter();
                self.handles = handles
                    .map(|(handle, track)| (handle, track.track_sid))
                    .collect();
            }
            Message::TrackPublished(published) => {
                let sid = published.track.unwrap_or_default().sid;
                self.published.push((published.cid, sid));
            }
            Message::TrackUnpublished(unpublished) => self.unpublished.push(unpublished.track_sid),
            Message::Offer(offer) => {
                self.offered = offer.mid_to_track_id.into_values().collect();
                self.offers.push((offer.id, offer.sdp));
            }
            Message::Answer(_) => self.answers += 1,
            Message::RefreshToken(token) => self.token = token,
            Message::Leave(leave) => self.left = Some(leave),
            _ => {}
        }
    }

    fn join(&mut self, join: JoinResponse) {
        *self = View::default();
        self.room = join.room.unwrap_or_default();
        let own = join.participant.unwrap_or_default();
        self.sid.clone_from(&own.sid);
        for info in join.other_participants.into_iter().chain([own]) {
            self.participants.insert(info.sid.clone(), info);
        }
    }

    fn update(&mut self, info: ParticipantInfo) {
        if info.state == participant_info::State::Disconnected as i32 {
            self.participants.remove(&info.sid);
            return;
        }
        let known = self.participants.get(&info.sid);
        // Clients take what is older than what they know for late.
        if known.is_none_or(|known| known.version <= info.version) {
            self.participants.insert(info.sid.clone(), info);
        }
    }

    fn speakers(&mut self, changed: SpeakersChanged) {
        for speaker in changed.speakers {
            if speaker.active {
                self.speakers.insert(speaker.sid);
            } else {
                self.speakers.remove(&speaker.sid);
            }
        }
    }

    fn qualities(&mut self, update: ConnectionQualityUpdate) {
        for info in update.updates {
            self.qualities.insert(info.participant_sid, info.quality);
        }
    }

    /// The sid under which its announcement with this cid was answered last.
    pub(crate) fn sid_of(&self, cid: &str) -> Option<String> {
        let answered = self.published.iter().rev().find(|(known, _)| known == cid);
        answered.map(|(_, sid)| sid.clone())
    }
}
