//! One seeded meeting: random joins, gaps, publications, permissions, data and administration,
//! and after a quiet end the comparison of every client's view with the room.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bytes::Bytes;
use moim::room::{About, Answer, Delivery, Now, Order, Room, RoomSettings, SeatId, Seated};
use moim_engine::command::DataChannel;
use moim_engine::event::Event;
use moim_engine::ids::TransportId;
use moim_signaling::token::{ApiKeys, Claims, TokenIssuer, VideoGrant};
use moim_signaling::wire::{
    AddTrackRequest, ClientInfo, DataPacket, MuteTrackRequest, ParticipantInfo,
    ParticipantPermission, PublishDataTrackRequest, SessionDescription, SignalRequest,
    SubscriptionPermission, SyncState, TrackInfo, TrackPermission, TrackPublishedResponse,
    TrackType, UnpublishDataTrackRequest, UpdateDataSubscription, UpdateLocalAudioTrack,
    UpdateParticipantMetadata, UpdateSubscription, UpdateTrackSettings, UserPacket, data_packet,
    signal_request, update_data_subscription,
};
use moim_signaling::{Join, SessionEnd};
use prost::Message as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::plane::Plane;
use crate::sdp::{self, Section};
use crate::view::View;

const IDENTITIES: [&str; 5] = ["ada", "bob", "cho", "dan", "eve"];

/// Whether a client hears the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Everything arrives.
    Up,
    /// The path is cut and the server has not noticed: nothing arrives.
    Cut,
    /// The server has noticed.
    Lost,
    /// It is not in the room.
    Away,
}

struct Client {
    identity: String,
    link: Link,
    seat: Option<SeatId>,
    view: View,
    sections: Vec<Section>,
    /// Its connections in the media plane, publisher and subscriber.
    transports: Vec<TransportId>,
    auto_subscribe: bool,
    /// What it asked for, by track sid.
    wishes: BTreeMap<String, bool>,
    data_wishes: BTreeSet<String>,
    settings: BTreeMap<String, bool>,
    /// Data tracks that it published, by handle.
    handles: BTreeSet<u32>,
    next_cid: u32,
}

pub(crate) struct Meeting {
    rng: StdRng,
    now: Now,
    room: Room,
    plane: Plane,
    clients: Vec<Client>,
    /// Who may see whose tracks: named identities; absent: everybody.
    audiences: BTreeMap<String, BTreeSet<String>>,
    log: Vec<String>,
    messages: u32,
}

impl Meeting {
    pub(crate) fn new(seed: u64) -> Meeting {
        let now = Now {
            instant: Instant::now(),
            unix_us: 1_700_000_000_000_000,
        };
        let plane = Plane::new();
        let about = About {
            name: "weekly".into(),
            settings: RoomSettings::default(),
            issuer: TokenIssuer::new(ApiKeys::from_iter([(
                "key".to_owned(),
                "secret".to_owned(),
            )])),
            node_id: "ND_test".into(),
        };
        let (media, _events) = plane.place_room();
        let room = Room::new(about, media, seed, now);
        let clients = IDENTITIES.iter().map(|identity| Client {
            identity: (*identity).to_owned(),
            link: Link::Away,
            seat: None,
            view: View::default(),
            sections: Vec::new(),
            transports: Vec::new(),
            auto_subscribe: true,
            wishes: BTreeMap::new(),
            data_wishes: BTreeSet::new(),
            settings: BTreeMap::new(),
            handles: BTreeSet::new(),
            next_cid: 0,
        });
        Meeting {
            rng: StdRng::seed_from_u64(seed),
            now,
            room,
            plane,
            clients: clients.collect(),
            audiences: BTreeMap::new(),
            log: Vec::new(),
            messages: 0,
        }
    }

    /// What happened, for a failing seed.
    pub(crate) fn log(&self) -> &[String] {
        &self.log
    }

