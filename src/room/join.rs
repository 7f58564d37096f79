//! Coming and going: joins, sessions that end, and the times after which somebody is gone.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use moim_signaling::outbox::{Outbox, outbox};
use moim_signaling::token::Renewal;
use moim_signaling::wire::{
    DisconnectReason, JoinResponse, ServerInfo, SubscriptionPermissionUpdate, leave_request,
    participant_info, server_info, signal_response,
};
use moim_signaling::{Join, Refusal, SessionEnd};
use tokio::time::Instant;

use super::actor::Joined;
use super::participant::{Audience, Participant, ParticipantKey, Subscriber};
use super::seat::RoomSeat;
use super::state::{Room, Side, enabled_codecs, random_text, unix_micros};
use crate::media::negotiation::{LocalEndpoint, SubscriberNegotiation};
use moim_engine::command::{Command, NewTransport};
use moim_engine::ids::TransportId;

/// Version of the protocol that we speak; clients choose features by it.
const PROTOCOL: i32 = 16;
/// The server version that clients compare with the ones in which features appeared.
const SERVER_VERSION: &str = "1.13.3";
const PING_INTERVAL: i32 = 5;
const PING_TIMEOUT: i32 = 15;
/// A participant whose connection does not come up in this time is removed.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// An offer that is not answered in this time means that the client is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a client whose connection is over may take to say that it leaves.
const FAILURE_GRACE: Duration = Duration::from_secs(1);
/// Tokens for reconnecting are renewed this often and valid twice as long.
const TOKEN_INTERVAL: Duration = Duration::from_secs(300);

impl Room {
    /// Whether somebody with this identity would be let in.
    pub(super) fn admits(&self, identity: &str) -> Result<(), Refusal> {
        let limit = self.shared.settings.max_participants as usize;
        // Who is here already under this identity gives way.
        let others = self
            .participants
            .values()
            .filter(|participant| participant.identity != identity)
            .count();
        if limit > 0 && others >= limit {
            let text = format!("The room is full: {others} of {limit} seats are taken");
            return Err(Refusal::Forbidden(text));
        }
        Ok(())
    }

    pub(super) fn join(&mut self, join: Join) -> Joined {
        if let Some(sid) = join.resume.clone() {
            return self.resume(join, &sid);
        }
        self.admits(&join.identity)?;
        let former: Vec<ParticipantKey> = self
            .participants
            .values()
            .filter(|participant| participant.identity == join.identity)
            .map(|participant| participant.key)
            .collect();
        for key in former {
            self.dismiss(
                key,
                DisconnectReason::DuplicateIdentity,
                leave_request::Action::Disconnect,
            );
        }
        let key = self.next_key();
        let (outbox, responses) = outbox();
        let participant = new_participant(key, join, outbox);
        tracing::info!(participant = %participant.identity, sid = %participant.sid, "joined");
        self.shared.metrics.add_participants(1);
        self.participants.insert(key, participant);
        self.welcome(key);
        let seat = self.seat(key)?;
        Ok((seat, responses))
    }

    /// A hold on a seat for the participant's present session.
    pub(super) fn seat(&self, key: ParticipantKey) -> Result<RoomSeat, Refusal> {
        let gone = || Refusal::Unavailable("the room is just ending".into());
        Ok(RoomSeat {
            room: self.sender.upgrade().ok_or_else(gone)?,
            participant: key,
            session: self.participants.get(&key).ok_or_else(gone)?.session,
        })
    }

