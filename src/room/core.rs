//! A room, sans-I/O. It takes joins, requests, media events, administration and the time; it
//! gives messages to sessions ([`Room::take_deliveries`]), orders to the media plane (queued in
//! its [`RoomMedia`]), facts to the journal ([`Room::take_fact`]) and the time at which it wants
//! to be called next ([`Room::timeout`]). It reads no clock and no generator but the seeded one
//! that it was given, so that a meeting can be replayed exactly.
//!
//! An input changes the state; [`Room::end_round`], called after one or several inputs, brings
//! every client up to date.

use std::collections::BTreeMap;
use std::time::Instant;

use moim_engine::command::Command;
use moim_engine::event::Event;
use moim_engine::ids::{SubscriptionId, TrackId, TransportId};
use moim_signaling::token::TokenIssuer;
use moim_signaling::wire::{
    self, DisconnectReason, LeaveRequest, ParticipantInfo, ServerInfo, SignalRequest,
    leave_request, participant_info, server_info, signal_response,
};
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::clock::Now;
use super::data_track_table::DataTracks;
use super::id::{ParticipantKey, SeatId, TrackKey, random_text, sid};
use super::journal::{Fact, Journal};
use super::news::News;
use super::nonces::Nonces;
use super::participant::Participant;
use super::publication::{Publication, enabled_codecs};
use super::qualities::Qualities;
use super::rpcs::Rpcs;
use super::settings::RoomSettings;
use crate::media::handle::RoomMedia;

/// Version of the protocol that we speak; clients choose features by it.
const PROTOCOL: i32 = 16;
/// The server version that clients compare with the ones in which features appeared.
pub const SERVER_VERSION: &str = "1.13.3";
/// Length of the trailer by which end-to-end encryption tells frames that the server made.
const SIF_TRAILER_LEN: usize = 32;

/// Which connection of a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Publisher,
    Subscriber,
}

/// What a room is, whoever is in it.
#[derive(Clone)]
pub struct About {
    /// Its name.
    pub name: String,
    /// How it behaves.
    pub settings: RoomSettings,
    /// Makes the tokens for reconnecting.
    pub issuer: TokenIssuer,
    /// The server's name, told to clients.
    pub node_id: String,
    /// The room's metadata.
    pub metadata: String,
    /// Agents that are wanted in it from the start.
    pub agents: Vec<wire::RoomAgentDispatch>,
}

/// Where a room stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Nobody has joined since it was made.
    Unjoined { since: Instant },
    /// Somebody is here.
    Occupied,
    /// The last one has left.
    Deserted { since: Instant },
    /// It takes nobody any more.
    Closing,
}

/// What a session is given.
#[derive(Debug)]
pub enum Delivery {
    /// Messages for its client, in order.
    Messages(SeatId, Vec<signal_response::Message>),
    /// Nothing more comes: the shell closes the WebSocket when everything is sent.
    End(SeatId),
}

/// One room.
pub struct Room {
    pub(super) about: About,
    pub(super) sid: String,
    pub(super) sif_trailer: String,
    pub(super) created_ms: i64,
    pub(super) media: RoomMedia,
    pub(super) participants: BTreeMap<ParticipantKey, Participant>,
    pub(super) publications: BTreeMap<TrackKey, Publication>,
    /// Which publication an engine's track is an encoding of.
    pub(super) media_tracks: BTreeMap<TrackId, TrackKey>,
    pub(super) transports: BTreeMap<TransportId, (ParticipantKey, Side)>,
    pub(super) data_tracks: DataTracks,
    pub(super) nonces: Nonces,
    pub(super) rpcs: Rpcs,
    /// The levels that the engine told last, 0.0 to 1.0 by track.
    pub(super) audio_levels: Vec<(TrackId, f32)>,
    pub(super) qualities: Qualities,
    pub(super) news: News,
    pub(super) journal: Journal,
    pub(super) rng: StdRng,
    /// The time of the input at hand.
    pub(super) now: Now,
    /// Audio tracks that are forwarded at once; `None` for all.
    pub(super) last_n: Option<u8>,
    pub(super) next_track: u32,
    next_participant: u32,
    /// Messages of those who are gone already, and the seats that ended.
    farewells: Vec<Delivery>,
    life: Life,
}

