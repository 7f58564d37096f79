//! A track as the room and the protocol see it: announced by its publisher, then published in
//! one encoding or, with a backup codec, in several.

use moim_engine::codec::{Codec, MediaKind};
use moim_engine::ids::TrackId;
use moim_signaling::wire::{
    self, SimulcastCodecInfo, TrackInfo, TrackSource, VideoLayer, VideoQuality, encryption,
};

use super::announcement::{codec_by_name, decision_for};
use super::id::{ParticipantKey, TrackKey};
use super::wanted_layers::WantedLayers;
use crate::media::negotiation::TrackDecision;

/// Spatial layers that a track may have.
const MAX_LAYERS: usize = 3;
/// Heights of the layers of a track that does not say them, lowest first, pixels.
const USUAL_HEIGHTS: [u32; 2] = [180, 360];
/// A layer is high enough with this share of the height that is asked for.
const LEAST_PERCENT: u64 = 90;

/// A published track.
#[derive(Debug, Clone)]
pub(super) struct Publication {
    pub(super) key: TrackKey,
    pub(super) owner: ParticipantKey,
    pub(super) kind: MediaKind,
    /// What everybody is told; its `muted` is what the engine was told.
    pub(super) info: TrackInfo,
    /// The first is the one that was announced first; never empty.
    pub(super) encodings: Vec<Encoding>,
    /// What the publisher was told of each codec that it can send, the first one first.
    pub(super) wanted: Vec<(Codec, WantedLayers)>,
    /// The publisher knows that somebody has subscribed.
    pub(super) subscribed_told: bool,
    /// It was muted from outside, and its publisher has not said otherwise since.
    pub(super) muted_by_server: bool,
}

/// One codec in which a track is sent, on an m-line of its own.
#[derive(Debug, Clone)]
pub(super) struct Encoding {
    /// Its number in the media plane.
    pub(super) id: TrackId,
    /// Identification tag of its m-line.
    pub(super) mid: String,
    /// Id of the client's track on that m-line.
    pub(super) cid: String,
    /// What it is encoded with: what was agreed on first, until the first packet tells.
    pub(super) codec: Codec,
    /// RTP streams: those of simulcast, else 1.
    pub(super) streams: usize,
}

/// What may be published, as the protocol lists it.
pub(super) fn enabled_codecs() -> Vec<wire::Codec> {
    let mut mimes: Vec<&str> = Vec::new();
    for codec in Codec::ALL {
        if !mimes.contains(&codec.mime_type()) {
            mimes.push(codec.mime_type());
        }
    }
    mimes.extend(["audio/red", "video/rtx"]);
    let codecs = mimes.into_iter().map(|mime| wire::Codec {
        mime: mime.to_owned(),
        ..Default::default()
    });
    codecs.collect()
}

impl Publication {
    /// A track whose first encoding was negotiated.
    pub(super) fn new(
        key: TrackKey,
        owner: ParticipantKey,
        kind: MediaKind,
        info: TrackInfo,
        encoding: Encoding,
        rids: &[String],
    ) -> Publication {
        let mut publication = Publication {
            key,
            owner,
            kind,
            info,
            encodings: Vec::new(),
            wanted: Vec::new(),
            subscribed_told: false,
            muted_by_server: false,
        };
        publication.add_encoding(encoding, rids);
        publication
    }

    /// Adds an encoding whose RIDs are these, lowest layer first.
    pub(super) fn add_encoding(&mut self, encoding: Encoding, rids: &[String]) {
        if self.encodings.is_empty() {
            self.info.mid.clone_from(&encoding.mid);
        }
        self.encodings.push(encoding);
        let index = self.encodings.len() - 1;
        self.describe_encoding(index);
        self.name_layers(rids);
    }

    /// Gives the described layers the RIDs under which they are sent.
    #[allow(deprecated)]
    pub(super) fn name_layers(&mut self, rids: &[String]) {
        if rids.is_empty() {
            return;
        }
        for (index, layer) in self.info.layers.iter_mut().enumerate() {
            layer.spatial_layer = index as i32;
            layer.rid = rids.get(index).cloned().unwrap_or_default();
        }
        self.info.simulcast = rids.len() > 1;
    }

