//! The data tracks of a room: who publishes them, and who gets them under which handles.

use std::collections::BTreeMap;

use moim_signaling::wire::DataTrackInfo;

use super::id::ParticipantKey;

/// The data tracks of a room, by publisher and its handle.
#[derive(Debug, Default)]
pub(super) struct DataTracks(pub(super) BTreeMap<(ParticipantKey, u16), DataTrack>);

/// One data track.
#[derive(Debug)]
pub(super) struct DataTrack {
    pub(super) info: DataTrackInfo,
    /// The handle that each subscriber knows it by.
    pub(super) subscribers: BTreeMap<ParticipantKey, u16>,
}

impl DataTracks {
    /// What a participant publishes.
    pub(super) fn of(&self, key: ParticipantKey) -> Vec<DataTrackInfo> {
        let own = self.0.range((key, 0)..=(key, u16::MAX));
        own.map(|(_, track)| track.info.clone()).collect()
    }

    /// The keys of what a participant publishes.
    pub(super) fn keys_of(&self, key: ParticipantKey) -> Vec<(ParticipantKey, u16)> {
        let own = self.0.range((key, 0)..=(key, u16::MAX));
        own.map(|(key, _)| *key).collect()
    }
}
