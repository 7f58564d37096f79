//! What all rooms of a server share.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;
use moim_signaling::token::TokenIssuer;
use moim_signaling::{Join, Refusal};
use tokio::sync::mpsc;

use super::core::About;
use super::journal::FactReader;
use super::mailbox::RoomMessage;
use super::metrics::RoomMetrics;
use super::order::RoomChanges;
use super::revocations::Revocations;
use super::settings::RoomSettings;
use crate::media::handle::Media;

/// What all rooms share.
pub(super) struct Shared {
    pub(super) settings: RoomSettings,
    pub(super) issuer: TokenIssuer,
    pub(super) media: Media,
    pub(super) metrics: Arc<RoomMetrics>,
    /// Readers of the facts of all rooms.
    pub(super) readers: Vec<Arc<dyn FactReader>>,
    pub(super) node_id: String,
    /// Tokens that are not taken any more.
    pub(super) revocations: Mutex<Revocations>,
    /// The way to each room, by name.
    pub(super) rooms: DashMap<String, mpsc::Sender<RoomMessage>>,
    /// The server takes no more joins.
    pub(super) closing: AtomicBool,
}

impl Shared {
    /// Whether somebody's token is taken.
    ///
    /// # Errors
    /// When it was revoked.
    pub(super) fn check_revocation(&self, join: &Join) -> Result<(), Refusal> {
        let revocations = self.revocations.lock();
        let revocations = revocations.unwrap_or_else(PoisonError::into_inner);
        if revocations.covers(&join.room, &join.identity, join.claims.nbf) {
            let text = "the token was revoked when its bearer was removed from the room";
            return Err(Refusal::Unauthorized(text.into()));
        }
        Ok(())
    }

    /// What a new room is.
    pub(super) fn about(&self, name: &str, changes: RoomChanges) -> About {
        let mut about = About {
            name: name.to_owned(),
            settings: self.settings.clone(),
            issuer: self.issuer.clone(),
            node_id: self.node_id.clone(),
            metadata: String::new(),
            agents: Vec::new(),
        };
        changes.apply_to(&mut about);
        about
    }
}
