//! The codecs that the server forwards, with the payload types under which subscribers are offered
//! them.
//!
//! All subscribers are offered the same payload types and header extension ids, so that a packet is
//! prepared once a track and only a few fields differ between subscribers. The payload type is one
//! of these: it is whatever the subscriber's answer says ([`PayloadTypes`]).

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

/// An H.264 profile (RFC 6184, section 8.1, table 5), without the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum H264Profile {
    /// Constrained baseline, which every decoder has: 42e0, 42c0.
    ConstrainedBaseline,
    /// Baseline: 4200.
    Baseline,
    /// Main: 4d00, 4d40.
    Main,
    /// Constrained high: 640c.
    ConstrainedHigh,
    /// High: 6400.
    High,
}

impl H264Profile {
    /// All of them, the one that most decoders have first.
    pub const ALL: [H264Profile; 5] = [
        H264Profile::ConstrainedBaseline,
        H264Profile::Baseline,
        H264Profile::Main,
        H264Profile::ConstrainedHigh,
        H264Profile::High,
    ];

    /// The profiles whose decoders decode a stream of this one, itself first (RFC 6184,
    /// section 8.1, table 5). Baseline has tools that constrained baseline has not (FMO, ASO,
    /// redundant slices), but no encoder for WebRTC uses them, and some announce `42001f` for
    /// what is constrained baseline.
    fn decoded_by(self) -> &'static [H264Profile] {
        use H264Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
        match self {
            ConstrainedBaseline => &[ConstrainedBaseline, Baseline, Main, ConstrainedHigh, High],
            Baseline => &[Baseline, ConstrainedBaseline],
            Main => &[Main, High],
            ConstrainedHigh => &[ConstrainedHigh, High],
            High => &[High],
        }
    }
}

/// How NAL units become packets (RFC 6184, section 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Packetization {
    /// `packetization-mode=0`: one NAL unit a packet.
    SingleNalUnit,
    /// `packetization-mode=1`: fragments and aggregates as well.
    NonInterleaved,
}

/// What two ends must have in common to understand each other's H.264.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct H264Format {
    /// The profile.
    pub profile: H264Profile,
    /// The packetization mode.
    pub packetization: Packetization,
}

impl H264Format {
    /// What every client with H.264 has: constrained baseline in fragments.
    pub const USUAL: H264Format = H264Format {
        profile: H264Profile::ConstrainedBaseline,
        packetization: Packetization::NonInterleaved,
    };
}

/// A codec and the parameters that decide whether two ends understand each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// opus/48000/2
    Opus,
    /// PCMU/8000 (G.711 µ-law)
    Pcmu,
    /// PCMA/8000 (G.711 A-law)
    Pcma,
    /// VP8/90000
    Vp8,
    /// VP9/90000, profile 0
    Vp9,
    /// AV1/90000, profile 0
    Av1,
    /// H264/90000
    H264(H264Format),
}

impl Codec {
    /// How many there are.
    pub const COUNT: usize = 16;

    /// All of them, in the order in which they are offered; each at its [`Codec::index`].
    pub const ALL: [Codec; Codec::COUNT] = {
        let mut all = [Codec::Opus; Codec::COUNT];
        all[1] = Codec::Pcmu;
        all[2] = Codec::Pcma;
        all[3] = Codec::Vp8;
        all[4] = Codec::Vp9;
        all[5] = Codec::Av1;
        let mut index = 0;
        while index < 2 * H264Profile::ALL.len() {
            let packetization = match index % 2 {
                0 => Packetization::NonInterleaved,
                _ => Packetization::SingleNalUnit,
            };
            let profile = H264Profile::ALL[index / 2];
            all[6 + index] = Codec::H264(H264Format {
                profile,
                packetization,
            });
            index += 1;
        }
        all
    };

    /// Its place in [`Codec::ALL`].
    pub const fn index(self) -> usize {
        match self {
            Codec::Opus => 0,
            Codec::Pcmu => 1,
            Codec::Pcma => 2,
            Codec::Vp8 => 3,
            Codec::Vp9 => 4,
            Codec::Av1 => 5,
            Codec::H264(format) => {
                6 + 2 * format.profile as usize
                    + match format.packetization {
                        Packetization::NonInterleaved => 0,
                        Packetization::SingleNalUnit => 1,
                    }
            }
        }
    }

    /// Audio or video.
    pub const fn kind(self) -> MediaKind {
        match self {
            Codec::Opus | Codec::Pcmu | Codec::Pcma => MediaKind::Audio,
            _ => MediaKind::Video,
        }
    }