impl Room {
    /// An empty room. Everything random in it comes from `seed`.
    pub fn new(about: About, media: RoomMedia, seed: u64, now: Now) -> Room {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut room = Room {
            about,
            sid: sid(&mut rng, "RM_"),
            sif_trailer: random_text(&mut rng, SIF_TRAILER_LEN),
            created_ms: now.unix_ms(),
            media,
            participants: BTreeMap::new(),
            publications: BTreeMap::new(),
            media_tracks: BTreeMap::new(),
            transports: BTreeMap::new(),
            data_tracks: DataTracks::default(),
            nonces: Nonces::default(),
            rpcs: Rpcs::default(),
            audio_levels: Vec::new(),
            qualities: Qualities::default(),
            news: News::default(),
            journal: Journal::default(),
            rng,
            now,
            last_n: None,
            next_track: 1,
            next_participant: 1,
            farewells: Vec::new(),
            life: Life::Unjoined { since: now.instant },
        };
        let info = room.room_info();
        let agents = room.about.agents.clone();
        room.journal.write(Fact::RoomStarted {
            room: Box::new(info),
            agents,
        });
        room
    }

    /// A request of a client. One of a session that was replaced is ignored.
    pub fn handle_request(&mut self, now: Now, seat: SeatId, request: SignalRequest) {
        self.now = now;
        let current = self.participants.get(&seat.participant);
        if current.is_some_and(|current| current.seat() == seat) {
            self.dispatch_request(seat.participant, request);
        }
    }

    /// Something happened in the room's media.
    pub fn handle_media(&mut self, now: Now, event: Event) {
        self.now = now;
        match event {
            Event::TransportConnected(transport) => self.transport_connected(transport),
            Event::TransportFailed { transport, reason } => {
                self.transport_failed(transport, &reason);
            }
            Event::TransportSilent(transport) => self.transport_silent(transport, true),
            Event::TransportBack(transport) => self.transport_silent(transport, false),
            Event::Data {
                transport,
                channel,
                payload,
            } => self.relay(transport, channel, &payload),
            Event::DataStalled { transport, stalled } => self.data_stalled(transport, stalled),
            Event::LayerStarted {
                track,
                layer,
                codec,
                ssrc,
            } => self.layer_started(track, layer, codec, ssrc),
            Event::SubscriptionStarted(_) => {}
            Event::StreamState {
                subscription,
                paused,
            } => self.stream_state(subscription, paused),
            Event::Quality(measured) => self.quality_measured(measured),
            Event::Speakers(levels) => self.speakers_changed(levels),
            Event::ShardEnded => {
                tracing::error!("a media shard of the room has ended");
                self.close(now);
            }
        }
    }

