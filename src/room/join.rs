//! Coming and going: joins, sessions that end, and the times after which somebody is gone.

use std::time::{Duration, Instant};

use moim_engine::ids::TransportId;
use moim_signaling::token::Renewal;
use moim_signaling::wire::{
    DisconnectReason, JoinResponse, LeaveRequest, leave_request, participant_info, signal_response,
};
use moim_signaling::{Join, Refusal, SessionEnd};

use super::clock::Now;
use super::core::{Room, SERVER_VERSION, Side};
use super::device_quirks::client_configuration;
use super::id::{ParticipantKey, SeatId};
use super::journal::Fact;
use super::participant::{Link, Participant};
use super::publication::enabled_codecs;

/// What clients are told of pings, seconds: the values of LiveKit's server, to which its SDKs
/// are tuned.
const PING_INTERVAL_S: i32 = 5;
const PING_TIMEOUT_S: i32 = 15;
/// A participant whose connection does not come up in this time is removed. LiveKit's value.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// An offer that is not answered in this time means that the client is stuck. LiveKit's value.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// A client whose connection is over may take this long to say that it leaves.
const FAILURE_GRACE: Duration = Duration::from_secs(1);
/// Tokens for reconnecting are renewed this often and valid twice as long. LiveKit's value.
const TOKEN_INTERVAL: Duration = Duration::from_secs(300);

/// What comes of a join.
#[derive(Debug)]
pub enum Seated {
    /// A seat; its first message is a `JoinResponse` or a `ReconnectResponse`.
    Seat(SeatId),
    /// A session that cannot be resumed: its client is told this and joins from scratch.
    Dismissed(Box<LeaveRequest>),
}

