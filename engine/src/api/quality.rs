//! How connections fare: the counters from which the control plane scores them.

use std::time::Duration;

use super::ids::{SubscriptionId, TrackId, TransportId};

/// One connection. Counters are since the start of their stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportQuality {
    /// Which connection.
    pub transport: TransportId,
    /// Round trip, as far as reports have told it.
    pub rtt: Duration,
    /// The tracks that it publishes and that are not muted.
    pub tracks: Vec<TrackQuality>,
    /// What it is sent.
    pub subscriptions: Vec<SubscriptionQuality>,
}

/// How a track arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackQuality {
    /// Which track.
    pub track: TrackId,
    /// Packets that the publisher has sent on all layers.
    pub expected: u64,
    /// Packets of them that have not arrived by themselves.
    pub lost: u64,
    /// How unevenly they arrive (RFC 3550, section 6.4.1).
    pub jitter: Duration,
    /// The best layer that arrives, 0 lowest.
    pub layer: Option<u8>,
}

/// How a track is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionQuality {
    /// Which subscription.
    pub subscription: SubscriptionId,
    /// Packets sent.
    pub sent: u64,
    /// Packets of them that the subscriber reports lost.
    pub lost: u64,
    /// The best layer of video that it wants and that arrives here; `None` when there is none.
    pub wanted: Option<u8>,
    /// The layer of video that it is sent.
    pub layer: Option<u8>,
}
