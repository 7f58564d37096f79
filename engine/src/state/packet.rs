//! A received packet as the forwarding path sees it.

use crate::api::codec::Codec;
use crate::forward::forwarder::SourcePacket;
use crate::wire::red_payload::Redundancy;

/// A packet ready to be forwarded. Its bytes are in the layer's cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) source: SourcePacket,
    pub(crate) codec: Codec,
    pub(crate) header_len: usize,
    pub(crate) len: usize,
    pub(crate) redundancy: Redundancy,
}
