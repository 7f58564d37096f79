//! A published track, as the room and the protocol see it.

use moim_signaling::wire::{
    AddTrackRequest, SimulcastCodecInfo, TimedVersion, TrackInfo, TrackSource, TrackType,
    VideoQuality,
};

use super::participant::ParticipantKey;
use super::state::{random_text, unix_micros};
use crate::media::codec::{Codec, MediaKind};
use crate::media::engine::ids::TrackId;

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
    pub(super) layers: usize,
    /// Somebody has subscribed to it.
    pub(super) subscribed: bool,
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
    let codecs = request
        .simulcast_codecs
        .iter()
        .map(|codec| SimulcastCodecInfo {
            mime_type: mime_type(&codec.codec, request.r#type),
            cid: codec.cid.clone(),
            layers: request.layers.clone(),
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
        layers: request.layers.clone(),
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
pub(super) fn preferred_codec(request: &AddTrackRequest) -> Option<Codec> {
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

impl Track {
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

    /// The layer that a quality names, 0 lowest.
    #[allow(deprecated)]
    pub(super) fn layer_of_quality(&self, quality: i32) -> u8 {
        let wanted = match VideoQuality::try_from(quality) {
            Ok(VideoQuality::Low) => 0,
            Ok(VideoQuality::Medium) => 1,
            _ => 2,
        };
        wanted.min(self.layers.max(1) as u8 - 1)
    }

    /// The smallest layer that fills a picture of this size, 0 lowest.
    #[allow(deprecated)]
    pub(super) fn layer_of_size(&self, width: u32, height: u32) -> u8 {
        let mut sizes: Vec<(u32, u32)> = self
            .info
            .layers
            .iter()
            .map(|layer| (layer.width, layer.height))
            .collect();
        sizes.sort_unstable();
        // A picture is shown whole: it is large enough when neither side has to be stretched
        // beyond what the other allows.
        let fills = |&(w, h): &(u32, u32)| w >= width || h >= height;
        let layer = sizes
            .iter()
            .position(fills)
            .unwrap_or(sizes.len().max(1) - 1);
        layer.min(2) as u8
    }
}

#[cfg(test)]
mod tests {
    use moim_signaling::wire::VideoLayer;

    use super::*;

    fn camera() -> Track {
        let layers = [(0, 320, 180), (1, 640, 360), (2, 1280, 720)];
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
        }
    }

    #[test]
    fn a_size_takes_the_smallest_layer_that_fills_it() {
        let track = camera();
        assert_eq!(track.layer_of_size(160, 90), 0);
        assert_eq!(track.layer_of_size(320, 180), 0);
        assert_eq!(track.layer_of_size(640, 360), 1);
        assert_eq!(track.layer_of_size(700, 500), 2);
        assert_eq!(track.layer_of_size(4000, 3000), 2);
    }

    #[test]
    fn a_quality_is_bounded_by_the_layers_there_are() {
        let mut track = camera();
        assert_eq!(track.layer_of_quality(VideoQuality::Medium as i32), 1);
        track.layers = 2;
        assert_eq!(track.layer_of_quality(VideoQuality::High as i32), 1);
    }

    #[test]
    fn the_sid_tells_kind_and_source() {
        assert!(camera().info.sid.starts_with("TR_VC"));
        assert_eq!(camera().info.stream, "camera");
    }
}
