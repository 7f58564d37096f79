//! The peers that have packets to write, and the deadline until which these wait for more.

use std::collections::VecDeque;
use std::time::Instant;

use crate::api::io::COALESCING_INTERVAL;
use crate::send::coalescing::Coalescing;
use crate::state::peer::Peer;
use crate::state::table::PeerIx;

/// The peers with packets in their queues, in the order in which they are written.
#[derive(Debug, Default)]
pub(crate) struct ReadyList {
    peers: VecDeque<PeerIx>,
    /// When the packets are to be written; `None` while no peer has any that are not released.
    due: Option<Instant>,
    /// The number of `peers`, from the front, that are to be written now.
    released: usize,
    coalescing: Coalescing,
}

impl ReadyList {
    /// Appends a peer that has packets, unless it is in the list.
    pub(crate) fn push_peer(&mut self, now: Instant, peer: PeerIx, state: &mut Peer) {
        if state.in_ready_list || !state.has_packets() {
            return;
        }
        state.in_ready_list = true;
        self.peers.push_back(peer);
        self.due.get_or_insert(now + COALESCING_INTERVAL);
    }

    /// See [`Engine::backdate_deadline`].
    pub(crate) fn backdate_deadline(&mut self, arrived: Instant) {
        self.due = self.due.map(|due| due.min(arrived + COALESCING_INTERVAL));
    }

    /// The last packet of a frame has been queued; it `arrived` at the socket then. The frame is
    /// released at once where waiting for others is not worth it.
    pub(crate) fn completed(&mut self, now: Instant, arrived: Instant) {
        if self.due.is_some() {
            self.coalescing.completed(arrived);
            if !self.coalescing.should_wait() {
                self.due = Some(now);
            }
        }
    }

    /// When packets are to be written.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Releases what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            self.released = self.peers.len();
        }
    }

    /// Removes a peer that has ended.
    pub(crate) fn forget(&mut self, peer: PeerIx) {
        if let Some(index) = self.peers.iter().position(|&listed| listed == peer) {
            self.peers.remove(index);
            if index < self.released {
                self.released -= 1;
            }
        }
    }

    /// The peer at a position, counted from the front.
    pub(crate) fn peer_at(&self, position: usize) -> Option<PeerIx> {
        self.peers.get(position).copied()
    }

    /// The next peer to write.
    pub(crate) fn next(&self) -> Option<PeerIx> {
        (self.released > 0).then(|| self.peers.front().copied())?
    }

    /// The peer at the front has been written.
    pub(crate) fn done(&mut self) {
        self.peers.pop_front();
        self.released -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    #[test]
    fn the_deadline_counts_from_when_the_packet_arrived() {
        let now = test_clock::start();
        let mut ready = ReadyList {
            due: Some(now + COALESCING_INTERVAL),
            ..ReadyList::default()
        };
        ready.backdate_deadline(now);
        assert_eq!(ready.due(), Some(now + COALESCING_INTERVAL));
        let arrived = now - COALESCING_INTERVAL / 2;
        ready.backdate_deadline(arrived);
        assert_eq!(ready.due(), Some(arrived + COALESCING_INTERVAL));
        let mut empty = ReadyList::default();
        empty.backdate_deadline(arrived);
        assert_eq!(empty.due(), None);
    }
}
