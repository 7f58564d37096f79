//! What subscribers get of what is published: nothing that their answers do not take, and nothing
//! that is encrypted end to end in another form.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::api::codec::{Codec, MediaKind, PayloadTypes, RED_PAYLOAD_TYPE};
use crate::api::command::{
    Command, IceCredentials, NewSubscription, NewTrack, NewTransport, Payload, ReceiveMapping,
    SubscriptionSettings, TrackSource,
};
use crate::api::ids::{RoomId, SubscriptionId, TrackId, TransportId};
use crate::api::io::{EngineConfig, LocalSocket};
use crate::engine::Engine;
use crate::send::send_batch::Path;
use crate::state::peer::Srtp;
use crate::test_clock;
use crate::transport::ServerCertificate;
use crate::wire::rtp::header::RtpHeader;
use crate::wire::srtp::{SrtpProfile, SrtpReceiver, SrtpSender};
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng, rngs::SmallRng};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;
const KEY: [u8; 16] = [1; 16];
const SALT: [u8; 12] = [2; 12];
/// The publisher's payload types, which are not those of the cache.
const PUBLISHED: [(u8, Payload); 4] = [
    (96, Payload::Media(Codec::Opus)),
    (97, Payload::Media(Codec::Pcmu)),
    (98, Payload::Media(Codec::Pcma)),
    (99, Payload::Red),
];

/// A voice that is published and subscribed to on one engine, with the same keys for everybody.
struct Room {
    now: Instant,
    engine: Engine,
    sender: SrtpSender,
    sequence: u16,
}

impl Room {
    fn new(encrypted: bool) -> Room {
        let now = test_clock::start();
        let config = EngineConfig {
            seed: 1,
            certificate: Arc::new(ServerCertificate::generate().unwrap()),
            wall_clock: Duration::from_secs(1),
        };
        let mut room = Room {
            now,
            engine: Engine::new(config, now),
            sender: SrtpSender::new(PROFILE, &KEY, &SALT),
            sequence: 0,
        };
        room.add_transport(0);
        let transport = TransportId(0);
        let mapping = ReceiveMapping {
            payload_types: PUBLISHED.to_vec(),
            extensions: Vec::new(),
        };
        room.command(Command::SetReceive {
            transport,
            mapping: Arc::new(mapping),
        });
        room.command(Command::AddTrack(Box::new(NewTrack {
            track: TrackId(1),
            transport,
            kind: MediaKind::Audio,
            screen: false,
            encrypted,
            source: TrackSource::default(),
        })));
        room
    }

    fn command(&mut self, command: Command) {
        self.engine.handle_command(self.now, command);
    }

    fn add_transport(&mut self, number: u32) {
        let transport = TransportId(number.into());
        self.command(Command::AddTransport(Box::new(NewTransport {
            transport,
            room: RoomId(1),
            local_ice: IceCredentials {
                ufrag: format!("ufrag{number}"),
                pwd: "a-password-that-is-long-enough".into(),
            },
            opens_data_channels: false,
        })));
        let peer = self.engine.media.peers.find(transport).unwrap();
        let state = &mut self.engine.media.peers[peer];
        state.srtp = Some(Srtp {
            sender: SrtpSender::new(PROFILE, &KEY, &SALT),
            receiver: SrtpReceiver::new(PROFILE, &KEY, &SALT),
        });
        state.path = Some(Path {
            destination: ([10, 0, 0, number as u8], 9).into(),
            local: LocalSocket(0),
        });
    }

    fn subscribe(&mut self, number: u32, payload_types: PayloadTypes) {
        self.add_transport(number);
        self.command(Command::AddSubscription(NewSubscription {
            shown_as: None,
            subscription: SubscriptionId(number.into()),
            track: TrackId(1),
            transport: TransportId(number.into()),
            ssrc: number,
            rtx_ssrc: None,
            transport_cc: false,
            payload_types,
            settings: SubscriptionSettings::default(),
        }));
    }

    /// Publishes a packet; gives `(subscriber, payload type, payload)` of what leaves.
    fn publish(&mut self, payload_type: u8, payload: &[u8]) -> Vec<(u32, u8, Vec<u8>)> {
        // Within a second: paths that ICE does not confirm end then.
        self.now += Duration::from_millis(5);
        self.sequence += 1;
        let mut packet = vec![0x80, payload_type, 0, 0, 0, 0, 0, 0, 0, 0, 0, 99];
        packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&(960 * u32::from(self.sequence)).to_be_bytes());
        packet.extend(payload);
        let len = packet.len();
        packet.resize(len + 16, 0);
        let sealed = self.sender.protect_rtp(0, 12, &mut packet, len);
        let peer = self.engine.media.peers.find(TransportId(0)).unwrap();
        self.engine
            .handle_rtp(self.now, self.now, peer, &mut packet[..sealed]);
        self.now += Duration::from_millis(5);
        self.engine.handle_timeout(self.now);
        let receiver = SrtpReceiver::new(PROFILE, &KEY, &SALT);
        let mut left = Vec::new();
        while let Some(transmits) = self.engine.poll_transmits(self.now) {
            for datagram in transmits.flat_map(|transmit| transmit.datagrams()) {
                let mut packet = datagram.to_vec();
                // Reports are not media (RFC 5761, section 4).
                if (64..96).contains(&(packet[1] & 0x7f)) {
                    continue;
                }
                let header = RtpHeader::parse(&packet).unwrap();
                let len = receiver
                    .unprotect_rtp(0, header.header_len, &mut packet)
                    .unwrap();
                let payload = header.payload(&packet[..len]).unwrap().to_vec();
                left.push((header.ssrc, header.payload_type, payload));
            }
        }
        left
    }
}

