//! A track that a client said it will offer: read, bounded and described.

use moim_engine::codec::{Codec, MediaKind};
use moim_signaling::wire::{
    AddTrackRequest, AudioTrackFeature, SimulcastCodec, SimulcastCodecInfo, TimedVersion,
    TrackInfo, TrackSource, TrackType, VideoLayer,
};
use rand::rngs::StdRng;

use super::clock::Now;
use super::id::{TrackKey, sid};
use crate::media::negotiation::{AnnouncedLayer, TrackDecision, TrackParameters};

/// Layers that an announcement may describe: clients describe three at most for each codec.
const MAX_DESCRIBED_LAYERS: usize = 8;
/// Codecs that an announcement may list: all that WebRTC has, twice.
const MAX_CODECS: usize = 12;
/// Features that an announcement may list: the protocol has about ten.
const MAX_FEATURES: usize = 32;
/// Longest texts of an announcement, bytes. Everybody in the room is told them.
const MAX_TEXT: usize = 16 << 10;
const MAX_MIME: usize = 64;
/// Why a track cannot be announced. The text is for the developer of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnnounceError {
    #[error("a track is audio or video")]
    Kind,
    #[error("name, cid and stream of a track may have {MAX_TEXT} bytes each, a codec {MAX_MIME}")]
    Text,
    #[error(
        "a track may describe {MAX_DESCRIBED_LAYERS} layers, {MAX_CODECS} codecs and {MAX_FEATURES} features"
    )]
    Count,
}

/// A track that a client said it will offer.
#[derive(Debug, Clone)]
pub(super) struct Announcement {
    /// Ids under which the offer may have it.
    pub(super) cids: Vec<String>,
    pub(super) kind: MediaKind,
    /// The codec that it should be sent with.
    pub(super) preferred: Option<Codec>,
    pub(super) purpose: Purpose,
}

/// What an announcement is for.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    /// A track of its own.
    NewTrack(Box<TrackInfo>),
    /// A further encoding of a track that is published.
    BackupCodec(TrackKey),
}

/// The kind of media that a request announces.
pub(super) fn kind_of(request: &AddTrackRequest) -> Result<MediaKind, AnnounceError> {
    match TrackType::try_from(request.r#type) {
        Ok(TrackType::Audio) => Ok(MediaKind::Audio),
        Ok(TrackType::Video) => Ok(MediaKind::Video),
        _ => Err(AnnounceError::Kind),
    }
}

/// Whether everything in an announcement is small enough to be kept and told to everybody.
fn check_sizes(request: &AddTrackRequest) -> Result<(), AnnounceError> {
    let codecs = &request.simulcast_codecs;
    let long = |codec: &SimulcastCodec| codec.codec.len() > MAX_MIME || codec.cid.len() > MAX_TEXT;
    let described = |layers: &[VideoLayer]| layers.len() <= MAX_DESCRIBED_LAYERS;
    if request.name.len() > MAX_TEXT
        || request.cid.len() > MAX_TEXT
        || request.stream.len() > MAX_TEXT
        || codecs.iter().any(long)
        || request
            .layers
            .iter()
            .any(|layer| layer.rid.len() > MAX_MIME)
    {
        return Err(AnnounceError::Text);
    }
    let counts = described(&request.layers)
        && codecs.len() <= MAX_CODECS
        && codecs.iter().all(|codec| described(&codec.layers))
        && request.audio_features.len() <= MAX_FEATURES
        && request.packet_trailer_features.len() <= MAX_FEATURES;
    if counts {
        Ok(())
    } else {
        Err(AnnounceError::Count)
    }
}

impl Announcement {
    /// Reads a request for a track of its own.
    ///
    /// # Errors
    /// When it is no track, or larger than what is kept.
    pub(super) fn new_track(
        request: &AddTrackRequest,
        now: Now,
        rng: &mut StdRng,
    ) -> Result<Announcement, AnnounceError> {
        let kind = kind_of(request)?;
        check_sizes(request)?;
        let info = describe(request, kind, now, rng);
        Ok(Announcement::read(
            request,
            kind,
            Purpose::NewTrack(Box::new(info)),
        ))
    }

