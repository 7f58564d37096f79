//! A published track, as the room and the protocol see it.

use moim_signaling::wire::{
    AddTrackRequest, SimulcastCodecInfo, TimedVersion, TrackInfo, TrackSource, TrackType,
    VideoLayer, VideoQuality,
};

use super::dynacast::WantedLayers;
use super::participant::ParticipantKey;
use super::state::{random_text, unix_micros};
use crate::media::negotiation::TrackDecision;
use moim_engine::codec::{Codec, MediaKind};
use moim_engine::ids::TrackId;

/// Sizes of a picture that a track may have.
const MAX_LAYERS: usize = 3;
/// Heights of the layers of a track that does not say them, lowest first.
const USUAL_HEIGHTS: [u32; 2] = [180, 360];
/// A layer is high enough with this share of the height that is asked for.
const LEAST_PERCENT: u64 = 90;

/// One published track.
#[derive(Debug, Clone)]
pub(super) struct Track {
    pub(super) id: TrackId,
    pub(super) owner: ParticipantKey,
    pub(super) kind: MediaKind,
    pub(super) cid: String,
    pub(super) info: TrackInfo,
    /// What it is encoded with, as far as known.
    pub(super) codec: Option<Codec>,
    /// Streams of its own size each: those of simulcast, else 1.
    pub(super) layers: usize,
    /// Somebody has subscribed to it.
    pub(super) subscribed: bool,
    pub(super) wanted_layers: WantedLayers,
}

/// The kind of media that a request announces.
pub(super) fn kind_of(request: &AddTrackRequest) -> Option<MediaKind> {
    match TrackType::try_from(request.r#type) {
        Ok(TrackType::Audio) => Some(MediaKind::Audio),
        Ok(TrackType::Video) => Some(MediaKind::Video),
        _ => None,
    }
}