    /// The time that [`Room::timeout`] asked for has come, or any other.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        self.check_timeouts();
        self.refresh_tokens();
        self.rpcs.check(now.instant);
        self.measure_quality();
        self.make_due_offers();
        let due = self.publications.values().filter(|track| {
            let mut deadlines = track
                .wanted
                .iter()
                .filter_map(|(_, wanted)| wanted.deadline());
            deadlines.any(|deadline| deadline <= now.instant)
        });
        self.news.demand.extend(due.map(|track| track.key));
    }

    /// When [`Room::handle_timeout`] is to be called, at the latest.
    pub fn timeout(&self) -> Option<Instant> {
        let wanted = self.publications.values().flat_map(|track| {
            track
                .wanted
                .iter()
                .filter_map(|(_, wanted)| wanted.deadline())
        });
        let end = match self.life {
            Life::Unjoined { since } => Some(since + self.about.settings.empty()),
            Life::Deserted { since } => Some(since + self.about.settings.departure()),
            Life::Occupied | Life::Closing => None,
        };
        let news = (!self.participants.is_empty())
            .then(|| self.news.deadline(self.now.instant))
            .flatten();
        self.participant_deadlines()
            .chain(wanted)
            .chain(self.quality_deadline())
            .chain(news)
            .chain(self.rpcs.deadline())
            .chain(end)
            .min()
    }

    /// Ends a round of inputs: every client is brought up to date.
    pub fn end_round(&mut self, now: Now) {
        self.now = now;
        self.choose_last_n();
        self.tell_news();
        self.live(now);
    }

    /// What the sessions are to be given, farewells first.
    pub fn take_deliveries(&mut self) -> Vec<Delivery> {
        let mut deliveries = std::mem::take(&mut self.farewells);
        for participant in self.participants.values_mut() {
            if participant.session.has_outgoing() {
                let messages = participant.session.take_outgoing();
                deliveries.push(Delivery::Messages(participant.seat(), messages));
            }
        }
        deliveries
    }

    /// The oldest fact that the shell has not taken yet.
    pub fn take_fact(&mut self) -> Option<Fact> {
        self.journal.take()
    }

    /// Facts that were lost because nobody took them in time.
    pub fn dropped_facts(&self) -> u64 {
        self.journal.dropped()
    }

    /// The room as the protocol describes it.
    pub fn info(&self) -> wire::Room {
        self.room_info()
    }

    /// The room's way to the media plane, whose queued orders the shell passes on.
    pub fn media(&mut self) -> &mut RoomMedia {
        &mut self.media
    }

    /// Whether the room has come to its end.
    pub fn is_over(&self, now: Now) -> bool {
        let settings = &self.about.settings;
        match self.life {
            Life::Closing => self.participants.is_empty(),
            Life::Occupied => false,
            Life::Unjoined { since } => now.has_passed(since, settings.empty()),
            Life::Deserted { since } => now.has_passed(since, settings.departure()),
        }
    }

    /// Writes the room's last fact.
    pub fn finish(&mut self) {
        let info = self.room_info();
        self.journal.write(Fact::RoomFinished(Box::new(info)));
    }

    /// Sends everybody away; the room then ends.
    pub fn close(&mut self, now: Now) {
        self.close_for(now, DisconnectReason::ServerShutdown);
    }

    pub(super) fn close_for(&mut self, now: Now, reason: DisconnectReason) {
        self.now = now;
        self.life = Life::Closing;
        let keys: Vec<ParticipantKey> = self.participants.keys().copied().collect();
        for key in keys {
            self.dismiss(key, reason, leave_request::Action::Disconnect);
        }
    }

    pub(super) fn is_closing(&self) -> bool {
        self.life == Life::Closing
    }

    /// Where the room stands now that a round is over.
    fn live(&mut self, now: Now) {
        let empty = self.participants.is_empty();
        self.life = match self.life {
            Life::Occupied if empty => Life::Deserted { since: now.instant },
            Life::Unjoined { .. } | Life::Deserted { .. } if !empty => Life::Occupied,
            life => life,
        };
    }

    pub(super) fn next_participant(&mut self) -> ParticipantKey {
        let key = ParticipantKey(self.next_participant);
        self.next_participant += 1;
        key
    }

    fn stream_state(&mut self, id: SubscriptionId, paused: bool) {
        for viewer in self.participants.values_mut() {
            let mut subscriptions = viewer.subscriptions.values_mut();
            if let Some(subscription) = subscriptions.find(|subscription| subscription.id == id) {
                subscription.paused = paused;
                self.news.viewers.insert(viewer.key);
                return;
            }
        }
    }

    /// The room as the protocol describes it.
    pub(super) fn room_info(&self) -> wire::Room {
        let settings = &self.about.settings;
        let mut publishers: Vec<ParticipantKey> = self
            .publications
            .values()
            .map(|track| track.owner)
            .collect();
        publishers.dedup();
        publishers.sort_unstable();
        publishers.dedup();
        wire::Room {
            sid: self.sid.clone(),
            name: self.about.name.clone(),
            empty_timeout: settings.empty_timeout,
            departure_timeout: settings.departure_timeout,
            max_participants: settings.max_participants,
            creation_time: self.created_ms / 1_000,
            creation_time_ms: self.created_ms,
            enabled_codecs: enabled_codecs(),
            metadata: self.about.metadata.clone(),
            num_participants: self.participants.len() as u32,
            num_publishers: publishers.len() as u32,
            ..Default::default()
        }
    }

    pub(super) fn server_info(&self) -> ServerInfo {
        ServerInfo {
            edition: server_info::Edition::Standard as i32,
            version: SERVER_VERSION.to_owned(),
            protocol: PROTOCOL,
            node_id: self.about.node_id.clone(),
            ..Default::default()
        }
    }

    /// A participant as the protocol describes it, its tracks included.
    pub(super) fn participant_info(&self, key: ParticipantKey) -> Option<ParticipantInfo> {
        let mut info = self.participants.get(&key)?.info();
        info.tracks = self
            .tracks_of(key)
            .map(|track| track.info.clone())
            .collect();
        info.data_tracks = self.data_tracks.of(key);
        info.is_publisher = !info.tracks.is_empty() || !info.data_tracks.is_empty();
        Some(info)
    }

    /// Queues a message for one participant's client.
    pub(super) fn send(&mut self, key: ParticipantKey, message: signal_response::Message) {
        if let Some(participant) = self.participants.get_mut(&key) {
            participant.send(message);
        }
    }

    /// Sends a participant away with a reason.
    pub(super) fn dismiss(
        &mut self,
        key: ParticipantKey,
        reason: DisconnectReason,
        action: leave_request::Action,
    ) {
        self.send(key, signal_response::Message::Leave(leave(reason, action)));
        self.remove(key, reason);
    }

    /// Ends a session whose participant stays.
    pub(super) fn end_session(&mut self, key: ParticipantKey) {
        let now = self.now;
        if let Some(participant) = self.participants.get_mut(&key) {
            let seat = participant.seat();
            let messages = participant.session.take_outgoing();
            participant.session.lose(now);
            self.farewells.push(Delivery::Messages(seat, messages));
            self.farewells.push(Delivery::End(seat));
        }
    }

    /// Takes a participant out of the room with all that it has. It is not told so itself: a
    /// client that joins from scratch would take its own tracks for withdrawn.
    pub(super) fn remove(&mut self, key: ParticipantKey, reason: DisconnectReason) {
        let info = self.participant_info(key);
        let Some(mut participant) = self.participants.remove(&key) else {
            return;
        };
        self.rpcs.participant_left(key);
        self.news.room = true;
        let tracks: Vec<TrackKey> = self.tracks_of(key).map(|track| track.key).collect();
        for track in tracks {
            let ended = self
                .publications
                .get(&track)
                .map(|track| track.info.clone());
            if let (Some(info), Some(ended)) = (&info, ended) {
                self.journal.write(Fact::TrackUnpublished {
                    participant: Box::new(info.clone()),
                    track: Box::new(ended),
                });
            }
            self.unpublish(track);
        }
        self.remove_data_tracks_of(key);
        for (track, subscription) in &participant.subscriptions {
            self.media
                .command(Command::RemoveSubscription(subscription.id));
            self.news.demand.insert(*track);
            self.journal.write(Fact::Unsubscribed);
        }
        if let Some(publisher) = participant.publisher.take() {
            self.transports.remove(&publisher.transport());
            publisher.close(&mut self.media);
        }
        if let Some(subscriber) = participant.subscriber.take() {
            self.transports.remove(&subscriber.transport());
            subscriber.close(&mut self.media);
        }
        let seat = participant.seat();
        let messages = participant.session.take_outgoing();
        self.farewells.push(Delivery::Messages(seat, messages));
        self.farewells.push(Delivery::End(seat));
        tracing::debug!(participant = %participant.identity, ?reason, "left");
        if let Some(info) = info {
            self.journal.write(Fact::ParticipantLeft {
                participant: Box::new(info),
                reason,
            });
        }
        self.news.changed.remove(&key);
        self.news.speakers = true;
        if participant.permissions.hidden {
            return;
        }
        participant.state = participant_info::State::Disconnected;
        participant.version += 1;
        let mut info = participant.info();
        info.disconnect_reason = reason as i32;
        let resume = self.about.settings.resume();
        self.news.leave(self.now.instant, info, resume);
    }
}

/// A request to leave.
pub(super) fn leave(reason: DisconnectReason, action: leave_request::Action) -> LeaveRequest {
    LeaveRequest {
        // What clients before protocol 13 read.
        can_reconnect: action == leave_request::Action::Reconnect,
        reason: reason as i32,
        action: action as i32,
        ..Default::default()
    }
}
