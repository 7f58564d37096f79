//! One participant: who it is, what it may do, its session and its two connections.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use moim_engine::command::DataChannel;
use moim_engine::ids::TransportId;
use moim_signaling::token::Claims;
use moim_signaling::wire::{
    DataBlob, ParticipantInfo, UpdateTrackSettings, client_info, participant_info, signal_response,
};
use moim_signaling::{Join, Permissions};
use rand::rngs::StdRng;

use super::announcement::Announcement;
use super::audience::Audience;
use super::clock::Now;
use super::device_quirks::unusable_codecs;
use super::id::{ParticipantKey, SeatId, TrackKey, sid};
use super::subscription::Subscription;
use crate::media::connection::{PublisherConnection, SubscriberConnection};

/// One participant of a room.
pub(super) struct Participant {
    pub(super) key: ParticipantKey,
    pub(super) sid: String,
    pub(super) identity: String,
    pub(super) name: String,
    pub(super) metadata: String,
    pub(super) attributes: HashMap<String, String>,
    pub(super) permissions: Permissions,
    /// The token that it joined with.
    pub(super) claims: Claims,
    /// The API key that signed it.
    pub(super) api_key: String,
    pub(super) client: Client,
    pub(super) state: participant_info::State,
    /// Rises with each change of what is told of it.
    pub(super) version: u32,
    pub(super) joined_at_ms: i64,
    pub(super) session: Session,
    /// Since when one of the connections is over.
    pub(super) failed_since: Option<Instant>,
    pub(super) publisher: Option<PublisherConnection>,
    pub(super) subscriber: Option<SubscriberConnection>,
    /// Tracks that it announced and has not offered, oldest first.
    pub(super) announcements: VecDeque<Announcement>,
    pub(super) audience: Audience,
    pub(super) subscriptions: BTreeMap<TrackKey, Subscription>,
    pub(super) demands: Demands,
    pub(super) data: DataState,
    pub(super) told: Told,
    /// Blobs that it stored, by encoded key.
    pub(super) blobs: BTreeMap<Vec<u8>, DataBlob>,
    /// The next resume's session is cut on purpose: a scenario of the SDKs' own tests.
    pub(super) cuts_next_resume: bool,
}

/// What a participant's client said of itself when it joined.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// Version of the protocol that it speaks.
    pub(super) protocol: i32,
    /// Version of what clients do among themselves.
    pub(super) client_protocol: i32,
    /// By number, those of newer clients included.
    pub(super) capabilities: Vec<i32>,
    /// It makes a track of what it was offered when its first packet comes, as Pion does.
    pub(super) learns_by_media: bool,
    /// Codecs with which it must not publish, by MIME type.
    pub(super) unusable_codecs: Vec<&'static str>,
    /// It takes every track that it may.
    pub(super) auto_subscribe: bool,
    /// It takes every data track that it may.
    pub(super) auto_subscribe_data_track: bool,
    /// It says itself in which size it shows tracks, and starts with the smallest.
    pub(super) adaptive_stream: bool,
    /// Video that its network does not carry may be paused.
    pub(super) allow_pause: bool,
}

/// A participant's hold on its WebSocket.
#[derive(Debug)]
pub(super) struct Session {
    /// Counts its sessions; messages of former ones are ignored.
    pub(super) number: u32,
    pub(super) since: Instant,
    pub(super) link: Link,
    /// When the token for reconnecting was last given.
    pub(super) token_sent: Instant,
    /// Messages that the shell has not taken yet. The rounds of the shell bound it.
    outgoing: Vec<signal_response::Message>,
}

/// Whether a participant can be told anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// Its WebSocket is there.
    Up,
    /// Its WebSocket is lost since then; it may resume.
    Down {
        /// When that was noticed.
        since: Instant,
    },
}

/// What a participant asked for by the sid of a track, whether or not there is such a track yet.
#[derive(Debug, Default)]
pub(super) struct Demands {
    /// Subscribe or not, against its default.
    subscribe: HashMap<String, bool>,
    /// In which size it shows them.
    settings: HashMap<String, UpdateTrackSettings>,
}