    /// Payload type under which subscribers are offered it, and of a packet in the cache.
    pub const fn payload_type(self) -> u8 {
        match self {
            Codec::Opus => 111,
            // Static payload types (RFC 3551, section 6).
            Codec::Pcmu => 0,
            Codec::Pcma => 8,
            Codec::Vp8 => 96,
            Codec::Vp9 => 98,
            Codec::Av1 => 35,
            Codec::H264(format) => match (format.profile, format.packetization) {
                (H264Profile::ConstrainedBaseline, Packetization::NonInterleaved) => 108,
                (H264Profile::ConstrainedBaseline, Packetization::SingleNalUnit) => 125,
                (H264Profile::Baseline, Packetization::NonInterleaved) => 102,
                (H264Profile::Baseline, Packetization::SingleNalUnit) => 104,
                (H264Profile::Main, Packetization::NonInterleaved) => 106,
                (H264Profile::Main, Packetization::SingleNalUnit) => 112,
                (H264Profile::ConstrainedHigh, Packetization::NonInterleaved) => 114,
                (H264Profile::ConstrainedHigh, Packetization::SingleNalUnit) => 116,
                (H264Profile::High, Packetization::NonInterleaved) => 123,
                (H264Profile::High, Packetization::SingleNalUnit) => 118,
            },
        }
    }

    /// Payload type under which subscribers are offered its retransmissions.
    pub const fn rtx_payload_type(self) -> Option<u8> {
        match self.kind() {
            MediaKind::Audio => None,
            MediaKind::Video => Some(self.payload_type() + 1),
        }
    }

    /// The codec of a packet in the cache, by its payload type.
    pub(crate) fn of_cached(payload_type: u8) -> Option<Codec> {
        if payload_type == RED_PAYLOAD_TYPE {
            return Some(Codec::Opus);
        }
        Codec::ALL
            .into_iter()
            .find(|codec| codec.payload_type() == payload_type)
    }

    /// RTP clock, ticks a second.
    pub const fn clock_rate(self) -> u32 {
        match self {
            Codec::Opus => 48_000,
            Codec::Pcmu | Codec::Pcma => 8_000,
            _ => 90_000,
        }
    }

    /// As in `TrackInfo.mime_type`.
    pub const fn mime_type(self) -> &'static str {
        match self {
            Codec::Opus => "audio/opus",
            Codec::Pcmu => "audio/PCMU",
            Codec::Pcma => "audio/PCMA",
            Codec::Vp8 => "video/VP8",
            Codec::Vp9 => "video/VP9",
            Codec::Av1 => "video/AV1",
            Codec::H264(_) => "video/H264",
        }
    }

    /// The codec that a MIME type or its subtype names, in any case; of H.264 the usual format.
    pub fn named(name: &str) -> Option<Codec> {
        let subtype = name.rsplit('/').next()?;
        let is_named = |codec: &Codec| {
            let (_, known) = codec.mime_type().split_once('/').unwrap_or_default();
            known.eq_ignore_ascii_case(subtype)
        };
        Codec::ALL.into_iter().find(is_named)
    }

    /// The formats whose decoders decode a stream of this one, itself first.
    pub fn decoded_by(self) -> impl Iterator<Item = Codec> {
        let format = match self {
            Codec::H264(format) => Some(format),
            _ => None,
        };
        // A single NAL unit is a packet of the other mode as well (RFC 6184, section 6.3).
        let modes = format.map_or(&[][..], |format| match format.packetization {
            Packetization::SingleNalUnit => {
                &[Packetization::SingleNalUnit, Packetization::NonInterleaved][..]
            }
            Packetization::NonInterleaved => &[Packetization::NonInterleaved],
        });
        let profiles = format.map_or(&[][..], |format| format.profile.decoded_by());
        let of_h264 = profiles.iter().flat_map(move |&profile| {
            modes.iter().map(move |&packetization| {
                Codec::H264(H264Format {
                    profile,
                    packetization,
                })
            })
        });
        format.is_none().then_some(self).into_iter().chain(of_h264)
    }
}

/// Stands for a payload type that was not answered; RTP has seven bits for them.
const NOT_TAKEN: u8 = u8::MAX;

/// The payload types that a subscriber's answer takes, by codec of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadTypes {
    media: [u8; Codec::COUNT],
    rtx: [u8; Codec::COUNT],
    red: u8,
}

impl Default for PayloadTypes {
    /// Nothing is taken.
    fn default() -> PayloadTypes {
        PayloadTypes {
            media: [NOT_TAKEN; Codec::COUNT],
            rtx: [NOT_TAKEN; Codec::COUNT],
            red: NOT_TAKEN,
        }
    }
}

