//! Who speaks: the engine's levels of tracks, told as changes of participants.

use std::collections::BTreeMap;

use moim_signaling::wire::{SpeakerInfo, SpeakersChanged, signal_response};

use super::participant::ParticipantKey;
use super::state::Room;
use moim_engine::ids::TrackId;

/// Who was heard last, and how loud.
#[derive(Debug, Default)]
pub(super) struct Speakers(BTreeMap<ParticipantKey, f32>);

impl Room {
    pub(super) fn speakers_changed(&mut self, levels: &[(TrackId, f32)]) {
        let mut heard: BTreeMap<ParticipantKey, f32> = BTreeMap::new();
        for (track, level) in levels {
            if let Some(track) = self.tracks.get(track) {
                let loudest = heard.entry(track.owner).or_insert(0.0);
                *loudest = loudest.max(*level);
            }
        }
        let former = std::mem::replace(&mut self.speakers.0, heard.clone());
        let mut changed: Vec<SpeakerInfo> = Vec::new();
        for (key, level) in &heard {
            if former.get(key) != Some(level) {
                changed.extend(self.speaker(*key, *level, true));
            }
        }
        for key in former.keys().filter(|key| !heard.contains_key(key)) {
            changed.extend(self.speaker(*key, 0.0, false));
        }
        if changed.is_empty() {
            return;
        }
        for participant in self.participants.values_mut() {
            let speakers = changed.clone();
            participant.send(signal_response::Message::SpeakersChanged(SpeakersChanged {
                speakers,
            }));
        }
    }

    fn speaker(&self, key: ParticipantKey, level: f32, active: bool) -> Option<SpeakerInfo> {
        let participant = self.participants.get(&key)?;
        (!participant.permissions.hidden).then(|| SpeakerInfo {
            sid: participant.sid.clone(),
            level,
            active,
        })
    }
}
