//! Who is heard in a room, from the audio levels that packets carry (RFC 6464).

use std::time::{Duration, Instant};

use crate::api::event::Event;
use crate::api::ids::{RoomId, TrackId};
use crate::engine::Engine;
use crate::state::table::TrackIx;
use crate::state::timers::TimerOwner;

/// The levels are looked at this often.
const INTERVAL: Duration = Duration::from_millis(400);
/// Levels are told in this many steps, so that a steady voice is one message.
const STEPS: f32 = 8.0;

impl Engine {
    /// A packet of a track had this level, in -dBov: 0 loudest, 127 silent.
    pub(crate) fn hear(&mut self, now: Instant, track: TrackIx, dbov: u8) {
        let state = &mut self.tracks[track];
        if state.muted {
            return;
        }
        state.audio_level.observe(dbov, now);
        let room = state.room;
        let speakers = self.speakers.entry(room).or_default();
        if !speakers.tracks.contains(&track) {
            speakers.tracks.push(track);
        }
        if speakers.armed.is_none() {
            self.timers.arm(
                TimerOwner::Room(room.0),
                &mut speakers.armed,
                now + INTERVAL,
            );
        }
    }

    pub(crate) fn forget_speaker(&mut self, room: RoomId, track: TrackIx) {
        self.forget_audio_track(room, track);
        if let Some(speakers) = self.speakers.get_mut(&room) {
            speakers.tracks.retain(|&other| other != track);
            if speakers.tracks.is_empty() {
                self.speakers.remove(&room);
            }
        }
    }

    pub(crate) fn speakers_timeout(&mut self, now: Instant, room: RoomId, when: Instant) {
        let Some(speakers) = self.speakers.get_mut(&room) else {
            return;
        };
        if speakers.armed != Some(when) {
            return;
        }
        speakers.armed = None;
        let tracks = &mut self.tracks;
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
            self.timers.arm(
                TimerOwner::Room(room.0),
                &mut speakers.armed,
                now + INTERVAL,
            );
        }
        if levels != speakers.last {
            speakers.last.clone_from(&levels);
            self.emit(room, Event::Speakers(levels));
        }
    }
}
