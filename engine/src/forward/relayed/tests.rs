//! Two engines with a track between them.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::api::codec::{Codec, H264Format, MediaKind, PayloadTypes};
use crate::api::command::{
    Command, IceCredentials, NewSubscription, NewTrack, NewTransport, SubscriptionSettings,
    TrackSource,
};
use crate::api::ids::{RoomId, SubscriptionId, TransportId};
use crate::api::io::EngineConfig;
use crate::engine::Engine;
use crate::forward::forwarder::SourcePacket;
use crate::forward::relay::relay_packet;
use crate::forward::relay_batch::{MAX_BYTES, MAX_PACKETS, RELAY_INTERVAL};
use crate::forward::retransmit::retransmit;
use crate::state::peer::Srtp;
use crate::state::table::SubscriptionIx;
use crate::state::track::SenderReport;
use crate::test_clock;
use crate::transport::ServerCertificate;
use crate::wire::payload::reader::PacketLayers;
use crate::wire::red_payload::Redundancy;
use crate::wire::srtp::{SrtpProfile, SrtpReceiver, SrtpSender};

const HOME: ShardId = ShardId(0);
const FAR: ShardId = ShardId(1);
const TRACK: TrackId = TrackId(1);
const LEN: usize = 1_200;

/// A track of one layer that is published on one engine and mirrored on another.
struct Shards {
    now: Instant,
    home: Engine,
    far: Engine,
    ssrc: u32,
    /// How far the clock of the track's home is ahead of the other one.
    home_ahead: Duration,
}

impl Shards {
    fn new() -> Shards {
        let now = test_clock::start();
        let certificate = Arc::new(ServerCertificate::generate().unwrap());
        let engine = |seed| {
            let config = EngineConfig {
                seed,
                certificate: certificate.clone(),
                wall_clock: Duration::from_secs(1),
            };
            Engine::new(config, now)
        };
        let (mut home, mut far) = (engine(1), engine(2));
        let track = Box::new(NewTrack {
            track: TRACK,
            transport: TransportId(1),
            kind: MediaKind::Video,
            screen: false,
            encrypted: false,
            source: TrackSource::default(),
        });
        add_transport(&mut home, now, TransportId(1));
        home.handle_command(now, Command::AddTrack(track.clone()));
        let (room, home_id) = (RoomId(1), HOME);
        let mirror = Command::MirrorTrack {
            track,
            room,
            home: home_id,
        };
        far.handle_command(now, mirror);
        let ssrc = 77;
        Shards {
            now,
            home,
            far,
            ssrc,
            home_ahead: Duration::ZERO,
        }
    }

    fn subscribe(&mut self, number: u32) {
        add_transport(
            &mut self.far,
            self.now,
            TransportId(100 + u64::from(number)),
        );
        let new = NewSubscription {
            shown_as: None,
            subscription: SubscriptionId(number.into()),
            track: TRACK,
            transport: TransportId(100 + u64::from(number)),
            ssrc: number,
            rtx_ssrc: None,
            transport_cc: true,
            payload_types: PayloadTypes::as_offered(),
            settings: SubscriptionSettings::default(),
        };
        self.far
            .handle_command(self.now, Command::AddSubscription(new));
    }

    /// As `ingress.rs` leaves a packet that has come in.
    fn publish(&mut self, sequence: u64) {
        let now = self.now + self.home_ahead;
        let mut packet = [sequence as u8; LEN];
        packet[..2].copy_from_slice(&[0x80, 108]);
        let layer = &mut self.home.media.tracks[TrackIx(0)].layers[0];
        begin_layer(layer, self.ssrc);
        layer.touch(now);
        layer.codec = Some(Codec::H264(H264Format::USUAL));
        let received = Received {
            source: SourcePacket {
                layer: 0,
                sequence,
                timestamp: sequence as u32,
                layers: PacketLayers::whole(true),
            },
            codec: Codec::H264(H264Format::USUAL),
            header_len: 12,
            len: LEN,
            redundancy: Redundancy::None,
        };
        let media = &mut self.home.media;
        media.keep(now, TrackIx(0), &received, &packet, true);
        let audience = Audience::Everyone;
        relay_packet(media, now, TrackIx(0), &received, audience, &packet);
    }

