//! Which of a peer's payload types are codecs that we forward.

use super::sdp::Section;
use moim_engine::codec::Codec;
use moim_engine::command::Payload;

/// Feedback on the arrival of each packet of a connection
/// (draft-holmer-rmcat-transport-wide-cc-extensions-01).
pub(super) const TRANSPORT_CC: &str = "transport-cc";
/// The receiver's own estimate (draft-alvestrand-rmcat-remb-03), from those without the former.
pub(super) const REMB: &str = "goog-remb";

/// Encoding name and clock of redundant audio (RFC 2198).
pub(super) const RED: &str = "red/48000/2";

/// A payload type of an m-line that means something here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Format<'a> {
    pub(super) payload_type: u8,
    pub(super) payload: Payload,
    pub(super) rtpmap: &'a str,
    pub(super) fmtp: Option<&'a str>,
}

/// The formats of an m-line that are known, in its order; each codec once, with its
/// retransmissions.
pub(super) fn known_formats<'a>(section: &Section<'a>) -> Vec<Format<'a>> {
    let all: Vec<Format<'a>> = section
        .formats
        .iter()
        .filter_map(|format| {
            let payload_type: u8 = format.parse().ok().filter(|number| *number < 128)?;
            let rtpmap = parameter(section, "rtpmap", format)?;
            let fmtp = parameter(section, "fmtp", format);
            let payload = Payload::Media(codec(rtpmap, fmtp.unwrap_or(""))?);
            Some(Format {
                payload_type,
                payload,
                rtpmap,
                fmtp,
            })
        })
        .collect();
    let mut known: Vec<Format<'a>> = Vec::new();
    for format in all {
        if !known.iter().any(|other| other.payload == format.payload) {
            known.push(format);
        }
    }
    known.extend(red_format(section, &known));
    let repairs: Vec<Format<'a>> = section
        .formats
        .iter()
        .filter_map(|format| {
            let payload_type: u8 = format.parse().ok().filter(|number| *number < 128)?;
            let rtpmap = parameter(section, "rtpmap", format)?;
            if !rtpmap.to_ascii_lowercase().starts_with("rtx/") {
                return None;
            }
            let fmtp = parameter(section, "fmtp", format)?;
            let apt: u8 = fmtp_value(fmtp, "apt")?.parse().ok()?;
            let media = known.iter().find(|media| media.payload_type == apt)?;
            let Payload::Media(codec) = media.payload else {
                return None;
            };
            Some(Format {
                payload_type,
                payload: Payload::Rtx(codec),
                rtpmap,
                fmtp: Some(fmtp),
            })
        })
        .collect();
    known.extend(repairs);
    known
}

/// The format of redundant audio (RFC 2198), when all of its frames are Opus.
fn red_format<'a>(section: &Section<'a>, known: &[Format<'a>]) -> Option<Format<'a>> {
    let opus = known
        .iter()
        .find(|format| format.payload == Payload::Media(Codec::Opus))?;
    section.formats.iter().find_map(|format| {
        let payload_type: u8 = format.parse().ok().filter(|number| *number < 128)?;
        let rtpmap = parameter(section, "rtpmap", format)?;
        let fmtp = parameter(section, "fmtp", format)?;
        let all_opus = fmtp
            .split('/')
            .all(|of| of.trim().parse() == Ok(opus.payload_type));
        (rtpmap.eq_ignore_ascii_case(RED) && all_opus).then_some(Format {
            payload_type,
            payload: Payload::Red,
            rtpmap,
            fmtp: Some(fmtp),
        })
    })
}

/// The value of `a=NAME:FORMAT value`.
fn parameter<'a>(section: &Section<'a>, name: &'static str, format: &str) -> Option<&'a str> {
    section
        .values(name)
        .filter_map(|value| value.split_once(' '))
        .find(|(of, _)| *of == format)
        .map(|(_, value)| value.trim())
}

/// One parameter of a format.
pub(super) fn fmtp_value<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

fn codec(rtpmap: &str, fmtp: &str) -> Option<Codec> {
    let profile = |name| fmtp_value(fmtp, name).unwrap_or("0");
    match rtpmap.to_ascii_lowercase().as_str() {
        "opus/48000/2" => Some(Codec::Opus),
        "vp8/90000" => Some(Codec::Vp8),
        "vp9/90000" if profile("profile-id") == "0" => Some(Codec::Vp9),
        "av1/90000" if profile("profile") == "0" => Some(Codec::Av1),
        "h264/90000" => {
            // Constrained baseline (RFC 6184, section 8.1): what every decoder has.
            let level = fmtp_value(fmtp, "profile-level-id")?.to_ascii_lowercase();
            if !level.starts_with("42e0") {
                return None;
            }
            match profile("packetization-mode") {
                "1" => Some(Codec::H264),
                _ => Some(Codec::H264Single),
            }
        }
        _ => None,
    }
}

/// The encoding name and clock of a codec towards subscribers.
pub(super) fn rtpmap(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "opus/48000/2",
        Codec::Vp8 => "VP8/90000",
        Codec::Vp9 => "VP9/90000",
        Codec::H264 | Codec::H264Single => "H264/90000",
        Codec::Av1 => "AV1/90000",
    }
}

/// The parameters of a codec towards subscribers.
pub(super) fn fmtp(codec: Codec) -> Option<&'static str> {
    match codec {
        Codec::Opus => Some("minptime=10;useinbandfec=1"),
        Codec::Vp8 => None,
        Codec::Vp9 => Some("profile-id=0"),
        Codec::H264 => {
            Some("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f")
        }
        Codec::H264Single => {
            Some("level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f")
        }
        Codec::Av1 => Some("level-idx=5;profile=0;tier=0"),
    }
}

/// Whether an m-line says that its sender gives or takes this feedback on a format.
pub(super) fn takes_feedback(section: &Section<'_>, format: &Format<'_>, feedback: &str) -> bool {
    section
        .values("rtcp-fb")
        .filter_map(|value| value.split_once(' '))
        .filter(|(of, _)| *of == "*" || of.parse() == Ok(format.payload_type))
        .any(|(_, named)| named.trim() == feedback)
}

/// The RTCP feedback about a codec that we understand and, from publishers, ask for.
pub(super) fn feedback(codec: Codec) -> &'static [&'static str] {
    match codec {
        Codec::Opus => &["nack", TRANSPORT_CC],
        _ => &["nack", "nack pli", "ccm fir", TRANSPORT_CC],
    }
}
