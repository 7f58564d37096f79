//! A track as the subscriber connection offers it.

use super::grammar::SdpToken;
use moim_engine::codec::{Codec, MediaKind};

/// A track to be offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendTrack {
    /// The caller's number for it.
    pub key: u64,
    /// Audio or video.
    pub kind: MediaKind,
    /// What it may be encoded with, what it is encoded with first; empty while that is not known.
    /// All of them are offered, and a client that takes none of them does not take the track.
    pub codecs: Vec<Codec>,
    /// Opus in two channels, which receivers decode as such only if they are told (RFC 7587,
    /// section 7).
    pub stereo: bool,
    /// Id of the media stream at the client: tracks with the same one play in step.
    pub stream_id: SdpToken,
    /// Id of a stream for this track alone, taken on an m-line that was used before: there a
    /// client's track keeps the id of the former one, so the stream must say which it is.
    pub own_stream_id: SdpToken,
    /// Id of the track at the client.
    pub track_id: SdpToken,
    /// SSRC of the media.
    pub ssrc: u32,
    /// SSRC of its retransmissions.
    pub rtx_ssrc: Option<u32>,
}