    /// Plays the meeting and compares at its end.
    pub(crate) fn play(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            self.check_always();
        }
        self.calm_down();
        self.check_views();
    }

    fn step(&mut self) {
        let index = self.rng.random_range(0..self.clients.len());
        match self.clients[index].link {
            Link::Away => self.join(index),
            Link::Up => self.act(index),
            Link::Cut | Link::Lost => self.away(index),
        }
        if self.rng.random_bool(0.3) {
            self.pass_time();
        }
        // Now and then several inputs make one round.
        if self.rng.random_bool(0.7) {
            self.end_round();
        }
    }

    fn note(&mut self, index: usize, what: impl std::fmt::Display) {
        let line = format!("{}: {what}", self.clients[index].identity);
        self.log.push(line);
    }

    fn pass_time(&mut self) {
        let ms = [1, 20, 400, 2_500, 6_000]
            .choose(&mut self.rng)
            .copied()
            .unwrap_or(1);
        self.advance(Duration::from_millis(ms));
    }

    fn advance(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
        if self
            .room
            .timeout()
            .is_some_and(|due| due <= self.now.instant)
        {
            self.room.handle_timeout(self.now);
        }
    }

    fn end_round(&mut self) {
        self.room.end_round(self.now);
        for delivery in self.room.take_deliveries() {
            match delivery {
                Delivery::Messages(seat, messages) => {
                    let client = self
                        .clients
                        .iter_mut()
                        .find(|client| client.seat == Some(seat));
                    if let Some(client) = client.filter(|client| client.link == Link::Up) {
                        messages
                            .into_iter()
                            .for_each(|message| client.view.take(message));
                    }
                }
                Delivery::End(seat) => {
                    let client = self
                        .clients
                        .iter_mut()
                        .find(|client| client.seat == Some(seat));
                    if let Some(client) = client {
                        client.seat = None;
                        client.link = Link::Away;
                        client.sections.clear();
                    }
                }
            }
        }
        while self.room.take_fact().is_some() {}
        assert_eq!(self.room.dropped_facts(), 0, "the journal overflows");
        self.plane.obey(self.room.media());
        for index in 0..self.clients.len() {
            self.answer(index, false);
        }
    }

    fn join(&mut self, index: usize) {
        let rng = &mut self.rng;
        let grant = VideoGrant {
            room_join: true,
            room: "weekly".into(),
            hidden: rng.random_bool(0.1),
            can_subscribe: Some(rng.random_bool(0.9)),
            can_publish: Some(rng.random_bool(0.9)),
            can_publish_data: Some(true),
            can_update_own_metadata: Some(rng.random_bool(0.7)),
            ..Default::default()
        };
        let auto_subscribe = rng.random_bool(0.7);
        let client = &mut self.clients[index];
        let join = join_of(&client.identity, grant, auto_subscribe, None);
        let known: BTreeSet<TransportId> = self.plane.transports.keys().copied().collect();
        let seated = self.room.join(self.now, join).expect("the room takes five");
        let Seated::Seat(seat) = seated else {
            panic!("a first join is not dismissed");
        };
        *client = Client {
            identity: client.identity.clone(),
            link: Link::Up,
            seat: Some(seat),
            view: View::default(),
            sections: Vec::new(),
            transports: Vec::new(),
            auto_subscribe,
            wishes: BTreeMap::new(),
            data_wishes: BTreeSet::new(),
            settings: BTreeMap::new(),
            handles: BTreeSet::new(),
            next_cid: client.next_cid + 100,
        };
        self.audiences.remove(IDENTITIES[index]);
        self.note(index, format!("joins, auto_subscribe {auto_subscribe}"));
        self.note_transports(index, &known);
    }

    /// Connections that are new since `known` are this client's.
    fn note_transports(&mut self, index: usize, known: &BTreeSet<TransportId>) {
        self.plane.obey(self.room.media());
        let new = self
            .plane
            .transports
            .keys()
            .filter(|id| !known.contains(id));
        let new: Vec<TransportId> = new.copied().collect();
        self.clients[index].transports.extend(&new);
        // Media connects at once, or never.
        for transport in new {
            if self.rng.random_bool(0.9) {
                self.room
                    .handle_media(self.now, Event::TransportConnected(transport));
            }
        }
    }

    fn request(&mut self, index: usize, message: signal_request::Message) {
        let known: BTreeSet<TransportId> = self.plane.transports.keys().copied().collect();
        if let Some(seat) = self.clients[index].seat {
            let request = SignalRequest {
                message: Some(message),
            };
            self.room.handle_request(self.now, seat, request);
        }
        self.note_transports(index, &known);
    }

    fn act(&mut self, index: usize) {
        match self.rng.random_range(0..22) {
            0 | 1 => self.announce(index, true),
            2 => self.announce(index, false),
            3 => self.stop_section(index),
            4 => self.reuse_section(index),
            5 | 6 => self.mute(index),
            7 => self.wish(index),
            8 => self.track_settings(index),
            9 => self.set_audience(index),
            10 => self.update_metadata(index),
            11 => self.send_data(index),
            12 => self.media_events(index),
            13 => self.administer(index),
            14 => self.data_track(index),
            15 => {
                self.note(index, "loses the path");
                self.clients[index].link = Link::Cut;
            }
            16 if self.rng.random_bool(0.3) => {
                self.note(index, "leaves");
                self.request(index, signal_request::Message::Leave(Default::default()));
                self.clients[index].link = Link::Away;
                self.clients[index].seat = None;
            }
            17 => self.features(index),
            18 => self.stream_state(index),
            _ => self.answer(index, true),
        }
    }

    /// Announces a track, and offers it unless it changes its mind.
    fn announce(&mut self, index: usize, offers: bool) {
        let video = self.rng.random_bool(0.5);
        let muted = self.rng.random_bool(0.3);
        let client = &mut self.clients[index];
        let cid = format!("{}-{}", client.identity, client.next_cid);
        client.next_cid += 1;
        let kind = if video {
            TrackType::Video
        } else {
            TrackType::Audio
        };
        let request = AddTrackRequest {
            cid: cid.clone(),
            r#type: kind as i32,
            muted,
            ..Default::default()
        };
        self.note(
            index,
            format!("announces {cid}, muted {muted}, offers {offers}"),
        );
        self.request(index, signal_request::Message::AddTrack(request));
        self.end_round();
        if self.rng.random_bool(0.3) {
            let sid = self.clients[index].view.sid_of(&cid);
            if let Some(sid) = sid {
                let muted = self.rng.random_bool(0.5);
                self.note(index, format!("mutes {sid}: {muted}"));
                let mute = MuteTrackRequest { sid, muted };
                self.request(index, signal_request::Message::Mute(mute));
            }
        }
        if offers && self.clients[index].sections.len() < 12 {
            let cid = Some(cid);
            self.clients[index].sections.push(Section { video, cid });
            self.offer(index);
        }
    }

    fn offer(&mut self, index: usize) {
        let sdp = sdp::offer(&self.clients[index].sections);
        self.note(index, format!("offers {:?}", self.clients[index].sections));
        let offer = SessionDescription {
            r#type: "offer".into(),
            sdp,
            ..Default::default()
        };
        self.request(index, signal_request::Message::Offer(offer));
    }

    fn stop_section(&mut self, index: usize) {
        let sections = &mut self.clients[index].sections;
        let sending: Vec<usize> = (0..sections.len())
            .filter(|of| sections[*of].cid.is_some())
            .collect();
        if let Some(stopped) = sending.choose(&mut self.rng) {
            sections[*stopped].cid = None;
            self.offer(index);
        }
    }

    /// Another track takes an m-line that carries one, without an offer in between.
    fn reuse_section(&mut self, index: usize) {
        let Some(section) = self.clients[index].sections.first().cloned() else {
            return;
        };
        let client = &mut self.clients[index];
        let cid = format!("{}-{}", client.identity, client.next_cid);
        client.next_cid += 1;
        let kind = if section.video {
            TrackType::Video
        } else {
            TrackType::Audio
        };
        let request = AddTrackRequest {
            cid: cid.clone(),
            r#type: kind as i32,
            ..Default::default()
        };
        self.note(index, format!("reuses the first m-line for {cid}"));
        self.request(index, signal_request::Message::AddTrack(request));
        self.clients[index].sections[0].cid = Some(cid);
        self.offer(index);
    }

    fn own_tracks(&self, index: usize) -> Vec<TrackInfo> {
        let view = &self.clients[index].view;
        view.participants
            .get(&view.sid)
            .map(|own| own.tracks.clone())
            .unwrap_or_default()
    }

    fn others_tracks(&self, index: usize) -> Vec<TrackInfo> {
        let view = &self.clients[index].view;
        let others = view
            .participants
            .values()
            .filter(|info| info.sid != view.sid);
        others.flat_map(|info| info.tracks.clone()).collect()
    }

    fn mute(&mut self, index: usize) {
        if let Some(track) = self.own_tracks(index).choose(&mut self.rng) {
            let mute = MuteTrackRequest {
                sid: track.sid.clone(),
                muted: !track.muted,
            };
            self.note(index, format!("mutes {}: {}", mute.sid, mute.muted));
            self.request(index, signal_request::Message::Mute(mute));
        }
    }

    fn features(&mut self, index: usize) {
        if let Some(track) = self.own_tracks(index).choose(&mut self.rng) {
            let update = UpdateLocalAudioTrack {
                track_sid: track.sid.clone(),
                features: vec![self.rng.random_range(0..6)],
            };
            self.request(index, signal_request::Message::UpdateAudioTrack(update));
        }
    }

    fn wish(&mut self, index: usize) {
        if let Some(track) = self.others_tracks(index).choose(&mut self.rng) {
            let subscribe = self.rng.random_bool(0.5);
            let update = UpdateSubscription {
                track_sids: vec![track.sid.clone()],
                subscribe,
                ..Default::default()
            };
            self.note(index, format!("subscribes to {}: {subscribe}", track.sid));
            self.clients[index]
                .wishes
                .insert(track.sid.clone(), subscribe);
            self.request(index, signal_request::Message::Subscription(update));
        }
    }

    fn track_settings(&mut self, index: usize) {
        if let Some(track) = self.others_tracks(index).choose(&mut self.rng) {
            let disabled = self.rng.random_bool(0.5);
            let update = UpdateTrackSettings {
                track_sids: vec![track.sid.clone()],
                disabled,
                quality: 2,
                ..Default::default()
            };
            self.note(index, format!("disables {}: {disabled}", track.sid));
            self.clients[index]
                .settings
                .insert(track.sid.clone(), disabled);
            self.request(index, signal_request::Message::TrackSetting(update));
        }
    }

    fn set_audience(&mut self, index: usize) {
        let all = self.rng.random_bool(0.4);
        let named: BTreeSet<String> = IDENTITIES
            .iter()
            .filter(|_| self.rng.random_bool(0.5))
            .map(|identity| (*identity).to_owned())
            .collect();
        let permission = SubscriptionPermission {
            all_participants: all,
            track_permissions: named
                .iter()
                .map(|identity| TrackPermission {
                    participant_identity: identity.clone(),
                    all_tracks: true,
                    ..Default::default()
                })
                .collect(),
        };
        self.note(index, format!("lets see: all {all}, {named:?}"));
        let identity = self.clients[index].identity.clone();
        if all {
            self.audiences.remove(&identity);
        } else {
            self.audiences.insert(identity, named);
        }
        self.request(
            index,
            signal_request::Message::SubscriptionPermission(permission),
        );
    }

    fn update_metadata(&mut self, index: usize) {
        let number: u8 = self.rng.random();
        let update = UpdateParticipantMetadata {
            metadata: if self.rng.random_bool(0.5) {
                number.to_string()
            } else {
                String::new()
            },
            name: if self.rng.random_bool(0.5) {
                format!("N{number}")
            } else {
                String::new()
            },
            attributes: [(
                "k".to_owned(),
                if number.is_multiple_of(3) {
                    String::new()
                } else {
                    number.to_string()
                },
            )]
            .into_iter()
            .collect(),
            request_id: 1,
        };
        self.request(index, signal_request::Message::UpdateMetadata(update));
    }

    /// A message reaches exactly those that it is for.
    fn send_data(&mut self, index: usize) {
        self.end_round();
        if self.clients[index].seat.is_none() {
            return;
        }
        let Some(transport) = self.clients[index].transports.first().copied() else {
            return;
        };
        self.messages += 1;
        let named = self
            .rng
            .random_bool(0.5)
            .then(|| IDENTITIES[self.rng.random_range(0..5)]);
        let payload = Bytes::from(self.messages.to_be_bytes().to_vec());
        let packet = DataPacket {
            destination_identities: named
                .iter()
                .map(|identity| (*identity).to_owned())
                .collect(),
            value: Some(data_packet::Value::User(UserPacket {
                payload: payload.clone(),
                ..Default::default()
            })),
            ..Default::default()
        };
        self.plane.data.clear();
        let event = Event::Data {
            transport,
            channel: DataChannel::Reliable,
            payload: packet.encode_to_vec().into(),
        };
        self.room.handle_media(self.now, event);
        self.plane.obey(self.room.media());
        let got: BTreeSet<TransportId> = self.plane.data.drain(..).map(|(to, _, _)| to).collect();
        for (other, client) in self.clients.iter().enumerate() {
            let here = client.seat.is_some() && !client.transports.is_empty();
            let meant = other != index && named.is_none_or(|identity| identity == client.identity);
            let reached = client
                .transports
                .iter()
                .filter(|of| got.contains(of))
                .count();
            let expected = usize::from(here && meant);
            assert_eq!(
                reached, expected,
                "a message for {named:?} reaches {}",
                client.identity
            );
        }
    }

    fn media_events(&mut self, index: usize) {
        let tracks: Vec<_> = self.plane.tracks.keys().copied().collect();
        let speaking = tracks
            .iter()
            .filter(|_| self.rng.random_bool(0.5))
            .map(|track| (*track, 0.5));
        let speaking: Vec<_> = speaking.collect();
        self.note(index, format!("speaking: {speaking:?}"));
        self.room.handle_media(self.now, Event::Speakers(speaking));
    }

    fn stream_state(&mut self, index: usize) {
        let subscriptions: Vec<_> = self.plane.subscriptions.keys().copied().collect();
        if let Some(subscription) = subscriptions.choose(&mut self.rng) {
            let paused = self.rng.random_bool(0.5);
            self.note(index, format!("{subscription:?} paused {paused}"));
            let event = Event::StreamState {
                subscription: *subscription,
                paused,
            };
            self.room.handle_media(self.now, event);
        }
    }

    fn administer(&mut self, index: usize) {
        let identity = self.clients[index].identity.clone();
        let order = match self.rng.random_range(0..4) {
            0 => Order::UpdateParticipant {
                identity,
                metadata: String::new(),
                name: "renamed".into(),
                attributes: Default::default(),
                permission: Some(ParticipantPermission {
                    can_subscribe: self.rng.random_bool(0.7),
                    can_publish: self.rng.random_bool(0.7),
                    can_publish_data: true,
                    can_update_metadata: true,
                    hidden: self.clients[index]
                        .view
                        .participants
                        .get(&self.clients[index].view.sid)
                        .and_then(|own| own.permission.as_ref())
                        .is_some_and(|own| own.hidden),
                    ..Default::default()
                }),
            },
            1 => match self.own_tracks(index).choose(&mut self.rng) {
                Some(track) => Order::MuteTrack {
                    identity,
                    track_sid: track.sid.clone(),
                    muted: self.rng.random_bool(0.5),
                },
                None => return,
            },
            2 => Order::UpdateMetadata {
                metadata: self.rng.random_range(0..100).to_string(),
            },
            _ if self.rng.random_bool(0.2) => Order::RemoveParticipant { identity },
            _ => return,
        };
        self.note(index, format!("is administered: {order:?}"));
        let known: BTreeSet<TransportId> = self.plane.transports.keys().copied().collect();
        // A track may have ended in this very round.
        let _ = self.room.administer(self.now, order);
        self.note_transports(index, &known);
    }

    fn data_track(&mut self, index: usize) {
        let handle = self.rng.random_range(1..4_u32);
        let message = match self.rng.random_range(0..3) {
            0 => {
                self.clients[index].handles.insert(handle);
                signal_request::Message::PublishDataTrackRequest(PublishDataTrackRequest {
                    pub_handle: handle,
                    name: format!("track {handle}"),
                    ..Default::default()
                })
            }
            1 => {
                self.clients[index].handles.remove(&handle);
                signal_request::Message::UnpublishDataTrackRequest(UnpublishDataTrackRequest {
                    pub_handle: handle,
                })
            }
            _ => {
                let view = &self.clients[index].view;
                let sids: Vec<String> = view
                    .participants
                    .values()
                    .filter(|info| info.sid != view.sid)
                    .flat_map(|info| info.data_tracks.iter().map(|track| track.sid.clone()))
                    .collect();
                let Some(sid) = sids.choose(&mut self.rng) else {
                    return;
                };
                self.clients[index].data_wishes.insert(sid.clone());
                signal_request::Message::UpdateDataSubscription(UpdateDataSubscription {
                    updates: vec![update_data_subscription::Update {
                        track_sid: sid.clone(),
                        subscribe: true,
                        ..Default::default()
                    }],
                })
            }
        };
        self.note(index, format!("{message:?}"));
        self.request(index, message);
    }

    /// Answers the server's offers, now or some day.
    fn answer(&mut self, index: usize, at_once: bool) {
        if self.clients[index].link != Link::Up || !(at_once || self.rng.random_bool(0.5)) {
            return;
        }
        let offers = std::mem::take(&mut self.clients[index].view.offers);
        for (id, sdp) in offers {
            let answer = SessionDescription {
                r#type: "answer".into(),
                sdp: sdp::answer(&sdp),
                id,
                ..Default::default()
            };
            self.request(index, signal_request::Message::Answer(answer));
        }
    }

    /// A client without a path: the server notices, the client comes back, or both.
    fn away(&mut self, index: usize) {
        let Some(seat) = self.clients[index].seat else {
            self.clients[index].link = Link::Away;
            return;
        };
        if self.clients[index].link == Link::Cut && self.rng.random_bool(0.5) {
            self.note(index, "is noticed to be lost");
            self.room.session_ended(self.now, seat, SessionEnd::Lost);
            self.clients[index].link = Link::Lost;
        } else {
            self.resume(index);
        }
    }

    fn resume(&mut self, index: usize) {
        // What was not delivered yet goes where the session goes.
        self.end_round();
        let client = &mut self.clients[index];
        if client.seat.is_none() {
            return;
        }
        let sid = client.view.sid.clone();
        let join = join_of(
            &client.identity,
            VideoGrant::default(),
            client.auto_subscribe,
            Some(sid),
        );
        let seated = self
            .room
            .join(self.now, join)
            .expect("a resume takes no seat");
        match seated {
            Seated::Seat(seat) => {
                self.clients[index].seat = Some(seat);
                self.clients[index].link = Link::Up;
                self.clients[index].view.offers.clear();
                self.note(index, "resumes");
                let tracks = self.own_tracks(index).into_iter();
                let state = SyncState {
                    publish_tracks: tracks
                        .map(|track| TrackPublishedResponse {
                            track: Some(track),
                            ..Default::default()
                        })
                        .collect(),
                    ..Default::default()
                };
                self.end_round();
                self.request(index, signal_request::Message::SyncState(state));
            }
            Seated::Dismissed(_) => {
                // As clients do, it joins from scratch.
                self.note(index, "cannot resume");
                self.join(index);
            }
        }
    }

    /// Everybody comes back, answers what is offered, and time passes.
    fn calm_down(&mut self) {
        self.end_round();
        for index in 0..self.clients.len() {
            if matches!(self.clients[index].link, Link::Cut | Link::Lost) {
                self.resume(index);
            }
        }
        for _ in 0..6 {
            for _ in 0..3 {
                self.end_round();
                for index in 0..self.clients.len() {
                    self.answer(index, true);
                }
            }
            self.advance(Duration::from_millis(1_500));
        }
        self.end_round();
    }

    fn truth(&mut self) -> Vec<ParticipantInfo> {
        match self.room.administer(self.now, Order::ListParticipants) {
            Ok(Answer::Participants(participants)) => participants,
            other => panic!("the room lists its participants, not {other:?}"),
        }
    }

    /// What holds at every moment: what is announced as muted is muted in the engine.
    fn check_always(&mut self) {
        self.plane.obey(self.room.media());
        let announced = self.truth();
        let mut said: Vec<bool> = announced
            .iter()
            .flat_map(|info| info.tracks.iter().map(|track| track.muted))
            .collect();
        let mut done: Vec<bool> = self
            .plane
            .tracks
            .values()
            .map(|(_, muted)| *muted)
            .collect();
        said.sort_unstable();
        done.sort_unstable();
        assert_eq!(said, done, "tracks muted as announced, and in the engine");
    }

    fn check_views(&mut self) {
        let truth = self.truth();
        let room = match self.room.administer(self.now, Order::Describe) {
            Ok(Answer::Room(room)) => *room,
            other => panic!("the room describes itself, not {other:?}"),
        };
        let hidden = |info: &ParticipantInfo| {
            info.permission
                .as_ref()
                .is_some_and(|permission| permission.hidden)
        };
        for client in self.clients.iter().filter(|client| client.link == Link::Up) {
            let who = &client.identity;
            let view = &client.view;
            let seen: BTreeMap<String, ParticipantInfo> = truth
                .iter()
                .filter(|info| info.sid == view.sid || !hidden(info))
                .map(|info| (info.sid.clone(), info.clone()))
                .collect();
            assert_eq!(view.participants, seen, "{who}: the participants");
            assert_eq!(view.room, room, "{who}: the room");
            let own = seen.get(&view.sid).cloned().unwrap_or_default();
            for track in &own.tracks {
                assert!(
                    !view.unpublished.contains(&track.sid),
                    "{who}: {} is there",
                    track.sid
                );
            }
            self.check_subscriptions(client, &own, &truth);
        }
    }

    fn check_subscriptions(
        &self,
        client: &Client,
        own: &ParticipantInfo,
        truth: &[ParticipantInfo],
    ) {
        let (who, view) = (&client.identity, &client.view);
        let may_subscribe = own.permission.as_ref().is_some_and(|own| own.can_subscribe);
        let mut expected = BTreeSet::new();
        for owner in truth.iter().filter(|owner| owner.sid != view.sid) {
            let hidden = owner.permission.as_ref().is_some_and(|owner| owner.hidden);
            let audience = self.audiences.get(&owner.identity);
            let seen = audience.is_none_or(|named| named.contains(who));
            for track in &owner.tracks {
                let wished = client
                    .wishes
                    .get(&track.sid)
                    .copied()
                    .unwrap_or(client.auto_subscribe);
                let permitted = seen && may_subscribe;
                if wished && !hidden {
                    let told = view.permissions.get(&track.sid);
                    assert_eq!(told, Some(&permitted), "{who}: told of {}", track.sid);
                }
                if wished && !hidden && permitted {
                    expected.insert(track.sid.clone());
                }
            }
        }
        let offered: BTreeSet<String> = view.offered.clone();
        assert_eq!(offered, expected, "{who}: the tracks that it is offered");
        let sent = self.plane.subscriptions.values();
        let sent = sent.filter(|sent| client.transports.contains(&sent.transport));
        assert_eq!(
            sent.count(),
            expected.len(),
            "{who}: the tracks that it is sent"
        );
        let handles: BTreeSet<&String> = view.handles.values().collect();
        let wished = truth
            .iter()
            .filter(|owner| owner.sid != view.sid)
            .flat_map(|owner| {
                let hidden = owner.permission.as_ref().is_some_and(|owner| owner.hidden);
                let audience = self.audiences.get(&owner.identity);
                let seen = !hidden && audience.is_none_or(|named| named.contains(who));
                owner
                    .data_tracks
                    .iter()
                    .filter(move |_| seen)
                    .map(|track| &track.sid)
            });
        let wished: BTreeSet<&String> = wished
            .filter(|sid| client.data_wishes.contains(*sid))
            .collect();
        assert_eq!(handles, wished, "{who}: the data tracks that it gets");
    }
}

fn join_of(
    identity: &str,
    grant: VideoGrant,
    auto_subscribe: bool,
    resume: Option<String>,
) -> Join {
    Join {
        room: "weekly".into(),
        identity: identity.into(),
        claims: Claims {
            sub: identity.into(),
            video: Some(grant),
            ..Default::default()
        },
        api_key: "key".into(),
        client: ClientInfo::default(),
        protocol: 16,
        auto_subscribe,
        adaptive_stream: false,
        allow_pause: true,
        attributes: Default::default(),
        resume,
    }
}
