//! A room's state, and how what happens changes it. Only the room's own task touches it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use moim_signaling::wire::{
    self, DisconnectReason, LeaveRequest, ParticipantInfo, ParticipantUpdate, leave_request,
    participant_info, signal_response,
};
use rand::RngExt;
use rand::distr::Alphanumeric;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::actor::RoomMessage;
use super::participant::{Participant, ParticipantKey};
use super::quality::Qualities;
use super::registry::Shared;
use super::speakers::Speakers;
use super::track::Track;
use crate::media::handle::RoomMedia;
use crate::media::negotiation::{Candidate, LocalEndpoint};
use moim_engine::Event;
use moim_engine::codec::Codec;
use moim_engine::command::{Command, IceCredentials};
use moim_engine::ids::{TrackId, TransportId};

/// Random letters and digits, from the operating system's generator.
pub(super) fn random_text(len: usize) -> String {
    rand::rng()
        .sample_iter(Alphanumeric)
        .take(len)
        .map(char::from)
        .collect()
}

pub(super) fn unix_micros() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as i64)
}

/// Which connection of a participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Publisher,
    Subscriber,
}

/// One room.
pub(super) struct Room {
    pub(super) shared: Arc<Shared>,
    pub(super) name: String,
    pub(super) sid: String,
    pub(super) metadata: String,
    pub(super) sender: mpsc::WeakSender<RoomMessage>,
    pub(super) media: RoomMedia,
    pub(super) participants: BTreeMap<ParticipantKey, Participant>,
    pub(super) tracks: BTreeMap<TrackId, Track>,
    /// Tracks that have been announced and not negotiated yet.
    pub(super) announced: BTreeMap<TrackId, Track>,
    pub(super) transports: BTreeMap<TransportId, (ParticipantKey, Side)>,
    pub(super) speakers: Speakers,
    pub(super) qualities: Qualities,
    /// How many voices are forwarded; `None` for all.
    loudest: Option<u8>,
    /// Tracks of which other layers may be wanted than before.
    pub(super) rewished: BTreeSet<TrackId>,
    pub(super) sif_trailer: String,
    created_ms: i64,
    next_key: ParticipantKey,
    /// Since when nobody is here, and whether somebody ever was.
    empty_since: Option<Instant>,
    was_joined: bool,
    closing: bool,
}

impl Room {
    pub(super) fn new(
        shared: Arc<Shared>,
        name: String,
        sender: mpsc::WeakSender<RoomMessage>,
        media: RoomMedia,
    ) -> Room {
        Room {
            shared,
            name,
            sid: format!("RM_{}", random_text(12)),
            metadata: String::new(),
            sender,
            media,
            participants: BTreeMap::new(),
            tracks: BTreeMap::new(),
            announced: BTreeMap::new(),
            transports: BTreeMap::new(),
            speakers: Speakers::default(),
            qualities: Qualities::default(),
            loudest: None,
            rewished: BTreeSet::new(),
            sif_trailer: random_text(32),
            created_ms: unix_micros() / 1_000,
            next_key: 0,
            empty_since: Some(Instant::now()),
            was_joined: false,
            closing: false,
        }
    }

    pub(super) fn handle_message(&mut self, message: RoomMessage) {
        match message {
            RoomMessage::Join { join, reply } => {
                let joined = self.join(*join);
                // Nobody waits any more: the connection broke meanwhile.
                if let Err(Ok((seat, _))) = reply.send(joined) {
                    self.remove(seat.participant, DisconnectReason::ClientInitiated);
                }
            }
            RoomMessage::Admits { identity, reply } => {
                let _ = reply.send(self.admits(&identity));
            }
            RoomMessage::Request {
                participant,
                session,
                request,
            } => {
                let current = self.participants.get(&participant);
                if current.is_some_and(|current| current.session == session) {
                    self.handle_request(participant, *request);
                }
            }
            RoomMessage::SessionEnded {
                participant,
                session,
                end,
            } => self.session_ended(participant, session, end),
            RoomMessage::Close => self.close(),
        }
    }

