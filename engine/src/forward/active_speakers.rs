//! Who is heard in a room, from the audio levels that packets carry (RFC 6464).

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::api::codec::MediaKind;
use crate::api::event::Event;
use crate::api::ids::{RoomId, TrackId};
use crate::state::Media;
use crate::state::table::TrackIx;
use crate::state::timers::Armed;
use crate::state::timers::TimerOwner;

/// The levels are looked at this often.
const INTERVAL: Duration = Duration::from_millis(400);
/// Levels are told in this many steps, so that a steady voice is one message.
const STEPS: f32 = 8.0;

/// The audio tracks of one room.
#[derive(Debug, Default)]
struct RoomSpeakers {
    /// Indexes of the tracks that have been heard lately.
    tracks: Vec<TrackIx>,
    armed: Armed,
    last: Vec<(TrackId, f32)>,
}

/// The rooms in which somebody has been heard.
#[derive(Debug, Default)]
pub(crate) struct ActiveSpeakers {
    rooms: FxHashMap<RoomId, RoomSpeakers>,
}

impl ActiveSpeakers {
    /// A packet of a track had this level, in -dBov: 0 loudest, 127 silent.
    pub(crate) fn hear(&mut self, media: &mut Media, now: Instant, track: TrackIx, dbov: u8) {
        let state = &mut media.tracks[track];
        // A publisher can put levels into packets of video too.
        if state.muted || state.kind != MediaKind::Audio {
            return;
        }
        state.audio_level.observe(dbov, now);
        let room = state.room;
        let speakers = self.rooms.entry(room).or_default();
        if !speakers.tracks.contains(&track) {
            speakers.tracks.push(track);
        }
        if speakers.armed.is_none() {
            media
                .timers
                .arm(TimerOwner::Room(room), &mut speakers.armed, now + INTERVAL);
        }
    }

    /// A track has ended: whoever was heard by it is not any more.
    pub(crate) fn forget(
        &mut self,
        media: &mut Media,
        room: RoomId,
        index: TrackIx,
        track: TrackId,
    ) {
        let Some(speakers) = self.rooms.get_mut(&room) else {
            return;
        };
        speakers.tracks.retain(|&other| other != index);
        let heard = speakers.last.len();
        speakers.last.retain(|(other, _)| *other != track);
        if speakers.last.len() < heard {
            media.emit(room, Event::Speakers(speakers.last.clone()));
        }
        if speakers.tracks.is_empty() {
            self.rooms.remove(&room);
        }
    }

    /// The timer of a room, armed for `when`, has expired: tells the room its active speakers.
    pub(crate) fn handle_timeout(
        &mut self,
        media: &mut Media,
        now: Instant,
        room: RoomId,
        when: Instant,
    ) {
        let Some(speakers) = self.rooms.get_mut(&room) else {
            return;
        };
        if speakers.armed != Some(when) {
            return;
        }
        speakers.armed = None;
        let tracks = &mut media.tracks;
        let mut levels: Vec<(TrackId, f32)> = speakers
            .tracks
            .iter()
            .filter_map(|&index| {
                let track = tracks.get_mut(index)?;
                let level = track.audio_level.level(now).filter(|_| !track.muted)?;
                let step = ((level * STEPS).ceil() / STEPS).min(1.0);
                (step > 0.0).then_some((track.id, step))
            })
            .collect();
        levels.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        // While someone is heard the end of it has to be noticed too.
        if !levels.is_empty() {
            media
                .timers
                .arm(TimerOwner::Room(room), &mut speakers.armed, now + INTERVAL);
        }
        if levels != speakers.last {
            speakers.last.clone_from(&levels);
            media.emit(room, Event::Speakers(levels));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::codec::Codec;
    use crate::api::command::{Command, TrackSource};
    use crate::api::ids::TransportId;
    use crate::test_room::{TestPacket, TestRoom, vp8};

    const SPEAKER: TransportId = TransportId(1);
    const LOUD: Option<u8> = Some(10);

    fn levels(room: &TestRoom) -> Vec<&Vec<(TrackId, f32)>> {
        let told = room.events.iter().filter_map(|event| match event {
            Event::Speakers(levels) => Some(levels),
            _ => None,
        });
        told.collect()
    }

    fn speak(room: &mut TestRoom, track: &TestPacket<'_>) {
        for sequence in 0..100 {
            room.send(
                SPEAKER,
                &TestPacket {
                    sequence,
                    timestamp: 960 * u32::from(sequence),
                    ..track.clone()
                },
            );
            room.run(Duration::from_millis(20));
        }
    }

    #[test]
    fn a_speaker_whose_track_ends_is_told_to_be_silent_at_once() {
        let mut room = TestRoom::new();
        room.connect(1);
        for (track, mid) in [(1, "a"), (2, "b")] {
            let mid = mid.into();
            let source = TrackSource {
                mid,
                ..TrackSource::default()
            };
            room.publish_from(SPEAKER, track, MediaKind::Audio, source);
        }
        for (ssrc, mid) in [(1, "a"), (2, "b")] {
            let level = LOUD;
            let packet = TestPacket {
                ssrc,
                mid,
                level,
                ..TestPacket::default()
            };
            speak(&mut room, &packet);
        }
        assert!(
            levels(&room)
                .last()
                .unwrap()
                .iter()
                .any(|(id, _)| *id == TrackId(2))
        );
        room.command(Command::RemoveTrack(TrackId(2)));
        assert!(
            levels(&room)
                .last()
                .unwrap()
                .iter()
                .all(|(id, _)| *id != TrackId(2))
        );
        room.command(Command::RemoveTrack(TrackId(1)));
        assert!(room.engine.speakers.rooms.is_empty());
    }

    #[test]
    fn video_with_audio_levels_is_not_a_speaker_and_leaves_nothing_behind() {
        let mut room = TestRoom::new();
        room.connect(1);
        room.publish(SPEAKER, 1, MediaKind::Video);
        let packet = TestPacket {
            codec: Codec::Vp8,
            level: LOUD,
            payload: &vp8(1, true),
            ..TestPacket::default()
        };
        speak(&mut room, &packet);
        assert!(levels(&room).is_empty());
        room.command(Command::RemoveTrack(TrackId(1)));
        assert!(room.engine.speakers.rooms.is_empty());
    }
}
