//! Who is heard in a room, from the audio levels that packets carry (RFC 6464).

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

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
        if state.muted {
            return;
        }
        state.audio_level.observe(dbov, now);
        let room = state.room;
        let speakers = self.rooms.entry(room).or_default();
        if !speakers.tracks.contains(&track) {
            speakers.tracks.push(track);
        }
        if speakers.armed.is_none() {
            media.timers.arm(
                TimerOwner::Room(room.0),
                &mut speakers.armed,
                now + INTERVAL,
            );
        }
    }

    /// Forgets a track that has ended.
    pub(crate) fn forget(&mut self, room: RoomId, track: TrackIx) {
        if let Some(speakers) = self.rooms.get_mut(&room) {
            speakers.tracks.retain(|&other| other != track);
            if speakers.tracks.is_empty() {
                self.rooms.remove(&room);
            }
        }
    }

    /// The timer of a room, armed for `when`, has expired: tells the room who is heard in it.
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
            media.timers.arm(
                TimerOwner::Room(room.0),
                &mut speakers.armed,
                now + INTERVAL,
            );
        }
        if levels != speakers.last {
            speakers.last.clone_from(&levels);
            media.emit(room, Event::Speakers(levels));
        }
    }
}
