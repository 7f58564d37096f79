//! The media plane's shell: what drives the engine (`moim_engine`), and what the rooms need of it.
pub mod connection;
pub mod handle;
pub mod negotiation;
pub mod placement;
pub mod shell;
