//! What has changed in a room since its clients were last brought up to date, and who left
//! lately.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use moim_signaling::wire::ParticipantInfo;

use super::id::{ParticipantKey, TrackKey};

/// The room itself (how many are in it, its metadata) is told at most this often.
const ROOM_INTERVAL: Duration = Duration::from_millis(500);
/// Departures are remembered for this long beyond the time in which a session may resume: a
/// WebSocket may be broken for the ping timeout of 15 s before anybody notices.
const DEPARTURE_GRACE: Duration = Duration::from_secs(45);
/// Departures that are remembered. A session that would need more joins from scratch.
const MAX_DEPARTURES: usize = 2_048;

/// What has changed since the last round.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Participants of whom something else is told now.
    pub(super) changed: BTreeSet<ParticipantKey>,
    /// Participants that are gone, as they are told.
    pub(super) left: Vec<ParticipantInfo>,
    /// The room itself.
    pub(super) room: bool,
    room_told: Option<Instant>,
    /// Who speaks.
    pub(super) speakers: bool,
    /// Participants to whom something of their own is to be told or offered.
    pub(super) viewers: BTreeSet<ParticipantKey>,
    /// Tracks of which participants are to be told whether they may see them.
    pub(super) permissions: BTreeSet<(ParticipantKey, TrackKey)>,
    /// Tracks of which other layers or codecs may be wanted.
    pub(super) demand: BTreeSet<TrackKey>,
    pub(super) departures: Departures,
}

/// Who left lately, for those who were away meanwhile.
#[derive(Debug, Default)]
pub(super) struct Departures {
    pub(super) log: VecDeque<(Instant, ParticipantInfo)>,
    /// When the newest departure that is not remembered any more happened.
    forgotten: Option<Instant>,
}

impl Departures {
    fn add(&mut self, now: Instant, info: ParticipantInfo, keep: Duration) {
        self.log.push_back((now, info));
        while let Some((at, _)) = self.log.front() {
            let old = now.saturating_duration_since(*at) > keep;
            if !old && self.log.len() <= MAX_DEPARTURES {
                break;
            }
            self.forgotten = self.log.pop_front().map(|(at, _)| at);
        }
    }
}

impl News {
    /// Somebody is gone; `keep` is how long those who are away may need to hear of it.
    pub(super) fn leave(&mut self, now: Instant, info: ParticipantInfo, resume: Duration) {
        self.room = true;
        self.left.push(info.clone());
        self.departures.add(now, info, resume + DEPARTURE_GRACE);
    }

    /// Whether everything that happened since `since` is remembered.
    pub(super) fn remembers(&self, since: Instant) -> bool {
        self.departures
            .forgotten
            .is_none_or(|forgotten| forgotten + DEPARTURE_GRACE < since)
    }

    /// When the room is to be told.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.room
            .then(|| self.room_told.map_or(now, |told| told + ROOM_INTERVAL))
    }

    /// Whether the room is to be told now.
    pub(super) fn takes_room(&mut self, now: Instant) -> bool {
        if self.deadline(now).is_none_or(|due| due > now) {
            return false;
        }
        self.room = false;
        self.room_told = Some(now);
        true
    }
}
