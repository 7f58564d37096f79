//! What arrives on an association while its reliable channel is not read.
//!
//! The library closes the window by the bytes of what it keeps (RFC 9260, section 6.2.1), and
//! by these alone: a peer that sends a byte a chunk could make it keep hundreds of times the
//! window. So the chunks are counted too, and past a bound the packets are treated as lost, for
//! the peer to send again.

use bytes::Bytes;

/// Chunks that are kept unread. With the overhead of about 300 bytes a chunk that is as much
/// as the window itself.
const MAX_CHUNKS: usize = 4_096;
/// Bytes after which the peer is told that it may send again, and does not learn it by itself
/// from the next SACK.
const ANNOUNCED_FROM: usize = ReceiveWindow::SIZE as usize / 4;
/// The common header of an SCTP packet (RFC 9260, section 3).
const COMMON_HEADER: usize = 12;
/// A chunk's type, flags and length.
const CHUNK_HEADER: usize = 4;
/// The type of a DATA chunk.
const DATA: u8 = 0;

/// What arrives while the reliable channel is not read.
#[derive(Debug, Default)]
pub(super) struct ReceiveWindow {
    bytes: usize,
    chunks: usize,
    last: Option<Bytes>,
}

impl ReceiveWindow {
    /// Bytes that a peer may have under way or unread: 80 Mbit/s at 100 ms.
    pub(super) const SIZE: u32 = 1 << 20;

    /// Whether a packet that arrives is looked at. `is_held`: the reliable channel has
    /// something that is not read.
    pub(super) fn admits(&mut self, packet: &Bytes, is_held: bool) -> bool {
        if !is_held {
            *self = ReceiveWindow::default();
            return true;
        }
        if !has_data(packet) {
            return true;
        }
        self.last = Some(packet.clone());
        self.bytes += packet.len();
        self.chunks < MAX_CHUNKS
    }

    /// A chunk was kept.
    pub(super) fn note_chunk(&mut self) {
        self.chunks += 1;
    }

    /// The channel has been read to its end. What arrived last, if the peer is to be told.
    pub(super) fn reopen(&mut self) -> Option<Bytes> {
        let held = std::mem::take(self);
        let is_narrow = held.bytes >= ANNOUNCED_FROM || held.chunks >= MAX_CHUNKS;
        held.last.filter(|_| is_narrow)
    }
}

/// Whether a packet has a DATA chunk.
fn has_data(packet: &[u8]) -> bool {
    let mut chunks = packet.get(COMMON_HEADER..).unwrap_or_default();
    while let [kind, _, high, low, ..] = *chunks {
        if kind == DATA {
            return true;
        }
        // Chunks are padded to four bytes (section 3.2).
        let len = usize::from(u16::from_be_bytes([high, low]));
        let next = len.max(CHUNK_HEADER).next_multiple_of(4);
        chunks = chunks.get(next..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const SACK: [u8; 16] = [3, 0, 0, 16, 0, 0, 0, 1, 0, 0, 4, 0, 0, 0, 0, 0];
    const DATA_CHUNK: [u8; 20] = [0, 3, 0, 17, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 53, 7, 0, 0, 0];

    fn packet(chunks: &[&[u8]]) -> Bytes {
        let mut packet = vec![0; COMMON_HEADER];
        for chunk in chunks {
            packet.extend_from_slice(chunk);
        }
        packet.into()
    }

    #[test]
    fn data_is_found_behind_other_chunks_and_in_no_garbage() {
        assert!(has_data(&packet(&[&DATA_CHUNK])));
        assert!(has_data(&packet(&[&SACK, &DATA_CHUNK])));
        assert!(!has_data(&packet(&[&SACK])));
        assert!(!has_data(&[]));
        // A length of nothing must not make it turn on the spot.
        assert!(!has_data(&packet(&[&[3, 0, 0, 0, 3, 0, 0, 0]])));
    }

    #[test]
    fn a_flood_of_tiny_chunks_is_refused_while_nothing_is_read_and_taken_after() {
        let mut window = ReceiveWindow::default();
        let data = packet(&[&SACK, &DATA_CHUNK]);
        let mut admitted = 0;
        for _ in 0..100_000 {
            if window.admits(&data, true) {
                window.note_chunk();
                admitted += 1;
            }
        }
        assert_eq!(admitted, MAX_CHUNKS);
        assert!(
            window.admits(&packet(&[&SACK]), true),
            "acknowledgements pass"
        );
        assert_eq!(window.reopen(), Some(data.clone()));
        assert!(window.admits(&data, true));
    }

    #[test]
    fn a_peer_whose_window_was_never_narrow_is_told_nothing() {
        let mut window = ReceiveWindow::default();
        assert!(window.admits(&packet(&[&DATA_CHUNK]), true));
        window.note_chunk();
        assert_eq!(window.reopen(), None);
    }
}
