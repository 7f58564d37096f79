//! Who gets a data message and in whose name: every form of packet, from every kind of sender,
//! to every kind of receiver.

use std::collections::BTreeMap;

use bytes::Bytes;
use moim::room::{About, Now, Room, RoomSettings, SeatId, Seated};
use moim_engine::command::DataChannel;
use moim_engine::event::Event;
use moim_engine::ids::TransportId;
use moim_signaling::Join;
use moim_signaling::token::{ApiKeys, Claims, TokenIssuer, VideoGrant};
use moim_signaling::wire::{
    ChatMessage, ClientInfo, DataPacket, EncryptedPacket, MetricsBatch, PublishDataTrackRequest,
    RpcRequest, SessionDescription, SignalRequest, Transcription, UserPacket, data_packet,
    data_stream, signal_request,
};
use prost::Message as _;

use crate::plane::Plane;
use crate::sdp;

/// A participant and what its token says.
struct Person {
    identity: &'static str,
    kind: &'static str,
    grant: fn(&mut VideoGrant),
}

const PEOPLE: [Person; 6] = [
    Person {
        identity: "plain",
        kind: "",
        grant: |_| {},
    },
    Person {
        identity: "agent",
        kind: "agent",
        grant: |_| {},
    },
    Person {
        identity: "granted",
        kind: "",
        grant: |grant| grant.agent = true,
    },
    Person {
        identity: "hidden",
        kind: "",
        grant: |grant| grant.hidden = true,
    },
    Person {
        identity: "deaf",
        kind: "",
        grant: |grant| grant.can_subscribe = Some(false),
    },
    Person {
        identity: "mute",
        kind: "",
        grant: |grant| grant.can_publish_data = Some(false),
    },
];

/// What a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    User,
    Chat,
    Transcription,
    Text,
    Bytes,
    Rpc,
    Encrypted,
    Metrics,
}

const FORMS: [Form; 8] = [
    Form::User,
    Form::Chat,
    Form::Transcription,
    Form::Text,
    Form::Bytes,
    Form::Rpc,
    Form::Encrypted,
    Form::Metrics,
];

/// Where a message says whom it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Address {
    Nowhere,
    Packet,
    UserIdentity,
    UserSid,
    Stranger,
}

const ADDRESSES: [Address; 5] = [
    Address::Nowhere,
    Address::Packet,
    Address::UserIdentity,
    Address::UserSid,
    Address::Stranger,
];

/// Everybody is addressed as this one, in the cases that address anybody.
const ADDRESSEE: &str = "deaf";

struct Hall {
    room: Room,
    plane: Plane,
    now: Now,
    seats: BTreeMap<&'static str, SeatId>,
    sids: BTreeMap<&'static str, String>,
    publishers: BTreeMap<&'static str, TransportId>,
    receivers: BTreeMap<TransportId, &'static str>,
}

impl Hall {
    fn new() -> Hall {
        let now = Now::read();
        let mut plane = Plane::new();
        let about = About {
            name: "hall".into(),
            settings: RoomSettings::default(),
            issuer: TokenIssuer::new(ApiKeys::from_iter([("key".into(), "secret".into())])),
            node_id: "ND_test".into(),
            metadata: String::new(),
            agents: Vec::new(),
        };
        let (media, _events) = plane.place_room();
        let mut room = Room::new(about, media, 1, now);
        let mut seats = BTreeMap::new();
        let mut hall = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for person in &PEOPLE {
            let before: Vec<TransportId> = plane.transports.keys().copied().collect();
            let mut grant = VideoGrant {
                room_join: true,
                ..Default::default()
            };
            (person.grant)(&mut grant);
            let Ok(Seated::Seat(seat)) = room.join(now, join(person, grant)) else {
                panic!("{} takes a seat", person.identity);
            };
            plane.obey(room.media());
            let subscriber = plane
                .transports
                .keys()
                .find(|id| !before.contains(id))
                .copied();
            let offer = SessionDescription {
                r#type: "offer".into(),
                sdp: sdp::offer(&[]),
                ..Default::default()
            };
            seats.insert(person.identity, seat);
            let message = Some(signal_request::Message::Offer(offer));
            room.handle_request(now, seat, SignalRequest { message });
            plane.obey(room.media());
            let mut new = plane.transports.keys().filter(|id| !before.contains(id));
            let publisher = new.find(|id| subscriber != Some(**id) || person.identity == "deaf");
            let publisher = *publisher.expect("an offer opens a connection");
            hall.1.insert(person.identity, publisher);
            hall.2
                .insert(subscriber.unwrap_or(publisher), person.identity);
        }
        room.end_round(now);
        if let Ok(moim::room::Answer::Participants(infos)) =
            room.administer(now, moim::room::Order::ListParticipants)
        {
            for info in infos {
                let person = PEOPLE
                    .iter()
                    .find(|person| person.identity == info.identity);
                hall.0
                    .insert(person.expect("somebody known").identity, info.sid);
            }
        }
        plane.obey(room.media());
        let (sids, publishers, receivers) = hall;
        Hall {
            room,
            plane,
            now,
            seats,
            sids,
            publishers,
            receivers,
        }
    }

