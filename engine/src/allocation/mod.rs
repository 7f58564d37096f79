//! How a subscriber's bandwidth is divided among the tracks that it is sent.

pub(crate) mod allocator;
pub(crate) mod choices;
pub(crate) mod policy;
pub(crate) mod rate_meter;
