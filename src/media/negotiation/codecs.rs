//! Which of a peer's payload types are codecs that we forward.

use super::feedback::TRANSPORT_CC;
use super::grammar::FormatParameters;
use super::sdp::Section;
use moim_engine::codec::{Codec, H264Format, H264Profile, MediaKind, Packetization};
use moim_engine::command::Payload;

/// Encoding name and clock of redundant audio (RFC 2198).
pub(super) const RED: &str = "red/48000/2";

/// A payload type of an m-line that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format<'a> {
    pub(super) payload_type: u8,
    pub(super) payload: Payload,
    /// As we spell it: clients compare without regard to case (RFC 8866, section 6.6).
    pub(super) rtpmap: &'static str,
    pub(super) fmtp: Option<FormatParameters<'a>>,
}

impl Format<'_> {
    /// The codec, when it is of media as such.
    pub(super) fn media(&self) -> Option<Codec> {
        match self.payload {
            Payload::Media(codec) => Some(codec),
            Payload::Rtx(_) | Payload::Red => None,
        }
    }
}

/// The formats of an m-line that are known, in its order; each codec once, with its
/// retransmissions behind all of them.
pub(super) fn known_formats<'a>(section: &Section<'a>) -> Vec<Format<'a>> {
    let mut known: Vec<Format<'a>> = Vec::new();
    let mut found = [false; Codec::COUNT];
    for payload_type in section.payload_types() {
        let attributes = section.payload(payload_type);
        let rtpmap = attributes.rtpmap.or_else(|| static_rtpmap(payload_type));
        let fmtp = attributes.fmtp;
        let Some(codec) = rtpmap.and_then(|rtpmap| codec(rtpmap, fmtp)) else {
            continue;
        };
        if !std::mem::replace(&mut found[codec.index()], true) {
            known.push(Format {
                payload_type,
                payload: Payload::Media(codec),
                rtpmap: self::rtpmap(codec),
                fmtp,
            });
        }
    }
    let media = known.len();
    known.extend(red_format(section, &known));
    let mut repaired = [false; Codec::COUNT];
    for payload_type in section.payload_types() {
        let repair = repair_format(section, payload_type, &known[..media]);
        if let Some((codec, format)) = repair
            && !std::mem::replace(&mut repaired[codec.index()], true)
        {
            known.push(format);
        }
    }
    known
}

/// The format of redundant audio (RFC 2198), when all of its frames are Opus.
fn red_format<'a>(section: &Section<'a>, known: &[Format<'a>]) -> Option<Format<'a>> {
    let opus = known
        .iter()
        .find(|format| format.media() == Some(Codec::Opus))?;
    section.payload_types().find_map(|payload_type| {
        let attributes = section.payload(payload_type);
        let fmtp = attributes.fmtp?;
        let all_opus = || {
            let frames = fmtp.iter().next().unwrap_or("");
            frames
                .split('/')
                .all(|of| of.trim().parse() == Ok(opus.payload_type))
        };
        let is_red = attributes.rtpmap?.eq_ignore_ascii_case(RED) && all_opus();
        is_red.then_some(Format {
            payload_type,
            payload: Payload::Red,
            rtpmap: RED,
            fmtp: Some(fmtp),
        })
    })
}

/// The format of the retransmissions of one of the known formats (RFC 4588).
fn repair_format<'a>(
    section: &Section<'a>,
    payload_type: u8,
    known: &[Format<'a>],
) -> Option<(Codec, Format<'a>)> {
    let attributes = section.payload(payload_type);
    let (name, _) = attributes.rtpmap?.split_once('/')?;
    if !name.eq_ignore_ascii_case("rtx") {
        return None;
    }
    let fmtp = attributes.fmtp?;
    let apt: u8 = fmtp.value("apt")?.parse().ok()?;
    let media = known.iter().find(|media| media.payload_type == apt)?;
    let codec = media.media()?;
    let rtpmap = match codec.kind() {
        MediaKind::Audio => return None,
        MediaKind::Video => "rtx/90000",
    };
    let format = Format {
        payload_type,
        payload: Payload::Rtx(codec),
        rtpmap,
        fmtp: Some(fmtp),
    };
    Some((codec, format))
}

/// What a payload type stands for without `a=rtpmap` (RFC 3551, section 6).
fn static_rtpmap(payload_type: u8) -> Option<&'static str> {
    [Codec::Pcmu, Codec::Pcma]
        .into_iter()
        .find(|codec| codec.payload_type() == payload_type)
        .map(rtpmap)
}

