//! A received packet as the forwarding path sees it.

use crate::api::codec::Codec;
use crate::forward::forwarder::SourcePacket;
use crate::wire::red_payload::Redundancy;

/// Which of a track's subscribers a packet is for, as last-N decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// All of them.
    Everyone,
    /// The track has no slot: those who hear it all the same.
    AlwaysHearing,
    /// The packet was held until the track got a slot: those who have not got it yet.
    Others,
}

impl Audience {
    /// Whether a subscriber is among them who hears the track always, or does not.
    pub(crate) fn includes(self, always_heard: bool) -> bool {
        match self {
            Audience::Everyone => true,
            Audience::AlwaysHearing => always_heard,
            Audience::Others => !always_heard,
        }
    }
}

/// A packet ready to be forwarded. Its bytes are in the layer's cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) source: SourcePacket,
    pub(crate) codec: Codec,
    pub(crate) header_len: usize,
    pub(crate) len: usize,
    pub(crate) redundancy: Redundancy,
}
