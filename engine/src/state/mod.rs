//! What the engine knows of its peers, tracks and subscriptions.

pub(crate) mod active_probe;
pub(crate) mod allocated;
pub(crate) mod chunk_pool;
pub(crate) mod data_flow;
pub(crate) mod layer_rates;
pub(crate) mod packet;
pub(crate) mod packet_cache;
pub(crate) mod peer;
pub(crate) mod repeat;
pub(crate) mod silence;
pub(crate) mod subscription;
pub(crate) mod table;
pub(crate) mod timers;
pub(crate) mod track;

use std::time::Instant;

use crate::api::event::Event;
use crate::api::ids::{RoomId, SubscriptionId, TrackId, TransportId};
use crate::api::io::EngineStatistics;
use crate::event_queue::EventQueue;
use crate::forward::relay_batch::Relay;
use crate::send::ready_list::ReadyList;
use crate::send::send_batch::SendBatch;
use chunk_pool::ChunkPool;
use packet::Received;
use packet_cache::{CachedFrame, CachedPacket};
use peer::Peer;
use subscription::Subscription;
use table::{PeerIx, SubscriptionIx, Table, TrackIx};
use timers::{TimerOwner, Timers};
use track::Track;

/// The peer connections.
pub(crate) type Peers = Table<TransportId, PeerIx, Peer>;
/// The published tracks, and those of other shards that are mirrored here.
pub(crate) type Tracks = Table<TrackId, TrackIx, Track>;
/// The tracks on their way to a subscriber.
pub(crate) type Subscriptions = Table<SubscriptionId, SubscriptionIx, Subscription>;

/// What the engine's parts work on, and where they put what leaves the engine. The parts own what
/// only they need, and are handed this.
#[derive(Default)]
pub(crate) struct Media {
    pub(crate) peers: Peers,
    pub(crate) tracks: Tracks,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) timers: Timers,
    /// Memory for the tracks' packet caches.
    pub(crate) chunks: ChunkPool,
    /// The peers with packets to write.
    pub(crate) ready: ReadyList,
    /// What is to cross to other shards.
    pub(crate) relay: Relay,
    /// The datagrams to hand out next.
    pub(crate) outgoing: SendBatch,
    pub(crate) events: EventQueue,
    pub(crate) statistics: EngineStatistics,
}

impl Media {
    /// Queues an event for a room.
    pub(crate) fn emit(&mut self, room: RoomId, event: Event) {
        self.events.push(room, event);
    }

    /// Counters since the start, gauges as of now.
    pub(crate) fn statistics(&self) -> EngineStatistics {
        let caches: usize = self
            .tracks
            .values()
            .flat_map(|track| &track.layers)
            .map(|layer| layer.cache.memory())
            .sum();
        let queues: usize = self
            .peers
            .values()
            .map(|p| p.queue.memory() + p.pacer.memory() + p.retransmissions.memory())
            .sum();
        EngineStatistics {
            transports: self.peers.len() as u64,
            tracks: self.tracks.len() as u64,
            subscriptions: self.subscriptions.len() as u64,
            buffer_bytes: (caches
                + self.chunks.memory()
                + queues
                + self.outgoing.memory()
                + self.relay.memory()) as u64,
            ..self.statistics
        }
    }

    /// Keeps a packet that was received for retransmission, when it is `used`, and else notes that it
    /// came.
    pub(crate) fn keep(
        &mut self,
        now: Instant,
        track: TrackIx,
        received: &Received,
        packet: &[u8],
        used: bool,
    ) {
        let source = &received.source;
        let layers = self.tracks.get_mut(track).map(|track| &mut track.layers);
        let Some(layer) = layers.and_then(|layers| layers.get_mut(usize::from(source.layer)))
        else {
            return;
        };
        if !used {
            return layer.cache.pass(now, source.sequence);
        }
        let kept = CachedPacket {
            packet,
            header_len: received.header_len as u16,
            frame: CachedFrame {
                needed_by: source.layers.needed_by,
                ends: source.layers.ends_frame,
            },
        };
        let pool = &mut self.chunks;
        layer.cache.insert(pool, now, source.sequence, &kept);
    }

    /// Counts the coalescing deadlines from when what was just handled `arrived` at the socket, and
    /// not from when it was read, so that waiting in the socket adds no delay.
    pub(crate) fn backdate_deadline(&mut self, arrived: Instant) {
        self.ready.backdate_deadline(arrived);
        self.relay.backdate_deadline(arrived);
    }

    /// Arms a peer's timer for its feedback and reports.
    pub(crate) fn arm_media_timers(&mut self, peer: PeerIx) {
        let state = &mut self.peers[peer];
        let due = [state.feedback_due, state.report_due, state.silence_due];
        for when in due.into_iter().flatten() {
            self.timers
                .arm(TimerOwner::Peer(peer), &mut state.armed, when);
        }
    }

    /// Index of the subscription that a peer receives under an SSRC.
    pub(crate) fn subscription_of(&self, peer: PeerIx, ssrc: u32) -> Option<SubscriptionIx> {
        let of_peer = &self.peers[peer].subscriptions;
        of_peer.iter().copied().find(|&index| {
            let subscription = &self.subscriptions[index];
            subscription.ssrc == ssrc || subscription.rtx_ssrc == Some(ssrc)
        })
    }
}
