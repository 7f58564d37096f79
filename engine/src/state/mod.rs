//! What the engine knows of its peers, tracks and subscriptions.

pub(crate) mod active_probe;
pub(crate) mod allocated;
pub(crate) mod layer_rates;
pub(crate) mod membership;
pub(crate) mod packet;
pub(crate) mod packet_cache;
pub(crate) mod peer;
pub(crate) mod repeat;
pub(crate) mod subscription;
pub(crate) mod timers;
pub(crate) mod track;