    fn request(&mut self, from: &str, message: signal_request::Message) {
        let request = SignalRequest {
            message: Some(message),
        };
        self.room
            .handle_request(self.now, self.seats[from], request);
        self.room.end_round(self.now);
        self.plane.obey(self.room.media());
    }

    /// Who gets a packet, each with what it is then.
    fn send(&mut self, from: &str, packet: &DataPacket) -> BTreeMap<&'static str, DataPacket> {
        self.send_on(DataChannel::Reliable, from, packet.encode_to_vec().into())
    }

    /// Who gets the bytes of a message on a channel, each with the packet that it gets.
    fn send_on(
        &mut self,
        channel: DataChannel,
        from: &str,
        payload: Bytes,
    ) -> BTreeMap<&'static str, DataPacket> {
        self.plane.data.clear();
        let event = Event::Data {
            transport: self.publishers[from],
            channel,
            payload,
        };
        self.room.handle_media(self.now, event);
        self.plane.obey(self.room.media());
        let sent = self.plane.data.drain(..);
        sent.map(|(to, channel, payload)| {
            assert_eq!(channel, DataChannel::Reliable);
            let packet = DataPacket::decode(payload).expect("a packet");
            (self.receivers[&to], packet)
        })
        .collect()
    }
}

fn join(person: &Person, grant: VideoGrant) -> Join {
    Join {
        room: "hall".into(),
        identity: person.identity.into(),
        claims: Claims {
            sub: person.identity.into(),
            kind: person.kind.into(),
            video: Some(grant),
            ..Default::default()
        },
        api_key: "key".into(),
        client: ClientInfo::default(),
        protocol: 16,
        auto_subscribe: true,
        auto_subscribe_data_track: person.identity != "mute",
        adaptive_stream: false,
        allow_pause: true,
        attributes: Default::default(),
        resume: None,
    }
}

fn value(form: Form) -> data_packet::Value {
    use data_packet::Value;
    use data_stream::header::ContentHeader;
    let stream = |content: ContentHeader| {
        Value::StreamHeader(data_stream::Header {
            stream_id: "s".into(),
            content_header: Some(content),
            ..Default::default()
        })
    };
    match form {
        Form::User => Value::User(UserPacket {
            payload: b"hello".to_vec().into(),
            ..Default::default()
        }),
        Form::Chat => Value::ChatMessage(ChatMessage::default()),
        Form::Transcription => Value::Transcription(Transcription::default()),
        Form::Text => stream(ContentHeader::TextHeader(Default::default())),
        Form::Bytes => stream(ContentHeader::ByteHeader(Default::default())),
        Form::Rpc => Value::RpcRequest(RpcRequest::default()),
        Form::Encrypted => Value::EncryptedPacket(EncryptedPacket::default()),
        Form::Metrics => Value::Metrics(MetricsBatch::default()),
    }
}

#[allow(deprecated)]
fn packet(form: Form, address: Address, claimed: &str, addressee_sid: &str) -> DataPacket {
    let mut packet = DataPacket {
        value: Some(value(form)),
        participant_identity: claimed.into(),
        ..Default::default()
    };
    match (address, &mut packet.value) {
        (Address::Packet, _) => packet.destination_identities = vec![ADDRESSEE.into()],
        (Address::Stranger, _) => packet.destination_identities = vec!["nobody".into()],
        (Address::UserIdentity, Some(data_packet::Value::User(user))) => {
            user.destination_identities = vec![ADDRESSEE.into()];
        }
        (Address::UserSid, Some(data_packet::Value::User(user))) => {
            user.destination_sids = vec![addressee_sid.into()];
        }
        _ => {}
    }
    packet
}

