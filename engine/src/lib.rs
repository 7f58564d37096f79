//! The engine of one media shard, sans-I/O.
//!
//! [`Engine`] takes datagrams, commands and the time, and gives datagrams, events and the time
//! at which it wants to be called next. It reads no clock, opens no socket, starts no thread.
#![forbid(unsafe_code)]

mod allocation;
pub mod api;
mod bandwidth;
mod connections;
mod data_flow;
mod engine;
mod event_queue;
mod forward;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod membership;
mod quality_report;
pub mod receive;
mod send;
mod state;
#[cfg(test)]
#[path = "../test_clock.rs"]
mod test_clock;
#[cfg(test)]
mod test_room;
pub mod transport;
mod wire;

pub use api::command::Command;
pub use api::event::{Event, RoomEvent};
pub use api::{codec, command, event, ids, io, quality};
pub use engine::Engine;
pub use forward::relay_batch::RelayBatch;
pub use send::send_batch::Transmits;
pub use wire::{rtp, srtp};

/// The id under which every subscriber gets a header extension; `None` for those that are not
/// passed on.
pub fn subscriber_extension_id(extension: command::HeaderExtension) -> Option<u8> {
    wire::rtp::extensions::subscriber_id(extension)
}