    /// What has gathered crosses, both ways; answers gather until the next time.
    fn cross(&mut self) {
        self.now += RELAY_INTERVAL;
        let (now, home_now) = (self.now, self.now + self.home_ahead);
        let mut batch = RelayBatch::default();
        let (home, far) = (&mut self.home, &mut self.far);
        home.handle_timeout(home_now);
        far.handle_timeout(now);
        if far.poll_relay(HOME, &mut batch) {
            home.handle_relay(home_now, home_now, FAR, &batch);
            batch.clear();
        }
        if home.poll_relay(FAR, &mut batch) {
            far.handle_relay(now, now, HOME, &batch);
        }
    }

    fn has(&self, sequence: u64) -> bool {
        self.far.media.tracks[TrackIx(0)].layers[0]
            .cache
            .get(sequence)
            .is_some()
    }
}

fn add_transport(engine: &mut Engine, now: Instant, transport: TransportId) {
    let new = NewTransport {
        transport,
        room: RoomId(1),
        local_ice: IceCredentials {
            ufrag: format!("ufrag{}", transport.0),
            pwd: "a-password-that-is-long-enough".into(),
        },
        opens_data_channels: false,
    };
    engine.handle_command(now, Command::AddTransport(Box::new(new)));
    let peer = engine.media.peers.find(transport).unwrap();
    let profile = SrtpProfile::AeadAes128Gcm;
    engine.media.peers[peer].srtp = Some(Srtp {
        sender: SrtpSender::new(profile, &[1; 16], &[2; 12]),
        receiver: SrtpReceiver::new(profile, &[1; 16], &[2; 12]),
    });
}

#[test]
fn packets_cross_while_somebody_watches_there_and_once_however_many() {
    let mut shards = Shards::new();
    shards.publish(1);
    shards.cross();
    assert_eq!(shards.home.statistics().packets_relayed, 0);
    for number in 0..10 {
        shards.subscribe(number);
    }
    shards.cross();
    shards.cross();
    for sequence in 2..7 {
        shards.publish(sequence);
        shards.cross();
    }
    assert_eq!(shards.home.statistics().packets_relayed, 5);
    assert_eq!(shards.far.statistics().packets_out, 50);
    for number in 0..10 {
        let command = Command::RemoveSubscription(SubscriptionId(number));
        shards.far.handle_command(shards.now, command);
    }
    shards.cross();
    shards.publish(7);
    shards.cross();
    assert_eq!(shards.home.statistics().packets_relayed, 5);
}

#[test]
fn wishes_for_a_keyframe_reach_the_publisher_as_one() {
    let mut shards = Shards::new();
    shards.publish(1);
    shards.subscribe(0);
    shards.cross();
    // By now the far side knows the layer, and its subscriber waits for a start.
    shards.cross();
    for _ in 0..100 {
        want_keyframe(&mut shards.far.media, shards.now, TrackIx(0), 0);
    }
    shards.cross();
    assert_eq!(shards.home.statistics().keyframe_requests_out, 1);
    let again = shards.home.media.tracks[TrackIx(0)].layers[0].next_keyframe_request();
    assert!(again.is_some(), "it is asked for until it comes");
}

