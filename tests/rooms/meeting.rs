//! One seeded meeting: random joins, gaps, publications, permissions, data and administration,
//! and after a quiet end the comparison of every client's view with the room.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use moim::room::{About, Delivery, Now, Room, RoomSettings, SeatId, Seated};
use moim_engine::event::Event;
use moim_engine::ids::TransportId;
use moim_signaling::token::{ApiKeys, Claims, TokenIssuer, VideoGrant};
use moim_signaling::wire::{
    ClientInfo, SessionDescription, SignalRequest, SyncState, TrackInfo, TrackPublishedResponse,
    client_info, signal_request,
};
use moim_signaling::{Join, SessionEnd};
use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::choices::Choices;
use crate::plane::Plane;
use crate::sdp::{self, Section};
use crate::view::View;

pub(crate) const IDENTITIES: [&str; 5] = ["ada", "bob", "cho", "dan", "eve"];
/// Whose client is of the kind that learns of a track by its first packet.
pub(crate) const LEARNS_BY_MEDIA: &str = "ada";

/// Steps of a meeting that an input decides on.
const MAX_STEPS: usize = 300;

/// Whether a client hears the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Everything arrives.
    Up,
    /// The path is cut and the server has not noticed: nothing arrives.
    Cut,
    /// The server has noticed.
    Lost,
    /// It is not in the room.
    Away,
}

/// One participant's client.
pub(crate) struct Client {
    pub(crate) identity: String,
    pub(crate) link: Link,
    pub(crate) seat: Option<SeatId>,
    pub(crate) view: View,
    pub(crate) sections: Vec<Section>,
    /// Tracks that it has announced and not offered.
    pub(crate) announced: Vec<Section>,
    /// Its connections in the media plane, publisher and subscriber.
    pub(crate) transports: Vec<TransportId>,
    pub(crate) auto_subscribe: bool,
    /// What it asked for, by track sid.
    pub(crate) wishes: BTreeMap<String, bool>,
    pub(crate) data_wishes: BTreeSet<String>,
    pub(crate) settings: BTreeMap<String, bool>,
    /// Data tracks that it published, by handle.
    pub(crate) handles: BTreeSet<u32>,
    pub(crate) next_cid: u32,
}

pub(crate) struct Meeting {
    pub(crate) rng: Choices,
    pub(crate) now: Now,
    pub(crate) room: Room,
    pub(crate) plane: Plane,
    pub(crate) clients: Vec<Client>,
    /// Who may see whose tracks: named identities; absent: everybody.
    pub(crate) audiences: BTreeMap<String, BTreeSet<String>>,
    pub(crate) log: Vec<String>,
    pub(crate) messages: u32,
    /// Bytes that the room has told clients since this was last taken.
    pub(crate) told: usize,
}

impl Meeting {
    pub(crate) fn new(seed: u64, rng: Choices) -> Meeting {
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
            metadata: String::new(),
            agents: Vec::new(),
        };
        let (media, _events) = plane.place_room();
        let room = Room::new(about, media, seed, now);
        let clients = IDENTITIES.iter().map(|identity| Client {
            identity: (*identity).to_owned(),
            link: Link::Away,
            seat: None,
            view: View::default(),
            sections: Vec::new(),
            announced: Vec::new(),
            transports: Vec::new(),
            auto_subscribe: true,
            wishes: BTreeMap::new(),
            data_wishes: BTreeSet::new(),
            settings: BTreeMap::new(),
            handles: BTreeSet::new(),
            next_cid: 0,
        });
        Meeting {
            rng,
            now,
            room,
            plane,
            clients: clients.collect(),
            audiences: BTreeMap::new(),
            log: Vec::new(),
            messages: 0,
            told: 0,
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

    /// Plays a meeting whose every choice is a byte of an input.
    pub(crate) fn play_input(input: &[u8]) {
        let mut meeting = Meeting::new(0, Choices::input(input));
        for _ in 0..MAX_STEPS {
            if meeting.rng.is_exhausted() {
                break;
            }
            meeting.step();
            meeting.check_always();
        }
        meeting.calm_down();
        meeting.check_views();
    }

    pub(crate) fn step(&mut self) {
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

    pub(crate) fn note(&mut self, index: usize, what: impl std::fmt::Display) {
        let line = format!("{}: {what}", self.clients[index].identity);
        self.log.push(line);
    }

    pub(crate) fn pass_time(&mut self) {
        let ms = [1, 20, 400, 2_500, 6_000]
            .choose(&mut self.rng)
            .copied()
            .unwrap_or(1);
        self.advance(Duration::from_millis(ms));
    }

    pub(crate) fn advance(&mut self, duration: Duration) {
        self.now = self.now.after(duration);
        if self
            .room
            .timeout()
            .is_some_and(|due| due <= self.now.instant)
        {
            self.room.handle_timeout(self.now);
        }
    }

    pub(crate) fn end_round(&mut self) {
        self.room.end_round(self.now);
        for delivery in self.room.take_deliveries() {
            match delivery {
                Delivery::Messages(seat, messages) => {
                    let bytes = messages.iter().map(|message| message.encoded_len());
                    self.told += bytes.sum::<usize>();
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

    pub(crate) fn join(&mut self, index: usize) {
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
        self.join_as(index, grant, auto_subscribe);
    }

    /// Joins as a token without restrictions lets it.
    pub(crate) fn join_with_all_rights(&mut self, index: usize) {
        let grant = VideoGrant {
            room_join: true,
            room: "weekly".into(),
            can_update_own_metadata: Some(true),
            ..Default::default()
        };
        self.join_as(index, grant, true);
    }

    fn join_as(&mut self, index: usize, grant: VideoGrant, auto_subscribe: bool) {
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
            announced: Vec::new(),
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
    pub(crate) fn note_transports(&mut self, index: usize, known: &BTreeSet<TransportId>) {
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

    pub(crate) fn request(&mut self, index: usize, message: signal_request::Message) {
        let known: BTreeSet<TransportId> = self.plane.transports.keys().copied().collect();
        if let Some(seat) = self.clients[index].seat {
            let request = SignalRequest {
                message: Some(message),
            };
            self.room.handle_request(self.now, seat, request);
        }
        self.note_transports(index, &known);
    }

    pub(crate) fn act(&mut self, index: usize) {
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
            19 => self.offer_announced(index),
            _ => self.answer(index, true),
        }
    }

    /// Answers the server's offers, now or some day.
    pub(crate) fn answer(&mut self, index: usize, at_once: bool) {
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
    pub(crate) fn away(&mut self, index: usize) {
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

    pub(crate) fn resume(&mut self, index: usize) {
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
                // What it has announced it names as well, offered or not.
                let published = self.clients[index].view.published.iter();
                let tracks: BTreeSet<String> = published.map(|(_, sid)| sid.clone()).collect();
                let state = SyncState {
                    publish_tracks: tracks
                        .into_iter()
                        .map(|sid| TrackPublishedResponse {
                            track: Some(TrackInfo {
                                sid,
                                ..Default::default()
                            }),
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
    pub(crate) fn calm_down(&mut self) {
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
        client: ClientInfo {
            sdk: match identity {
                LEARNS_BY_MEDIA => client_info::Sdk::Go as i32,
                _ => 0,
            },
            ..ClientInfo::default()
        },
        protocol: 16,
        auto_subscribe,
        adaptive_stream: false,
        // The wishes for data tracks are all said by the client.
        auto_subscribe_data_track: false,
        allow_pause: true,
        attributes: Default::default(),
        resume,
    }
}
