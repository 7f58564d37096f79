//! What each layer of a stream costs, and which layers there are.
//!
//! A packet counts for every layer that needs it, so the figure of a layer is what forwarding
//! it costs, the lower layers that it builds on included.

use std::time::{Duration, Instant};

use crate::wire::payload::layers::{LayerId, LayerSet, MAX_SPATIAL, MAX_TEMPORAL};
use crate::wire::payload::reader::PacketLayers;

/// Rates are measured over this time.
const INTERVAL: Duration = Duration::from_millis(500);
/// A rate that was measured longer ago than this is over.
const STALE: Duration = Duration::from_millis(1_500);
/// A new measurement counts for half, and for this part only when a lone keyframe was among it:
/// that is a moment's burst, often asked for by the very change of layers which the rate decides
/// on. Keyframes that go on are part of the cost.
const KEYFRAME_PART: u64 = 8;
/// A layer that has been in none of this many pictures is gone.
const MISSED_PICTURES: u8 = 16;

/// Rates and presence of the layers of one stream.
#[derive(Debug)]
pub(crate) struct LayerRates {
    /// Bytes and pictures since the last measurement.
    bytes: [u32; LayerSet::LEN],
    pictures: [u16; MAX_TEMPORAL as usize],
    /// Bits and pictures a second.
    bitrate: [u32; LayerSet::LEN],
    frame_rate: [u16; MAX_TEMPORAL as usize],
    measured_at: Option<Instant>,
    /// A keyframe came since the last measurement, and before it.
    keyframes: (bool, bool),
    /// Pictures since each layer was there last.
    spatial_missed: [u8; MAX_SPATIAL as usize],
    temporal_missed: [u8; MAX_TEMPORAL as usize],
    /// Spatial layers by the last structure.
    announced: u8,
}

impl Default for LayerRates {
    fn default() -> Self {
        LayerRates {
            bytes: [0; LayerSet::LEN],
            pictures: [0; MAX_TEMPORAL as usize],
            bitrate: [0; LayerSet::LEN],
            frame_rate: [0; MAX_TEMPORAL as usize],
            measured_at: None,
            keyframes: (false, false),
            spatial_missed: [u8::MAX; MAX_SPATIAL as usize],
            temporal_missed: [u8::MAX; MAX_TEMPORAL as usize],
            announced: 0,
        }
    }
}

impl LayerRates {
    /// Counts a packet of `len` bytes. True when layers have come or gone.
    pub(crate) fn note(&mut self, now: Instant, packet: &PacketLayers, len: usize) -> bool {
        self.measure(now);
        self.keyframes.0 |= packet.keyframe;
        for id in packet.needed_by.iter() {
            let bytes = &mut self.bytes[id.index()];
            *bytes = bytes.saturating_add(len as u32);
        }
        let before = self.highest();
        if packet.starts_picture {
            for pictures in &mut self.pictures[usize::from(packet.id.temporal)..] {
                *pictures = pictures.saturating_add(1);
            }
            let missed = self
                .spatial_missed
                .iter_mut()
                .chain(&mut self.temporal_missed);
            missed.for_each(|missed| *missed = missed.saturating_add(1));
        }
        // What was announced before and did not come is not believed again: a target that it
        // raised would ask for the next keyframe, and so for the next announcement.
        if let Some(layers) = packet.structure.filter(|layers| *layers != self.announced) {
            self.announced = layers;
            for (spatial, missed) in (0..).zip(&mut self.spatial_missed) {
                *missed = if spatial < layers { 0 } else { u8::MAX };
            }
        }
        self.spatial_missed[usize::from(packet.id.spatial)] = 0;
        self.temporal_missed[usize::from(packet.id.temporal)] = 0;
        self.highest() != before
    }

    /// Bits a second that forwarding this layer costs; 0 while it is not known.
    pub(crate) fn bitrate(&self, id: LayerId, now: Instant) -> u64 {
        if self.is_stale(now) {
            return 0;
        }
        u64::from(self.bitrate[id.index()])
    }

    /// Pictures a second up to this temporal layer; 0 while that is not known.
    pub(crate) fn frame_rate(&self, temporal: u8, now: Instant) -> u16 {
        if self.is_stale(now) {
            return 0;
        }
        self.frame_rate[usize::from(temporal.min(MAX_TEMPORAL - 1))]
    }

    /// The highest spatial and the highest temporal layer that are there.
    pub(crate) fn highest(&self) -> LayerId {
        let highest = |missed: &[u8]| {
            let there = missed.iter().rposition(|missed| *missed < MISSED_PICTURES);
            there.unwrap_or(0) as u8
        };
        LayerId::new(
            highest(&self.spatial_missed),
            highest(&self.temporal_missed),
        )
    }