    /// Reads a request for a further codec of a published track of this kind, which the request
    /// need not say.
    ///
    /// # Errors
    /// When it is larger than what is kept.
    pub(super) fn backup(
        request: &AddTrackRequest,
        track: TrackKey,
        kind: MediaKind,
    ) -> Result<Announcement, AnnounceError> {
        check_sizes(request)?;
        Ok(Announcement::read(
            request,
            kind,
            Purpose::BackupCodec(track),
        ))
    }

    fn read(request: &AddTrackRequest, kind: MediaKind, purpose: Purpose) -> Announcement {
        let further = request.simulcast_codecs.iter().map(|codec| &codec.cid);
        let mut cids: Vec<String> = [&request.cid]
            .into_iter()
            .chain(further)
            .filter(|cid| !cid.is_empty())
            .cloned()
            .collect();
        cids.dedup();
        let preferred = request.simulcast_codecs.first();
        Announcement {
            cids,
            kind,
            preferred: preferred.and_then(|codec| codec_by_name(&codec.codec)),
            purpose,
        }
    }

    /// Its own description; `None` for a backup codec.
    pub(super) fn info(&self) -> Option<&TrackInfo> {
        match &self.purpose {
            Purpose::NewTrack(info) => Some(info),
            Purpose::BackupCodec(_) => None,
        }
    }

    /// The description, to be changed.
    pub(super) fn info_mut(&mut self) -> Option<&mut TrackInfo> {
        match &mut self.purpose {
            Purpose::NewTrack(info) => Some(info),
            Purpose::BackupCodec(_) => None,
        }
    }
}

/// What everybody is told of a track that was announced.
fn describe(request: &AddTrackRequest, kind: MediaKind, now: Now, rng: &mut StdRng) -> TrackInfo {
    let source = TrackSource::try_from(request.source).unwrap_or(TrackSource::Unknown);
    let stream = if request.stream.is_empty() {
        usual_stream(source).to_owned()
    } else {
        request.stream.clone()
    };
    // Some clients list the largest first.
    let by_quality = |layers: &[VideoLayer]| {
        let mut layers = layers.to_vec();
        layers.sort_by_key(|layer| layer.quality);
        layers
    };
    let layers = by_quality(&request.layers);
    let codecs = request.simulcast_codecs.iter().map(|codec| {
        let own = by_quality(&codec.layers);
        SimulcastCodecInfo {
            mime_type: mime_type(&codec.codec, kind),
            cid: codec.cid.clone(),
            layers: if own.is_empty() { layers.clone() } else { own },
            video_layer_mode: codec.video_layer_mode,
            ..Default::default()
        }
    });
    #[allow(deprecated)]
    TrackInfo {
        sid: sid(rng, &sid_prefix(kind, source)),
        r#type: request.r#type,
        name: request.name.clone(),
        muted: request.muted,
        width: request.width,
        height: request.height,
        simulcast: request.layers.len() > 1,
        disable_dtx: request.disable_dtx,
        source: request.source,
        codecs: codecs.collect(),
        layers,
        stereo: is_stereo(request),
        disable_red: request.disable_red,
        encryption: request.encryption,
        stream,
        version: Some(TimedVersion {
            unix_micro: now.unix_us,
            ticks: 0,
        }),
        audio_features: audio_features(request),
        backup_codec_policy: request.backup_codec_policy,
        packet_trailer_features: request.packet_trailer_features.clone(),
        ..Default::default()
    }
}

/// Tracks of a camera and its microphone play in step, and so do those of a screen.
fn usual_stream(source: TrackSource) -> &'static str {
    match source {
        TrackSource::Camera | TrackSource::Microphone => "camera",
        TrackSource::ScreenShare | TrackSource::ScreenShareAudio => "screen",
        TrackSource::Unknown => "",
    }
}

#[allow(deprecated)]
fn is_stereo(request: &AddTrackRequest) -> bool {
    request.stereo
        || request
            .audio_features
            .contains(&(AudioTrackFeature::TfStereo as i32))
}

/// The features of an announcement, and as features what older clients say in fields of their
/// own.
#[allow(deprecated)]
fn audio_features(request: &AddTrackRequest) -> Vec<i32> {
    let mut features = request.audio_features.clone();
    let mut add = |said: bool, feature: AudioTrackFeature| {
        if said && !features.contains(&(feature as i32)) {
            features.push(feature as i32);
        }
    };
    if request.r#type == TrackType::Audio as i32 {
        add(request.stereo, AudioTrackFeature::TfStereo);
        add(request.disable_dtx, AudioTrackFeature::TfNoDtx);
    }
    features
}

