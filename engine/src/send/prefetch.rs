//! Prefetching: the memory that the next peers will touch is requested before their turn comes.
//!
//! With hundreds of peers nothing of one is in the processor's cache when its turn comes. Its cache
//! lines would be waited for one after the other, because each holds the pointer to the next: that
//! was a sixth of all time in the engine's benchmark. Here they are prefetched a few peers ahead, or
//! for all of a batch at once, in the order in which they point to each other.

use std::net::SocketAddr;

use crate::connections::Connections;
use crate::state::Media;
use crate::state::table::PeerIx;
use crate::wire::rtp::{self, PacketClass};

/// Prefetches peers whose reports are handled next.
#[derive(Debug, Default)]
pub(crate) struct Prefetcher {
    /// These peers; kept for its memory.
    reporting: Vec<PeerIx>,
}

impl Prefetcher {
    /// Prefetches the peers whose RTCP reports are among these datagrams, which are to be handled
    /// next. For media nothing is prefetched: the few peers that publish stay in the cache.
    pub(crate) fn prefetch_for_reports<'a>(
        &mut self,
        media: &Media,
        connections: &Connections,
        datagrams: impl Iterator<Item = (SocketAddr, &'a [u8])>,
    ) {
        let mut peers = std::mem::take(&mut self.reporting);
        let reports = datagrams.filter(|(_, datagram)| {
            let class = datagram.first().map(|&first| rtp::classify(first));
            class == Some(PacketClass::Rtp) && rtp::is_rtcp(datagram)
        });
        peers.extend(reports.filter_map(|(source, _)| connections.peer_at(source)));
        for &peer in &peers {
            media.peers[peer].prefetch_front();
        }
        for &peer in &peers {
            media.peers[peer].prefetch_for_report();
        }
        for &peer in &peers {
            media.peers[peer].bandwidth.prefetch_unreported();
        }
        peers.clear();
        self.reporting = peers;
    }
}

/// Prefetches the peers behind the first one of the ready list, which is written now.
pub(crate) fn prefetch_next_peers(media: &Media) {
    let peer = |position| {
        let index = media.ready.peer_at(position)?;
        media.peers.get(index)
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
