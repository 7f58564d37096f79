//! RTP padding (RFC 3550, section 5.1) that makes packets of nearly the same size equal, so that
//! the kernel sends them as one run.

use crate::api::codec::MediaKind;

/// Sizes of packets are rounded up to a multiple of this, bytes. Encoders split a video frame
/// into packets that differ by a few bytes; those of a voice differ by dozens, and there are
/// many of them.
const VIDEO_SIZE_STEP: usize = 16;
const AUDIO_SIZE_STEP: usize = 32;
/// A packet that would become larger than this is not rounded up: it has to fit the path.
const LARGEST_PADDED: usize = 1_216;
/// In a header's first byte (RFC 3550, section 5.1).
pub(crate) const PADDING_BIT: u8 = 0x20;

/// Makes a packet's length a multiple of a step, by RTP padding (RFC 3550, section 5.1), so that
/// packets of nearly the same size become ones of the same size, which the kernel sends as one
/// run. It is done before the packet is cached: what is sent again under the same index must
/// be the same to the last byte. Returns the new length.
pub(crate) fn pad(packet: &mut [u8], header_len: usize, len: usize, kind: MediaKind) -> usize {
    let padded = padded_len(header_len, len, kind);
    if padded == len {
        return len;
    }
    packet[0] |= PADDING_BIT;
    packet[len..padded].fill(0);
    packet[padded - 1] = (padded - len) as u8;
    padded
}

/// The length that [`pad`] gives a packet.
pub(crate) fn padded_len(header_len: usize, len: usize, kind: MediaKind) -> usize {
    let step = match kind {
        MediaKind::Audio => AUDIO_SIZE_STEP,
        MediaKind::Video => VIDEO_SIZE_STEP,
    };
    let padded = len.next_multiple_of(step);
    // A packet without payload says by that what it is.
    if len == header_len || padded > LARGEST_PADDED {
        return len;
    }
    padded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rtp::header::RtpHeader;

    #[test]
    fn padding_rounds_the_size_up_and_counts_itself() {
        let mut packet = [0x80; 64];
        assert_eq!(pad(&mut packet, 12, 40, MediaKind::Video), 48);
        assert_eq!(packet[0], 0xa0);
        assert_eq!(packet[40..48], [0, 0, 0, 0, 0, 0, 0, 8]);
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(header.payload(&packet[..48]).map(<[u8]>::len), Some(28));
    }

    #[test]
    fn what_has_the_size_already_or_no_payload_is_not_padded() {
        let mut packet = [0x80; 2_048];
        for (header_len, len) in [(12, 64), (12, 12), (12, 1_220)] {
            assert_eq!(pad(&mut packet, header_len, len, MediaKind::Audio), len);
        }
        assert_eq!(packet[0], 0x80);
    }
}
