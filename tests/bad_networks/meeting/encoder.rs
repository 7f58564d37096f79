//! Video encoders as browsers have them, as far as a network sees them: how large which frame
//! is, and what it needs to be decoded.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// What a camera or screen sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Video {
    /// VP8 simulcast of three layers at 150, 500 and 1,700 kbit/s, 30 frames a second, three
    /// temporal layers each: what Chrome makes of a 720p camera.
    Simulcast,
    /// VP9 with three spatial layers on one SSRC (L3T3_KEY): each needs the one below only at
    /// keyframes.
    Svc,
    /// A single VP8 stream of this many bits a second, no temporal layers.
    Single(u32),
    /// A screen: 15 frames a second that are next to nothing until a new page is shown, which
    /// is as large as a second of 1.2 Mbit/s.
    Screen,
}

/// A keyframe is this many times an ordinary frame.
const KEYFRAME_SIZE: f64 = 5.0;
/// The share by which a frame's size varies to either side.
const VARIATION: f64 = 0.25;
/// What a frame may be smaller to make up for an earlier one that was larger than its share.
const PAYBACK: f64 = 0.25;
/// The screen's rates: at rest, and of a new page.
const SCREEN_REST: f64 = 40_000.0;
const SCREEN_PAGE_BYTES: f64 = 1_200_000.0 / 8.0 * 0.3;
/// Frames between two new pages.
const SCREEN_PAGE_INTERVAL: u32 = 90;

impl Video {
    pub(super) fn layer_rates(self) -> Vec<f64> {
        match self {
            Video::Simulcast => vec![150e3, 500e3, 1_700e3],
            Video::Svc => vec![150e3, 350e3, 1_000e3],
            Video::Single(rate) => vec![f64::from(rate)],
            Video::Screen => vec![SCREEN_REST],
        }
    }

    pub(super) fn interval(self) -> Duration {
        match self {
            Video::Screen => Duration::from_nanos(66_666_667),
            _ => Duration::from_nanos(33_333_333),
        }
    }

    pub(super) fn temporal_layers(self) -> bool {
        matches!(self, Video::Simulcast | Video::Svc)
    }

    /// Layers are on SSRCs of their own.
    pub(super) fn simulcast(self) -> bool {
        self == Video::Simulcast
    }
}

/// One layer's frame of one picture.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) layer: u8,
    pub(super) temporal: u8,
    pub(super) keyframe: bool,
    pub(super) bytes: usize,
    pub(super) picture: u32,
    pub(super) needs: Option<u32>,
    pub(super) needs_lower: bool,
    /// It needs nothing but its picture of the lowest temporal layer, so that a receiver can
    /// begin with its temporal layer here.
    pub(super) switch_point: bool,
    /// No higher layer of the same picture and SSRC follows.
    pub(super) ends_picture: bool,
}

#[derive(Debug)]
struct Layer {
    /// Bits a second.
    rate: f64,
    active: bool,
    keyframe: bool,
    /// Bytes sent above the layer's share.
    debt: f64,
    /// The last picture of each temporal layer.
    last: [Option<u32>; 3],
    random: SmallRng,
}

/// Makes frames.
#[derive(Debug)]
pub(super) struct Encoder {
    pub(super) video: Video,
    layers: Vec<Layer>,
    picture: u32,
}

impl Encoder {
    pub(super) fn new(video: Video, seed: u64) -> Encoder {
        let layer = |(index, rate): (usize, f64)| Layer {
            rate,
            active: true,
            keyframe: true,
            debt: 0.0,
            last: [None; 3],
            random: SmallRng::seed_from_u64(seed ^ ((index as u64) << 32)),
        };
        Encoder {
            video,
            layers: video
                .layer_rates()
                .into_iter()
                .enumerate()
                .map(layer)
                .collect(),
            picture: 0,
        }
    }

