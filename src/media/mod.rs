//! The media plane.
pub mod codec;
pub mod engine;
pub mod negotiation;
