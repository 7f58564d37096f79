//! Rooms: who is in them, what is published, who gets what.
//!
//! One task owns one room ([`actor`]); everybody else sends it messages. The registry finds
//! rooms by name and is what the signaling service sees.

mod actor;
mod data;
mod dynacast;
mod join;
mod metrics;
mod participant;
mod publish;
mod quality;
mod registry;
mod requests;
mod resume;
mod seat;
mod settings;
mod speakers;
mod state;
mod stream_state;
mod subscribe;
mod track;

pub use metrics::RoomMetrics;
pub use registry::Registry;
pub use settings::RoomSettings;