fn sid_prefix(kind: MediaKind, source: TrackSource) -> String {
    let kind = match kind {
        MediaKind::Audio => 'A',
        MediaKind::Video => 'V',
    };
    let source = match source {
        TrackSource::Camera => "C",
        TrackSource::Microphone => "M",
        TrackSource::ScreenShare => "S",
        TrackSource::ScreenShareAudio => "s",
        TrackSource::Unknown => "",
    };
    format!("TR_{kind}{source}")
}

fn mime_type(codec: &str, kind: MediaKind) -> String {
    if codec.contains('/') {
        return codec.to_owned();
    }
    let kind = match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    };
    format!("{kind}/{codec}")
}

/// The codec that a client names, as `vp9` or as `video/VP9`.
pub(super) fn codec_by_name(name: &str) -> Option<Codec> {
    let name = name.rsplit('/').next().unwrap_or(name);
    Codec::ALL.into_iter().find(|codec| {
        let known = codec.mime_type();
        known
            .rsplit('/')
            .next()
            .is_some_and(|known| known.eq_ignore_ascii_case(name))
    })
}

/// How a track that is described so is to be answered.
#[allow(deprecated)]
pub(super) fn decision_for(
    info: &TrackInfo,
    preferred: Option<Codec>,
    unusable: &[&'static str],
) -> TrackDecision {
    let announced = info.layers.iter().filter(|layer| !layer.rid.is_empty());
    let layers = announced.map(|layer| AnnouncedLayer {
        rid: layer.rid.clone(),
        pixels: u64::from(layer.width) * u64::from(layer.height),
        quality: layer.quality.clamp(0, i32::from(u8::MAX)) as u8,
    });
    TrackDecision::Accept(TrackParameters {
        preferred,
        unusable: unusable.to_vec(),
        stereo: info.stereo,
        dtx: !info.disable_dtx,
        red: !info.disable_red,
        layers: layers.collect(),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Instant;

    use rand::SeedableRng;

    use super::*;

    /// A camera in three sizes, the largest first as some clients have it.
    pub(in crate::room) fn camera_request() -> AddTrackRequest {
        let layers = [(2, 1280, 720), (1, 640, 360), (0, 320, 180)];
        AddTrackRequest {
            cid: "camera".into(),
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
        }
    }

    /// Any moment.
    pub(in crate::room) fn now() -> Now {
        Now {
            instant: Instant::now(),
            unix_us: 0,
        }
    }

    #[test]
    fn a_further_codec_is_of_its_track_s_kind_whatever_the_request_says() {
        let mut request = camera_request();
        for said in [TrackType::Audio as i32, TrackType::Video as i32, 99] {
            request.r#type = said;
            let backup = Announcement::backup(&request, TrackKey(1), MediaKind::Video);
            assert_eq!(backup.unwrap().kind, MediaKind::Video);
        }
    }

    #[test]
    fn what_everybody_would_be_told_is_bounded() {
        let mut rng = StdRng::seed_from_u64(1);
        let long = "x".repeat(MAX_TEXT + 1);
        let layer = VideoLayer::default();
        let hostile: [fn(&mut AddTrackRequest, &str, &VideoLayer); 8] = [
            |r, long, _| r.name = long.into(),
            |r, long, _| r.cid = long.into(),
            |r, long, _| r.stream = long.into(),
            |r, _, layer| r.layers = vec![layer.clone(); 10_000],
            |r, _, _| r.simulcast_codecs = vec![SimulcastCodec::default(); 10_000],
            |r, _, layer| {
                r.simulcast_codecs = vec![SimulcastCodec {
                    layers: vec![layer.clone(); 10_000],
                    ..Default::default()
                }];
            },
            |r, _, _| r.audio_features = vec![1; 10_000],
            |r, _, _| r.packet_trailer_features = vec![1; 10_000],
        ];
        for (number, spoil) in hostile.iter().enumerate() {
            let mut request = camera_request();
            spoil(&mut request, &long, &layer);
            let outcome = Announcement::new_track(&request, now(), &mut rng);
            assert!(outcome.is_err(), "case {number}");
        }
    }
}
