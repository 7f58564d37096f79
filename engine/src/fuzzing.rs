//! What the fuzz targets of `tests/fuzz` call: each function hands arbitrary bytes to one
//! parser and checks what holds whatever they are. That none panics is checked by running them.
//!
//! A test runs each function on its target's seeds, so that the targets keep compiling and the
//! inputs that once failed keep passing.

pub(crate) mod pieces;

use std::time::Instant;

use crate::api::codec::{Codec, H264Format, RED_PAYLOAD_TYPE};
use crate::api::command::HeaderExtension;
use crate::fuzzing::pieces::pieces;
pub use crate::transport::fuzzing::{client_hello, data_channels, dtls, stun};
use crate::wire::payload::reader::LayerReader;
use crate::wire::payload::{counters, patch_counters};
use crate::wire::red_payload::{self, RedPayload};
use crate::wire::rtcp::{self, RtcpPacket, TransportFeedback};
use crate::wire::rtp::extensions::{
    self, ExtensionMap, HeaderTemplate, ReceivedExtensions, patch_transport_sequence, write_header,
};
use crate::wire::rtp::header::RtpHeader;

/// Bytes of the fixed RTP header (RFC 3550, section 5.1).
const FIXED_HEADER: usize = 12;
/// The largest datagram on an Ethernet path, in bytes.
const MTU: usize = 1_500;
/// Extensions under the ids 1 to 9, as a publisher may have offered them.
const EXTENSIONS: [(u8, HeaderExtension); 9] = [
    (1, HeaderExtension::Mid),
    (2, HeaderExtension::Rid),
    (3, HeaderExtension::RepairedRid),
    (4, HeaderExtension::AudioLevel),
    (5, HeaderExtension::TransportCc),
    (6, HeaderExtension::DependencyDescriptor),
    (7, HeaderExtension::AbsCaptureTime),
    (8, HeaderExtension::VideoOrientation),
    (9, HeaderExtension::PlayoutDelay),
];

/// An RTP packet with header extensions, and the header that its subscribers get.
pub fn rtp(packet: &[u8]) {
    let Some(header) = RtpHeader::parse(packet) else {
        return;
    };
    assert!((FIXED_HEADER..=packet.len()).contains(&header.header_len));
    if let Some(payload) = header.payload(packet) {
        assert!(header.header_len + payload.len() <= packet.len());
    }
    let received = ReceivedExtensions::read(&header, packet, &ExtensionMap::new(&EXTENSIONS));
    let template = HeaderTemplate {
        payload_type: header.payload_type,
        marker: header.marker,
    };
    let mut out = [0; MTU];
    let len = write_header(&mut out, &template, &received);
    patch_transport_sequence(&mut out, 0xabcd);
    let written = RtpHeader::parse(&out[..len]).expect("the header that was written");
    assert_eq!(written.header_len, len);
    let descriptor = extensions::dependency_descriptor(&out[..len]);
    assert!(descriptor.is_none() || descriptor == received.dependency_descriptor);
}

/// A compound of RTCP packets.
pub fn rtcp(compound: &[u8]) {
    for packet in rtcp::packets(compound) {
        match packet {
            RtcpPacket::SenderReport { reports, .. } | RtcpPacket::ReceiverReport { reports } => {
                assert!(reports.count() <= 31);
            }
            RtcpPacket::Nack { sequences, .. } => {
                assert!(sequences.count() <= 17 * (compound.len() / 4));
            }
            RtcpPacket::FullIntraRequest { media } => {
                assert!(media.count() <= compound.len() / 8);
            }
            RtcpPacket::TransportFeedback(feedback) => read_feedback(&feedback),
            RtcpPacket::PictureLoss { .. } | RtcpPacket::Remb { .. } | RtcpPacket::Other => {}
        }
    }
}

