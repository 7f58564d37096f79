//! What a link is like.

use std::time::Duration;

/// One direction of a link. The default is a perfect one: no limit, no delay, no loss.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LinkConfig {
    /// Capacity of the bottleneck in bits a second, of what [`Link::send`](crate::Link::send)
    /// counts as bytes. `None` is unlimited; `Some(0)` lets nothing through until it changes.
    pub rate: Option<u64>,
    /// The queue in front of the bottleneck. It means nothing without a rate.
    pub queue: Queue,
    /// How long every datagram travels after the bottleneck.
    pub delay: Duration,
    /// A random addition to `delay`, uniform from nothing to this. Order is kept: a datagram that
    /// would overtake the one before it arrives together with that one.
    pub jitter: Duration,
    /// What is lost after the bottleneck (so that it used capacity).
    pub loss: Loss,
    /// The share of datagrams, 0 to 1, that arrive [`LATE`](Self::LATE) after their time, behind
    /// those that were sent after them.
    pub reorder: f64,
    /// The share of datagrams, 0 to 1, that arrive twice.
    pub duplicate: f64,
}

impl LinkConfig {
    /// How much later a reordered datagram comes.
    pub const LATE: Duration = Duration::from_millis(20);
}

/// How a queue decides what to drop.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Queue {
    /// First in, first out; what finds the queue full is dropped.
    DropTail {
        /// The longest wait, at the present rate.
        limit: Duration,
    },
    /// Controlled delay, RFC 8289, with its target of 5 ms and interval of 100 ms.
    CoDel {
        /// The longest wait, at the present rate.
        limit: Duration,
    },
}

impl Queue {
    /// The longest wait, at the present rate.
    pub fn limit(self) -> Duration {
        match self {
            Queue::DropTail { limit } | Queue::CoDel { limit } => limit,
        }
    }
}

/// RFC 8867's queue: 300 ms, drop-tail.
impl Default for Queue {
    fn default() -> Queue {
        Queue::DropTail {
            limit: Duration::from_millis(300),
        }
    }
}

/// How datagrams are lost.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Loss {
    /// None is.
    #[default]
    None,
    /// Each with this probability, 0 to 1.
    Random(f64),
    /// In bursts, after Gilbert: a good state loses nothing, a bad one everything.
    Burst {
        /// The share of all datagrams that is lost, 0 to under 1.
        share: f64,
        /// Datagrams in a burst on average, at least 1.
        mean_length: f64,
    },
}
