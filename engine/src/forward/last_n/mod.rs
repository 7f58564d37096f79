//! Forwards only the loudest audio tracks of a large room (see `slots.rs`).
//!
//! The tracks of the whole room compete for the slots. A subscriber who is to get no more of them
//! than there are slots gets them all, whoever else is loud in the room.
//!
//! The competition is at the home of the tracks. Another shard counts for each of its subscribers how
//! many tracks it is to get, asks the home for those too that are held while one of them is always
//! heard, and follows what crosses.

pub(crate) mod slots;

use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::api::codec::{Codec, MediaKind};
use crate::api::ids::{RoomId, TrackId, TransportId};
use crate::forward::fan_out::fan_out;
use crate::forward::forwarder::SourcePacket;
use crate::forward::relay::{relay_held, update_relay};
use crate::state::Media;
use crate::state::packet::{Audience, Received};
use crate::state::table::TrackIx;
use crate::state::track::Track;
use crate::wire::payload::reader::PacketLayers;
use crate::wire::red_payload::Redundancy;
use crate::wire::rtp::header::RtpHeader;

use slots::{AudioSlots, Verdict};

/// Held packets older than this are not forwarded, in ticks of Opus's RTP clock: 200 ms. With DTX a
/// silent microphone sends one packet in 400 ms, and such a packet is not part of the next word.
const MAX_PREROLL_AGE: u32 = Codec::Opus.clock_rate() / 5;

/// The rooms in which not all audio tracks are forwarded.
#[derive(Debug, Default)]
pub(crate) struct LastN {
    rooms: FxHashMap<RoomId, AudioSlots>,
}

impl LastN {
    /// Sets how many audio tracks of a room are forwarded at a time; `None` for all of them.
    pub(crate) fn set(&mut self, room: RoomId, slots: Option<u8>) {
        match slots {
            Some(slots) => match self.rooms.get_mut(&room) {
                Some(last_n) => last_n.set_slots(slots),
                None => {
                    self.rooms.insert(room, AudioSlots::new(slots));
                }
            },
            None => {
                self.rooms.remove(&room);
            }
        }
    }

    /// To whom a packet of this level, in -dBov, is forwarded. When its track is admitted with this
    /// packet, the packets held just before it are forwarded first.
    pub(crate) fn audience_of(
        &mut self,
        media: &mut Media,
        now: Instant,
        track_index: TrackIx,
        dbov: u8,
        packet: &SourcePacket,
    ) -> Audience {
        let track = &media.tracks[track_index];
        if !competes(track) {
            return Audience::Everyone;
        }
        let Some(last_n) = self.rooms.get_mut(&track.room) else {
            return Audience::Everyone;
        };
        match last_n.observe(now, track_index, dbov, packet.sequence) {
            Verdict::Forward => Audience::Everyone,
            Verdict::Hold => Audience::AlwaysHearing,
            Verdict::Evict => {
                pause_track(media, track_index);
                Audience::AlwaysHearing
            }
            Verdict::Admit { from, evicted } => {
                if let Some(evicted) = evicted {
                    pause_track(media, evicted);
                }
                for held in from..packet.sequence {
                    let received = cached(&media.tracks[track_index], held);
                    if let Some(received) = received.filter(|held| is_preroll(packet, held)) {
                        relay_held(media, now, track_index, held);
                        fan_out(media, now, track_index, &received, Audience::Others);
                    }
                }
                Audience::Everyone
            }
        }
    }

    /// To whom packets of a track are forwarded while nothing changes.
    pub(crate) fn audience(&self, media: &Media, track: TrackIx) -> Audience {
        let last_n = self.rooms.get(&media.tracks[track].room);
        if last_n.is_some_and(|last_n| last_n.holds(track)) {
            Audience::AlwaysHearing
        } else {
            Audience::Everyone
        }
    }

    /// The home of a track has decided for whom a packet of it is. Gives the same audience.
    pub(crate) fn follow(
        &mut self,
        media: &mut Media,
        track: TrackIx,
        audience: Audience,
    ) -> Audience {
        let held = audience == Audience::AlwaysHearing;
        if let Some(last_n) = self.rooms.get_mut(&media.tracks[track].room)
            && last_n.follow(track, !held)
            && held
        {
            pause_track(media, track);
        }
        audience
    }