fn random_payload_types(rng: &mut SmallRng) -> PayloadTypes {
    let mut payload_types = PayloadTypes::default();
    for codec in [Codec::Opus, Codec::Pcmu, Codec::Pcma] {
        if rng.random() {
            payload_types.take(codec, rng.random_range(96..128));
        }
    }
    if payload_types.media(Codec::Opus).is_some() && rng.random() {
        payload_types.take_red(rng.random_range(35..64));
    }
    payload_types
}

#[test]
fn nobody_is_sent_a_payload_type_that_it_did_not_answer_or_a_packet_without_a_frame() {
    let seed = 3_264;
    let mut rng = SmallRng::seed_from_u64(seed);
    for round in 0..40 {
        let mut room = Room::new(false);
        let subscribers: Vec<(u32, PayloadTypes)> = (1..6)
            .map(|number| (number, random_payload_types(&mut rng)))
            .collect();
        for (number, payload_types) in &subscribers {
            room.subscribe(*number, *payload_types);
        }
        for _ in 0..60 {
            let (payload_type, payload) = *PUBLISHED.choose(&mut rng).unwrap();
            // Padding, by which a microphone probes its network, has no frame: no subscriber gets it.
            let empty = rng.random_ratio(1, 5);
            let len = if empty { 0 } else { rng.random_range(1..200) };
            let frame: Vec<u8> = (0..len).map(|_| rng.random()).collect();
            let sent = match payload {
                Payload::Red if empty && rng.random() => Vec::new(),
                Payload::Red => [&[111][..], &frame].concat(),
                _ => frame.clone(),
            };
            let mut expected: Vec<(u32, u8, Vec<u8>)> = Vec::new();
            for (number, payload_types) in subscribers.iter().filter(|_| !empty) {
                let media = payload_types.media(payload.codec());
                match payload_types.red().filter(|_| payload == Payload::Red) {
                    Some(red) => expected.push((*number, red, sent.clone())),
                    None => expected.extend(media.map(|media| (*number, media, frame.clone()))),
                }
            }
            let mut left = room.publish(payload_type, &sent);
            left.sort();
            assert_eq!(left, expected, "seed {seed}, round {round}");
        }
    }
}

#[test]
fn what_is_encrypted_end_to_end_is_forwarded_byte_for_byte_or_not_at_all() {
    let seed = 9_605;
    let mut rng = SmallRng::seed_from_u64(seed);
    for round in 0..20 {
        let mut room = Room::new(true);
        room.subscribe(1, PayloadTypes::as_offered());
        room.subscribe(2, PayloadTypes::as_offered().without_red());
        for index in 0..80 {
            let (payload_type, takers) = if rng.random() { (99, 1) } else { (96, 2) };
            let mut sealed = vec![0; rng.random_range(1..300)];
            rng.fill_bytes(&mut sealed);
            // As it is of the packets around, and as it would be of two frames.
            if rng.random() {
                sealed.splice(0..0, [0x80 | 111, 0x0f, 0x00, 0x02, 111]);
            }
            let left = room.publish(payload_type, &sealed);
            assert_eq!(left.len(), takers, "seed {seed}, round {round}, {index}");
            for (number, left_as, payload) in left {
                let red = payload_type == 99;
                assert_eq!(left_as, if red { RED_PAYLOAD_TYPE } else { 111 });
                assert!(!red || number == 1);
                assert_eq!(payload, sealed, "seed {seed}, round {round}, {index}");
            }
        }
    }
}

#[test]
fn a_later_answer_counts_from_then_on() {
    let mut room = Room::new(false);
    let mut payload_types = PayloadTypes::default();
    payload_types.take(Codec::Opus, 111);
    room.subscribe(1, payload_types);
    assert_eq!(room.publish(96, b"opus").len(), 1);
    assert_eq!(room.publish(97, b"pcmu").len(), 0);
    let subscription = SubscriptionId(1);
    payload_types.take(Codec::Pcmu, 0);
    room.command(Command::SetPayloadTypes {
        subscription,
        payload_types,
    });
    assert_eq!(room.publish(97, b"pcmu"), [(1, 0, b"pcmu".to_vec())]);
    // One that has another meaning now could make a repeated packet differ.
    payload_types.take(Codec::Opus, 100);
    room.command(Command::SetPayloadTypes {
        subscription,
        payload_types,
    });
    assert_eq!(room.publish(96, b"opus").len(), 0);
    assert_eq!(room.publish(97, b"pcmu").len(), 1);
}
