//! Who speaks: the engine's levels of tracks, as levels of participants.

use std::collections::BTreeMap;

use moim_engine::ids::TrackId;

use super::core::Room;
use super::id::ParticipantKey;

impl Room {
    pub(super) fn speakers_changed(&mut self, levels: Vec<(TrackId, f32)>) {
        self.audio_levels = levels;
        self.news.speakers = true;
    }

    /// Who is heard now and how loud: only what is published, not muted, and of participants
    /// whom the others know.
    pub(super) fn speaking(&self) -> BTreeMap<ParticipantKey, f32> {
        let mut speaking = BTreeMap::new();
        for (id, level) in &self.audio_levels {
            let Some(track) = self.track_of_encoding(*id) else {
                continue;
            };
            let hidden = self
                .participants
                .get(&track.owner)
                .is_none_or(|owner| owner.permissions.hidden);
            if !hidden && !track.info.muted {
                let loudest = speaking.entry(track.owner).or_insert(0.0_f32);
                *loudest = loudest.max(*level);
            }
        }
        speaking
    }
}