    /// Finds which tracks a peer always hears, after any of its subscriptions has changed.
    pub(crate) fn update_peer(&self, media: &mut Media, now: Instant, transport: TransportId) {
        let Some(peer) = media.peers.find(transport) else {
            return;
        };
        let state = &media.peers[peer];
        let last_n = self.rooms.get(&state.room);
        let wanted = state.subscriptions.iter().filter(|index| {
            let subscription = &media.subscriptions[**index];
            let track = &media.tracks[subscription.track];
            competes(track) && subscription.settings.enabled && !track.muted
        });
        let few = last_n.is_some_and(|last_n| wanted.count() <= last_n.slots());
        let count = state.subscriptions.len();
        for place in 0..count {
            let index = media.peers[peer].subscriptions[place];
            let subscription = &mut media.subscriptions[index];
            let track_index = subscription.track;
            let track = &mut media.tracks[track_index];
            let always_heard = few && competes(track);
            if always_heard == subscription.always_heard {
                continue;
            }
            subscription.always_heard = always_heard;
            if always_heard {
                track.always_heard += 1;
            } else {
                track.always_heard -= 1;
                if last_n.is_some_and(|last_n| last_n.holds(track_index)) {
                    subscription.forwarder.pause();
                }
            }
            update_relay(media, now, track_index);
        }
    }

    /// As [`Self::update_peer`] for all subscribers of a track.
    pub(crate) fn update_subscribers(&self, media: &mut Media, now: Instant, track: TrackId) {
        let Some(track) = media.tracks.find(track) else {
            return;
        };
        for place in 0..media.tracks[track].subscriptions.len() {
            let index = media.tracks[track].subscriptions[place];
            let transport = media.peers[media.subscriptions[index].peer].id;
            self.update_peer(media, now, transport);
        }
    }

    /// As [`Self::update_peer`] for all peers of a room.
    pub(crate) fn update_room(&self, media: &mut Media, now: Instant, room: RoomId) {
        let peers = media.peers.values().filter(|peer| peer.room == room);
        for transport in peers.map(|peer| peer.id).collect::<Vec<_>>() {
            self.update_peer(media, now, transport);
        }
    }

    /// Forgets a track that has ended.
    pub(crate) fn forget(&mut self, room: RoomId, track: TrackIx) {
        if let Some(last_n) = self.rooms.get_mut(&room) {
            last_n.forget(track);
        }
    }
}

/// Whether a track takes part in the competition for slots.
fn competes(track: &Track) -> bool {
    track.kind == MediaKind::Audio && !track.screen
}

/// Pauses a track for those of its subscribers who do not always hear it: when it goes on, its sequence numbers continue after
/// the last packet that was forwarded, with no gap for those that were not.
fn pause_track(media: &mut Media, track: TrackIx) {
    for &index in &media.tracks[track].subscriptions {
        let subscription = &mut media.subscriptions[index];
        if !subscription.always_heard {
            subscription.forwarder.pause();
        }
    }
}

/// Whether a held packet was sent so shortly before `packet` that it belongs to the same word.
fn is_preroll(packet: &SourcePacket, held: &Received) -> bool {
    packet.timestamp.wrapping_sub(held.source.timestamp) <= MAX_PREROLL_AGE
}

