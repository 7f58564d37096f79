//! Forwards only the loudest audio tracks of a large room (see `slots.rs`).

pub(crate) mod slots;

use std::time::Instant;

use rustc_hash::FxHashMap;

use crate::api::codec::{Codec, MediaKind};
use crate::api::ids::RoomId;
use crate::forward::fan_out::fan_out;
use crate::forward::forwarder::SourcePacket;
use crate::forward::relay::relay_cached;
use crate::state::Media;
use crate::state::packet::Received;
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

    /// Whether a packet of this level, in -dBov, is forwarded. When its track is admitted with this
    /// packet, the packets held just before it are forwarded first.
    pub(crate) fn passes(
        &mut self,
        media: &mut Media,
        now: Instant,
        track_index: TrackIx,
        dbov: u8,
        packet: &SourcePacket,
    ) -> bool {
        let track = &media.tracks[track_index];
        if track.kind != MediaKind::Audio || track.screen {
            return true;
        }
        let Some(last_n) = self.rooms.get_mut(&track.room) else {
            return true;
        };
        match last_n.observe(now, track_index, dbov, packet.sequence) {
            Verdict::Forward => true,
            Verdict::Hold => false,
            Verdict::Evict => {
                pause_track(media, track_index);
                false
            }
            Verdict::Admit { from, evicted } => {
                if let Some(evicted) = evicted {
                    pause_track(media, evicted);
                }
                for held in from..packet.sequence {
                    let received = cached(&media.tracks[track_index], held);
                    if let Some(received) = received.filter(|held| is_preroll(packet, held)) {
                        relay_cached(media, now, track_index, held);
                        fan_out(media, now, track_index, &received);
                    }
                }
                true
            }
        }
    }

    /// Whether a track has no slot, so that its packets are held.
    pub(crate) fn is_held(&self, media: &Media, track: TrackIx) -> bool {
        let room = media.tracks[track].room;
        let last_n = self.rooms.get(&room);
        last_n.is_some_and(|last_n| last_n.holds(track))
    }

    /// Forgets a track that has ended.
    pub(crate) fn forget(&mut self, room: RoomId, track: TrackIx) {
        if let Some(last_n) = self.rooms.get_mut(&room) {
            last_n.forget(track);
        }
    }
}

/// Pauses a track for all its subscribers: when it goes on, its sequence numbers continue after
/// the last packet that was forwarded, with no gap for those that were not.
fn pause_track(media: &mut Media, track: TrackIx) {
    for &index in &media.tracks[track].subscriptions {
        media.subscriptions[index].forwarder.pause();
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
    use crate::state::packet_cache::CachedFrame;
    use crate::test_clock;
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
        track.relayed_to.push(ShardId(1));
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
            let cache = &mut engine.media.tracks[TrackIx(0)].layers[0].cache;
            cache.insert(now, sequence, &bytes, 12, CachedFrame::WHOLE);
            let packet = SourcePacket {
                layer: 0,
                sequence,
                timestamp,
                layers: PacketLayers::whole(true),
            };
            let dbov = if place < loud_from { QUIET } else { LOUD };
            let passes = engine
                .last_n
                .passes(&mut engine.media, now, TrackIx(0), dbov, &packet);
            assert_eq!(passes, place == times.len() - 1);
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
}