/// Sids of tracks that one participant may name. A room of fifty has some hundred tracks.
const MAX_DEMANDS: usize = 4_096;
/// Capabilities that a client may list: the protocol has two.
const MAX_CAPABILITIES: usize = 32;
/// Longest sid that is kept, bytes.
const MAX_SID: usize = 64;

impl Demands {
    pub(super) fn set_subscribe(&mut self, track_sid: &str, subscribe: bool) {
        if accepts(&self.subscribe, track_sid) {
            self.subscribe.insert(track_sid.to_owned(), subscribe);
        }
    }

    pub(super) fn subscribe(&self, track_sid: &str) -> Option<bool> {
        self.subscribe.get(track_sid).copied()
    }

    pub(super) fn set_settings(&mut self, track_sid: &str, settings: &UpdateTrackSettings) {
        if accepts(&self.settings, track_sid) {
            let settings = UpdateTrackSettings {
                track_sids: Vec::new(),
                ..settings.clone()
            };
            self.settings.insert(track_sid.to_owned(), settings);
        }
    }

    pub(super) fn settings(&self, track_sid: &str) -> Option<&UpdateTrackSettings> {
        self.settings.get(track_sid)
    }

    /// The track has ended and its sid will never be used again.
    pub(super) fn forget(&mut self, track_sid: &str) {
        self.subscribe.remove(track_sid);
        self.settings.remove(track_sid);
    }
}

fn accepts<T>(known: &HashMap<String, T>, track_sid: &str) -> bool {
    track_sid.len() <= MAX_SID && (known.len() < MAX_DEMANDS || known.contains_key(track_sid))
}

/// The state of a participant's data messages.
#[derive(Debug, Default)]
pub(super) struct DataState {
    /// Sequence number of its last reliable message.
    pub(super) last_sequence: u32,
    /// Messages for it that came before it had a connection to send them on.
    pub(super) waiting: VecDeque<(DataChannel, Bytes)>,
    /// Bytes in `waiting`.
    pub(super) waiting_bytes: usize,
    /// The handle of the next data track that it subscribes to.
    pub(super) last_handle: u16,
}

/// What a participant's client has been told, so that it can be brought up to date. After a
/// resume nothing is assumed: what was under way may not have arrived.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// It knows the participants and the room up to the last round.
    pub(super) roster: bool,
    /// The version of itself that it was told at joining.
    pub(super) own_version: u32,
    /// Tracks of which it was told whether it may see them.
    pub(super) permissions: BTreeMap<TrackKey, bool>,
    /// Who it was told speaks, and how loud; `None`: unknown.
    pub(super) speakers: Option<BTreeMap<ParticipantKey, f32>>,
    /// The connection quality of others, and its own, that it was told.
    pub(super) qualities: BTreeMap<ParticipantKey, i32>,
    /// The data tracks that it was told it gets, by handle; `None`: unknown.
    pub(super) handles: Option<BTreeMap<u16, String>>,
}

impl Told {
    /// A client that has just joined knows what its `JoinResponse` says.
    pub(super) fn at_join() -> Told {
        Told {
            roster: true,
            own_version: 0,
            permissions: BTreeMap::new(),
            speakers: Some(BTreeMap::new()),
            qualities: BTreeMap::new(),
            handles: Some(BTreeMap::new()),
        }
    }
}

impl Session {
    fn new(now: Now) -> Session {
        Session {
            number: 1,
            since: now.instant,
            link: Link::Up,
            token_sent: now.instant,
            outgoing: Vec::new(),
        }
    }

    /// A resume begins the next session.
    pub(super) fn renew(&mut self, now: Now) {
        self.number += 1;
        self.since = now.instant;
        self.link = Link::Up;
        self.outgoing.clear();
    }

