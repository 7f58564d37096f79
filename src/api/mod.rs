//! HTTP beside the signaling service: the server API, the page, metrics, development tokens.

mod development;
mod health;
mod metrics;
mod page;
mod twirp;

use std::sync::Arc;

use axum::Router;
use moim_signaling::token::{ApiKeys, TokenIssuer};

use crate::agents::{self, Agents};
use crate::media::shell::ShardStatistics;
use crate::room::Registry;
use crate::store::Store;
use crate::webhook::Webhooks;

/// The parts of the server that the routes speak with.
pub struct Parts {
    /// All rooms.
    pub rooms: Registry,
    /// Agents' workers.
    pub agents: Agents,
    /// Receivers of webhooks.
    pub webhooks: Webhooks,
    /// Counts of the media shards.
    pub shards: Vec<Arc<ShardStatistics>>,
    /// API keys, which callers' tokens are signed with.
    pub keys: ApiKeys,
    /// Makes tokens of the development mode.
    pub issuer: TokenIssuer,
    /// What outlives the process, if anything does.
    pub store: Option<Store>,
}

/// All routes but the signaling service's.
pub fn router(parts: Parts, development: bool) -> Router {
    let Parts {
        rooms,
        agents,
        webhooks,
        shards,
        keys,
        issuer,
        store,
    } = parts;
    let mut router = page::router()
        .merge(twirp::router(
            rooms.clone(),
            agents.clone(),
            keys.clone(),
            store.clone(),
        ))
        .merge(agents::router(agents, keys))
        .merge(health::router(rooms.clone()))
        .merge(metrics::router(rooms, webhooks, store, shards));
    if development {
        router = router.merge(development::router(issuer));
    }
    router
}
