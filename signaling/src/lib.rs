//! LiveKit's client protocol on the wire, served over a WebSocket.
//!
//! This crate knows the messages ([`wire`]), the access tokens ([`token`]) and the life of one
//! WebSocket. It reaches rooms only through the [`Rooms`] and [`Seat`] traits and knows
//! nothing of media.
#![forbid(unsafe_code)]

mod admission;
mod connections;
mod encoding;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod outbox;
pub mod permission;
mod rate;
pub mod rooms;
pub mod session;
pub mod token;
pub mod wire;

pub use connections::{ClientAddress, ConnectionLimits, Connections};
pub use permission::Permissions;
pub use rate::Rate;
pub use rooms::{Join, Refusal, Rooms, Seat, SeatClosed, SessionEnd};
