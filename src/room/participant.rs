//! One participant: who it is, its sessions and its two connections.

use std::collections::{BTreeMap, HashMap, HashSet};

use moim_signaling::Permissions;
use moim_signaling::outbox::{Outbox, OutboxError};
use moim_signaling::token::Claims;
use moim_signaling::wire::{
    AddTrackRequest, ClientInfo, ParticipantInfo, SignalResponse, participant_info, signal_response,
};
use tokio::time::Instant;

use crate::media::negotiation::{PublisherNegotiation, SubscriberNegotiation};
use moim_engine::command::SubscriptionSettings;
use moim_engine::ids::{SubscriptionId, TrackId, TransportId};

/// Number of a participant within its room, never used twice.
pub(super) type ParticipantKey = u32;

/// The publisher connection.
pub(super) struct Publisher {
    pub(super) transport: TransportId,
    pub(super) negotiation: PublisherNegotiation,
    pub(super) connected: bool,
}

/// The subscriber connection.
pub(super) struct Subscriber {
    pub(super) transport: TransportId,
    pub(super) negotiation: SubscriberNegotiation,
    pub(super) connected: bool,
    /// When the offer under way was sent.
    pub(super) offered_at: Option<Instant>,
}

/// One track that a participant gets or wants.
#[derive(Debug, Clone)]
pub(super) struct Subscription {
    pub(super) id: SubscriptionId,
    pub(super) track: TrackId,
    pub(super) ssrc: u32,
    pub(super) rtx_ssrc: Option<u32>,
    /// The client has accepted it and the engine sends it.
    pub(super) active: bool,
    /// The client cannot take it.
    pub(super) refused: bool,
    pub(super) wish: SubscriptionSettings,
}

/// Whom a participant lets see its tracks.
#[derive(Debug, Clone, Default)]
pub(super) enum Audience {
    #[default]
    Everybody,
    /// By identity or sid: all tracks, or those with these sids.
    Named(Vec<(String, Option<HashSet<String>>)>),
}

/// One participant of a room.
pub(super) struct Participant {
    pub(super) key: ParticipantKey,
    pub(super) sid: String,
    pub(super) identity: String,
    pub(super) name: String,
    pub(super) metadata: String,
    pub(super) attributes: HashMap<String, String>,
    pub(super) permissions: Permissions,
    pub(super) claims: Claims,
    pub(super) api_key: String,
    pub(super) client: ClientInfo,
    pub(super) protocol: i32,
    pub(super) auto_subscribe: bool,
    pub(super) adaptive_stream: bool,
    pub(super) allow_pause: bool,
    pub(super) state: participant_info::State,
    pub(super) version: u32,
    /// Unix time, ms.
    pub(super) joined_at_ms: i64,
    /// Gone while the WebSocket is lost, or when the client did not read.
    pub(super) outbox: Option<Outbox>,
    /// Which session this is; messages of former ones are ignored.
    pub(super) session: u32,
    pub(super) session_since: Instant,
    pub(super) lost_since: Option<Instant>,
    /// Since when one of the connections is over.
    pub(super) failed_since: Option<Instant>,
    pub(super) token_sent: Instant,
    pub(super) publisher: Option<Publisher>,
    pub(super) subscriber: Option<Subscriber>,
    /// Tracks announced by `add_track` and not yet offered, by cid.
    pub(super) pending: Vec<(TrackId, AddTrackRequest)>,
    pub(super) audience: Audience,
    pub(super) subscriptions: BTreeMap<TrackId, Subscription>,
    /// Tracks that the client said it does not want, or wants, against its default.
    pub(super) wishes: HashMap<TrackId, bool>,
    /// Last sequence number of reliable data.
    pub(super) data_sequence: u32,
}

impl Participant {
    /// Puts a message into the outbox. A client that does not read has its outbox taken away,
    /// by which its session ends; nobody waits.
    pub(super) fn send(&mut self, message: signal_response::Message) {
        let Some(outbox) = &self.outbox else {
            return;
        };
        let response = SignalResponse {
            message: Some(message),
        };
        match outbox.send(response) {
            Ok(()) => {}
            Err(OutboxError::Full) => {
                tracing::warn!(participant = %self.identity, "the client does not read its messages");
                self.outbox = None;
            }
            // The session is just ending and will say so.
            Err(OutboxError::Closed) => self.outbox = None,
        }
    }

    /// What the protocol tells of a participant, without its tracks. Rises in version.
    pub(super) fn info(&self) -> ParticipantInfo {
        ParticipantInfo {
            sid: self.sid.clone(),
            identity: self.identity.clone(),
            state: self.state as i32,
            metadata: self.metadata.clone(),
            joined_at: self.joined_at_ms / 1_000,
            joined_at_ms: self.joined_at_ms,
            name: self.name.clone(),
            version: self.version,
            permission: Some(self.permissions.to_wire()),
            kind: self.claims.kind() as i32,
            attributes: self.attributes.clone(),
            client_protocol: self.client.client_protocol,
            capabilities: self.client.capabilities.clone(),
            ..Default::default()
        }
    }

    /// Whether the connection that makes a participant present is up.
    pub(super) fn is_connected(&self) -> bool {
        let publisher = self.publisher.as_ref().is_some_and(|p| p.connected);
        match &self.subscriber {
            Some(subscriber) => subscriber.connected,
            None => publisher,
        }
    }
}

impl Audience {
    /// Whether a track may be seen by a viewer.
    pub(super) fn permits(&self, viewer: &str, viewer_sid: &str, track_sid: &str) -> bool {
        match self {
            Audience::Everybody => true,
            Audience::Named(named) => named.iter().any(|(who, tracks)| {
                (who == viewer || who == viewer_sid)
                    && tracks
                        .as_ref()
                        .is_none_or(|tracks| tracks.contains(track_sid))
            }),
        }
    }
}
