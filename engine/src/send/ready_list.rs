//! The peers whose packets wait to be written, and until when.

use std::collections::VecDeque;
use std::time::Instant;

use crate::api::io::GATHER_INTERVAL;
use crate::send::coalescing::Gathering;
use crate::state::peer::Peer;

/// The peers with packets in their queues.
#[derive(Debug, Default)]
pub(crate) struct Flush {
    peers: VecDeque<u32>,
    /// When the packets that wait are to leave.
    due: Option<Instant>,
    /// How many of `peers`, from the front, are to be written now.
    released: usize,
    gathering: Gathering,
}

impl Flush {
    /// Puts a peer on the list when it has packets.
    pub(crate) fn list(&mut self, now: Instant, peer: u32, state: &mut Peer) {
        if state.listed || !state.has_packets() {
            return;
        }
        state.listed = true;
        self.peers.push_back(peer);
        self.due.get_or_insert(now + GATHER_INTERVAL);
    }

    /// See [`Engine::has_waited_since`].
    pub(crate) fn has_waited_since(&mut self, arrived: Instant) {
        self.due = self.due.map(|due| due.min(arrived + GATHER_INTERVAL));
    }

    /// What has been queued ends with the last packet of a frame, which has `arrived` then.
    pub(crate) fn completed(&mut self, now: Instant, arrived: Instant) {
        if self.due.is_some() {
            self.gathering.completed(arrived);
            if !self.gathering.pays() {
                self.due = Some(now);
            }
        }
    }

    /// When packets are to leave.
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

    /// Forgets a peer that is gone.
    pub(crate) fn forget(&mut self, peer: u32) {
        if let Some(index) = self.peers.iter().position(|&listed| listed == peer) {
            self.peers.remove(index);
            if index < self.released {
                self.released -= 1;
            }
        }
    }

    /// Who is at that place of the list.
    pub(crate) fn listed(&self, place: usize) -> Option<u32> {
        self.peers.get(place).copied()
    }

    pub(crate) fn next(&self) -> Option<u32> {
        (self.released > 0).then(|| self.peers.front().copied())?
    }

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
    fn what_has_waited_to_be_read_gathers_for_the_rest_of_the_time() {
        let now = test_clock::start();
        let mut flush = Flush {
            due: Some(now + GATHER_INTERVAL),
            ..Flush::default()
        };
        flush.has_waited_since(now);
        assert_eq!(flush.due(), Some(now + GATHER_INTERVAL));
        let arrived = now - GATHER_INTERVAL / 2;
        flush.has_waited_since(arrived);
        assert_eq!(flush.due(), Some(arrived + GATHER_INTERVAL));
        let mut empty = Flush::default();
        empty.has_waited_since(arrived);
        assert_eq!(empty.due(), None);
    }
}