    /// Notes what an encoding is encoded with. True when everybody is to be told.
    pub(super) fn set_codec(&mut self, id: TrackId, codec: Codec) -> bool {
        let Some(index) = self.encodings.iter().position(|encoding| encoding.id == id) else {
            return false;
        };
        let before = self.info.clone();
        self.encodings[index].codec = codec;
        self.describe_encoding(index);
        self.info != before
    }

    /// Enters an encoding into the list of codecs that everybody is told.
    fn describe_encoding(&mut self, index: usize) {
        let Some(encoding) = self.encodings.get(index) else {
            return;
        };
        let codec = encoding.codec;
        let mime = codec.mime_type();
        let primary = index == 0;
        if primary {
            mime.clone_into(&mut self.info.mime_type);
        }
        #[allow(deprecated)]
        let layers = self.info.layers.clone();
        let codecs = &mut self.info.codecs;
        let listed = codecs
            .iter()
            .position(|listed| listed.mime_type.eq_ignore_ascii_case(mime));
        // A client that sends another codec than it announced first has changed its mind.
        let listed = match listed {
            Some(position) => position,
            None if primary && !codecs.is_empty() => 0,
            None => {
                codecs.push(SimulcastCodecInfo {
                    layers,
                    ..Default::default()
                });
                codecs.len() - 1
            }
        };
        let listed = &mut codecs[listed];
        mime.clone_into(&mut listed.mime_type);
        listed.mid.clone_from(&encoding.mid);
        if listed.cid.is_empty() {
            listed.cid.clone_from(&encoding.cid);
        }
    }

    /// Codecs that the publisher can send: those published and those announced as backup.
    pub(super) fn codecs(&self) -> Vec<Codec> {
        let published = self.encodings.iter().map(|encoding| encoding.codec);
        let announced = self
            .info
            .codecs
            .iter()
            .filter_map(|listed| codec_by_name(&listed.mime_type));
        let mut codecs: Vec<Codec> = published.collect();
        for codec in announced {
            if !codecs
                .iter()
                .any(|known| known.mime_type() == codec.mime_type())
            {
                codecs.push(codec);
            }
        }
        codecs
    }

