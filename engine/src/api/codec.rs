//! The codecs that the server forwards, with the payload types under which every subscriber
//! gets them.
//!
//! All subscribers are offered the same payload types and header extension ids, so that a
//! packet is prepared once a track and only a few fields differ between subscribers.

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// Payload type of redundant audio (RFC 2198) towards subscribers.
pub const RED_PAYLOAD_TYPE: u8 = 63;

/// A codec and the parameters that decide whether two ends understand each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// opus/48000/2
    Opus,
    /// VP8/90000
    Vp8,
    /// VP9/90000, profile 0
    Vp9,
    /// H264/90000, constrained baseline 42e01f, packetization-mode 1
    H264,
    /// H264/90000, constrained baseline 42e01f, packetization-mode 0
    H264Single,
    /// AV1/90000, profile 0
    Av1,
}

impl Codec {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Codec; 6] = [
        Codec::Opus,
        Codec::Vp8,
        Codec::H264,
        Codec::H264Single,
        Codec::Vp9,
        Codec::Av1,
    ];

    /// Audio or video.
    pub fn kind(self) -> MediaKind {
        match self {
            Codec::Opus => MediaKind::Audio,
            _ => MediaKind::Video,
        }
    }

    /// Payload type towards subscribers.
    pub const fn payload_type(self) -> u8 {
        match self {
            Codec::Opus => 111,
            Codec::Vp8 => 96,
            Codec::Vp9 => 98,
            Codec::H264 => 108,
            Codec::H264Single => 125,
            Codec::Av1 => 35,
        }
    }

    /// Payload type of its retransmissions towards subscribers.
    pub const fn rtx_payload_type(self) -> Option<u8> {
        match self {
            Codec::Opus => None,
            Codec::Vp8 => Some(97),
            Codec::Vp9 => Some(99),
            Codec::H264 => Some(109),
            Codec::H264Single => Some(126),
            Codec::Av1 => Some(36),
        }
    }

    /// RTP clock, ticks a second.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            _ => 90_000,
        }
    }

    /// As in `TrackInfo.mime_type`.
    pub fn mime_type(self) -> &'static str {
        match self {
            Codec::Opus => "audio/opus",
            Codec::Vp8 => "video/VP8",
            Codec::Vp9 => "video/VP9",
            Codec::H264 | Codec::H264Single => "video/H264",
            Codec::Av1 => "video/AV1",
        }
    }
}
