//! Forwards only the loudest audio tracks of a large room (see `slots.rs`).

pub(crate) mod slots;

use std::time::Instant;

use crate::api::codec::{Codec, MediaKind};
use crate::api::ids::RoomId;
use crate::engine::Engine;
use crate::forward::forwarder::SourcePacket;
use crate::state::packet::Received;
use crate::state::track::Track;
use crate::wire::payload::reader::PacketLayers;
use crate::wire::red_payload;
use crate::wire::rtp::header::RtpHeader;

use crate::forward::last_n::slots::{Loudest, Verdict};
/// What is older than this is not, in units of RTP time: of a silent microphone there may be one
/// packet in 400 ms.
const LONG_BEFORE: u32 = Codec::Opus.clock_rate() / 5;
impl Engine {
    /// From now on a room's subscribers get only so many of its voices, or all of them with
    /// `None`.
    pub(crate) fn set_loudest(&mut self, room: RoomId, places: Option<u8>) {
        match places {
            Some(places) => match self.loudest.get_mut(&room) {
                Some(loudest) => loudest.places = usize::from(places),
                None => {
                    self.loudest.insert(room, Loudest::new(places));
                }
            },
            None => {
                self.loudest.remove(&room);
            }
        }
    }

    /// Whether a packet of this level is forwarded. When it is the one by which its track is let
    /// in, those that were held just before it are forwarded first.
    pub(crate) fn lets_pass(
        &mut self,
        now: Instant,
        track_index: u32,
        dbov: u8,
        packet: &SourcePacket,
    ) -> bool {
        let track = &self.tracks[track_index as usize];
        if track.kind != MediaKind::Audio || track.screen {
            return true;
        }
        let Some(loudest) = self.loudest.get_mut(&track.room) else {
            return true;
        };
        match loudest.observe(now, track_index, dbov, packet.sequence) {
            Verdict::Forward => true,
            Verdict::Hold => false,
            Verdict::LetOut => {
                self.pause_track(track_index);
                false
            }
            Verdict::LetIn { from, displaced } => {
                if let Some(displaced) = displaced {
                    self.pause_track(displaced);
                }
                for held in from..packet.sequence {
                    let received = cached(&self.tracks[track_index as usize], held);
                    if let Some(received) = received.filter(|held| just_before(packet, held)) {
                        self.relay_cached(now, track_index, held);
                        self.fan_out(now, track_index, &received);
                    }
                }
                true
            }
        }
    }

    /// Whether a track is one of those that are not let in.
    pub(crate) fn is_held(&self, track: u32) -> bool {
        let room = self.tracks[track as usize].room;
        let loudest = self.loudest.get(&room);
        loudest.is_some_and(|loudest| loudest.holds(track))
    }

    pub(crate) fn forget_voice(&mut self, room: RoomId, track: u32) {
        if let Some(loudest) = self.loudest.get_mut(&room) {
            loudest.forget(track);
        }
    }

    /// The next packet of a track continues the numbers of the last one, whatever is left out
    /// between them.
    fn pause_track(&mut self, track: u32) {
        for &index in &self.tracks[track as usize].subscriptions {
            self.subscriptions[index as usize].forwarder.pause();
        }
    }
}

/// Whether a packet that was held is of so short a time ago that it is worth hearing.
fn just_before(packet: &SourcePacket, held: &Received) -> bool {
    packet.timestamp.wrapping_sub(held.source.timestamp) <= LONG_BEFORE
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
        codec: Codec::Opus,
        header_len,
        len: cached.packet.len(),
        undone_len: red_payload::undone_len(cached.packet, header_len),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::slots::BEFORE;
    use super::*;
    use crate::api::command::{Command, IceCredentials, NewTrack, NewTransport, TrackSource};
    use crate::api::ids::{ShardId, TrackId, TransportId};
    use crate::api::io::EngineConfig;
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
                source: TrackSource::default(),
            })),
            Command::SetLoudest {
                room,
                places: Some(1),
            },
        ];
        for command in commands {
            engine.handle_command(now, command);
        }
        let track = &mut engine.tracks[0];
        track.layers[0].restart(7);
        track.layers[0].codec = Some(Codec::Opus);
        track.relayed_to.push(ShardId(1));
        // There are more voices than places.
        let loudest = engine.loudest.get_mut(&room).unwrap();
        loudest.observe(now, 1, QUIET, 0);
        engine
    }

    /// A microphone sends packets at these times, in milliseconds, the last two of them loud. How
    /// many from before these are let in with them.
    fn let_in_from_before(times: &[u64]) -> u64 {
        let start = test_clock::start();
        let mut engine = engine(start);
        let loud_from = times.len() - 2;
        for (place, &millis) in times.iter().enumerate() {
            let (now, sequence) = (start + Duration::from_millis(millis), 1_000 + place as u64);
            let timestamp = (millis * u64::from(Codec::Opus.clock_rate()) / 1_000) as u32;
            let mut bytes = [0; 40];
            bytes[..2].copy_from_slice(&[0x80, Codec::Opus.payload_type()]);
            bytes[4..8].copy_from_slice(&timestamp.to_be_bytes());
            let cache = &mut engine.tracks[0].layers[0].cache;
            cache.insert(now, sequence, &bytes, 12, CachedFrame::WHOLE);
            let packet = SourcePacket {
                layer: 0,
                sequence,
                timestamp,
                layers: PacketLayers::whole(true),
            };
            let dbov = if place < loud_from { QUIET } else { LOUD };
            let passes = engine.lets_pass(now, 0, dbov, &packet);
            assert_eq!(passes, place == times.len() - 1);
        }
        // The first loud packet was held too.
        engine.statistics().packets_relayed - 1
    }

    #[test]
    fn what_was_said_long_before_stays_held() {
        let steady: Vec<u64> = (0..50).map(|packet| 20 * packet).collect();
        assert_eq!(let_in_from_before(&steady), BEFORE - 1);
        // Silence is sent as a packet in 400 ms (DTX).
        assert_eq!(let_in_from_before(&[0, 400, 800, 1_200, 1_220]), 0);
        assert_eq!(let_in_from_before(&[0, 400, 800, 850, 870]), 1);
    }
}
