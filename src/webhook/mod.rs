//! Webhooks: the facts of rooms, sent to the configured receivers by `POST`.
//!
//! A room hands its facts over and never waits. Each receiver has a queue ([`queue`]) that is
//! bounded in events and bytes; a task of its own sends what waits ([`receiver`]), the events of a
//! room in order, again after a while when they were not taken. A receiver may get an event twice
//! (its `id` stays the same) when its answer is lost.

mod address;
mod config;
mod event;
mod post;
mod queue;
mod receiver;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use moim_signaling::token::TokenIssuer;
use moim_signaling::wire::Room;

pub use config::{Filter, Retry, Waiting, WebhookConfig};
use post::Target;
pub use post::UrlError;
use queue::{Bounds, Queue};
use receiver::{Receiver, Signer};

use crate::room::{Fact, FactReader, Now};

/// How often it is looked whether everything was sent, when the server stops.
const POLL: Duration = Duration::from_millis(20);

/// Why webhooks cannot be sent as they are configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// A URL is not good.
    #[error("`webhook.urls` has a URL that cannot be used: {0}")]
    Url(#[from] UrlError),
    /// The key is not one of the server's.
    #[error("`webhook.api_key` must be one of `keys`")]
    Key,
}

/// All receivers.
#[derive(Clone)]
pub struct Webhooks {
    filter: Arc<Filter>,
    receivers: Arc<Vec<Arc<Receiver>>>,
}

/// Counts over all receivers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WebhookCounts {
    /// Events that wait or are under way.
    pub waiting: usize,
    /// Events that were dropped since the start.
    pub dropped: u64,
}

impl Webhooks {
    /// The receivers of a configuration, each with a task.
    ///
    /// # Errors
    /// When a URL or the key is not good.
    pub fn start(config: &WebhookConfig, issuer: &TokenIssuer) -> Result<Webhooks, WebhookError> {
        let has_key = issuer
            .issue(
                Some(&config.api_key),
                &Default::default(),
                0,
                Duration::ZERO,
            )
            .is_ok();
        if !config.urls.is_empty() && !has_key {
            return Err(WebhookError::Key);
        }
        let bounds = Bounds {
            waiting: config.resource_url_notifier.clone(),
            retry: config.retry.clone(),
        };
        let signer = Signer {
            issuer: issuer.clone(),
            api_key: config.api_key.clone(),
        };
        let mut receivers = Vec::new();
        for url in &config.urls {
            let target = Target::read(url, config.allow_private_addresses)?;
            let queue = Queue::new(bounds.clone());
            let receiver = Arc::new(Receiver::new(target, signer.clone(), queue));
            tokio::spawn(receiver.clone().run());
            receivers.push(receiver);
        }
        Ok(Webhooks {
            filter: Arc::new(config.filter_params.clone()),
            receivers: Arc::new(receivers),
        })
    }

    /// Counts over all receivers.
    pub fn counts(&self) -> WebhookCounts {
        let mut counts = WebhookCounts::default();
        for (waiting, dropped) in self.receivers.iter().map(|receiver| receiver.counts()) {
            counts.waiting += waiting;
            counts.dropped += dropped;
        }
        counts
    }

    /// Waits until everything was sent, but no longer than `limit`.
    pub async fn drain(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        while self.counts().waiting > 0 {
            if Instant::now() >= deadline {
                let waiting = self.counts().waiting;
                tracing::warn!(waiting, "webhooks were not sent before the server stopped");
                return;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl FactReader for Webhooks {
    fn read(&self, room: &dyn Fn() -> Room, fact: &Fact) {
        let sent = |name| self.filter.allows(name);
        if self.receivers.is_empty() || !event::name_of(fact).is_some_and(sent) {
            return;
        }
        let now = Now::read().unix_s();
        let Some(event) = event::event_of(&room(), fact, now) else {
            return;
        };
        let Ok(body) = serde_json::to_vec(&event) else {
            return;
        };
        let (body, room) = (Bytes::from(body), event.room.unwrap_or_default().name);
        for receiver in self.receivers.iter() {
            receiver.push(&room, body.clone());
        }
    }
}