    pub(super) fn handle_event(&mut self, event: Event) {
        match event {
            Event::TransportConnected(transport) => self.transport_connected(transport),
            Event::TransportFailed { transport, reason } => {
                if let Some((key, _)) = self.transports.get(&transport).copied() {
                    tracing::debug!(participant = key, %reason, "a connection failed");
                    // A client that leaves may close its connections before it says so: the
                    // next look at the time decides.
                    if let Some(participant) = self.participants.get_mut(&key) {
                        participant.failed_since.get_or_insert(Instant::now());
                    }
                }
            }
            Event::TransportSilent(transport) => self.transport_silent(transport, true),
            Event::TransportBack(transport) => self.transport_silent(transport, false),
            Event::Data {
                transport,
                channel,
                payload,
            } => self.relay(transport, channel, payload),
            Event::DataStalled { transport, stalled } => {
                let participant = self.transports.get(&transport).map(|(key, _)| *key);
                tracing::info!(?participant, stalled, "a receiver's reliable data");
            }
            Event::LayerStarted {
                track,
                layer,
                codec,
                ssrc,
            } => self.layer_started(track, layer, codec, ssrc),
            Event::SubscriptionStarted(subscription) => {
                tracing::trace!(?subscription, "media flows");
            }
            Event::StreamState {
                subscription,
                paused,
            } => self.stream_state(subscription, paused),
            Event::Quality(measured) => self.quality_measured(measured),
            Event::Speakers(levels) => self.speakers_changed(&levels),
            Event::ShardEnded => {
                tracing::error!("a media shard of the room has ended");
                self.close();
            }
        }
    }

    /// What has to be said after a round of messages and events.
    pub(super) fn flush(&mut self, now: Instant) {
        self.tell_wanted_layers(now);
        self.choose_loudest();
        let keys: Vec<ParticipantKey> = self.participants.keys().copied().collect();
        for key in keys {
            self.offer_if_needed(key, now);
            // A client that did not read has no session any more; it may come back.
            let unread = self.participants.get_mut(&key);
            if let Some(participant) = unread.filter(|p| p.outbox.is_none()) {
                participant.lost_since.get_or_insert(now);
            }
        }
    }

    pub(super) fn handle_tick(&mut self, now: Instant) {
        self.check_timeouts(now);
        self.refresh_tokens(now);
        self.pause_unwanted_layers();
        self.measure_quality(now);
    }

    /// Tells the engine how many voices are to be forwarded when that has changed.
    fn choose_loudest(&mut self) {
        let places = self.shared.settings.loudest(self.participants.len());
        if std::mem::replace(&mut self.loudest, places) != places {
            let room = self.media.room_id();
            self.media.command(Command::SetLastN {
                room,
                slots: places,
            });
        }
    }

    /// Whether the room has come to its end.
    pub(super) fn is_over(&mut self, now: Instant) -> bool {
        if !self.participants.is_empty() {
            self.empty_since = None;
            return false;
        }
        if self.closing {
            return true;
        }
        let since = *self.empty_since.get_or_insert(now);
        let limit = if self.was_joined {
            self.shared.settings.departure()
        } else {
            self.shared.settings.empty()
        };
        now.saturating_duration_since(since) >= limit
    }

    pub(super) fn is_sender(&self, sender: &mpsc::Sender<RoomMessage>) -> bool {
        self.sender
            .upgrade()
            .is_some_and(|ours| ours.same_channel(sender))
    }

    /// Sends everybody away; the room then ends.
    pub(super) fn close(&mut self) {
        self.closing = true;
        let keys: Vec<ParticipantKey> = self.participants.keys().copied().collect();
        for key in keys {
            self.dismiss(
                key,
                DisconnectReason::ServerShutdown,
                leave_request::Action::Disconnect,
            );
        }
    }

    pub(super) fn next_key(&mut self) -> ParticipantKey {
        self.was_joined = true;
        self.next_key += 1;
        self.next_key
    }

    /// Our side of a new connection.
    pub(super) fn local_endpoint(&self, transport: TransportId) -> LocalEndpoint {
        LocalEndpoint {
            ice: new_credentials(),
            fingerprint: self.media.fingerprint(),
            candidates: self
                .media
                .addresses(transport)
                .iter()
                .map(|address| Candidate {
                    ip: address.ip,
                    port: address.port,
                    tcp: address.tcp,
                })
                .collect(),
        }
    }