    /// How an m-line of the track is to be answered: as before.
    pub(super) fn decision(&self, encoding: &Encoding, unusable: &[&'static str]) -> TrackDecision {
        decision_for(&self.info, Some(encoding.codec), unusable)
    }

    /// The encoding with this number in the media plane.
    pub(super) fn encoding(&self, id: TrackId) -> Option<&Encoding> {
        self.encodings.iter().find(|encoding| encoding.id == id)
    }

    /// Its sound has two channels.
    #[allow(deprecated)]
    pub(super) fn is_stereo(&self) -> bool {
        self.info.stereo
    }

    /// Frame payloads are encrypted end to end: nobody here can look into them.
    pub(super) fn is_encrypted(&self) -> bool {
        let kind = encryption::Type::try_from(self.info.encryption);
        !matches!(kind, Ok(encryption::Type::None))
    }

    /// It shows or plays a screen.
    pub(super) fn is_screen(&self) -> bool {
        [TrackSource::ScreenShare, TrackSource::ScreenShareAudio]
            .into_iter()
            .any(|source| self.info.source == source as i32)
    }

    /// Spatial layers of an encoding: its RTP streams, or the layers within the one stream of
    /// scalable coding.
    pub(super) fn spatial_layers(&self, encoding: &Encoding) -> u8 {
        let scalable = matches!(encoding.codec, Codec::Vp9 | Codec::Av1);
        let count = if encoding.streams == 1 && scalable {
            self.described().len()
        } else {
            encoding.streams
        };
        count.clamp(1, MAX_LAYERS) as u8
    }

    /// Spatial layers of its first encoding.
    pub(super) fn primary_layers(&self) -> u8 {
        self.encodings
            .first()
            .map_or(1, |encoding| self.spatial_layers(encoding))
    }

    /// How many layers of one of its codecs the publisher was asked for.
    pub(super) fn layers_asked_for(&self, codec: Codec) -> u8 {
        let all = self.primary_layers();
        let told = self
            .wanted
            .iter()
            .find(|(known, _)| known.mime_type() == codec.mime_type());
        told.map_or(all, |(_, wanted)| wanted.asked_for(all))
    }

    /// The layer that a quality names, 0 lowest: the best one that is described as not better.
    pub(super) fn layer_of_quality(&self, quality: i32) -> u8 {
        let top = self.primary_layers() - 1;
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

    /// The best quality among the lowest `count` of `all` layers; `None` of no layer.
    pub(super) fn quality_of_layers(&self, count: u8, all: u8) -> Option<i32> {
        if count == 0 {
            return None;
        }
        if count >= all {
            return Some(VideoQuality::High as i32);
        }
        let layer = usize::from(count - 1);
        let described = self.described().get(layer).map(|layer| layer.quality);
        Some(described.unwrap_or(i32::from(count - 1)))
    }

    /// The smallest layer that is high enough for a picture of this height, 0 lowest.
    pub(super) fn layer_of_height(&self, height: u32) -> u8 {
        let top = self.primary_layers() - 1;
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
    use moim_signaling::wire::{AddTrackRequest, SimulcastCodec};
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::announcement::Announcement;
    use super::super::announcement::tests::{camera_request as request, now};
    use super::*;

    fn camera(request: &AddTrackRequest, codec: Codec, streams: usize) -> Publication {
        let mut rng = StdRng::seed_from_u64(1);
        let announcement =
            Announcement::new_track(request, now(), &mut rng).expect("a camera that is small");
        let info = announcement.info().expect("a new track").clone();
        let encoding = Encoding {
            id: TrackId(1),
            mid: "1".into(),
            cid: "camera".into(),
            codec,
            streams,
        };
        Publication::new(
            TrackKey(1),
            ParticipantKey(1),
            MediaKind::Video,
            info,
            encoding,
            &[],
        )
    }

    #[test]
    fn a_size_takes_the_smallest_layer_that_is_high_enough() {
        let mut track = camera(&request(), Codec::Vp8, 3);
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
        track.encodings[0].streams = 1;
        assert_eq!(track.layer_of_height(3_000), 0);
    }

    #[test]
    fn a_quality_is_bounded_by_the_layers_there_are() {
        let mut track = camera(&request(), Codec::Vp8, 3);
        assert_eq!(track.layer_of_quality(VideoQuality::Low as i32), 0);
        assert_eq!(track.layer_of_quality(VideoQuality::Medium as i32), 1);
        track.encodings[0].streams = 2;
        assert_eq!(track.layer_of_quality(VideoQuality::High as i32), 1);
        assert_eq!(track.quality_of_layers(0, 2), None);
        assert_eq!(
            track.quality_of_layers(1, 2),
            Some(VideoQuality::Low as i32)
        );
        assert_eq!(
            track.quality_of_layers(2, 2),
            Some(VideoQuality::High as i32)
        );
    }

    #[test]
    fn the_layers_of_an_svc_track_are_those_it_describes() {
        let track = camera(&request(), Codec::Vp8, 1);
        assert_eq!(track.primary_layers(), 1);
        let track = camera(&request(), Codec::Vp9, 1);
        assert_eq!(track.primary_layers(), 3);
        assert_eq!(track.layer_of_height(360), 1);
        assert_eq!(track.layer_of_quality(VideoQuality::Medium as i32), 1);
    }

    #[test]
    fn the_sid_tells_kind_and_source() {
        let track = camera(&request(), Codec::Vp8, 3);
        assert!(track.info.sid.starts_with("TR_VC"));
        assert_eq!(track.info.stream, "camera");
    }

    #[test]
    fn a_backup_codec_is_described_beside_the_first() {
        let mut request = request();
        for codec in ["vp9", "vp8"] {
            request.simulcast_codecs.push(SimulcastCodec {
                codec: codec.into(),
                ..Default::default()
            });
        }
        let mut track = camera(&request, Codec::Vp9, 1);
        assert_eq!(track.codecs(), [Codec::Vp9, Codec::Vp8]);
        let backup = Encoding {
            id: TrackId(2),
            mid: "2".into(),
            cid: "backup".into(),
            codec: Codec::Vp8,
            streams: 1,
        };
        track.add_encoding(backup, &[]);
        let told: Vec<(&str, &str)> = track
            .info
            .codecs
            .iter()
            .map(|codec| (codec.mime_type.as_str(), codec.mid.as_str()))
            .collect();
        assert_eq!(told, [("video/VP9", "1"), ("video/VP8", "2")]);
        assert_eq!(track.info.mime_type, "video/VP9");
    }
}
