//! The RTP header (RFC 3550, section 5.1) with its extension block (RFC 8285).

/// Profile of a block with one-byte extension headers.
const ONE_BYTE: u16 = 0xbede;
/// Profile of a block with two-byte extension headers; the low four bits are free.
const TWO_BYTE: u16 = 0x1000;

/// A parsed header. It points into the packet by offsets, so that the packet may be decrypted
/// in place meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct RtpHeader {
    /// Marker bit.
    pub marker: bool,
    /// Padding bit.
    pub padding: bool,
    /// Payload type.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp in the codec's clock.
    pub timestamp: u32,
    /// SSRC.
    pub ssrc: u32,
    /// Bytes before the payload: fixed part, CSRCs, extension block.
    pub header_len: usize,
    /// Profile, start and end of the extension block's data.
    extension: Option<(u16, usize, usize)>,
}

impl RtpHeader {
    /// `None` when the bytes are not an RTP packet.
    pub fn parse(packet: &[u8]) -> Option<RtpHeader> {
        let fixed: &[u8; 12] = packet.first_chunk()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let mut header_len = 12 + 4 * usize::from(fixed[0] & 0x0f);
        let mut extension = None;
        if fixed[0] & 0x10 != 0 {
            let block = packet.get(header_len..)?;
            let [p0, p1, l0, l1] = *block.first_chunk::<4>()?;
            let start = header_len + 4;
            let end = start + 4 * usize::from(u16::from_be_bytes([l0, l1]));
            extension = Some((u16::from_be_bytes([p0, p1]), start, end));
            header_len = end;
        }
        if header_len > packet.len() {
            return None;
        }
        Some(RtpHeader {
            marker: fixed[1] & 0x80 != 0,
            padding: fixed[0] & 0x20 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            header_len,
            extension,
        })
    }

    /// The header extensions: id and data.
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> Extensions<'a> {
        let (profile, data) = match self.extension {
            Some((profile, start, end)) => (profile, packet.get(start..end).unwrap_or(&[])),
            None => (0, &[][..]),
        };
        Extensions { profile, data }
    }

    /// The payload of a decrypted packet without its padding; `None` when the padding is longer
    /// than the payload.
    pub fn payload<'a>(&self, packet: &'a [u8]) -> Option<&'a [u8]> {
        let payload = packet.get(self.header_len..)?;
        if !self.padding {
            return Some(payload);
        }
        let padding = usize::from(*payload.last()?);
        if padding == 0 {
            return None;
        }
        payload.get(..payload.len().checked_sub(padding)?)
    }
}

/// Iterates over the elements of an extension block.
pub struct Extensions<'a> {
    profile: u16,
    data: &'a [u8],
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (&first, rest) = self.data.split_first()?;
            if first == 0 {
                self.data = rest;
                continue;
            }
            let (id, len, rest) = if self.profile == ONE_BYTE {
                // RFC 8285, section 4.2: id 15 ends the block.
                if first >> 4 == 15 {
                    return None;
                }
                (first >> 4, usize::from(first & 0x0f) + 1, rest)
            } else if self.profile & 0xfff0 == TWO_BYTE {
                let (&len, rest) = rest.split_first()?;
                (first, usize::from(len), rest)
            } else {
                return None;
            };
            let data = rest.get(..len)?;
            self.data = &rest[len..];
            return Some((id, data));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(first: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![first, 0x80 | 96, 0, 7, 0, 0, 0, 9, 0, 0, 0, 5];
        packet.extend_from_slice(rest);
        packet
    }

    #[test]
    fn one_byte_extensions_are_read_up_to_id_15() {
        let bytes = packet(
            0x90,
            &[
                0xbe, 0xde, 0, 2, 0x10, 0xaa, 0x21, 1, 2, 0x00, 0xf0, 9, 0x55,
            ],
        );
        let header = RtpHeader::parse(&bytes).unwrap();
        let read: Vec<_> = header.extensions(&bytes).collect();
        assert_eq!(read, [(1, &[0xaa][..]), (2, &[1, 2][..])]);
        assert_eq!(header.payload(&bytes), Some(&[0x55][..]));
        assert!(header.marker);
    }

    #[test]
    fn two_byte_extensions_may_be_empty() {
        let bytes = packet(0x90, &[0x10, 0x00, 0, 2, 20, 0, 3, 3, 1, 2, 3, 0]);
        let header = RtpHeader::parse(&bytes).unwrap();
        let read: Vec<_> = header.extensions(&bytes).collect();
        assert_eq!(read, [(20, &[][..]), (3, &[1, 2, 3][..])]);
    }

    #[test]
    fn what_reaches_past_the_end_is_refused() {
        assert!(RtpHeader::parse(&packet(0x8f, &[0; 59])).is_none());
        assert!(RtpHeader::parse(&packet(0x8f, &[0; 60])).is_some());
        assert!(RtpHeader::parse(&packet(0x90, &[0xbe, 0xde, 0, 1])).is_none());
        assert!(RtpHeader::parse(&packet(0x40, &[])).is_none());
    }

    #[test]
    fn padding_longer_than_the_payload_is_refused() {
        let bytes = packet(0xa0, &[1, 2, 3]);
        let header = RtpHeader::parse(&bytes).unwrap();
        assert_eq!(header.payload(&bytes), Some(&[][..]));
        let bytes = packet(0xa0, &[1, 2, 4]);
        assert_eq!(RtpHeader::parse(&bytes).unwrap().payload(&bytes), None);
    }

    #[test]
    fn random_bytes_never_panic() {
        use rand::{RngExt, SeedableRng, rngs::SmallRng};
        let mut rng = SmallRng::seed_from_u64(3);
        for _ in 0..100_000 {
            let mut bytes = [0u8; 64];
            rng.fill(&mut bytes[..]);
            bytes[0] = 0x80 | (bytes[0] & 0x3f);
            let len = rng.random_range(0..64);
            if let Some(header) = RtpHeader::parse(&bytes[..len]) {
                let _ = header.extensions(&bytes[..len]).count();
                let _ = header.payload(&bytes[..len]);
            }
        }
    }
}