#[test]
fn what_finds_no_room_is_counted_and_asked_for_again_when_a_subscriber_misses_it() {
    let mut shards = Shards::new();
    shards.subscribe(0);
    shards.cross();
    let first = 1_000;
    shards.publish(first);
    shards.cross();
    let room = MAX_PACKETS.min(MAX_BYTES / LEN) as u64;
    let lost = first + room + 1;
    for sequence in first + 1..=lost + 1 {
        shards.publish(sequence);
    }
    assert_eq!(shards.home.statistics().relays_dropped, 2);
    shards.cross();
    let newest = lost + 2;
    shards.publish(newest);
    shards.cross();
    assert!(shards.has(newest) && !shards.has(lost));
    let sent = shards.far.statistics().packets_out;
    let forwarder = &shards.far.media.subscriptions[SubscriptionIx(0)].forwarder;
    let missing = (0..=u16::MAX)
        .find(|number| {
            forwarder
                .sent_as(*number)
                .is_some_and(|of| of.source == lost)
        })
        .unwrap();
    retransmit(
        &mut shards.far.media,
        shards.now,
        SubscriptionIx(0),
        [missing, missing].into_iter(),
    );
    shards.cross();
    shards.cross();
    assert!(shards.has(lost));
    assert_eq!(shards.far.statistics().packets_out, sent + 1);
    // Now it is there, for everybody who misses it.
    retransmit(
        &mut shards.far.media,
        shards.now,
        SubscriptionIx(0),
        [missing].into_iter(),
    );
    assert_eq!(shards.far.statistics().retransmissions, 1);
}

#[test]
fn a_restarted_encoder_is_seen_as_one_on_the_other_shard() {
    let mut shards = Shards::new();
    shards.subscribe(0);
    shards.cross();
    for sequence in 500..520 {
        shards.publish(sequence);
    }
    shards.cross();
    shards.ssrc = 78;
    // Its numbers come behind all former ones.
    shards.publish((1 << 16) + 5);
    shards.cross();
    let layer = &shards.far.media.tracks[TrackIx(0)].layers[0];
    assert_eq!(
        (layer.ssrc, layer.highest_sequence),
        (Some(78), (1 << 16) + 5)
    );
    assert!(!shards.has(510));
}

#[test]
fn a_muted_track_is_not_forwarded_there_either() {
    let mut shards = Shards::new();
    shards.subscribe(0);
    shards.cross();
    let (track, muted) = (TRACK, true);
    shards
        .far
        .handle_command(shards.now, Command::SetTrackMuted { track, muted });
    shards.publish(1);
    shards.cross();
    assert_eq!(shards.far.statistics().packets_out, 0);
}

#[test]
fn what_is_removed_is_gone_on_both_and_late_packets_are_ignored() {
    let mut shards = Shards::new();
    shards.subscribe(0);
    shards.cross();
    shards.publish(1);
    let remove = Command::RemoveTrack(TRACK);
    shards.far.handle_command(shards.now, remove.clone());
    shards.cross();
    shards.publish(2);
    shards.home.handle_command(shards.now, remove);
    shards.cross();
    for engine in [&shards.home, &shards.far] {
        let statistics = engine.statistics();
        assert_eq!((statistics.tracks, statistics.subscriptions), (0, 0));
    }
    assert_eq!(shards.home.statistics().packets_relayed, 1);
}

#[test]
fn an_engine_that_is_not_read_keeps_a_bounded_memory() {
    let mut shards = Shards::new();
    shards.subscribe(0);
    shards.cross();
    for sequence in 0..5_000 {
        shards.publish(sequence);
    }
    assert!(shards.home.media.relay.memory() <= 2 * MAX_BYTES);
    assert!(shards.home.media.relay.outboxes[0].batch.items.len() <= MAX_PACKETS + 1);
}

#[test]
fn shards_need_not_share_a_clock() {
    let mut shards = Shards::new();
    shards.home_ahead = Duration::from_secs(3_600);
    let home_now = shards.now + shards.home_ahead;
    shards.publish(1);
    let layer = &mut shards.home.media.tracks[TrackIx(0)].layers[0];
    layer.sender_report = Some(SenderReport {
        ntp: 5 << 32,
        rtp: 9,
        at: home_now,
    });
    shards.subscribe(0);
    shards.cross();
    shards.cross();
    let layer = &shards.far.media.tracks[TrackIx(0)].layers[0];
    let report = layer.sender_report.unwrap();
    assert_eq!((report.ntp, report.rtp), (5 << 32, 9));
    let age = shards.now - report.at;
    assert!(age <= 3 * RELAY_INTERVAL, "{age:?}");
    assert!(layer.is_alive(shards.now));
    // It does not outlive its publisher by the difference of the clocks.
    assert!(!layer.is_alive(shards.now + Duration::from_secs(2)));
}
