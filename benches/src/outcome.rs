//! What came of a run, as the media thread counts it.

use crate::receive::{Counts, Histogram};
use crate::shape::Bursts;
use crate::subscriber::Subscriber;

/// Counts and times of all participants.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) streams: usize,
    /// Connections that received media.
    pub(crate) receivers: usize,
    /// What came to connections together.
    pub(crate) bursts: Bursts,
    pub(crate) sent: u64,
    /// Packets that arrived, repeats included.
    pub(crate) arrived: u64,
    pub(crate) latency: Histogram,
    /// Each of those who were there to the end.
    pub(crate) subscribers: Vec<Subscriber>,
    /// Microseconds from the beginning of a join to its first media packet.
    pub(crate) first_media: Histogram,
    /// Microseconds to an open subscriber connection.
    pub(crate) connected: Histogram,
    pub(crate) connections: usize,
    pub(crate) open: usize,
    /// Connections with data channels, and those of them on which the server has opened some.
    pub(crate) with_data: usize,
    pub(crate) data_open: usize,
    /// RTCP packets by which participants reported what they received.
    pub(crate) feedback: u64,
    /// Share of the time for which the thread was busy, 0 to 1.
    pub(crate) busy: f64,
    /// Longest time between two looks at the sockets, in microseconds.
    pub(crate) longest_turn: u64,
}