    /// Which layers are wanted, lowest first; missing ones are not.
    pub(super) fn set_active(&mut self, active: &[bool]) {
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let on = active.get(index).copied().unwrap_or(false);
            layer.keyframe |= on && !layer.active;
            layer.active = on;
        }
    }

    /// The next frame of a layer is a keyframe; of an SVC stream, those of all layers.
    pub(super) fn request_keyframe(&mut self, layer: usize) {
        if self.video == Video::Svc {
            self.layers
                .iter_mut()
                .for_each(|layer| layer.keyframe = true);
        } else if let Some(layer) = self.layers.get_mut(layer) {
            layer.keyframe = true;
        }
    }

    /// The frames of the next picture, one for each active layer.
    pub(super) fn next_picture(&mut self) -> Vec<Frame> {
        let picture = self.picture;
        self.picture += 1;
        let svc = self.video == Video::Svc;
        if svc
            && self
                .layers
                .iter()
                .any(|layer| layer.active && layer.keyframe)
        {
            self.request_keyframe(0);
        }
        let seconds = self.video.interval().as_secs_f64();
        let video = self.video;
        let temporal = if video.temporal_layers() {
            [0, 2, 1, 2][picture as usize % 4]
        } else {
            0
        };
        let mut frames: Vec<Frame> = Vec::new();
        for (index, layer) in self.layers.iter_mut().enumerate() {
            if layer.active {
                let lower = svc && layer.keyframe && !frames.is_empty();
                let frame = layer.encode(video, index as u8, picture, temporal, seconds);
                frames.push(Frame {
                    needs_lower: lower,
                    ..frame
                });
            }
        }
        let last = frames.len().saturating_sub(1);
        for (index, frame) in frames.iter_mut().enumerate() {
            frame.ends_picture = !svc || index == last;
        }
        frames
    }
}

impl Layer {
    fn encode(
        &mut self,
        video: Video,
        layer: u8,
        picture: u32,
        temporal: u8,
        seconds: f64,
    ) -> Frame {
        let share = self.rate / 8.0 * seconds;
        let keyframe = std::mem::take(&mut self.keyframe);
        // A keyframe restarts the pattern, at its lowest temporal layer.
        let temporal = if keyframe { 0 } else { temporal };
        // Of the rate, the lowest temporal layer has 40 %, with the next one 60 %.
        let weight = match (keyframe, temporal) {
            (true, _) => KEYFRAME_SIZE,
            (false, 0) if video.temporal_layers() => 1.6,
            _ if video.temporal_layers() => 0.8,
            _ => 1.0,
        };
        let variation = self.random.random_range(1.0 - VARIATION..1.0 + VARIATION);
        let mut bytes = share * weight * variation;
        if video == Video::Screen {
            if keyframe || picture % SCREEN_PAGE_INTERVAL == SCREEN_PAGE_INTERVAL / 2 {
                bytes = SCREEN_PAGE_BYTES;
            }
        } else {
            let payback = (bytes * PAYBACK).min(self.debt.max(0.0));
            bytes -= if keyframe { 0.0 } else { payback };
            let fair = if keyframe { share } else { share * weight };
            self.debt += bytes - fair;
        }
        let base = self.last[0];
        let needs = match (keyframe, temporal) {
            (true, _) => None,
            (false, 0 | 1) => self.last[0],
            (false, _) => self.last[0].max(self.last[1]),
        };
        if keyframe {
            self.last = [None; 3];
        }
        self.last[usize::from(temporal)] = Some(picture);
        Frame {
            layer,
            temporal,
            keyframe,
            bytes: bytes.max(60.0) as usize,
            picture,
            needs,
            needs_lower: false,
            switch_point: keyframe || (temporal > 0 && needs == base),
            ends_picture: true,
        }
    }
}

#[test]
fn a_layer_keeps_its_rate_and_its_keyframes_are_larger() {
    let mut encoder = Encoder::new(Video::Simulcast, 1);
    let mut bytes = [0; 3];
    let mut largest = [0; 3];
    for _ in 0..3_000 {
        for frame in encoder.next_picture() {
            let layer = usize::from(frame.layer);
            bytes[layer] += frame.bytes;
            assert!(frame.keyframe || frame.needs.is_some());
            largest[layer] = largest[layer].max(frame.bytes);
        }
    }
    for (layer, rate) in Video::Simulcast.layer_rates().into_iter().enumerate() {
        let sent = bytes[layer] as f64 * 8.0 / 100.0;
        assert!((sent / rate - 1.0).abs() < 0.03, "{layer}: {sent}");
        let mean = bytes[layer] / 3_000;
        assert!(largest[layer] > 3 * mean);
    }
}

#[test]
fn a_layer_that_comes_back_starts_with_a_keyframe() {
    let mut encoder = Encoder::new(Video::Simulcast, 1);
    encoder.next_picture();
    encoder.set_active(&[true, false]);
    assert_eq!(encoder.next_picture().len(), 1);
    encoder.set_active(&[true, false, true]);
    let frames = encoder.next_picture();
    assert_eq!(
        frames
            .iter()
            .map(|f| (f.layer, f.keyframe))
            .collect::<Vec<_>>(),
        [(0, false), (2, true)]
    );
    encoder.request_keyframe(0);
    assert!(encoder.next_picture()[0].keyframe);
}
