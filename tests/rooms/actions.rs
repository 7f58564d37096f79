//! What clients and administrators do in a meeting, at random.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use moim::room::{Order, ParticipantOrder, RoomChanges};
use moim_engine::command::DataChannel;
use moim_engine::event::Event;
use moim_engine::ids::TransportId;
use moim_signaling::wire::{
    AddTrackRequest, DataPacket, MuteTrackRequest, ParticipantPermission, PublishDataTrackRequest,
    SessionDescription, SubscriptionPermission, TrackInfo, TrackPermission, TrackType,
    UnpublishDataTrackRequest, UpdateDataSubscription, UpdateLocalAudioTrack,
    UpdateParticipantMetadata, UpdateSubscription, UpdateTrackSettings, UserPacket, data_packet,
    signal_request, update_data_subscription,
};
use prost::Message as _;
use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::meeting::{IDENTITIES, Meeting};
use crate::sdp::{self, Section};

impl Meeting {
    /// Announces a track, and offers it unless it changes its mind.
    pub(crate) fn announce(&mut self, index: usize, offers: bool) {
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
        let cid = Some(cid);
        self.clients[index].announced.push(Section { video, cid });
        if offers {
            self.offer_announced(index);
        }
    }

    /// Offers the track that it announced last, if there is one that it has not offered.
    pub(crate) fn offer_announced(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.sections.len() < 12
            && let Some(section) = client.announced.pop()
        {
            client.sections.push(section);
            self.offer(index);
        }
    }

    pub(crate) fn offer(&mut self, index: usize) {
        let sdp = sdp::offer(&self.clients[index].sections);
        self.note(index, format!("offers {:?}", self.clients[index].sections));
        let offer = SessionDescription {
            r#type: "offer".into(),
            sdp,
            ..Default::default()
        };
        self.request(index, signal_request::Message::Offer(offer));
    }

    pub(crate) fn stop_section(&mut self, index: usize) {
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
    pub(crate) fn reuse_section(&mut self, index: usize) {
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

    pub(crate) fn own_tracks(&self, index: usize) -> Vec<TrackInfo> {
        let view = &self.clients[index].view;
        view.participants
            .get(&view.sid)
            .map(|own| own.tracks.clone())
            .unwrap_or_default()
    }

    pub(crate) fn others_tracks(&self, index: usize) -> Vec<TrackInfo> {
        let view = &self.clients[index].view;
        let others = view
            .participants
            .values()
            .filter(|info| info.sid != view.sid);
        others.flat_map(|info| info.tracks.clone()).collect()
    }

    pub(crate) fn mute(&mut self, index: usize) {
        if let Some(track) = self.own_tracks(index).choose(&mut self.rng) {
            let mute = MuteTrackRequest {
                sid: track.sid.clone(),
                muted: !track.muted,
            };
            self.note(index, format!("mutes {}: {}", mute.sid, mute.muted));
            self.request(index, signal_request::Message::Mute(mute));
        }
    }

    pub(crate) fn features(&mut self, index: usize) {
        if let Some(track) = self.own_tracks(index).choose(&mut self.rng) {
            let update = UpdateLocalAudioTrack {
                track_sid: track.sid.clone(),
                features: vec![self.rng.random_range(0..6)],
            };
            self.request(index, signal_request::Message::UpdateAudioTrack(update));
        }
    }

    pub(crate) fn wish(&mut self, index: usize) {
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

    pub(crate) fn track_settings(&mut self, index: usize) {
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

    pub(crate) fn set_audience(&mut self, index: usize) {
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

    pub(crate) fn update_metadata(&mut self, index: usize) {
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
    pub(crate) fn send_data(&mut self, index: usize) {
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

    pub(crate) fn media_events(&mut self, index: usize) {
        let tracks: Vec<_> = self.plane.tracks.keys().copied().collect();
        let speaking = tracks
            .iter()
            .filter(|_| self.rng.random_bool(0.5))
            .map(|track| (*track, 0.5));
        let speaking: Vec<_> = speaking.collect();
        self.note(index, format!("speaking: {speaking:?}"));
        self.room.handle_media(self.now, Event::Speakers(speaking));
    }

    pub(crate) fn stream_state(&mut self, index: usize) {
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

    pub(crate) fn administer(&mut self, index: usize) {
        let identity = self.clients[index].identity.clone();
        let about = |order| Order::Participant { identity, order };
        let order = match self.rng.random_range(0..7) {
            0 => about(ParticipantOrder::Update {
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
            }),
            1 => match self.own_tracks(index).choose(&mut self.rng) {
                Some(track) => about(ParticipantOrder::MuteTrack {
                    track_sid: track.sid.clone(),
                    muted: self.rng.random_bool(0.5),
                }),
                None => return,
            },
            2 => Order::UpdateMetadata {
                metadata: self.rng.random_range(0..100).to_string(),
            },
            3 => Order::Configure(RoomChanges {
                metadata: Some(self.rng.random_range(0..100).to_string()),
                max_participants: Some(self.rng.random_range(20..100)),
                ..Default::default()
            }),
            4 => about(ParticipantOrder::Call {
                method: "greet".into(),
                payload: "x".repeat(self.rng.random_range(0..20_000)),
                timeout: Duration::from_millis(self.rng.random_range(0..30_000)),
            }),
            5 if self.rng.random_bool(0.2) => about(ParticipantOrder::Move {
                room: Box::default(),
                participants: Vec::new(),
            }),
            _ if self.rng.random_bool(0.2) => about(ParticipantOrder::Remove),
            _ => return,
        };
        self.note(index, format!("is administered: {order:?}"));
        let known: BTreeSet<TransportId> = self.plane.transports.keys().copied().collect();
        // A track may have ended in this very round.
        let _ = self.room.administer(self.now, order);
        self.note_transports(index, &known);
    }

    pub(crate) fn data_track(&mut self, index: usize) {
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
}