/// A transport-wide congestion control feedback: `body` is put behind the header of its RTCP
/// packet.
pub fn transport_cc(body: &[u8]) {
    let words = body.len() / 4;
    let mut packet = vec![0x8f, 205];
    packet.extend_from_slice(&(words as u16).to_be_bytes());
    packet.extend_from_slice(&body[..4 * words]);
    rtcp(&packet);
}

fn read_feedback(feedback: &TransportFeedback<'_>) {
    let _ = feedback.reference(None);
    let _ = feedback.reference(Some(i64::MAX / 1_024));
    assert!(feedback.packets().count() <= usize::from(u16::MAX));
}

/// A stream of VP8 payloads.
pub fn vp8(input: &[u8]) {
    video(Codec::Vp8, input);
}

/// A stream of VP9 payloads.
pub fn vp9(input: &[u8]) {
    video(Codec::Vp9, input);
}

/// A stream of H.264 payloads.
pub fn h264(input: &[u8]) {
    video(Codec::H264(H264Format::USUAL), input);
}

/// A stream of AV1 payloads, each after its dependency descriptor.
pub fn av1(input: &[u8]) {
    let mut reader = LayerReader::default();
    let mut pieces = pieces(input).zip(0u64..);
    while let (Some((descriptor, sequence)), payload) = (pieces.next(), pieces.next()) {
        let payload = payload.map_or(&[0x10][..], |(payload, _)| payload);
        let timestamp = sequence as u32 * 3_000;
        reader.read(
            Codec::Av1,
            sequence / 2,
            timestamp,
            payload,
            Some(descriptor),
        );
    }
}

fn video(codec: Codec, input: &[u8]) {
    let mut reader = LayerReader::default();
    for (payload, sequence) in pieces(input).zip(0u64..) {
        reader.read(codec, sequence, sequence as u32 * 1_500, payload, None);
        let found = counters(codec, payload);
        let mut copy = payload.to_vec();
        patch_counters(codec, &mut copy, &found);
        assert_eq!(copy, payload, "counters that are put back change nothing");
    }
}

/// A RED payload (RFC 2198).
pub fn red(payload: &[u8]) {
    let parsed = RedPayload::parse(payload);
    assert_eq!(parsed.is_some(), red_payload::own_frame(payload).is_some());
    if let Some(parsed) = parsed {
        let earlier: usize = parsed.earlier().map(|(_, block)| block.frame.len()).sum();
        assert!(earlier <= payload.len());
    }
    let mut packet = vec![0; FIXED_HEADER];
    packet[0] = 0x80;
    packet[1] = RED_PAYLOAD_TYPE;
    packet.extend_from_slice(payload);
    if let Some(len) = red_payload::primary_len(&packet, FIXED_HEADER) {
        let mut out = vec![0; len];
        red_payload::strip(&packet, FIXED_HEADER, &mut out).expect("a packet that has a length");
    }
}

/// What a target runs on each input.
pub type Target = fn(Instant, &[u8]);

/// The functions by the names of their targets.
pub const TARGETS: [(&str, Target); 12] = [
    ("stun", stun),
    ("client_hello", |_, input| client_hello(input)),
    ("dtls", dtls),
    ("data_channels", data_channels),
    ("rtp", |_, input| rtp(input)),
    ("rtcp", |_, input| rtcp(input)),
    ("transport_cc", |_, input| transport_cc(input)),
    ("vp8", |_, input| vp8(input)),
    ("vp9", |_, input| vp9(input)),
    ("h264", |_, input| h264(input)),
    ("av1", |_, input| av1(input)),
    ("red", |_, input| red(input)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_passes() {
        for (name, run) in TARGETS {
            let folder = format!("{}/../tests/fuzz/seeds/{name}", env!("CARGO_MANIFEST_DIR"));
            let seeds = std::fs::read_dir(&folder).expect(&folder);
            let mut count = 0;
            for seed in seeds {
                run(
                    crate::test_clock::start(),
                    &std::fs::read(seed.unwrap().path()).unwrap(),
                );
                count += 1;
            }
            assert!(count > 0, "no seed in {folder}");
        }
    }
}
