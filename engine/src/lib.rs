//! The engine of one media shard, sans-I/O.
//!
//! [`Engine`] takes datagrams, commands and the time, and gives datagrams, events and the time
//! at which it wants to be called next. It reads no clock, opens no socket, starts no thread.
#![forbid(unsafe_code)]

mod ahead;
mod allocation;
mod bandwidth;
mod choices;
pub mod codec;
pub mod command;
mod congestion;
mod dispatch;
mod egress;
pub mod event;
mod feedback;
mod flush;
mod forwarder;
mod gathering;
pub mod ids;
mod ingress;
pub mod io;
mod layer_rates;
mod loudest;
mod membership;
mod pacer;
mod packet_cache;
mod payload;
mod peer;
mod probe;
pub mod quality;
mod rate_meter;
pub mod receive;
mod received_streams;
mod red;
pub mod relay;
mod retransmissions;
mod rtcp;
pub mod rtp;
mod send_batch;
mod send_order;
mod send_queue;
mod speakers;
pub mod srtp;
mod subscription;
#[cfg(test)]
#[path = "../test_clock.rs"]
mod test_clock;
mod timers;
mod track;
pub mod transport;

pub use command::Command;
pub use dispatch::Engine;
pub use event::{Event, RoomEvent};
pub use send_batch::Transmits;

/// The id under which every subscriber gets a header extension; `None` for those that are not
/// passed on.
pub fn subscriber_extension_id(extension: command::HeaderExtension) -> Option<u8> {
    rtp::extensions::subscriber_id(extension)
}