    fn is_stale(&self, now: Instant) -> bool {
        self.measured_at
            .is_none_or(|at| now.saturating_duration_since(at) > STALE)
    }

    /// Turns the counters into rates when their time is over.
    fn measure(&mut self, now: Instant) {
        let Some(at) = self.measured_at else {
            self.measured_at = Some(now);
            return;
        };
        let elapsed = now.saturating_duration_since(at);
        if elapsed < INTERVAL {
            return;
        }
        self.measured_at = Some(now);
        let milliseconds = elapsed.as_millis() as u64;
        let part = match self.keyframes {
            (true, false) => KEYFRAME_PART,
            _ => 2,
        };
        self.keyframes = (false, self.keyframes.0);
        for (rate, bytes) in self.bitrate.iter_mut().zip(&mut self.bytes) {
            let measured = u64::from(*bytes) * 8_000 / milliseconds;
            // After a silence the old rate means nothing.
            let known = if elapsed > STALE { 0 } else { u64::from(*rate) };
            *rate = if known == 0 {
                measured
            } else {
                (known * (part - 1) + measured) / part
            }
            .min(u64::from(u32::MAX)) as u32;
            *bytes = 0;
        }
        for (rate, pictures) in self.frame_rate.iter_mut().zip(&mut self.pictures) {
            *rate = (u64::from(*pictures) * 1_000).div_ceil(milliseconds) as u16;
            *pictures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    /// A packet of a stream whose layers need all below them.
    fn packet(spatial: u8, temporal: u8) -> PacketLayers {
        let id = LayerId::new(spatial, temporal);
        PacketLayers {
            id,
            needed_by: LayerSet::from(id),
            starts_picture: spatial == 0,
            ..PacketLayers::whole(false)
        }
    }

    #[test]
    fn a_layer_costs_all_that_it_needs() {
        let start = test_clock::start();
        let mut rates = LayerRates::default();
        // 100 pictures a second of two spatial layers, every other one of the upper rate.
        for picture in 0..200u32 {
            let now = start + Duration::from_millis(10) * picture;
            let temporal = (picture % 2) as u8;
            rates.note(now, &packet(0, temporal), 100);
            rates.note(now, &packet(1, temporal), 400);
        }
        let now = start + Duration::from_secs(2);
        let rate = |spatial, temporal| rates.bitrate(LayerId::new(spatial, temporal), now);
        assert_eq!([rate(0, 0), rate(0, 1)], [40_000, 80_000]);
        assert_eq!([rate(1, 0), rate(1, 1)], [200_000, 400_000]);
        assert_eq!(rate(3, 3), rate(1, 1));
        assert_eq!(
            [rates.frame_rate(0, now), rates.frame_rate(1, now)],
            [50, 100]
        );
        assert_eq!(rates.highest(), LayerId::new(1, 1));
        assert_eq!(rates.bitrate(LayerId::new(1, 1), now + STALE * 2), 0);
    }

    #[test]
    fn a_keyframe_says_little_of_what_a_layer_costs() {
        let start = test_clock::start();
        let mut rates = LayerRates::default();
        let id = LayerId::new(0, 0);
        let mut play = |pictures: std::ops::Range<u32>, keyframes: bool| {
            for picture in pictures.clone() {
                let now = start + Duration::from_millis(20) * picture;
                let keyframe = keyframes && picture % 25 == 10;
                let mut packet = packet(0, 0);
                packet.keyframe = keyframe;
                rates.note(now, &packet, if keyframe { 6_000 } else { 600 });
            }
            rates.bitrate(id, start + Duration::from_millis(20) * pictures.end)
        };
        assert_eq!(play(0..100, false), 240_000);
        let after_one = play(100..126, true);
        assert!((240_001..255_000).contains(&after_one), "{after_one}");
        // But what is sent all the time counts.
        let always = play(126..250, true);
        assert!((310_000..330_000).contains(&always), "{always}");
    }

    #[test]
    fn a_structure_announces_layers_and_pictures_without_them_end_them() {
        let now = test_clock::start();
        let mut rates = LayerRates::default();
        let mut key = packet(0, 0);
        key.structure = Some(3);
        assert!(rates.note(now, &key, 100));
        assert_eq!(rates.highest().spatial, 2);
        let changed: Vec<_> = (0..40)
            .map(|_| rates.note(now, &packet(0, 0), 100))
            .collect();
        assert_eq!(changed.iter().filter(|changed| **changed).count(), 1);
        assert_eq!(rates.highest(), LayerId::new(0, 0));
        assert!(!rates.note(now, &key, 100), "announced again");
    }
}
