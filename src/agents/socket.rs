//! `/agent`: a worker's WebSocket. Its first message registers it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use moim_signaling::token::ApiKeys;
use moim_signaling::wire::{
    RegisterWorkerResponse, ServerInfo, ServerMessage, WorkerMessage, WorkerPong, server_info,
    server_message, worker_message,
};
use prost::Message as _;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use super::dispatcher::Agents;
use super::pool::{Pool, WorkerKey};
use crate::room::{Now, SERVER_VERSION};

/// A worker registers within this time. LiveKit's value.
const REGISTER_TIMEOUT: Duration = Duration::from_secs(10);
/// A worker of which nothing is heard for this long is gone. The framework pings every 2.5 s by
/// default, and other workers are pinged by the server.
const SILENCE: Duration = Duration::from_secs(60);
/// How often a worker is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// Bytes of a worker's message. The largest has 512 KiB of an agent's metadata.
const MAX_MESSAGE: usize = 1 << 20;
/// Connections of workers at a time.
const MAX_CONNECTIONS: usize = 1_000;
/// Version of the protocol between workers and the server.
const AGENT_PROTOCOL: i32 = 1;

#[derive(Clone)]
struct Service {
    agents: Agents,
    keys: ApiKeys,
    places: Arc<Semaphore>,
}

/// The route of workers.
pub fn router(agents: Agents, keys: ApiKeys) -> Router {
    let service = Service {
        agents,
        keys,
        places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
    };
    Router::new()
        .route("/agent", get(connect))
        .with_state(service)
}

async fn connect(
    State(service): State<Service>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let header = headers.get(header::AUTHORIZATION);
    let header = header.and_then(|value| value.to_str().ok());
    let bearer = header.and_then(|value| value.strip_prefix("Bearer "));
    let token = bearer.or_else(|| query.get("access_token").map(String::as_str));
    let now = Now::read().unix_s();
    let verified = match service.keys.verify(token.unwrap_or_default().trim(), now) {
        Ok(verified) => verified,
        Err(error) => return (StatusCode::UNAUTHORIZED, error.to_string()).into_response(),
    };
    let (api_key, claims) = verified;
    if !claims.video.is_some_and(|grant| grant.agent) {
        let text = "the token does not allow to work as an agent (grant agent)";
        return (StatusCode::UNAUTHORIZED, text).into_response();
    }
    let Ok(place) = service.places.clone().try_acquire_owned() else {
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "there are too many workers",
        )
            .into_response();
    };
    upgrade
        .max_message_size(MAX_MESSAGE)
        .max_frame_size(MAX_MESSAGE)
        .on_upgrade(move |socket| async move {
            serve(socket, service.agents, api_key).await;
            drop(place);
        })
}

async fn serve(mut socket: WebSocket, agents: Agents, api_key: String) {
    let (worker, outbox) = agents.connect();
    let registered = timeout(
        REGISTER_TIMEOUT,
        register(&mut socket, &agents, worker, &api_key),
    );
    if registered.await == Ok(Some(())) {
        work(&mut socket, &agents, worker, outbox).await;
    }
    agents.disconnect(worker);
    let _ = timeout(Duration::from_secs(1), socket.send(Message::Close(None))).await;
}

/// Waits for the message that registers a worker, and answers it. `None` when the connection is
/// to be closed.
async fn register(
    socket: &mut WebSocket,
    agents: &Agents,
    worker: WorkerKey,
    api_key: &str,
) -> Option<()> {
    loop {
        match read(socket).await? {
            Some(worker_message::Message::Register(request)) => {
                let registered = |pool: &mut Pool, _| pool.register(worker, api_key, request);
                let worker_id = agents.change(registered)?;
                let response = RegisterWorkerResponse {
                    worker_id,
                    server_info: Some(ServerInfo {
                        edition: server_info::Edition::Standard as i32,
                        version: SERVER_VERSION.to_owned(),
                        agent_protocol: AGENT_PROTOCOL,
                        ..Default::default()
                    }),
                };
                return send(socket, server_message::Message::Register(response)).await;
            }
            Some(worker_message::Message::Ping(ping)) => pong(socket, ping.timestamp).await?,
            _ => {}
        }
    }
}

/// The life of a registered worker.
async fn work(
    socket: &mut WebSocket,
    agents: &Agents,
    worker: WorkerKey,
    mut outbox: mpsc::Receiver<ServerMessage>,
) -> Option<()> {
    let mut pings = tokio::time::interval(PING_INTERVAL);
    let mut silent_at = tokio::time::Instant::now() + SILENCE;
    loop {
        tokio::select! {
            message = outbox.recv() => write(socket, &message?).await?,
            message = read(socket) => {
                silent_at = tokio::time::Instant::now() + SILENCE;
                match message? {
                    Some(worker_message::Message::Ping(ping)) => {
                        pong(socket, ping.timestamp).await?;
                    }
                    Some(message) => agents.hear(worker, message),
                    None => {}
                }
            }
            _ = pings.tick() => socket.send(Message::Ping(Default::default())).await.ok()?,
            () = tokio::time::sleep_until(silent_at) => return None,
        }
    }
}

/// The next message; `Some(None)` for a frame that is none, `None` at the end.
async fn read(socket: &mut WebSocket) -> Option<Option<worker_message::Message>> {
    let message = match socket.recv().await?.ok()? {
        Message::Binary(bytes) => WorkerMessage::decode(bytes).ok()?,
        Message::Text(text) => serde_json::from_str(&text).ok()?,
        Message::Ping(_) | Message::Pong(_) => return Some(None),
        Message::Close(_) => return None,
    };
    Some(message.message)
}

async fn pong(socket: &mut WebSocket, last_timestamp: i64) -> Option<()> {
    let timestamp = Now::read().unix_ms();
    let pong = WorkerPong {
        last_timestamp,
        timestamp,
    };
    send(socket, server_message::Message::Pong(pong)).await
}

async fn send(socket: &mut WebSocket, message: server_message::Message) -> Option<()> {
    let message = Some(message);
    write(socket, &ServerMessage { message }).await
}

async fn write(socket: &mut WebSocket, message: &ServerMessage) -> Option<()> {
    let frame = Message::Binary(message.encode_to_vec().into());
    let sent = timeout(SILENCE, socket.send(frame)).await;
    sent.ok()?.ok()
}