/// In whose name it arrives: identity and sid.
fn name(form: Form, from: &str, claimed: &str, sid: &str) -> (String, String) {
    let agent = matches!(from, "agent" | "granted");
    let spoken = matches!(form, Form::Chat | Form::Transcription | Form::Text);
    match from {
        "hidden" => (String::new(), String::new()),
        _ if agent && spoken && !claimed.is_empty() => (claimed.into(), sid.into()),
        _ => (from.into(), sid.into()),
    }
}

#[test]
#[allow(deprecated)]
fn each_form_reaches_exactly_those_it_is_for_in_the_right_name() {
    let mut hall = Hall::new();
    let addressee_sid = hall.sids[ADDRESSEE].clone();
    for form in FORMS {
        for address in ADDRESSES {
            for claimed in ["", "plain", "somebody else"] {
                for person in &PEOPLE {
                    let from = person.identity;
                    let case = format!("{form:?} {address:?} claims {claimed:?} from {from}");
                    let packet = packet(form, address, claimed, &addressee_sid);
                    let got = hall.send(from, &packet);
                    let agent = matches!(from, "agent" | "granted");
                    let relayed = from != "mute"
                        && form != Form::Metrics
                        && (form != Form::Transcription || agent);
                    let user_only = matches!(address, Address::UserIdentity | Address::UserSid);
                    let expected = PEOPLE.iter().map(|person| person.identity).filter(|to| {
                        let meant = match address {
                            Address::Nowhere => true,
                            Address::Stranger => false,
                            _ if user_only && form != Form::User => true,
                            _ => *to == ADDRESSEE,
                        };
                        relayed && meant && *to != from
                    });
                    let receivers: Vec<&str> = got.keys().copied().collect();
                    let mut expected: Vec<&str> = expected.collect();
                    expected.sort_unstable();
                    assert_eq!(receivers, expected, "{case}");
                    let (identity, sid) = name(form, from, claimed, &hall.sids[from]);
                    for packet in got.values() {
                        assert_eq!(packet.participant_identity, identity, "{case}");
                        assert_eq!(packet.participant_sid, sid, "{case}");
                        if let Some(data_packet::Value::User(user)) = &packet.value {
                            assert_eq!(user.participant_identity, identity, "{case}");
                            assert_eq!(user.participant_sid, sid, "{case}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
#[allow(deprecated)]
fn bytes_on_a_channel_of_the_client_s_own_reach_everybody_else_as_what_its_user_sent() {
    let mut hall = Hall::new();
    // No packet at all, one that is empty, and one that asks for somebody else's name.
    let forged = packet(Form::User, Address::Packet, "plain", "").encode_to_vec();
    for payload in [b"\xff\xff raw".to_vec(), Vec::new(), forged] {
        for person in &PEOPLE {
            let from = person.identity;
            let got = hall.send_on(DataChannel::Other, from, payload.clone().into());
            let others = PEOPLE.iter().map(|person| person.identity);
            let mut expected: Vec<&str> =
                others.filter(|to| from != "mute" && *to != from).collect();
            expected.sort_unstable();
            assert_eq!(got.keys().copied().collect::<Vec<_>>(), expected, "{from}");
            let named = if from == "hidden" { "" } else { from };
            for packet in got.values() {
                assert_eq!(packet.participant_identity, named);
                let Some(data_packet::Value::User(user)) = &packet.value else {
                    panic!("{from}: a user packet");
                };
                assert_eq!(user.payload, payload, "{from}");
                assert_eq!(user.participant_identity, named);
            }
        }
    }
}

#[test]
fn frames_of_data_tracks_reach_those_who_take_all_and_no_others() {
    let mut hall = Hall::new();
    let published = PublishDataTrackRequest {
        pub_handle: 7,
        name: "sensor".into(),
        ..Default::default()
    };
    hall.request(
        "plain",
        signal_request::Message::PublishDataTrackRequest(published),
    );
    let mut frame = vec![0u8; 20];
    frame[3] = 7;
    let event = Event::Data {
        transport: hall.publishers["plain"],
        channel: DataChannel::DataTrack,
        payload: frame.into(),
    };
    hall.plane.data.clear();
    hall.room.handle_media(hall.now, event);
    hall.plane.obey(hall.room.media());
    let sent = hall.plane.data.drain(..);
    let mut got: Vec<&str> = sent.map(|(to, _, _)| hall.receivers[&to]).collect();
    got.sort_unstable();
    // A participant without canSubscribe does not get them, whatever it asks for.
    assert_eq!(got, ["agent", "granted", "hidden"]);
}
