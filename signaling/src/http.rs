//! The routes of the signaling service: who is let in, and the upgrade to a WebSocket.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use tokio::time::Instant;
use tracing::Instrument;

use crate::admission::read_join;
use crate::connections::{ClientAddress, Connections};
use crate::rooms::{Refusal, Rooms};
use crate::session::{self, Limits, MAX_MESSAGE, SeatGuard};
use crate::token::ApiKeys;

/// Bytes that a WebSocket reads and writes at once. Most sessions are silent most of the time:
/// their buffers are what they cost.
const IO_BUFFER: usize = 4 << 10;

#[derive(Clone)]
struct Service<R> {
    rooms: R,
    keys: ApiKeys,
    limits: Limits,
    connections: Connections,
}

/// The routes of the signaling service. Requests bring their [`ClientAddress`] as an extension.
pub fn router<R: Rooms>(
    rooms: R,
    keys: ApiKeys,
    limits: Limits,
    connections: Connections,
) -> Router {
    let service = Service {
        rooms,
        keys,
        limits,
        connections,
    };
    Router::new()
        .route("/rtc", get(connect::<R>))
        .route("/rtc/validate", get(validate::<R>))
        .route("/rtc/{*rest}", axum::routing::any(not_found))
        .with_state(service)
}

fn refused(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    (status, refusal.to_string()).into_response()
}

/// Clients try newer paths first and fall back when there is nothing.
async fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "404 page not found\n").into_response()
}

async fn validate<R: Rooms>(
    State(service): State<Service<R>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    address: Option<Extension<ClientAddress>>,
) -> Response {
    let join = match read_join(&service.keys, &query, &headers, unix_seconds()) {
        Ok(join) => join,
        Err(refusal) => return refused(&refusal),
    };
    let address = address.map(|Extension(address)| address);
    let admitted = match service.connections.check(address) {
        Ok(()) => service.rooms.admits(&join).await,
        Err(refusal) => Err(refusal),
    };
    match admitted {
        Ok(()) => "success".into_response(),
        Err(refusal) => refused(&refusal),
    }
}

async fn connect<R: Rooms>(
    State(service): State<Service<R>>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    address: Option<Extension<ClientAddress>>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    // The token first: a stranger learns nothing else, and uses up nothing of those with whom it
    // shares an address.
    let join = match read_join(&service.keys, &query, &headers, unix_seconds()) {
        Ok(join) => join,
        Err(refusal) => return refused(&refusal),
    };
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return rejection.into_response(),
    };
    let address = address.map(|Extension(address)| address);
    let connection = match service.connections.admit(address, Instant::now()) {
        Ok(connection) => connection,
        Err(refusal) => return refused(&refusal),
    };
    let span = tracing::info_span!("session", room = %join.room, participant = %join.identity);
    let joined = service.rooms.join(join).instrument(span.clone()).await;
    let (seat, outbox) = match joined {
        Ok(joined) => joined,
        Err(refusal) => return refused(&refusal),
    };
    let limits = service.limits;
    let guard = SeatGuard::new(seat);
    upgrade
        .read_buffer_size(IO_BUFFER)
        .write_buffer_size(IO_BUFFER)
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(move |socket| {
            let session = async move {
                session::run(socket, guard, outbox, limits).await;
                drop(connection);
            };
            session.instrument(span)
        })
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
