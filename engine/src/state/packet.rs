//! A received packet as the forwarding path sees it.

use crate::api::codec::Codec;
use crate::forward::forwarder::SourcePacket;

/// A packet ready to be forwarded. Its bytes are in the layer's cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) source: SourcePacket,
    pub(crate) codec: Codec,
    pub(crate) header_len: usize,
    pub(crate) len: usize,
    /// Its length as plain Opus, when it is RED (see `wire/red_payload.rs`).
    pub(crate) primary_len: Option<usize>,
}