impl Room {
    /// Whether somebody with this identity would be let in.
    ///
    /// # Errors
    /// When the room is full or closing.
    pub fn admits(&self, identity: &str) -> Result<(), Refusal> {
        if self.is_closing() {
            let text = "the room is just ending; try again in a moment";
            return Err(Refusal::Unavailable(text.into()));
        }
        let limit = self.about.settings.max_participants as usize;
        // A participant with the same identity gives way.
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

    /// Takes a seat, or takes one up again.
    ///
    /// # Errors
    /// When there is none.
    pub fn join(&mut self, now: Now, join: Join) -> Result<Seated, Refusal> {
        self.now = now;
        if let Some(sid) = join.resume.clone() {
            return Ok(self.resume(&join, &sid));
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
        let key = self.next_participant();
        let mut participant = Participant::new(key, join, now, &mut self.rng);
        participant.state = participant_info::State::Joined;
        let seat = participant.seat();
        tracing::debug!(participant = %participant.identity, sid = %participant.sid, "joined");
        self.participants.insert(key, participant);
        self.touch(key);
        self.news.room = true;
        self.welcome(key);
        if let Some(info) = self.participant_info(key) {
            self.journal.write(Fact::ParticipantJoined(Box::new(info)));
        }
        Ok(Seated::Seat(seat))
    }

    /// The first messages to somebody new.
    fn welcome(&mut self, key: ParticipantKey) {
        let others = self
            .participants
            .values()
            .filter(|other| other.key != key && !other.permissions.hidden)
            .filter_map(|other| self.participant_info(other.key))
            .collect();
        let Some(participant) = self.participants.get(&key) else {
            return;
        };
        let permissions = participant.permissions.clone();
        let own_version = participant.version;
        let unusable = &participant.client.unusable_codecs;
        let response = JoinResponse {
            room: Some(self.room_info()),
            participant: self.participant_info(key),
            other_participants: others,
            server_version: SERVER_VERSION.to_owned(),
            subscriber_primary: permissions.subscribe,
            ping_timeout: PING_TIMEOUT_S,
            ping_interval: PING_INTERVAL_S,
            server_info: Some(self.server_info()),
            sif_trailer: self.sif_trailer.clone().into_bytes().into(),
            enabled_publish_codecs: enabled_codecs()
                .into_iter()
                .filter(|codec| codec.mime != "video/rtx")
                .filter(|codec| !unusable.contains(&codec.mime.as_str()))
                .collect(),
            client_configuration: client_configuration(unusable),
            fast_publish: permissions.publish,
            ..Default::default()
        };
        self.send(key, signal_response::Message::Join(response));
        if let Some(participant) = self.participants.get_mut(&key) {
            participant.told.own_version = own_version;
        }
        self.send_token(key);
        self.news.speakers = true;
        if permissions.subscribe {
            self.open_subscriber(key);
        }
        self.reconsider_viewer(key);
        self.reconsider_data_viewer(key);
    }

    pub(super) fn transport_connected(&mut self, transport: TransportId) {
        let Some((key, side)) = self.transports.get(&transport).copied() else {
            return;
        };
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        match (
            side,
            &mut participant.publisher,
            &mut participant.subscriber,
        ) {
            (Side::Publisher, Some(publisher), _) => publisher.connected = true,
            (Side::Subscriber, _, Some(subscriber)) => subscriber.connected = true,
            _ => {}
        }
        if participant.is_connected() && participant.state == participant_info::State::Joined {
            participant.state = participant_info::State::Active;
            self.touch(key);
            if let Some(info) = self.participant_info(key) {
                self.journal.write(Fact::ParticipantActive(Box::new(info)));
            }
        }
    }

    pub(super) fn transport_failed(&mut self, transport: TransportId, reason: &str) {
        let Some((key, _)) = self.transports.get(&transport).copied() else {
            return;
        };
        tracing::debug!(participant = ?key, %reason, "a connection failed");
        // A client that leaves may close its connections before it says so.
        if let Some(participant) = self.participants.get_mut(&key) {
            participant.failed_since.get_or_insert(self.now.instant);
        }
    }

    /// A session's WebSocket has ended.
    pub fn session_ended(&mut self, now: Now, seat: SeatId, end: SessionEnd) {
        self.now = now;
        let Some(participant) = self.participants.get_mut(&seat.participant) else {
            return;
        };
        if participant.seat() != seat {
            return;
        }
        match end {
            SessionEnd::Final => self.remove(seat.participant, DisconnectReason::ClientInitiated),
            // There is nothing to come back to where media never flowed.
            SessionEnd::Lost if participant.state != participant_info::State::Active => {
                self.remove(seat.participant, DisconnectReason::SignalClose);
            }
            SessionEnd::Lost => participant.session.lose(now),
        }
    }

    /// When something of a participant times out.
    pub(super) fn participant_deadlines(&self) -> impl Iterator<Item = Instant> {
        let resume = self.about.settings.resume();
        self.participants.values().flat_map(move |participant| {
            let lost = match participant.session.link {
                Link::Up => None,
                Link::Down { since } => Some(since + resume),
            };
            let joining = (participant.state != participant_info::State::Active)
                .then_some(participant.session.since + JOIN_TIMEOUT);
            let answer = participant
                .subscriber
                .as_ref()
                .filter(|_| participant.session.is_up())
                .and_then(|subscriber| subscriber.offered_at())
                .map(|at| at + ANSWER_TIMEOUT);
            let failed = participant.failed_since.map(|since| since + FAILURE_GRACE);
            let token = participant
                .session
                .is_up()
                .then_some(participant.session.token_sent + TOKEN_INTERVAL);
            let offer = participant
                .subscriber
                .as_ref()
                .filter(|_| participant.session.is_up())
                .and_then(|subscriber| subscriber.offer_due());
            [lost, joining, answer, failed, token, offer]
                .into_iter()
                .flatten()
        })
    }

    pub(super) fn check_timeouts(&mut self) {
        let now = self.now;
        let resume = self.about.settings.resume();
        let passed = |since, limit| now.has_passed(since, limit);
        let mut gone = Vec::new();
        for participant in self.participants.values() {
            let up = participant.session.is_up();
            let offered_at = participant
                .subscriber
                .as_ref()
                .filter(|_| up)
                .and_then(|subscriber| subscriber.offered_at());
            let failed = participant
                .failed_since
                .is_some_and(|since| passed(since, FAILURE_GRACE));
            let reason = match participant.session.link {
                Link::Down { since } if passed(since, resume) => DisconnectReason::SignalClose,
                _ if participant.state != participant_info::State::Active
                    && passed(participant.session.since, JOIN_TIMEOUT) =>
                {
                    DisconnectReason::JoinFailure
                }
                _ if failed || offered_at.is_some_and(|at| passed(at, ANSWER_TIMEOUT)) => {
                    DisconnectReason::ConnectionTimeout
                }
                _ => continue,
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

    pub(super) fn refresh_tokens(&mut self) {
        let now = self.now;
        let due: Vec<ParticipantKey> = self
            .participants
            .values()
            .filter(|participant| participant.session.is_up())
            .filter(|participant| now.has_passed(participant.session.token_sent, TOKEN_INTERVAL))
            .map(|participant| participant.key)
            .collect();
        for key in due {
            self.send_token(key);
        }
    }

    /// A fresh token with what the participant is and may do now, to reconnect with.
    pub(super) fn send_token(&mut self, key: ParticipantKey) {
        let now = self.now;
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        participant.session.token_sent = now.instant;
        if let Some(token) = self.token_for(key, &self.about.name) {
            self.send(key, signal_response::Message::RefreshToken(token));
        }
    }

    /// A token with which a participant joins a room as what it is here. `None` only when the key
    /// was taken out of the configuration meanwhile.
    pub(super) fn token_for(&self, key: ParticipantKey, room: &str) -> Option<String> {
        let participant = self.participants.get(&key)?;
        let renewal = Renewal {
            api_key: &participant.api_key,
            claims: &participant.claims,
            room,
            identity: &participant.identity,
            name: &participant.name,
            metadata: &participant.metadata,
            attributes: &participant.attributes,
            permissions: &participant.permissions,
        };
        let now = self.now.unix_s();
        let issuer = &self.about.issuer;
        issuer.renew(&renewal, now, 2 * TOKEN_INTERVAL).ok()
    }
}
