//! HTTP/1.1 as it comes from strangers: connections within bounds of time, size and number,
//! paths and origins as scripts have them.
//!
//! A connection's first request head is read here ([`request_head`]), so that a token of any
//! length finds its way; hyper reads what follows. Each request gets the address of its client
//! ([`address`]), a path without oddities ([`path`]) and an answer that other origins may read
//! ([`cors`]).

mod address;
mod cors;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod path;
mod places;
mod replay;
mod request_head;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use moim_signaling::ClientAddress;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tower::ServiceExt;

use address::TrustedProxies;
use places::{Place, Places};
use replay::Replay;
use request_head::{Head, HeadError, LargeHeads, MAX_HEAD, read_head};

/// A request head has to come within this time, and so does the next one on a connection that
/// is kept: a connection that says nothing holds no place.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A request has to be answered within this time. The life of a WebSocket comes after it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A client that acknowledges or takes nothing for this long is gone (RFC 5482).
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait before accepting again when the process has no descriptor left.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Connections that are still there so long after the rooms have closed are cut.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What all connections share.
struct Shared {
    router: Router,
    trusted_proxies: TrustedProxies,
    large_heads: LargeHeads,
    places: Places,
}

/// The listeners of a server.
pub struct HttpServer {
    listeners: JoinSet<std::io::Result<()>>,
    stop: watch::Sender<bool>,
}

impl HttpServer {
    /// Begins to serve `router` on all listeners. Proxies at `trusted_proxies` name the client
    /// in `X-Forwarded-For`; those on this machine always may.
    pub fn start(
        listeners: Vec<TcpListener>,
        router: Router,
        trusted_proxies: Vec<IpAddr>,
    ) -> HttpServer {
        let shared = Arc::new(Shared {
            router,
            trusted_proxies: TrustedProxies(trusted_proxies),
            large_heads: LargeHeads::default(),
            places: Places::default(),
        });
        let (stop, _) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for listener in listeners {
            tasks.spawn(listen(listener, shared.clone(), stop.subscribe()));
        }
        HttpServer {
            listeners: tasks,
            stop,
        }
    }

    /// Waits until a listener fails.
    pub async fn failed(&mut self) -> anyhow::Result<()> {
        match self.listeners.join_next().await {
            Some(ended) => Ok(ended??),
            None => Ok(()),
        }
    }

    /// Takes no more connections and waits a while until those that are there have ended.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let all = async { while self.listeners.join_next().await.is_some() {} };
        if timeout(STOP_TIMEOUT, all).await.is_err() {
            tracing::info!("some connections did not end in time");
        }
    }
}

async fn listen(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        match accepted {
            Ok((stream, from)) => {
                // Without a place the connection is closed at once: an answer would need one.
                let is_proxy = shared.trusted_proxies.contains(from.ip());
                if let Some(place) = shared.places.take(from.ip(), is_proxy) {
                    let serving = serve(stream, from, shared.clone(), stopped.clone(), place);
                    connections.spawn(serving);
                }
            }
            // The connection was gone before it was accepted, or there is no descriptor left:
            // neither ends the listener.
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn serve(
    mut stream: TcpStream,
    from: SocketAddr,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
    _place: Place,
) {
    let _ = stream.set_nodelay(true);
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT));
    let head = tokio::select! {
        head = timeout(HEAD_TIMEOUT, read_head(&mut stream, &shared.large_heads)) => head,
        _ = stopped.wait_for(|stopped| *stopped) => return,
    };
    let head = match head {
        Ok(Ok(head)) => head,
        Ok(Err(error)) => return refuse(stream, error).await,
        Err(_) => return refuse(stream, HeadError::Slow).await,
    };
    // hyper holds a copy while it reads a long head: its permit is kept as long.
    let Head {
        bytes,
        permit: _permit,
    } = head;
    let service = {
        let shared = shared.clone();
        hyper::service::service_fn(move |request| answer(shared.clone(), from.ip(), request))
    };
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD + request_head::SLACK)
        .serve_connection(TokioIo::new(Replay::new(bytes, stream)), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        outcome = connection.as_mut() => Some(outcome),
        _ = stopped.wait_for(|stopped| *stopped) => None,
    };
    let outcome = match ended {
        Some(outcome) => outcome,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Answers one request.
async fn answer(
    shared: Arc<Shared>,
    peer: IpAddr,
    request: Request<Incoming>,
) -> Result<Response, std::convert::Infallible> {
    let mut request = request.map(Body::new);
    path::normalize(&mut request);
    let origins = cors::Origins::of(&request);
    if let Some(response) = origins.preflight(&request) {
        return Ok(response);
    }
    let client = shared.trusted_proxies.client_of(peer, request.headers());
    request.extensions_mut().insert(ClientAddress(client));
    let answered = timeout(ANSWER_TIMEOUT, shared.router.clone().oneshot(request)).await;
    let mut response = match answered {
        Ok(Ok(response)) => response,
        Err(_) => (StatusCode::REQUEST_TIMEOUT, "the request took too long\n").into_response(),
    };
    origins.open(&mut response);
    Ok(response)
}

/// Says why a head was not read.
async fn refuse(mut stream: TcpStream, error: HeadError) {
    let Some(status) = error.status() else {
        return;
    };
    let body = format!("{error}\n");
    let response = format!(
        "HTTP/1.1 {status}\r\n{}: *\r\nconnection: close\r\ncontent-type: text/plain\r\n\
         content-length: {}\r\n\r\n{body}",
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        body.len(),
    );
    let answer = async {
        if stream.write_all(response.as_bytes()).await.is_ok() && stream.shutdown().await.is_ok() {
            // What is unread when a socket is closed makes TCP reset it, and the answer is lost.
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        }
    };
    let _ = timeout(Duration::from_secs(1), answer).await;
}
