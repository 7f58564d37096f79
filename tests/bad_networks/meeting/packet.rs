//! RTP packets as clients write them, and the stamp by which a receiver knows what a packet
//! truly is, whatever the server made of its header.

use std::time::Duration;

/// Header extension ids on publishers' connections.
pub(super) mod extension {
    pub(in super::super) const MID: u8 = 1;
    pub(in super::super) const RID: u8 = 2;
    pub(in super::super) const REPAIRED_RID: u8 = 3;
    pub(in super::super) const AUDIO_LEVEL: u8 = 4;
    pub(in super::super) const TRANSPORT_CC: u8 = 5;
}

/// The truth about a packet. It stands at the end of every payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// When the packet was made, since the meeting began.
    pub(super) created: Duration,
    /// Number of the picture (or audio frame) in its track; the same on all layers.
    pub(super) picture: u32,
    /// The picture of the same layer without which it cannot be decoded.
    pub(super) needs: Option<u32>,
    /// It needs the next lower spatial layer of the same picture.
    pub(super) needs_lower: bool,
    /// Simulcast or spatial layer.
    pub(super) layer: u8,
    pub(super) temporal: u8,
    /// Place in the frame, from 0.
    pub(super) index: u8,
    /// Packets of the frame.
    pub(super) count: u8,
}

impl Stamp {
    pub(super) const LEN: usize = 21;

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.created.as_nanos() as u64).to_be_bytes());
        out.extend_from_slice(&self.picture.to_be_bytes());
        out.extend_from_slice(&self.needs.unwrap_or(u32::MAX).to_be_bytes());
        let flags = u8::from(self.needs_lower);
        out.extend_from_slice(&[flags, self.layer, self.temporal, self.index, self.count]);
    }

    pub(super) fn read(payload: &[u8]) -> Option<Stamp> {
        let at = payload.len().checked_sub(Stamp::LEN)?;
        let stamp: &[u8; Stamp::LEN] = payload[at..].first_chunk()?;
        let word = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|byte| stamp[at + byte]));
        let nanos = (u64::from(word(0)) << 32) | u64::from(word(4));
        let needs = word(12);
        Some(Stamp {
            created: Duration::from_nanos(nanos),
            picture: word(8),
            needs: (needs != u32::MAX).then_some(needs),
            needs_lower: stamp[16] != 0,
            layer: stamp[17],
            temporal: stamp[18],
            index: stamp[19],
            count: stamp[20],
        })
    }
}

/// The fixed header and one-byte extensions (RFC 8285, section 4.2).
pub(super) fn header(
    payload_type: u8,
    marker: bool,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    extensions: &[(u8, &[u8])],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(1_280);
    out.push(0x90);
    out.push(payload_type | if marker { 0x80 } else { 0 });
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(&timestamp.to_be_bytes());
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[0xbe, 0xde, 0, 0]);
    for (id, data) in extensions {
        out.push((id << 4) | (data.len() as u8 - 1));
        out.extend_from_slice(data);
    }
    while out.len() % 4 != 0 {
        out.push(0);
    }
    let words = ((out.len() - 16) / 4) as u16;
    out[14..16].copy_from_slice(&words.to_be_bytes());
    out
}

#[test]
fn a_stamp_is_read_as_written() {
    let stamp = Stamp {
        created: Duration::from_nanos(0x0102_0304_0506),
        picture: 77,
        needs: Some(76),
        needs_lower: true,
        layer: 2,
        temporal: 1,
        index: 3,
        count: 9,
    };
    let mut payload = vec![1, 2, 3];
    stamp.write(&mut payload);
    assert_eq!(Stamp::read(&payload), Some(stamp));
    assert_eq!(Stamp::read(&payload[4..]), None);
}
