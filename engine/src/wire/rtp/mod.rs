//! RTP packets as bytes: which datagram is one, its header, its header extensions.

pub(crate) mod extensions;
pub mod header;

pub use extensions::patch_header;

/// What a datagram is, by its first byte (RFC 7983, section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketClass {
    /// STUN.
    Stun,
    /// DTLS.
    Dtls,
    /// RTP or RTCP.
    Rtp,
    /// Nothing that is known here.
    Other,
}

/// Tells by the first byte.
pub fn classify(first: u8) -> PacketClass {
    match first {
        0..=3 => PacketClass::Stun,
        20..=63 => PacketClass::Dtls,
        128..=191 => PacketClass::Rtp,
        _ => PacketClass::Other,
    }
}

/// Whether an RTP or RTCP datagram is RTCP (RFC 5761, section 4).
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram.get(1), Some(192..=223))
}
