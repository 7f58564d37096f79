//! The settings of rooms, under the names that LiveKit's configuration has for them.

use std::time::Duration;

/// How rooms behave unless they are told otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSettings {
    /// A room is made when the first participant joins it.
    pub auto_create: bool,
    /// A room that nobody has joined ends after this many seconds.
    pub empty_timeout: u32,
    /// A room that the last participant has left ends after this many seconds.
    pub departure_timeout: u32,
    /// Seats of a room; 0 means no bound.
    pub max_participants: u32,
    /// Tracks that one participant may publish.
    pub max_tracks: usize,
    /// Voices that are forwarded in a room of ten or more: the loudest; 0 means all.
    pub loudest_speakers: u8,
    /// The server API may unmute tracks.
    pub enable_remote_unmute: bool,
    /// Participants may store data blobs (`enable_participant_data_blob`).
    pub data_blobs: bool,
    /// Rooms of the server (`limit.num_rooms`).
    pub max_rooms: usize,
    /// Seconds for which the seat of a participant whose connection broke is kept.
    pub resume_timeout: u32,
}

impl Default for RoomSettings {
    fn default() -> Self {
        RoomSettings {
            auto_create: true,
            empty_timeout: 300,
            departure_timeout: 20,
            max_participants: 50,
            max_tracks: 20,
            loudest_speakers: 6,
            enable_remote_unmute: false,
            data_blobs: true,
            max_rooms: 10_000,
            resume_timeout: 15,
        }
    }
}

/// From this number of participants on only the loudest are forwarded.
const LARGE_ROOM: usize = 10;

impl RoomSettings {
    /// How many audio tracks are forwarded in a room of `participants`; `None` for all.
    pub(super) fn loudest(&self, participants: usize) -> Option<u8> {
        (participants >= LARGE_ROOM && self.loudest_speakers > 0).then_some(self.loudest_speakers)
    }

    pub(super) fn empty(&self) -> Duration {
        Duration::from_secs(self.empty_timeout.into())
    }

    pub(super) fn departure(&self) -> Duration {
        Duration::from_secs(self.departure_timeout.into())
    }

    pub(super) fn resume(&self) -> Duration {
        Duration::from_secs(self.resume_timeout.into())
    }
}
