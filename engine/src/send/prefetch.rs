//! Looking ahead: what the next peers' turns will touch is asked for before they come.
//!
//! With hundreds of peers nothing of one is in the processor's cache when its turn comes. Its lines
//! of memory would be waited for one after the other, as each tells only then where the next one
//! is: that was a sixth of all time. Here they are asked for a few peers ahead, or for all of a
//! batch at once, in the order in which one tells where the others are.

use std::net::SocketAddr;

use crate::engine::Engine;
use crate::wire::rtp::{self, PacketClass};

impl Engine {
    /// These datagrams are going to be handled next. Of media nothing has to be said: the few who
    /// publish are known well.
    pub fn expect_datagrams<'a>(
        &mut self,
        datagrams: impl Iterator<Item = (SocketAddr, &'a [u8])>,
    ) {
        let mut peers = std::mem::take(&mut self.expected);
        let reports = datagrams.filter(|(_, datagram)| {
            let class = datagram.first().map(|&first| rtp::classify(first));
            class == Some(PacketClass::Rtp) && rtp::is_rtcp(datagram)
        });
        peers.extend(reports.filter_map(|(source, _)| self.peer_at(source)));
        for &peer in &peers {
            self.peers[peer as usize].prefetch_front();
        }
        for &peer in &peers {
            self.peers[peer as usize].prefetch_for_report();
        }
        for &peer in &peers {
            self.peers[peer as usize].bandwidth.prefetch_unreported();
        }
        peers.clear();
        self.expected = peers;
    }

    /// The turn to be written has come to the first peer on the list.
    pub(crate) fn expect_writing(&self) {
        let peer = |place| {
            let index = self.flush.listed(place)?;
            self.peers.get(index as usize)
        };
        if let Some(third) = peer(3) {
            third.prefetch_head();
        }
        if let Some(second) = peer(2) {
            second.prefetch_for_sending();
        }
        if let Some(next) = peer(1) {
            next.bandwidth.prefetch_next_sent();
        }
    }
}