    /// The first messages to somebody new.
    fn welcome(&mut self, key: ParticipantKey) {
        let others: Vec<ParticipantKey> = self
            .participants
            .values()
            .filter(|other| other.key != key && !other.permissions.hidden)
            .filter(|other| {
                other.state == participant_info::State::Active
                    || self.tracks.values().any(|track| track.owner == other.key)
            })
            .map(|other| other.key)
            .collect();
        let Some(participant) = self.participants.get(&key) else {
            return;
        };
        let permissions = participant.permissions.clone();
        let response = JoinResponse {
            room: Some(self.room_info()),
            participant: self.participant_info(key),
            other_participants: others
                .iter()
                .filter_map(|other| self.participant_info(*other))
                .collect(),
            server_version: SERVER_VERSION.to_owned(),
            subscriber_primary: permissions.subscribe,
            ping_timeout: PING_TIMEOUT,
            ping_interval: PING_INTERVAL,
            server_info: Some(self.server_info()),
            sif_trailer: self.sif_trailer.clone().into_bytes().into(),
            enabled_publish_codecs: enabled_codecs()
                .into_iter()
                .filter(|codec| codec.mime != "video/rtx")
                .collect(),
            fast_publish: permissions.publish,
            ..Default::default()
        };
        self.send(key, signal_response::Message::Join(response));
        self.send_token(key);
        if permissions.subscribe {
            self.open_subscriber(key);
            self.subscribe_to_all(key);
        }
        // Who was here hears of it when the connection is up.
        if let Some(participant) = self.participants.get_mut(&key) {
            participant.state = participant_info::State::Joined;
        }
    }

    pub(super) fn server_info(&self) -> ServerInfo {
        ServerInfo {
            edition: server_info::Edition::Standard as i32,
            version: SERVER_VERSION.to_owned(),
            protocol: PROTOCOL,
            node_id: self.shared.node_id.clone(),
            ..Default::default()
        }
    }

    /// Makes the server's half of one of a participant's two connections.
    pub(super) fn open_transport(
        &mut self,
        key: ParticipantKey,
        side: Side,
    ) -> (TransportId, LocalEndpoint) {
        let transport = match side {
            Side::Publisher => self.media.place_publisher(),
            Side::Subscriber => self.media.place_subscriber(),
        };
        let local = self.local_endpoint(transport);
        let room = self.media.room_id();
        self.media
            .command(Command::AddTransport(Box::new(NewTransport {
                transport,
                room,
                local_ice: local.ice.clone(),
                // The side that makes the offer opens the data channels.
                opens_data_channels: side == Side::Subscriber,
            })));
        self.transports.insert(transport, (key, side));
        (transport, local)
    }

    fn open_subscriber(&mut self, key: ParticipantKey) {
        let (transport, local) = self.open_transport(key, Side::Subscriber);
        if let Some(participant) = self.participants.get_mut(&key) {
            participant.subscriber = Some(Subscriber {
                transport,
                negotiation: SubscriberNegotiation::new(local, rand::random()),
                connected: false,
                offered_at: None,
            });
        }
    }

    pub(super) fn transport_connected(&mut self, transport: TransportId) {
        let Some((key, side)) = self.transports.get(&transport).copied() else {
            return;
        };
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        match side {
            Side::Publisher => {
                if let Some(publisher) = &mut participant.publisher {
                    publisher.connected = true;
                }
            }
            Side::Subscriber => {
                if let Some(subscriber) = &mut participant.subscriber {
                    subscriber.connected = true;
                }
            }
        }
        if participant.is_connected() && participant.state == participant_info::State::Joined {
            participant.state = participant_info::State::Active;
            self.broadcast_participant(key);
        }
    }

