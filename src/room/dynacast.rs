//! Dynacast: a publisher is told which layers of its video somebody wants, so that it need not
//! encode and send the others.

use std::time::Duration;

use moim_signaling::wire::{
    SubscribedCodec, SubscribedQuality, SubscribedQualityUpdate, VideoQuality, signal_response,
};
use tokio::time::Instant;

use super::state::Room;
use super::track::Track;
use moim_engine::codec::MediaKind;
use moim_engine::ids::TrackId;

/// Layers that nobody wants any more go on for this long: who looks away often looks back, and
/// an encoder that starts costs a keyframe. Six seconds after the last one has looked away, the
/// publisher is to send little: the room's tick and the encoder's own time are a part of them.
const PAUSE_DELAY: Duration = Duration::from_secs(4);

/// What the publisher of a track knows of how many of its layers are wanted.
#[derive(Debug, Clone, Default)]
pub(super) struct WantedLayers {
    /// Layers that it was told to send, from the lowest up; `None` when it was told nothing
    /// and sends all.
    told: Option<u8>,
    /// Since when fewer are wanted.
    fewer_since: Option<Instant>,
}

impl WantedLayers {
    /// `wanted` of `all` layers are wanted now. True when the publisher is to be told: of more
    /// at once, of fewer after a while.
    fn update(&mut self, wanted: u8, all: u8, now: Instant) -> bool {
        if self.told == Some(wanted) {
            self.fewer_since = None;
            return false;
        }
        if wanted < self.told.unwrap_or(all) {
            let since = *self.fewer_since.get_or_insert(now);
            if now.saturating_duration_since(since) < PAUSE_DELAY {
                return false;
            }
        }
        self.told = Some(wanted);
        self.fewer_since = None;
        true
    }

    /// The publisher may have missed what it was told.
    pub(super) fn forget(&mut self) {
        self.told = None;
    }

    /// How many of `all` layers the publisher was asked for.
    pub(super) fn asked_for(&self, all: u8) -> u8 {
        self.told.unwrap_or(all)
    }

    fn is_waiting(&self) -> bool {
        self.fewer_since.is_some()
    }
}

impl Room {
    /// Looks anew at the tracks whose subscriptions or wishes have changed.
    pub(super) fn tell_wanted_layers(&mut self, now: Instant) {
        for id in std::mem::take(&mut self.rewished) {
            let wanted = self.wanted_layers(id);
            let Some(track) = self.tracks.get_mut(&id) else {
                continue;
            };
            let all = track.spatial_layers();
            if track.kind == MediaKind::Video && track.wanted_layers.update(wanted, all, now) {
                let (owner, update) = (track.owner, quality_update(track, wanted));
                self.send(
                    owner,
                    signal_response::Message::SubscribedQualityUpdate(update),
                );
            }
        }
    }

    /// Looks anew at the tracks of which fewer layers are wanted for a while.
    pub(super) fn pause_unwanted_layers(&mut self) {
        let waiting = self
            .tracks
            .values()
            .filter(|t| t.wanted_layers.is_waiting());
        self.rewished.extend(waiting.map(|track| track.id));
    }

    /// How many layers of a track its subscribers want, from the lowest up.
    fn wanted_layers(&self, id: TrackId) -> u8 {
        let wanted = self
            .participants
            .values()
            .filter_map(|viewer| viewer.subscriptions.get(&id))
            .filter(|subscription| subscription.wish.enabled && !subscription.refused)
            .map(|subscription| subscription.wish.max_layer.saturating_add(1))
            .max();
        let all = self.tracks.get(&id).map_or(0, Track::spatial_layers);
        wanted.unwrap_or(0).min(all)
    }
}

#[allow(deprecated)]
fn quality_update(track: &Track, wanted: u8) -> SubscribedQualityUpdate {
    let best = track.quality_of_layers(wanted);
    let qualities: Vec<SubscribedQuality> =
        [VideoQuality::Low, VideoQuality::Medium, VideoQuality::High]
            .into_iter()
            .map(|quality| SubscribedQuality {
                quality: quality as i32,
                enabled: best.is_some_and(|best| quality as i32 <= best),
            })
            .collect();
    let codec = track.info.mime_type.rsplit('/').next().unwrap_or("");
    SubscribedQualityUpdate {
        track_sid: track.info.sid.clone(),
        subscribed_qualities: qualities.clone(),
        subscribed_codecs: vec![SubscribedCodec {
            codec: codec.to_ascii_lowercase(),
            qualities,
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_told_at_once_and_fewer_after_a_while() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut layers = WantedLayers::default();
        assert!(layers.update(3, 3, at(0)), "what is wanted is said once");
        assert!(!layers.update(1, 3, at(1)));
        assert!(layers.is_waiting());
        assert!(!layers.update(1, 3, at(4)));
        assert!(layers.update(1, 3, at(5)));
        assert!(layers.update(3, 3, at(5)));
        assert!(!layers.update(3, 3, at(6)));
    }

    #[test]
    fn who_looks_back_in_time_changes_nothing() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut layers = WantedLayers::default();
        layers.update(3, 3, at(0));
        assert!(!layers.update(0, 3, at(1)));
        assert!(!layers.update(3, 3, at(4)));
        assert!(!layers.is_waiting());
        assert!(!layers.update(0, 3, at(7)), "the while begins anew");
        assert!(layers.update(0, 3, at(11)));
    }

    #[test]
    fn a_new_track_that_nobody_watches_goes_on_for_a_while() {
        let start = Instant::now();
        let mut layers = WantedLayers::default();
        assert!(!layers.update(0, 3, start));
        assert!(layers.update(0, 3, start + PAUSE_DELAY));
    }
}
