//! Where the engine's unit tests take their first instant from: the engine names no clock,
//! not in its tests either, and an [`Instant`] can only come from one.
use std::time::Instant;

/// An instant to count from; nothing depends on which.
pub(crate) fn start() -> Instant {
    Instant::now()
}