/// An audio packet as it was when it was received.
fn cached(track: &Track, sequence: u64) -> Option<Received> {
    let cached = track.layers.first()?.cache.get(sequence)?;
    let header = RtpHeader::parse(cached.packet)?;
    let header_len = usize::from(cached.header_len);
    Some(Received {
        source: SourcePacket {
            layer: 0,
            sequence,
            timestamp: header.timestamp,
            layers: PacketLayers::whole(true),
        },
        codec: Codec::of_cached(header.payload_type)?,
        header_len,
        len: cached.packet.len(),
        redundancy: Redundancy::of(cached.packet, header_len, track.encrypted),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::slots::PREROLL_PACKETS;
    use super::*;
    use crate::api::command::{Command, IceCredentials, NewTrack, NewTransport, TrackSource};
    use crate::api::ids::{ShardId, TrackId, TransportId};
    use crate::api::io::EngineConfig;
    use crate::engine::Engine;
    use crate::state::track::Wanted;
    use crate::test_clock;
    use crate::test_room::{Got, ROOM, TestPacket, TestRoom};
    use crate::transport::ServerCertificate;

    const LOUD: u8 = 20;
    const QUIET: u8 = 90;

    /// An engine with one microphone, of which everything that goes on is relayed.
    fn engine(now: Instant) -> Engine {
        let config = EngineConfig {
            seed: 1,
            certificate: Arc::new(ServerCertificate::generate().unwrap()),
            wall_clock: Duration::from_secs(1),
        };
        let mut engine = Engine::new(config, now);
        let (room, transport) = (RoomId(1), TransportId(1));
        let commands = [
            Command::AddTransport(Box::new(NewTransport {
                transport,
                room,
                local_ice: IceCredentials {
                    ufrag: "ufrag".into(),
                    pwd: "a-password-that-is-long-enough".into(),
                },
                opens_data_channels: false,
            })),
            Command::AddTrack(Box::new(NewTrack {
                track: TrackId(1),
                transport,
                kind: MediaKind::Audio,
                screen: false,
                encrypted: false,
                source: TrackSource::default(),
            })),
            Command::SetLastN {
                room,
                slots: Some(1),
            },
        ];
        for command in commands {
            engine.handle_command(now, command);
        }
        let track = &mut engine.media.tracks[TrackIx(0)];
        track.layers[0].restart(7);
        track.layers[0].codec = Some(Codec::Opus);
        track.relayed_to.push((ShardId(1), Wanted::Forwarded));
        // There are more audio tracks than slots.
        let last_n = engine.last_n.rooms.get_mut(&room).unwrap();
        last_n.observe(now, TrackIx(1), QUIET, 0);
        engine
    }

    /// A microphone sends packets at these times, in milliseconds, the last two of them loud. Gives
    /// how many held packets are forwarded before these two.
    fn admitted_from_before(times: &[u64]) -> u64 {
        let start = test_clock::start();
        let mut engine = engine(start);
        let loud_from = times.len() - 2;
        for (place, &millis) in times.iter().enumerate() {
            let (now, sequence) = (start + Duration::from_millis(millis), 1_000 + place as u64);
            let timestamp = (millis * u64::from(Codec::Opus.clock_rate()) / 1_000) as u32;
            let mut bytes = [0; 40];
            bytes[..2].copy_from_slice(&[0x80, Codec::Opus.payload_type()]);
            bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
            let packet = SourcePacket {
                layer: 0,
                sequence,
                timestamp,
                layers: PacketLayers::whole(true),
            };
            let received = Received {
                source: packet,
                codec: Codec::Opus,
                header_len: 12,
                len: bytes.len(),
                redundancy: Redundancy::None,
            };
            let media = &mut engine.media;
            media.keep(now, TrackIx(0), &received, &bytes, true);
            let dbov = if place < loud_from { QUIET } else { LOUD };
            let last_n = &mut engine.last_n;
            let audience = last_n.audience_of(&mut engine.media, now, TrackIx(0), dbov, &packet);
            let admitted = audience == Audience::Everyone;
            assert_eq!(admitted, place == times.len() - 1);
        }
        // The first loud packet was held too.
        engine.statistics().packets_relayed - 1
    }

    #[test]
    fn what_was_said_long_before_stays_held() {
        let steady: Vec<u64> = (0..50).map(|packet| 20 * packet).collect();
        assert_eq!(admitted_from_before(&steady), PREROLL_PACKETS - 1);
        // Silence is sent as a packet in 400 ms (DTX).
        assert_eq!(admitted_from_before(&[0, 400, 800, 1_200, 1_220]), 0);
        assert_eq!(admitted_from_before(&[0, 400, 800, 850, 870]), 1);
    }

    #[test]
    fn a_sole_subscribed_track_is_forwarded_however_loud_others_are() {
        let mut room = TestRoom::new();
        let slots = Some(2);
        room.command(Command::SetLastN { room: ROOM, slots });
        let (alone, all) = (TransportId(50), TransportId(51));
        room.connect(50);
        room.connect(51);
        for number in 1..=5 {
            room.connect(number);
            room.publish(TransportId(number.into()), number, MediaKind::Audio);
            room.subscribe(all, number, 200 + number);
        }
        room.subscribe(alone, 5, 105);
        let mut sequence = 0u16;
        let mut speak = |room: &mut TestRoom| {
            let heard = |room: &TestRoom, who, ssrc| room.got(who, ssrc).len();
            let before = (heard(room, alone, 105), heard(room, all, 205));
            for _ in 0..100 {
                sequence += 1;
                for number in 1..=5 {
                    let packet = TestPacket {
                        ssrc: number,
                        sequence,
                        timestamp: 960 * u32::from(sequence),
                        level: Some(if number == 5 { 40 } else { LOUD }),
                        ..TestPacket::default()
                    };
                    room.send(TransportId(number.into()), &packet);
                }
                room.run(Duration::from_millis(20));
            }
            let after = (heard(room, alone, 105), heard(room, all, 205));
            (after.0 - before.0, after.1 - before.1)
        };
        let (by_one, by_all) = speak(&mut room);
        assert!(by_one >= 99 && by_all <= 1, "{by_one}, {by_all}");
        // With three tracks wanted and two slots, it takes part in the competition.
        room.subscribe(alone, 1, 101);
        room.subscribe(alone, 2, 102);
        assert!(speak(&mut room).0 <= 1);
        room.command(Command::SetTrackMuted {
            track: TrackId(1),
            muted: true,
        });
        assert!(speak(&mut room).0 >= 99, "a muted track does not count");
        room.command(Command::SetTrackMuted {
            track: TrackId(1),
            muted: false,
        });
        assert!(speak(&mut room).0 <= 1);
        room.command(Command::RemoveTrack(TrackId(1)));
        assert!(speak(&mut room).0 >= 99, "nor does one that has ended");
        let got = room.got(alone, 105);
        let follows =
            |pair: &[Got]| pair[1].header.sequence == pair[0].header.sequence.wrapping_add(1);
        assert!(got.windows(2).all(follows), "without a gap");
        room.command(Command::RemoveTransport(alone));
        assert_eq!(room.engine.media.tracks[TrackIx(4)].always_heard, 0);
    }
}
