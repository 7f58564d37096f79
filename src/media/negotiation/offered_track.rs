//! A track that a client offers: as its m-line describes it, what is decided on it, and what
//! the answer takes.

use super::layers::AnnouncedLayer;
use moim_engine::codec::{Codec, MediaKind};
use moim_engine::command::TrackSource;

/// A track that a client wants to send, as its m-line describes it.
#[derive(Debug, Clone)]
pub struct OfferedTrack {
    /// Identification tag of the m-line; empty when it has none.
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// Id of the client's media stream.
    pub stream_id: String,
    /// Id of the client's track: the `cid` of `AddTrackRequest`.
    pub track_id: String,
    /// What it can be encoded with, the client's favourite first.
    pub codecs: Vec<Codec>,
    /// How its packets are recognised.
    pub source: TrackSource,
}

/// What becomes of an offered track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrackDecision {
    /// It is not taken: the m-line is answered inactive.
    Refuse,
    /// It is taken.
    Accept(TrackParameters),
}

/// How a track is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackParameters {
    /// The codec that it should use, put first: this format of it, or another of the same codec.
    pub preferred: Option<Codec>,
    /// Codecs that it must not use, by MIME type.
    pub unusable: Vec<&'static str>,
    /// Opus in stereo.
    pub stereo: bool,
    /// Opus may stop sending in silence.
    pub dtx: bool,
    /// Audio should carry earlier frames again (RFC 2198).
    pub red: bool,
    /// The layers that have been announced with their RIDs; may be empty.
    pub layers: Vec<AnnouncedLayer>,
}

impl Default for TrackParameters {
    /// Whatever the client prefers, in mono, saving and repeating as the network wants it.
    fn default() -> TrackParameters {
        TrackParameters {
            preferred: None,
            unusable: Vec::new(),
            stereo: false,
            dtx: true,
            red: true,
            layers: Vec::new(),
        }
    }
}

/// A track that the answer takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedTrack {
    /// Identification tag of the m-line; empty when it has none.
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// Id of the client's media stream.
    pub stream_id: String,
    /// Id of the client's track.
    pub cid: String,
    /// How its packets are recognised.
    pub source: TrackSource,
    /// What it may be encoded with, the preferred first.
    pub codecs: Vec<Codec>,
}