impl PayloadTypes {
    /// Everything is taken, under the payload types that are offered.
    pub fn as_offered() -> PayloadTypes {
        let mut all = PayloadTypes::default();
        for codec in Codec::ALL {
            all.take(codec, codec.payload_type());
            if let Some(rtx) = codec.rtx_payload_type() {
                all.take_rtx(codec, rtx);
            }
        }
        all.take_red(RED_PAYLOAD_TYPE);
        all
    }

    /// The same without redundant audio.
    pub fn without_red(self) -> PayloadTypes {
        PayloadTypes {
            red: NOT_TAKEN,
            ..self
        }
    }

    /// Notes that a codec is taken under a payload type.
    pub fn take(&mut self, codec: Codec, payload_type: u8) {
        self.media[codec.index()] = payload_type;
    }

    /// Notes that the retransmissions of a codec are taken under a payload type.
    pub fn take_rtx(&mut self, codec: Codec, payload_type: u8) {
        self.rtx[codec.index()] = payload_type;
    }

    /// Notes that redundant audio is taken under a payload type.
    pub fn take_red(&mut self, payload_type: u8) {
        self.red = payload_type;
    }

    /// Under which payload type a codec is taken.
    pub fn media(&self, codec: Codec) -> Option<u8> {
        taken(self.media[codec.index()])
    }

    /// Under which payload type the retransmissions of a codec are taken.
    pub fn rtx(&self, codec: Codec) -> Option<u8> {
        taken(self.rtx[codec.index()])
    }

    /// Under which payload type redundant audio is taken.
    pub fn red(&self) -> Option<u8> {
        taken(self.red)
    }

    /// What another answer makes of these. A payload type has one meaning for as long as a
    /// connection lasts (RFC 3264, section 8.3.2): a codec that has another than before is not
    /// sent any more, as its packets could be repeated differently under one SRTP index.
    pub fn renegotiated(self, answered: PayloadTypes) -> PayloadTypes {
        let keep = |before: u8, now: u8| match before {
            NOT_TAKEN => now,
            before if before == now => now,
            _ => NOT_TAKEN,
        };
        let mut result = answered;
        for (now, before) in result.media.iter_mut().zip(self.media) {
            *now = keep(before, *now);
        }
        result.red = keep(self.red, answered.red);
        result
    }

    /// Whether the retransmissions of any codec are taken.
    pub fn has_rtx(&self) -> bool {
        self.rtx.iter().any(|&rtx| taken(rtx).is_some())
    }

    /// The codecs that are taken, in the order of [`Codec::ALL`].
    pub fn codecs(&self) -> impl Iterator<Item = Codec> {
        Codec::ALL
            .into_iter()
            .filter(|codec| self.media(*codec).is_some())
    }
}

fn taken(payload_type: u8) -> Option<u8> {
    (payload_type != NOT_TAKEN).then_some(payload_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_codec_is_at_its_index_with_payload_types_of_its_own() {
        let mut used = vec![RED_PAYLOAD_TYPE];
        for (index, codec) in Codec::ALL.into_iter().enumerate() {
            assert_eq!(codec.index(), index);
            used.push(codec.payload_type());
            used.extend(codec.rtx_payload_type());
        }
        // RFC 5761, section 4: 64 to 95 would be taken for RTCP.
        assert!(used.iter().all(|pt| *pt < 64 || (96..128).contains(pt)));
        let count = used.len();
        used.sort_unstable();
        used.dedup();
        assert_eq!(used.len(), count);
    }

    #[test]
    fn every_decoder_decodes_its_own_format_first() {
        for codec in Codec::ALL {
            assert_eq!(codec.decoded_by().next(), Some(codec));
            assert!(codec.decoded_by().all(|by| by.kind() == codec.kind()));
        }
        assert_eq!(Codec::Vp8.decoded_by().count(), 1);
        let constrained_high = Codec::H264(H264Format {
            profile: H264Profile::ConstrainedHigh,
            packetization: Packetization::NonInterleaved,
        });
        let profiles: Vec<Codec> = constrained_high.decoded_by().collect();
        assert_eq!(profiles.len(), 2);
        assert!(!profiles.contains(&Codec::H264(H264Format::USUAL)));
    }

    #[test]
    fn codecs_are_found_by_name() {
        assert_eq!(
            Codec::named("video/h264"),
            Some(Codec::H264(H264Format::USUAL))
        );
        assert_eq!(Codec::named("OPUS"), Some(Codec::Opus));
        assert_eq!(Codec::named("pcma"), Some(Codec::Pcma));
        assert_eq!(Codec::named(""), None);
        assert_eq!(Codec::named("video/"), None);
    }
}
