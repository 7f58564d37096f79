//! One receiver: its queue, and the task that empties it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use moim_signaling::token::{Claims, TokenIssuer};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::post::Target;
use super::queue::{Delivery, Outcome, Queue};
use crate::room::Now;

/// How long the token of a delivery is good.
const TOKEN_TTL: Duration = Duration::from_secs(300);

/// One receiver.
pub(super) struct Receiver {
    target: Target,
    signer: Signer,
    queue: Mutex<Queue>,
    /// Something was put in the queue, or a delivery has ended.
    changed: Notify,
}

/// Signs what is sent.
#[derive(Clone)]
pub(super) struct Signer {
    pub(super) issuer: TokenIssuer,
    pub(super) api_key: String,
}

impl Signer {
    /// A token that vouches for a body.
    fn sign(&self, body: &[u8]) -> Option<String> {
        let claims = Claims {
            sha256: STANDARD.encode(digest(&SHA256, body)),
            ..Default::default()
        };
        let now = Now::read().unix_s();
        let token = self
            .issuer
            .issue(Some(&self.api_key), &claims, now, TOKEN_TTL);
        token.ok()
    }
}

impl Receiver {
    pub(super) fn new(target: Target, signer: Signer, queue: Queue) -> Receiver {
        Receiver {
            target,
            signer,
            queue: Mutex::new(queue),
            changed: Notify::new(),
        }
    }

    /// Queues an event of a room. It never waits: without space the event is dropped.
    pub(super) fn push(&self, room: &str, body: Bytes) {
        if self.queue().push(Instant::now(), room, body) {
            self.changed.notify_one();
        } else {
            tracing::warn!(receiver = %self.target, "a webhook was dropped: too many wait");
        }
    }

    /// Events that wait or are under way, and those that were dropped.
    pub(super) fn counts(&self) -> (usize, u64) {
        let queue = self.queue();
        (queue.len(), queue.dropped())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what is queued, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        let mut deliveries = JoinSet::new();
        loop {
            while let Some(delivery) = self.next() {
                deliveries.spawn(self.clone().deliver(delivery));
            }
            let timeout = self.queue().timeout();
            tokio::select! {
                () = self.changed.notified() => {}
                Some(_) = deliveries.join_next() => {}
                () = until(timeout) => {}
            }
        }
    }

    fn next(&self) -> Option<Delivery> {
        self.queue().next(Instant::now())
    }

    async fn deliver(self: Arc<Self>, delivery: Delivery) {
        let outcome = self.send(&delivery).await;
        self.queue().done(Instant::now(), &delivery.room, outcome);
    }

    async fn send(&self, delivery: &Delivery) -> Outcome {
        let Some(token) = self.signer.sign(&delivery.body) else {
            tracing::error!("`webhook.api_key` is no key any more: a webhook was not sent");
            return Outcome::Done;
        };
        let (receiver, room) = (&self.target, &delivery.room);
        match self.target.post(&token, delivery.body.clone()).await {
            Ok(status) if status.is_success() => Outcome::Done,
            Ok(status) if status.is_server_error() || status.as_u16() == 429 => {
                tracing::info!(%receiver, %room, %status, "a webhook was not taken, and is sent again");
                Outcome::Again
            }
            Ok(status) => {
                tracing::warn!(%receiver, %room, %status, "a webhook was refused");
                Outcome::Done
            }
            Err(error) => {
                tracing::info!(%receiver, %room, %error, "a webhook did not arrive, and is sent again");
                Outcome::Again
            }
        }
    }
}

async fn until(timeout: Option<Instant>) {
    match timeout {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
