//! What arrives on an association while its reliable channel is not read.
//!
//! The library closes the window by the bytes of what it keeps (RFC 9260, section 6.2.1), and
//! by these alone: a peer that sends a byte a chunk could make it keep hundreds of times the
//! window. So the chunks are counted too, and past a bound the packets are treated as lost, for
//! the peer to send again.

use bytes::Bytes;

use super::sctp_packet::has_data;

/// Chunks that are kept unread. With the overhead of about 300 bytes a chunk that is as much
/// as the window itself.
const MAX_CHUNKS: usize = 4_096;
/// Bytes that are read without anything arriving in between, after which the peer is told that
/// it may send again: no SACK tells it.
const ANNOUNCED_FROM: usize = ReceiveWindow::SIZE as usize / 4;
/// Packets that found no space and are kept for when there is some. A peer that keeps to its
/// window sends one at a time then, to probe it (RFC 9260, section 6.1).
const MAX_REFUSED: usize = 16;

/// What arrives, and how much of it is read.
#[derive(Debug, Default)]
pub(super) struct ReceiveWindow {
    /// Chunks that were kept since the reliable channel had nothing unread.
    chunks: usize,
    /// Bytes that were read since something arrived.
    read: usize,
    /// The packet with data that arrived last.
    last: Option<Bytes>,
    /// Those that found no space, oldest first.
    refused: Vec<Bytes>,
}

impl ReceiveWindow {
    /// Bytes that a peer may have under way or unread: 80 Mbit/s at 100 ms.
    pub(super) const SIZE: u32 = 1 << 20;

    /// Whether a packet that arrives is looked at. `is_held`: the reliable channel has
    /// something that is not read.
    pub(super) fn admits(&mut self, packet: &Bytes, is_held: bool) -> bool {
        if !has_data(packet) {
            return true;
        }
        if !is_held {
            self.chunks = 0;
        }
        self.read = 0;
        self.last = Some(packet.clone());
        let admitted = self.chunks < MAX_CHUNKS;
        if !admitted {
            self.refuse(packet);
        }
        admitted
    }

    /// A chunk was kept.
    pub(super) fn note_chunk(&mut self) {
        self.chunks += 1;
    }

    /// Chunks that were kept.
    pub(super) fn chunks(&self) -> usize {
        self.chunks
    }

    /// Nothing of a packet was kept: it found no space, or brought nothing new.
    pub(super) fn refuse(&mut self, packet: &Bytes) {
        let is_new = has_data(packet) && !self.refused.contains(packet);
        if is_new && self.refused.len() < MAX_REFUSED {
            self.refused.push(packet.clone());
        }
    }

    /// Everything was read. The packets that found no space before: what waits behind them in
    /// the peer comes only after its timer.
    pub(super) fn note_drained(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.refused)
    }

    /// Some bytes were read. The packets that are to be handled again, if the peer is to be
    /// told that it may send again.
    pub(super) fn note_read(&mut self, bytes: usize) -> Option<Vec<Bytes>> {
        self.read += bytes;
        if self.read < ANNOUNCED_FROM {
            return None;
        }
        self.read = 0;
        let mut again = std::mem::take(&mut self.refused);
        // The first one is acknowledged with a delay, and a second one at once.
        let last = again.last().or(self.last.as_ref()).cloned();
        again.extend(last.into_iter().flat_map(|last| [last.clone(), last]));
        Some(again)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sctp_packet::COMMON_HEADER;
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
        assert!(window.admits(&data, false));
    }

    #[test]
    fn who_is_read_in_one_go_is_told_and_what_found_no_space_is_handled_first() {
        let mut window = ReceiveWindow::default();
        let numbered = |number: u8| packet(&[&DATA_CHUNK, &[number; 4]]);
        for number in 0..100 {
            assert!(window.admits(&numbered(number), true));
            window.refuse(&numbered(number));
            window.refuse(&numbered(number));
        }
        assert_eq!(window.note_read(ANNOUNCED_FROM - 1), None);
        let again = window.note_read(1).expect("much was read");
        let oldest: Vec<Bytes> = (0..MAX_REFUSED as u8).map(numbered).collect();
        assert_eq!(again[..MAX_REFUSED], oldest);
        assert_eq!(again.len(), MAX_REFUSED + 2);
        assert_eq!(
            window.note_read(ANNOUNCED_FROM - 1),
            None,
            "it is told once"
        );
    }

    #[test]
    fn a_peer_that_is_read_as_it_sends_is_told_nothing() {
        let mut window = ReceiveWindow::default();
        for _ in 0..10_000 {
            assert!(window.admits(&packet(&[&DATA_CHUNK]), false));
            window.note_chunk();
            assert_eq!(window.note_read(1_100), None);
        }
    }
}
