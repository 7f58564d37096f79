//! The payload of redundant audio (RED, RFC 2198): the frames of earlier packets, and its own.

use super::padding::{PADDING_BIT, pad, padded_len};
use super::rtp::extensions::patch_payload_type;
use super::rtp::header::RtpHeader;
use crate::api::codec::{Codec, MediaKind, RED_PAYLOAD_TYPE};

/// Frames of earlier packets that one packet may carry.
const MAX_REDUNDANT: usize = 8;

/// The frame of an earlier packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Redundant<'a> {
    /// How far its timestamp is behind the packet's.
    pub(crate) offset: u32,
    pub(crate) frame: &'a [u8],
}

/// What a payload carries.
#[derive(Debug)]
pub(crate) struct RedPayload<'a> {
    /// Oldest first; the last is that of the packet just before.
    redundant: [Redundant<'a>; MAX_REDUNDANT],
    count: usize,
    primary: &'a [u8],
}

impl<'a> RedPayload<'a> {
    pub(crate) fn parse(payload: &'a [u8]) -> Option<RedPayload<'a>> {
        let mut lengths = [(0u32, 0usize); MAX_REDUNDANT];
        let mut count = 0;
        let mut rest = payload;
        // Block headers of four bytes; the last one, of the primary frame, has one byte.
        while rest.first()? & 0x80 != 0 {
            let (&[_, high, middle, low], after) = rest.split_first_chunk::<4>()?;
            let fields = u32::from_be_bytes([0, high, middle, low]);
            *lengths.get_mut(count)? = (fields >> 10, (fields & 0x3ff) as usize);
            count += 1;
            rest = after;
        }
        rest = &rest[1..];
        let mut redundant = [Redundant::default(); MAX_REDUNDANT];
        for (block, &(offset, len)) in redundant.iter_mut().zip(&lengths[..count]) {
            let (frame, after) = rest.split_at_checked(len)?;
            *block = Redundant { offset, frame };
            rest = after;
        }
        Some(RedPayload {
            redundant,
            count,
            primary: rest,
        })
    }

    /// The frames of earlier packets, with how many packets ago they were sent; oldest first.
    pub(crate) fn earlier(&self) -> impl Iterator<Item = (u64, Redundant<'a>)> {
        let blocks = self.redundant[..self.count].iter().copied();
        blocks
            .enumerate()
            .map(|(index, block)| ((self.count - index) as u64, block))
            .filter(|(_, block)| !block.frame.is_empty() && block.offset > 0)
    }
}

/// What a packet in its cached form has of redundant audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redundancy {
    /// Nothing: it is not RED.
    None,
    /// It is RED. Stripped of it, it has this length in bytes.
    Strippable(usize),
    /// It is RED, of which the frames are encrypted end to end.
    Sealed,
}

impl Redundancy {
    /// Reads it from a cached packet of a track that may be encrypted end to end.
    pub(crate) fn of(packet: &[u8], header_len: usize, encrypted: bool) -> Redundancy {
        let is_red = packet
            .get(1)
            .is_some_and(|byte| byte & 0x7f == RED_PAYLOAD_TYPE);
        match primary_len(packet, header_len) {
            _ if encrypted && is_red => Redundancy::Sealed,
            Some(len) => Redundancy::Strippable(len),
            None => Redundancy::None,
        }
    }
}

/// The frame that a payload carries as its own, which may be empty; `None` when it is not RED.
pub(crate) fn own_frame(payload: &[u8]) -> Option<&[u8]> {
    Some(RedPayload::parse(payload)?.primary)
}

/// The frame that a packet in its cached form carries as its own; `None` when it is not RED.
fn primary(packet: &[u8]) -> Option<&[u8]> {
    let header = RtpHeader::parse(packet)?;
    if header.payload_type != RED_PAYLOAD_TYPE {
        return None;
    }
    own_frame(header.payload(packet)?)
}

/// The length in bytes that a cached packet has when it is stripped of its redundancy; `None` when it
/// is not RED.
pub(crate) fn primary_len(packet: &[u8], header_len: usize) -> Option<usize> {
    let len = header_len + primary(packet)?.len();
    Some(padded_len(header_len, len, MediaKind::Audio))
}

/// Writes a cached RED packet as plain Opus, for subscribers that do not take RED. The result is the
/// same to the last byte each time, as it may be sent again under the same SRTP index.
pub(crate) fn strip(packet: &[u8], header_len: usize, out: &mut [u8]) -> Option<()> {
    let frame = primary(packet)?;
    let len = header_len + frame.len();
    out.get_mut(..header_len)?
        .copy_from_slice(packet.get(..header_len)?);
    out.get_mut(header_len..len)?.copy_from_slice(frame);
    out[0] &= !PADDING_BIT;
    patch_payload_type(out, Codec::Opus.payload_type());
    pad(out, header_len, len, MediaKind::Audio);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two earlier frames and its own.
    fn payload() -> Vec<u8> {
        let mut payload = Vec::new();
        for (offset, len) in [(1_920u32, 3u32), (960, 2)] {
            let fields = (0x80 | 111) << 24 | offset << 10 | len;
            payload.extend(fields.to_be_bytes());
        }
        payload.push(111);
        payload.extend(b"aaabbcccc");
        payload
    }

    fn packet(padding: u8) -> Vec<u8> {
        let mut packet = vec![0x80, 0x80 | RED_PAYLOAD_TYPE, 0, 9, 0, 0, 0, 5, 0, 0, 0, 7];
        packet.extend(payload());
        if padding > 0 {
            packet[0] |= PADDING_BIT;
            packet.extend(vec![0; usize::from(padding) - 1]);
            packet.push(padding);
        }
        packet
    }

    #[test]
    pub(crate) fn earlier_frames_are_found_with_their_places() {
        let payload = payload();
        let red = RedPayload::parse(&payload).unwrap();
        assert_eq!(red.primary, b"cccc");
        let earlier: Vec<_> = red.earlier().map(|(n, r)| (n, r.offset, r.frame)).collect();
        assert_eq!(earlier, [(2, 1_920, &b"aaa"[..]), (1, 960, &b"bb"[..])]);
    }

    #[test]
    fn who_does_not_take_it_gets_the_packets_own_frame() {
        for padding in [0, 7] {
            let packet = packet(padding);
            let len = primary_len(&packet, 12).unwrap();
            let mut out = vec![0xff; len];
            strip(&packet, 12, &mut out).unwrap();
            let header = RtpHeader::parse(&out).unwrap();
            assert_eq!(header.payload_type, Codec::Opus.payload_type());
            assert!(header.marker);
            assert_eq!((header.sequence, header.timestamp, header.ssrc), (9, 5, 7));
            assert_eq!(header.payload(&out), Some(&b"cccc"[..]));
        }
    }

    #[test]
    fn what_is_not_red_is_left_alone() {
        let mut packet = packet(0);
        patch_payload_type(&mut packet, Codec::Opus.payload_type());
        assert_eq!(primary_len(&packet, 12), None);
    }

    #[test]
    fn truncated_and_endless_payloads_are_refused() {
        let whole = payload();
        for len in 0..14 {
            assert_eq!(own_frame(&whole[..len]), None, "{len} bytes");
        }
        assert_eq!(own_frame(&whole[..14]), Some(&[][..]));
        assert_eq!(own_frame(&[0x80 | 111; 400]), None, "only block headers");
    }
}
