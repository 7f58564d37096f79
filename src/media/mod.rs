//! The media plane.
pub mod codec;
pub mod engine;
pub mod handle;
mod native;
pub mod negotiation;
pub mod placement;
pub mod shell;
#[cfg(test)]
mod test_clock;
