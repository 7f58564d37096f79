//! Tracks that a subscriber's network cannot carry for a while: the client is told, so that it
//! shows that and not a frozen picture.

use moim_signaling::wire::{StreamState, StreamStateInfo, StreamStateUpdate, signal_response};

use super::state::Room;
use moim_engine::ids::SubscriptionId;

impl Room {
    /// The engine stopped or resumed a subscription for want of bandwidth.
    pub(super) fn stream_state(&mut self, id: SubscriptionId, paused: bool) {
        let found = self.participants.values().find_map(|viewer| {
            let mut subscriptions = viewer.subscriptions.values();
            let subscription = subscriptions.find(|subscription| subscription.id == id)?;
            Some((viewer.key, subscription.track))
        });
        let Some((viewer, track)) = found else {
            return;
        };
        let Some(track) = self.tracks.get(&track) else {
            return;
        };
        let Some(owner) = self.participants.get(&track.owner) else {
            return;
        };
        let state = if paused {
            StreamState::Paused
        } else {
            StreamState::Active
        };
        let update = StreamStateUpdate {
            stream_states: vec![StreamStateInfo {
                participant_sid: owner.sid.clone(),
                track_sid: track.info.sid.clone(),
                state: state as i32,
            }],
        };
        self.send(viewer, signal_response::Message::StreamStateUpdate(update));
    }
}
