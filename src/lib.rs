//! moim, a video-conferencing server.
//!
//! **The way of a packet**: `media/shell/shard.rs` reads it from a socket,
//! `engine/src/dispatch.rs` finds whose it is, `ingress.rs` decrypts it and makes
//! one packet of it in the form that subscribers get, `egress.rs` writes and
//! encrypts it for each of them, and the shell sends the runs that come of it.
//!
//! **The way of a join**: the `moim_signaling` crate's `session.rs` takes the WebSocket and the
//! token, `room/registry.rs` finds the room's task, `room/task.rs` hands the join to the room
//! core, `room/join.rs` gives the seat, `room/publish.rs` and `room/subscribing.rs` negotiate by
//! `media/connection.rs`, and `room/telling.rs` tells everybody what has changed.
//!
//! Dependencies point one way: `api`, `agents`, `webhook` and `moim_signaling` → `room` → `media` →
//! `moim_engine`.

pub mod agents;
pub mod api;
pub mod cli;
pub mod config;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod http;
pub mod media;
pub mod reload;
pub mod room;
pub mod server;
pub mod store;
pub mod webhook;