    /// The WebSocket is gone, with what was not taken.
    pub(super) fn lose(&mut self, now: Now) {
        if self.is_up() {
            self.link = Link::Down { since: now.instant };
        }
        self.outgoing.clear();
    }

    pub(super) fn is_up(&self) -> bool {
        self.link == Link::Up
    }

    /// Queues a message; without a WebSocket there is nobody to tell, and a resume brings the
    /// client up to date.
    pub(super) fn send(&mut self, message: signal_response::Message) {
        if self.is_up() {
            self.outgoing.push(message);
        }
    }

    /// What the shell has to deliver.
    pub(super) fn take_outgoing(&mut self) -> Vec<signal_response::Message> {
        std::mem::take(&mut self.outgoing)
    }

    pub(super) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }
}

impl Participant {
    /// A participant as its token and its client describe it.
    pub(super) fn new(key: ParticipantKey, join: Join, now: Now, rng: &mut StdRng) -> Participant {
        let permissions = join.claims.permissions();
        let mut attributes = join.claims.attributes.clone();
        // What the client says of itself counts only if it may change what the token says.
        if permissions.update_metadata {
            attributes.extend(join.attributes);
        }
        attributes.retain(|_, value| !value.is_empty());
        Participant {
            key,
            sid: sid(rng, "PA_"),
            identity: join.identity,
            name: join.claims.name.clone(),
            metadata: join.claims.metadata.clone(),
            attributes,
            permissions,
            claims: join.claims,
            api_key: join.api_key,
            client: Client {
                protocol: join.protocol,
                client_protocol: join.client.client_protocol,
                unusable_codecs: unusable_codecs(&join.client),
                learns_by_media: join.client.sdk == client_info::Sdk::Go as i32,
                capabilities: join
                    .client
                    .capabilities
                    .into_iter()
                    .take(MAX_CAPABILITIES)
                    .collect(),
                auto_subscribe: join.auto_subscribe,
                auto_subscribe_data_track: join.auto_subscribe_data_track,
                adaptive_stream: join.adaptive_stream,
                allow_pause: join.allow_pause,
            },
            state: participant_info::State::Joining,
            version: 1,
            joined_at_ms: now.unix_ms(),
            session: Session::new(now),
            failed_since: None,
            publisher: None,
            subscriber: None,
            announcements: VecDeque::new(),
            audience: Audience::default(),
            subscriptions: BTreeMap::new(),
            demands: Demands::default(),
            data: DataState::default(),
            told: Told::at_join(),
            blobs: BTreeMap::new(),
            cuts_next_resume: false,
        }
    }

    /// Its present session's hold on the seat.
    pub(super) fn seat(&self) -> SeatId {
        SeatId {
            participant: self.key,
            session: self.session.number,
        }
    }

    /// Queues a message for its client.
    pub(super) fn send(&mut self, message: signal_response::Message) {
        self.session.send(message);
    }

    /// What the protocol tells of a participant, without its tracks.
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

    /// It speaks for others: its token says so by grant or by kind.
    pub(super) fn is_agent(&self) -> bool {
        self.permissions.agent || self.claims.kind() == participant_info::Kind::Agent
    }

    /// The connection that makes a participant present is up: the subscriber connection where
    /// there is one, as `subscriber_primary` in the `JoinResponse` said.
    pub(super) fn is_connected(&self) -> bool {
        match &self.subscriber {
            Some(subscriber) => subscriber.connected,
            None => self
                .publisher
                .as_ref()
                .is_some_and(|publisher| publisher.connected),
        }
    }

    /// The connection on which it gets data.
    pub(super) fn data_transport(&self) -> Option<TransportId> {
        match (&self.subscriber, &self.publisher) {
            (Some(subscriber), _) => Some(subscriber.transport()),
            (None, Some(publisher)) => Some(publisher.transport()),
            (None, None) => None,
        }
    }

    /// Bytes of its attributes, names included.
    pub(super) fn attribute_bytes(&self) -> usize {
        self.attributes
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum()
    }
}
