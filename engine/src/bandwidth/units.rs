//! Units and bounds that the parts of the estimator share.

/// Time in microseconds, since an instant that depends on whose clock it is.
pub(super) type Micros = i64;

/// The least estimate, bits per second: audio alone.
pub(super) const MIN_RATE: f64 = 50_000.0;
/// The largest estimate, bits per second.
pub(super) const MAX_RATE: f64 = 100_000_000.0;
/// A full packet of 1,200 bytes, bits.
pub(super) const PACKET_BITS: f64 = 9_600.0;