/// The description of a track that was announced.
pub(super) fn describe(request: &AddTrackRequest) -> TrackInfo {
    let source = TrackSource::try_from(request.source).unwrap_or(TrackSource::Unknown);
    let stream = if request.stream.is_empty() {
        match source {
            TrackSource::Camera | TrackSource::Microphone => "camera".to_owned(),
            TrackSource::ScreenShare | TrackSource::ScreenShareAudio => "screen".to_owned(),
            TrackSource::Unknown => String::new(),
        }
    } else {
        request.stream.clone()
    };
    // Some clients list the largest first.
    let mut layers = request.layers.clone();
    layers.sort_by_key(|layer| layer.quality);
    let codecs = request
        .simulcast_codecs
        .iter()
        .map(|codec| SimulcastCodecInfo {
            mime_type: mime_type(&codec.codec, request.r#type),
            cid: codec.cid.clone(),
            layers: layers.clone(),
            video_layer_mode: codec.video_layer_mode,
            ..Default::default()
        })
        .collect();
    #[allow(deprecated)]
    TrackInfo {
        sid: format!("TR_{}{}", sid_prefix(request, source), random_text(12)),
        r#type: request.r#type,
        name: request.name.clone(),
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast: request.layers.len() > 1,
        disable_dtx: request.disable_dtx,
        source: request.source,
        layers,
        codecs,
        stereo: request.stereo,
        disable_red: request.disable_red,
        encryption: request.encryption,
        stream,
        version: Some(TimedVersion {
            unix_micro: unix_micros(),
            ticks: 0,
        }),
        audio_features: request.audio_features.clone(),
        backup_codec_policy: request.backup_codec_policy,
        packet_trailer_features: request.packet_trailer_features.clone(),
        ..Default::default()
    }
}

fn sid_prefix(request: &AddTrackRequest, source: TrackSource) -> String {
    let kind = match kind_of(request) {
        Some(MediaKind::Audio) => 'A',
        _ => 'V',
    };
    let source = match source {
        TrackSource::Camera => "C",
        TrackSource::Microphone => "M",
        TrackSource::ScreenShare => "S",
        TrackSource::ScreenShareAudio => "s",
        TrackSource::Unknown => "",
    };
    format!("{kind}{source}")
}

fn mime_type(codec: &str, kind: i32) -> String {
    if codec.contains('/') {
        return codec.to_owned();
    }
    let kind = if kind == TrackType::Audio as i32 {
        "audio"
    } else {
        "video"
    };
    format!("{kind}/{codec}")
}

/// The codec that a request asks for.
fn preferred_codec(request: &AddTrackRequest) -> Option<Codec> {
    let name = &request.simulcast_codecs.first()?.codec;
    let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
    match name.as_str() {
        "vp8" => Some(Codec::Vp8),
        "vp9" => Some(Codec::Vp9),
        "h264" => Some(Codec::H264),
        "av1" => Some(Codec::Av1),
        "opus" => Some(Codec::Opus),
        _ => None,
    }
}

/// How an announced track is to be sent.
#[allow(deprecated)]
pub(super) fn decision_on(request: &AddTrackRequest) -> TrackDecision {
    TrackDecision::Accept {
        preferred: preferred_codec(request),
        stereo: request.stereo,
        dtx: !request.disable_dtx,
        red: !request.disable_red,
    }
}

impl Track {
    /// How it is to be sent: as before.
    #[allow(deprecated)]
    pub(super) fn decision(&self) -> TrackDecision {
        TrackDecision::Accept {
            preferred: self.codec,
            stereo: self.info.stereo,
            dtx: !self.info.disable_dtx,
            red: !self.info.disable_red,
        }
    }

    /// Notes what the track is encoded with. True when that was not known.
    pub(super) fn set_codec(&mut self, codec: Codec) -> bool {
        let changed = self.info.mime_type != codec.mime_type();
        self.codec = Some(codec);
        codec.mime_type().clone_into(&mut self.info.mime_type);
        if self.info.codecs.is_empty() {
            #[allow(deprecated)]
            self.info.codecs.push(SimulcastCodecInfo {
                cid: self.cid.clone(),
                layers: self.info.layers.clone(),
                ..Default::default()
            });
        }
        if let Some(first) = self.info.codecs.first_mut() {
            codec.mime_type().clone_into(&mut first.mime_type);
            first.mid.clone_from(&self.info.mid);
        }
        changed
    }

    /// How many sizes of the picture there are: the streams of a simulcast track, the layers
    /// within the one stream of an SVC track.
    pub(super) fn spatial_layers(&self) -> u8 {
        let scalable = matches!(self.codec, Some(Codec::Vp9 | Codec::Av1));
        let count = if self.layers == 1 && scalable {
            self.described().len()
        } else {
            self.layers
        };
        count.clamp(1, MAX_LAYERS) as u8
    }

    /// How many sizes of the picture its publisher should send now.
    pub(super) fn layers_asked_for(&self) -> u8 {
        self.wanted_layers.asked_for(self.spatial_layers())
    }

    /// The layer that a quality names, 0 lowest: the best one that is described as not better.
    pub(super) fn layer_of_quality(&self, quality: i32) -> u8 {
        let top = self.spatial_layers() - 1;
        if quality >= VideoQuality::High as i32 {
            return top;
        }
        let described = self.described();
        let layer = if described.is_empty() {
            quality.max(0) as usize
        } else {
            described
                .iter()
                .rposition(|layer| layer.quality <= quality)
                .unwrap_or(0)
        };
        (layer as u8).min(top)
    }

    /// The quality that so many layers, from the lowest up, have; `None` of none.
    pub(super) fn quality_of_layers(&self, count: u8) -> Option<i32> {
        if count == 0 {
            return None;
        }
        if count >= self.spatial_layers() {
            return Some(VideoQuality::High as i32);
        }
        let layer = usize::from(count - 1);
        let described = self.described().get(layer).map(|layer| layer.quality);
        Some(described.unwrap_or(i32::from(count - 1)))
    }

    /// The smallest layer that is high enough for a picture of this height, 0 lowest.
    pub(super) fn layer_of_height(&self, height: u32) -> u8 {
        let top = self.spatial_layers() - 1;
        let described = self.described();
        let heights: Vec<u32> = if described.iter().any(|layer| layer.height > 0) {
            described.iter().map(|layer| layer.height).collect()
        } else {
            USUAL_HEIGHTS.to_vec()
        };
        let enough = u64::from(height) * LEAST_PERCENT / 100;
        let layer = heights
            .iter()
            .position(|&height| u64::from(height) >= enough);
        layer.map_or(top, |layer| (layer as u8).min(top))
    }

    /// The layers as the client announced them, lowest first.
    #[allow(deprecated)]
    fn described(&self) -> &[VideoLayer] {
        &self.info.layers
    }
}

#[cfg(test)]
mod tests {
    use moim_signaling::wire::VideoLayer;

    use super::*;

    fn camera() -> Track {
        let layers = [(2, 1280, 720), (1, 640, 360), (0, 320, 180)];
        let request = AddTrackRequest {
            r#type: TrackType::Video as i32,
            source: TrackSource::Camera as i32,
            layers: layers
                .into_iter()
                .map(|(quality, width, height)| VideoLayer {
                    quality,
                    width,
                    height,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        };
        Track {
            id: TrackId(1),
            owner: 1,
            kind: MediaKind::Video,
            cid: "c".into(),
            info: describe(&request),
            codec: None,
            layers: 3,
            subscribed: false,
            wanted_layers: WantedLayers::default(),
        }
    }

    #[test]
    fn a_size_takes_the_smallest_layer_that_is_high_enough() {
        let mut track = camera();
        let cases = [
            (90, 0),
            (180, 0),
            (200, 0),
            (250, 1),
            (360, 1),
            (500, 2),
            (3_000, 2),
        ];
        for (height, layer) in cases {
            assert_eq!(track.layer_of_height(height), layer, "{height}");
        }
        #[allow(deprecated)]
        track.info.layers.clear();
        for (height, layer) in cases {
            assert_eq!(track.layer_of_height(height), layer, "{height}");
        }
        track.layers = 1;
        assert_eq!(track.layer_of_height(3_000), 0);
    }

    #[test]
    fn a_quality_is_bounded_by_the_layers_there_are() {
        let mut track = camera();
        assert_eq!(track.layer_of_quality(VideoQuality::Low as i32), 0);
        assert_eq!(track.layer_of_quality(VideoQuality::Medium as i32), 1);
        track.layers = 2;
        assert_eq!(track.layer_of_quality(VideoQuality::High as i32), 1);
        assert_eq!(track.quality_of_layers(0), None);
        assert_eq!(track.quality_of_layers(1), Some(VideoQuality::Low as i32));
        assert_eq!(track.quality_of_layers(2), Some(VideoQuality::High as i32));
    }

    #[test]
    fn the_layers_of_an_svc_track_are_those_it_describes() {
        let mut track = camera();
        track.layers = 1;
        assert_eq!(track.spatial_layers(), 1);
        track.codec = Some(Codec::Vp9);
        assert_eq!(track.spatial_layers(), 3);
        assert_eq!(track.layer_of_height(360), 1);
        assert_eq!(track.layer_of_quality(VideoQuality::Medium as i32), 1);
    }

    #[test]
    fn the_sid_tells_kind_and_source() {
        assert!(camera().info.sid.starts_with("TR_VC"));
        assert_eq!(camera().info.stream, "camera");
    }
}
