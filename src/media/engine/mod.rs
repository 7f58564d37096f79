//! The engine of one media shard, sans-I/O.
//!
//! [`Engine`] takes datagrams, commands and the time, and gives datagrams, events and the time
//! at which it wants to be called next. It reads no clock, opens no socket, starts no thread.
#![forbid(unsafe_code)]

pub mod command;
pub mod event;
pub mod ids;

pub use command::Command;
pub use event::{Event, RoomEvent};
