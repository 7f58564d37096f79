//! From a peer's queue to the datagrams that leave: the pacer, retransmissions, probes, batches.

pub(crate) mod coalescing;
pub(crate) mod pacer;
pub(crate) mod prefetch;
pub(crate) mod probe_sender;
pub(crate) mod ready_list;
pub(crate) mod reports;
pub(crate) mod retransmissions;
pub(crate) mod rtcp;
pub(crate) mod send_batch;
pub(crate) mod send_order;
pub(crate) mod send_queue;
pub(crate) mod silence;
pub(crate) mod wall_clock;
pub(crate) mod write;
