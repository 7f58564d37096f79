//! What crosses the border between the engine and the shell that drives it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::transport::ServerCertificate;

/// A packet waits at most this long for others to share its way with. A shell that reads as
/// rarely as that delays nothing, when it says how long what it reads has waited.
pub const COALESCING_INTERVAL: Duration = Duration::from_millis(3);

/// Which of the shell's sockets a datagram came from or goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalSocket(pub u8);

/// Datagrams to one destination, all of them of `segment_size` but the last, which may be
/// shorter: the shape that one GSO call takes.
#[derive(Debug, Clone, Copy)]
pub struct Transmit<'a> {
    /// Where to.
    pub destination: SocketAddr,
    /// From which socket.
    pub local: LocalSocket,
    /// Size in bytes of each datagram; `None` when `contents` is a single one.
    pub segment_size: Option<usize>,
    /// The datagrams, one after the other.
    pub contents: &'a [u8],
}

impl<'a> Transmit<'a> {
    /// The datagrams one by one.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let size = self.segment_size.unwrap_or(self.contents.len());
        self.contents.chunks(size.max(1))
    }
}

/// How an engine is made.
#[derive(Clone)]
pub struct EngineConfig {
    /// Seed of everything random in the engine: SSRCs, first sequence numbers.
    pub seed: u64,
    /// The certificate of this process.
    pub certificate: Arc<ServerCertificate>,
    /// Wall clock at the `now` given to `Engine::new`, since the unix epoch: the base of NTP
    /// times in sender reports.
    pub wall_clock: Duration,
}

/// Plain counters of one engine since its start; gauges are marked so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStatistics {
    /// RTP packets received and authenticated.
    pub packets_in: u64,
    /// Their bytes, headers included.
    pub bytes_in: u64,
    /// RTP packets sent to subscribers, retransmissions included.
    pub packets_out: u64,
    /// Their bytes, headers included.
    pub bytes_out: u64,
    /// Datagrams that belong to nobody or did not authenticate.
    pub datagrams_dropped: u64,
    /// RTP packets not sent because a subscriber's queue was full.
    pub packets_dropped: u64,
    /// Sequence numbers in NACKs from subscribers.
    pub nacks_in: u64,
    /// Sequence numbers in NACKs to publishers.
    pub nacks_out: u64,
    /// Packets retransmitted to subscribers.
    pub retransmissions: u64,
    /// Keyframes asked for by subscribers.
    pub keyframe_requests_in: u64,
    /// Keyframes asked for from publishers.
    pub keyframe_requests_out: u64,
    /// RTP packets given to other shards.
    pub packets_relayed: u64,
    /// RTP packets that another shard did not take in time.
    pub relays_dropped: u64,
    /// Data channel messages received.
    pub messages_in: u64,
    /// Data channel messages sent.
    pub messages_out: u64,
    /// Gauge: peer connections.
    pub transports: u64,
    /// Gauge: tracks, those that are published on other shards included.
    pub tracks: u64,
    /// Gauge: subscriptions.
    pub subscriptions: u64,
    /// Gauge: bytes held in packet caches and send queues.
    pub buffer_bytes: u64,
}
