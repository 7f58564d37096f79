//! Rooms: who is in them, what is published, who gets what.
//!
//! A room is a value without I/O ([`core`]); one task owns it ([`task`]), and everybody else
//! sends that task messages. The registry finds rooms by name and is what the signaling service
//! sees. The way of a join through these files: `registry`, `task`, `join`, `subscribing`,
//! `telling`.

mod admin;
mod announcement;
mod audience;
mod clock;
mod core;
mod data;
mod data_blobs;
mod data_track_table;
mod data_tracks;
mod device_quirks;
mod id;
mod join;
mod journal;
mod mailbox;
mod metrics;
mod news;
mod nonces;
mod order;
mod participant;
mod publication;
mod publish;
mod qualities;
mod quality;
mod registry;
mod requests;
mod resume;
mod revocations;
mod rpcs;
mod score;
mod settings;
mod shared;
mod speakers;
mod subscribing;
mod subscription;
mod task;
mod telling;
mod wanted_layers;

pub use clock::Now;
pub use core::{About, Delivery, Room, SERVER_VERSION};
pub use id::{ParticipantKey, SeatId};
pub use join::Seated;
pub use journal::{Fact, FactReader};
pub use metrics::RoomMetrics;
pub use order::{Answer, MAX_METADATA, Order, OrderError, ParticipantOrder, RoomChanges};
pub use registry::{CreateError, Registry};
pub use rpcs::{CallError, CallId};
pub use settings::RoomSettings;
