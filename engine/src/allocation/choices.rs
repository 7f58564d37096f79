//! In which ways a track can be sent to one subscriber, and what each costs.

use std::time::Instant;

use crate::allocation::policy::MAX_CHOICES;
use crate::api::command::SubscriptionSettings;
use crate::state::track::Track;
use crate::wire::payload::layers::LayerId;

/// What the layers of a camera cost before that is measured, bits a second.
const NOMINAL_RATES: [u64; 3] = [150_000, 500_000, 1_700_000];

/// One way of sending a track.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Choice {
    pub(crate) layer: LayerId,
    /// Bits a second.
    pub(crate) bitrate: u64,
}

/// The ways of sending a track, the smallest first.
#[derive(Debug, Default)]
pub(crate) struct Choices {
    all: [Choice; MAX_CHOICES],
    count: usize,
}

impl Choices {
    /// What there is of a track now within a settings: the spatial layers alive up to what is
    /// wished, else the lowest alive. A track that sends nothing, as a picture that stands still,
    /// costs nothing until it does again.
    ///
    /// Of the smallest one every frame rate is a choice. Of a larger one only the two highest
    /// are, as a smaller picture that moves is better than a larger one that does not.
    pub(crate) fn new(track: &Track, settings: &SubscriptionSettings, now: Instant) -> Choices {
        let mut choices = Choices::default();
        let alive = track.available_layers();
        let Some(lowest) = alive.clone().map(|layer| layer.spatial).min() else {
            return choices;
        };
        let most = lowest.max(settings.max_layer);
        for layer in alive.clone().filter(|layer| layer.spatial <= most) {
            let of_size = alive.clone().filter(|other| other.spatial == layer.spatial);
            let enough = |other: &LayerId| {
                let rate = u64::from(track.frame_rate(*other, now));
                settings.max_frame_rate > 0 && rate >= u64::from(settings.max_frame_rate)
            };
            let temporal = |layer: LayerId| layer.temporal;
            let highest = of_size.clone().map(temporal).max().unwrap_or(0);
            let highest = of_size
                .filter(enough)
                .map(temporal)
                .min()
                .unwrap_or(highest);
            let slow = layer.spatial > lowest && layer.temporal + 1 < highest;
            if layer.temporal <= highest && !slow {
                choices.add(track, layer, now);
            }
        }
        choices
    }

    fn add(&mut self, track: &Track, layer: LayerId, now: Instant) {
        let Some(place) = self.all.get_mut(self.count) else {
            return;
        };
        let measured = track.bitrate(layer, now);
        let nominal = NOMINAL_RATES[usize::from(layer.spatial).min(NOMINAL_RATES.len() - 1)];
        let bitrate = match measured {
            _ if track.is_silent(now) => 0,
            0 => nominal,
            measured => measured,
        };
        *place = Choice { layer, bitrate };
        self.count += 1;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Choice> {
        self.all[..self.count].iter()
    }

    /// The choice with this number.
    pub(crate) fn get(&self, number: usize) -> Option<LayerId> {
        self.iter().nth(number).map(|choice| choice.layer)
    }

    /// The largest there is within the settings.
    pub(crate) fn largest(&self) -> Option<LayerId> {
        self.iter().last().map(|choice| choice.layer)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::codec::MediaKind;
    use crate::api::command::TrackSource;
    use crate::api::ids::{RoomId, TrackId};
    use crate::state::table::PeerIx;
    use crate::state::track::Feed;
    use crate::test_clock;
    use crate::wire::payload::layers::LayerSet;
    use crate::wire::payload::reader::PacketLayers;

    fn simulcast() -> Track {
        let source = TrackSource {
            mid: "1".into(),
            rids: vec!["q".into(), "h".into(), "f".into()],
            ssrcs: Vec::new(),
        };
        let (id, room) = (TrackId(1), RoomId(1));
        Track::new(id, room, Feed::Peer(PeerIx(0)), MediaKind::Video, source)
    }

    fn sizes(track: &Track, max_layer: u8, now: Instant) -> Vec<u8> {
        let settings = SubscriptionSettings {
            max_layer,
            ..SubscriptionSettings::default()
        };
        let choices = Choices::new(track, &settings, now);
        choices.iter().map(|choice| choice.layer.spatial).collect()
    }

    #[test]
    fn what_can_be_sent_are_the_layers_alive_within_the_wish() {
        let now = test_clock::start();
        let mut track = simulcast();
        assert!(sizes(&track, 2, now).is_empty());
        track.layers[1].touch(now);
        assert_eq!(sizes(&track, 0, now), [1]);
        track.layers[0].touch(now);
        track.layers[2].touch(now);
        assert_eq!(sizes(&track, 0, now), [0]);
        assert_eq!(sizes(&track, 200, now), [0, 1, 2]);
        // While all are silent they are those of the last picture, and cost nothing.
        let later = now + Duration::from_secs(10);
        assert_eq!(sizes(&track, 2, later), [0, 1, 2]);
        let settings = SubscriptionSettings::default();
        let choices = Choices::new(&track, &settings, later);
        assert!(choices.iter().all(|choice| choice.bitrate == 0));
        track.layers[0].touch(later);
        assert_eq!(sizes(&track, 2, later), [0]);
    }

    #[test]
    fn frame_rates_are_choices_as_far_as_they_help() {
        let mut now = test_clock::start();
        let mut track = simulcast();
        // Pictures of three temporal layers, 40 a second in all.
        for count in 0..120u32 {
            now += Duration::from_millis(25);
            let temporal = [0, 2, 1, 2][count as usize % 4];
            let id = LayerId::new(0, temporal);
            for layer in &mut track.layers[..2] {
                layer.touch(now);
                let packet = PacketLayers {
                    id,
                    needed_by: LayerSet::from(id),
                    starts_picture: true,
                    ..PacketLayers::whole(false)
                };
                layer.rates.note(now, &packet, 1_000);
            }
        }
        let layers = |max_frame_rate| {
            let settings = SubscriptionSettings {
                max_frame_rate,
                ..SubscriptionSettings::default()
            };
            let choices = Choices::new(&track, &settings, now);
            let layers = choices.iter().map(|choice| choice.layer);
            layers.map(|l| (l.spatial, l.temporal)).collect::<Vec<_>>()
        };
        assert_eq!(layers(0), [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2)]);
        assert_eq!(layers(15), [(0, 0), (0, 1), (1, 0), (1, 1)]);
    }
}