    pub(super) fn session_ended(&mut self, key: ParticipantKey, session: u32, end: SessionEnd) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        if participant.session != session {
            return;
        }
        match end {
            SessionEnd::Final => self.remove(key, DisconnectReason::ClientInitiated),
            SessionEnd::Lost => {
                participant.outbox = None;
                participant.lost_since.get_or_insert(Instant::now());
            }
        }
    }

    pub(super) fn check_timeouts(&mut self, now: Instant) {
        let resume = self.shared.settings.resume();
        let passed = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        let mut gone = Vec::new();
        for participant in self.participants.values() {
            let unanswered = participant
                .subscriber
                .as_ref()
                .filter(|_| participant.lost_since.is_none())
                .and_then(|subscriber| subscriber.offered_at)
                .is_some_and(|at| passed(at, ANSWER_TIMEOUT));
            let reason = if participant
                .lost_since
                .is_some_and(|since| passed(since, resume))
            {
                DisconnectReason::SignalClose
            } else if participant.state != participant_info::State::Active
                && passed(participant.session_since, JOIN_TIMEOUT)
            {
                DisconnectReason::JoinFailure
            } else if unanswered
                || participant
                    .failed_since
                    .is_some_and(|since| passed(since, FAILURE_GRACE))
            {
                DisconnectReason::ConnectionTimeout
            } else {
                continue;
            };
            gone.push((participant.key, reason));
        }
        for (key, reason) in gone {
            let action = match reason {
                DisconnectReason::ConnectionTimeout => leave_request::Action::Reconnect,
                _ => leave_request::Action::Disconnect,
            };
            self.dismiss(key, reason, action);
        }
    }

    pub(super) fn refresh_tokens(&mut self, now: Instant) {
        let due: Vec<ParticipantKey> = self
            .participants
            .values()
            .filter(|p| now.saturating_duration_since(p.token_sent) >= TOKEN_INTERVAL)
            .map(|p| p.key)
            .collect();
        for key in due {
            self.send_token(key);
        }
    }

    /// A fresh token with what the participant is and may do now, to reconnect with.
    pub(super) fn send_token(&mut self, key: ParticipantKey) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        participant.token_sent = Instant::now();
        let now = (unix_micros() / 1_000_000) as u64;
        let renewal = Renewal {
            api_key: &participant.api_key,
            claims: &participant.claims,
            room: &self.name,
            identity: &participant.identity,
            name: &participant.name,
            metadata: &participant.metadata,
            attributes: &participant.attributes,
            permissions: &participant.permissions,
        };
        // Fails only when the key was taken out of the configuration meanwhile.
        if let Ok(token) = self.shared.issuer.renew(&renewal, now, 2 * TOKEN_INTERVAL) {
            participant.send(signal_response::Message::RefreshToken(token));
        }
    }

    /// Tells a participant whether it may see a track.
    pub(super) fn tell_permission(
        &mut self,
        viewer: ParticipantKey,
        owner_sid: &str,
        track_sid: &str,
        allowed: bool,
    ) {
        let update = SubscriptionPermissionUpdate {
            participant_sid: owner_sid.to_owned(),
            track_sid: track_sid.to_owned(),
            allowed,
        };
        let message = signal_response::Message::SubscriptionPermissionUpdate(update);
        self.send(viewer, message);
    }
}

fn new_participant(key: ParticipantKey, join: Join, outbox: Outbox) -> Participant {
    let mut attributes = join.claims.attributes.clone();
    attributes.extend(join.attributes);
    let now = Instant::now();
    Participant {
        key,
        sid: format!("PA_{}", random_text(12)),
        identity: join.identity,
        name: join.claims.name.clone(),
        metadata: join.claims.metadata.clone(),
        attributes,
        permissions: join.claims.permissions(),
        claims: join.claims,
        api_key: join.api_key,
        client: join.client,
        protocol: join.protocol,
        auto_subscribe: join.auto_subscribe,
        adaptive_stream: join.adaptive_stream,
        allow_pause: join.allow_pause,
        state: participant_info::State::Joining,
        version: 1,
        joined_at_ms: unix_micros() / 1_000,
        outbox: Some(outbox),
        session: 1,
        session_since: now,
        lost_since: None,
        failed_since: None,
        token_sent: now,
        publisher: None,
        subscriber: None,
        pending: Vec::new(),
        audience: Audience::default(),
        subscriptions: BTreeMap::new(),
        wishes: HashMap::new(),
        data_sequence: 0,
    }
}
