//! HTTP beside the signaling service: the server API, the page, metrics, development tokens.

mod development;
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

/// All routes but the signaling service's.
pub fn router(
    rooms: Registry,
    agents: Agents,
    webhooks: Webhooks,
    shards: Vec<Arc<ShardStatistics>>,
    keys: ApiKeys,
    issuer: TokenIssuer,
    store: Option<Store>,
    development: bool,
) -> Router {
    let mut router = page::router()
        .merge(twirp::router(
            rooms.clone(),
            agents.clone(),
            keys.clone(),
            store,
        ))
        .merge(agents::router(agents, keys))
        .merge(metrics::router(rooms, webhooks, shards));
    if development {
        router = router.merge(development::router(issuer));
    }
    router
}
