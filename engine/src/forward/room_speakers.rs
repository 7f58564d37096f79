//! The audio tracks of a room that have been heard lately.

use crate::api::ids::TrackId;
use crate::state::table::TrackIx;
use crate::state::timers::Armed;

/// The audio tracks of one room.
#[derive(Debug, Default)]
pub(crate) struct RoomSpeakers {
    /// Indexes of the tracks that have been heard lately.
    pub(crate) tracks: Vec<TrackIx>,
    pub(crate) armed: Armed,
    pub(crate) last: Vec<(TrackId, f32)>,
}
