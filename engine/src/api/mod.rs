//! What the engine and its driver say to one another: commands, events, ids and figures.

pub mod codec;
pub mod command;
pub mod event;
pub mod ids;
pub mod io;
pub mod quality;
