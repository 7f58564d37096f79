//! Writing the m-lines of an offer to a subscriber.

use std::fmt::Write as _;

use super::feedback::REMB;
use super::send_track::SendTrack;
use super::{LocalEndpoint, SdpToken, codecs, extensions};
use moim_engine::codec::{Codec, H264Format, MediaKind, Packetization, RED_PAYLOAD_TYPE};

/// Video that every m-line offers, so that a track may change among them without another offer.
const USUAL_VIDEO: [Codec; 5] = [
    Codec::Vp8,
    Codec::H264(H264Format::USUAL),
    Codec::H264(H264Format {
        packetization: Packetization::SingleNalUnit,
        ..H264Format::USUAL
    }),
    Codec::Vp9,
    Codec::Av1,
];
/// Audio that every m-line offers.
const USUAL_AUDIO: [Codec; 1] = [Codec::Opus];

/// The codecs of an m-line: those of its track first.
pub(super) fn offered_codecs(kind: MediaKind, track: Option<&SendTrack>) -> Vec<Codec> {
    let usual: &[Codec] = match kind {
        MediaKind::Audio => &USUAL_AUDIO,
        MediaKind::Video => &USUAL_VIDEO,
    };
    let of_track = track.map_or(&[][..], |track| &track.codecs);
    let mut offered: Vec<Codec> = Vec::new();
    for &codec in of_track.iter().chain(usual) {
        if codec.kind() == kind && !offered.contains(&codec) {
            offered.push(codec);
        }
    }
    offered
}

/// Writes the m-line of a track, or of none.
pub(super) fn write_section(
    out: &mut String,
    local: &LocalEndpoint,
    kind: MediaKind,
    mid: usize,
    setup: &str,
    track: Option<(&SendTrack, &SdpToken)>,
) {
    let offered = offered_codecs(kind, track.map(|(track, _)| track));
    let redundant = kind == MediaKind::Audio;
    let name = match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video => "video",
    };
    let _ = write!(out, "m={name} 9 UDP/TLS/RTP/SAVPF");
    for codec in &offered {
        let _ = write!(out, " {}", codec.payload_type());
        if let Some(rtx) = codec.rtx_payload_type() {
            let _ = write!(out, " {rtx}");
        }
    }
    if redundant {
        let _ = write!(out, " {RED_PAYLOAD_TYPE}");
    }
    let _ = write!(out, "\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\n");
    local.write_transport(out, setup);
    out.push_str("a=rtcp-mux\r\na=rtcp-rsize\r\n");
    let stereo = track.is_some_and(|(track, _)| track.stereo);
    for codec in offered {
        write_codec(out, codec, stereo);
    }
    if redundant {
        let (red, opus) = (RED_PAYLOAD_TYPE, Codec::Opus.payload_type());
        let _ = write!(
            out,
            "a=rtpmap:{red} {}\r\na=fmtp:{red} {opus}/{opus}\r\n",
            codecs::RED
        );
    }
    for (id, name) in extensions::offered(kind) {
        let _ = write!(out, "a=extmap:{id} {name}\r\n");
    }
    match track {
        Some((track, stream_id)) => write_track(out, track, stream_id),
        None => out.push_str("a=inactive\r\n"),
    }
}

fn write_codec(out: &mut String, codec: Codec, stereo: bool) {
    let number = codec.payload_type();
    let _ = write!(out, "a=rtpmap:{number} {}\r\n", codecs::rtpmap(codec));
    if let Some(fmtp) = codecs::fmtp(codec, stereo) {
        let _ = write!(out, "a=fmtp:{number} {fmtp}\r\n");
    }
    let remb = (codec.kind() == MediaKind::Video).then_some(REMB);
    for feedback in codecs::feedback(codec).iter().copied().chain(remb) {
        let _ = write!(out, "a=rtcp-fb:{number} {feedback}\r\n");
    }
    if let Some(rtx) = codec.rtx_payload_type() {
        let _ = write!(
            out,
            "a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={number}\r\n"
        );
    }
}

fn write_track(out: &mut String, track: &SendTrack, stream_id: &SdpToken) {
    let SendTrack {
        track_id,
        ssrc,
        rtx_ssrc,
        ..
    } = track;
    let _ = write!(out, "a=sendonly\r\na=msid:{stream_id} {track_id}\r\n");
    if let Some(rtx) = rtx_ssrc {
        let _ = write!(out, "a=ssrc-group:FID {ssrc} {rtx}\r\n");
    }
    for ssrc in [Some(ssrc), rtx_ssrc.as_ref()].into_iter().flatten() {
        let _ = write!(
            out,
            "a=ssrc:{ssrc} cname:{stream_id}\r\na=ssrc:{ssrc} msid:{stream_id} {track_id}\r\n"
        );
    }
}
