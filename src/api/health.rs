//! `/healthz` and `/readyz`, for load balancers and supervisors. Neither asks anything outside the
//! process.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

use crate::room::Registry;

pub(super) fn router(rooms: Registry) -> Router {
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .with_state(rooms)
}

/// Whether new meetings should be sent here.
async fn ready(State(rooms): State<Registry>) -> (StatusCode, &'static str) {
    match rooms.takes_joins() {
        true => (StatusCode::OK, "ready\n"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "stopping\n"),
    }
}