fn codec(text: &str, fmtp: Option<FormatParameters<'_>>) -> Option<Codec> {
    let parameter = |name| fmtp?.value(name);
    let is = |codec| {
        let known = rtpmap(codec);
        // The one channel of a mono codec may be said (RFC 8866, section 6.6).
        let said = text.strip_suffix("/1").unwrap_or(text);
        known.eq_ignore_ascii_case(text) || known.eq_ignore_ascii_case(said)
    };
    let plain = [Codec::Opus, Codec::Pcmu, Codec::Pcma, Codec::Vp8];
    if let Some(codec) = plain.into_iter().find(|codec| is(*codec)) {
        return Some(codec);
    }
    if is(Codec::Vp9) {
        return (parameter("profile-id").unwrap_or("0") == "0").then_some(Codec::Vp9);
    }
    if is(Codec::Av1) {
        return (parameter("profile").unwrap_or("0") == "0").then_some(Codec::Av1);
    }
    if is(Codec::H264(H264Format::USUAL)) {
        // RFC 6184, section 8.1: without it, baseline.
        let profile = h264_profile(parameter("profile-level-id").unwrap_or("42000a"))?;
        let packetization = match parameter("packetization-mode").unwrap_or("0") {
            "0" => Packetization::SingleNalUnit,
            "1" => Packetization::NonInterleaved,
            _ => return None,
        };
        return Some(Codec::H264(H264Format {
            profile,
            packetization,
        }));
    }
    None
}

/// The profile that `profile-level-id` names by its first two bytes, of which the second has
/// flags of constraints (RFC 6184, section 8.1, table 5).
fn h264_profile(level_id: &str) -> Option<H264Profile> {
    if level_id.len() != 6 {
        return None;
    }
    let [_, profile, flags, _] = u32::from_str_radix(level_id, 16).ok()?.to_be_bytes();
    match (profile, flags) {
        (0x42, flags) if flags & 0x4f == 0x40 => Some(H264Profile::ConstrainedBaseline),
        (0x4d, flags) if flags & 0x8f == 0x80 => Some(H264Profile::ConstrainedBaseline),
        (0x58, flags) if flags & 0xcf == 0xc0 => Some(H264Profile::ConstrainedBaseline),
        (0x42, flags) if flags & 0x4f == 0x00 => Some(H264Profile::Baseline),
        (0x58, flags) if flags & 0xcf == 0x80 => Some(H264Profile::Baseline),
        (0x4d, flags) if flags & 0xaf == 0x00 => Some(H264Profile::Main),
        (0x64, 0x00) => Some(H264Profile::High),
        (0x64, 0x0c) => Some(H264Profile::ConstrainedHigh),
        _ => None,
    }
}

/// How early an H.264 format stands among those that a publisher may use: what most subscribers
/// decode first. 0 for other codecs.
pub(super) fn reach(codec: Codec) -> usize {
    match codec {
        Codec::H264(_) => codec.index(),
        _ => 0,
    }
}

/// The encoding name and clock of a codec.
pub(super) fn rtpmap(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "opus/48000/2",
        Codec::Pcmu => "PCMU/8000",
        Codec::Pcma => "PCMA/8000",
        Codec::Vp8 => "VP8/90000",
        Codec::Vp9 => "VP9/90000",
        Codec::H264(_) => "H264/90000",
        Codec::Av1 => "AV1/90000",
    }
}

/// The parameters of a codec towards subscribers.
pub(super) fn fmtp(codec: Codec, stereo: bool) -> Option<String> {
    match codec {
        Codec::Opus if stereo => {
            Some("minptime=10;useinbandfec=1;sprop-stereo=1;stereo=1".to_owned())
        }
        Codec::Opus => Some("minptime=10;useinbandfec=1".to_owned()),
        Codec::Pcmu | Codec::Pcma | Codec::Vp8 => None,
        Codec::Vp9 => Some("profile-id=0".to_owned()),
        Codec::Av1 => Some("level-idx=5;profile=0;tier=0".to_owned()),
        Codec::H264(format) => {
            let mode = match format.packetization {
                Packetization::SingleNalUnit => 0,
                Packetization::NonInterleaved => 1,
            };
            // Level 3.1, as browsers say it; of high, 5.0 as the protocol's own server says it.
            // What is sent may have another (RFC 6184, section 8.2.2).
            let level_id = match format.profile {
                H264Profile::ConstrainedBaseline => "42e01f",
                H264Profile::Baseline => "42001f",
                H264Profile::Main => "4d001f",
                H264Profile::ConstrainedHigh => "640c1f",
                H264Profile::High => "640032",
            };
            Some(format!(
                "level-asymmetry-allowed=1;packetization-mode={mode};profile-level-id={level_id}"
            ))
        }
    }
}

/// Whether an m-line says that its sender gives or takes this feedback on a format.
pub(super) fn takes_feedback(section: &Section<'_>, format: &Format<'_>, feedback: &str) -> bool {
    section.payload(format.payload_type).feedback.has(feedback)
}

/// The RTCP feedback about a codec that we understand and, from publishers, ask for.
pub(super) fn feedback(codec: Codec) -> &'static [&'static str] {
    match codec.kind() {
        MediaKind::Audio => &["nack", TRANSPORT_CC],
        MediaKind::Video => &["nack", "nack pli", "ccm fir", TRANSPORT_CC],
    }
}