    /// The room as the protocol describes it.
    pub(super) fn room_info(&self) -> wire::Room {
        let settings = &self.shared.settings;
        let publishers = self
            .participants
            .keys()
            .filter(|key| self.tracks.values().any(|track| track.owner == **key))
            .count();
        wire::Room {
            sid: self.sid.clone(),
            name: self.name.clone(),
            empty_timeout: settings.empty_timeout,
            departure_timeout: settings.departure_timeout,
            max_participants: settings.max_participants,
            creation_time: self.created_ms / 1_000,
            creation_time_ms: self.created_ms,
            enabled_codecs: enabled_codecs(),
            metadata: self.metadata.clone(),
            num_participants: self.participants.len() as u32,
            num_publishers: publishers as u32,
            ..Default::default()
        }
    }

    /// A participant as the protocol describes it, its tracks included.
    pub(super) fn participant_info(&self, key: ParticipantKey) -> Option<ParticipantInfo> {
        let mut info = self.participants.get(&key)?.info();
        info.tracks = self
            .tracks
            .values()
            .filter(|track| track.owner == key)
            .map(|track| track.info.clone())
            .collect();
        info.is_publisher = !info.tracks.is_empty();
        Some(info)
    }

    /// Tells everybody, the participant itself included, what it is like now.
    pub(super) fn broadcast_participant(&mut self, key: ParticipantKey) {
        if let Some(participant) = self.participants.get_mut(&key) {
            participant.version += 1;
        }
        let Some(info) = self.participant_info(key) else {
            return;
        };
        let hidden = info.permission.as_ref().is_some_and(|p| p.hidden);
        let present =
            info.state == participant_info::State::Active as i32 || !info.tracks.is_empty();
        for participant in self.participants.values_mut() {
            let own = participant.key == key;
            if own || (present && !hidden) {
                participant.send(update(vec![info.clone()]));
            }
        }
    }

    /// Sends a message to one participant.
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
        let leave = LeaveRequest {
            can_reconnect: action == leave_request::Action::Reconnect,
            reason: reason as i32,
            action: action as i32,
            ..Default::default()
        };
        self.send(key, signal_response::Message::Leave(leave));
        self.remove(key, reason);
    }

    /// Takes a participant out of the room with all that it has.
    pub(super) fn remove(&mut self, key: ParticipantKey, reason: DisconnectReason) {
        let tracks: Vec<TrackId> = self
            .tracks
            .values()
            .filter(|track| track.owner == key)
            .map(|track| track.id)
            .collect();
        for track in tracks {
            self.unpublish(track);
        }
        self.announced.retain(|_, track| track.owner != key);
        let Some(mut participant) = self.participants.remove(&key) else {
            return;
        };
        self.rewished.extend(participant.subscriptions.keys());
        let subscriptions = participant.subscriptions.len() as i64;
        self.shared.metrics.add_subscribed(-subscriptions);
        let publisher = participant.publisher.as_ref().map(|p| p.transport);
        let subscriber = participant.subscriber.as_ref().map(|s| s.transport);
        for transport in [publisher, subscriber].into_iter().flatten() {
            self.transports.remove(&transport);
            self.media.command(Command::RemoveTransport(transport));
        }
        self.shared.metrics.add_participants(-1);
        tracing::info!(participant = %participant.identity, ?reason, "left");
        participant.state = participant_info::State::Disconnected;
        participant.version += 1;
        if participant.permissions.hidden {
            return;
        }
        let mut info = participant.info();
        info.disconnect_reason = reason as i32;
        for other in self.participants.values_mut() {
            other.send(update(vec![info.clone()]));
        }
    }
}

/// A participant update.
pub(super) fn update(participants: Vec<ParticipantInfo>) -> signal_response::Message {
    signal_response::Message::Update(ParticipantUpdate { participants })
}

/// What may be published, as the protocol lists it.
pub(super) fn enabled_codecs() -> Vec<wire::Codec> {
    let mut mimes: Vec<&str> = Codec::ALL.iter().map(|codec| codec.mime_type()).collect();
    mimes.dedup();
    mimes.extend(["audio/red", "video/rtx"]);
    mimes
        .into_iter()
        .map(|mime| wire::Codec {
            mime: mime.to_owned(),
            ..Default::default()
        })
        .collect()
}

/// Fresh ICE credentials (RFC 8445, section 5.3, asks for 24 and 128 random bits).
pub(super) fn new_credentials() -> IceCredentials {
    IceCredentials {
        ufrag: random_text(16),
        pwd: random_text(32),
    }
}
