//! From a packet that has come in to the subscribers and shards that get it.

pub(crate) mod active_speakers;
#[cfg(test)]
mod agreement_tests;
pub(crate) mod fan_out;
pub(crate) mod forwarder;
pub(crate) mod last_n;
pub(crate) mod relay;
pub(crate) mod relay_batch;
pub(crate) mod relayed;
pub(crate) mod retransmit;
#[cfg(test)]
mod spread_tests;
