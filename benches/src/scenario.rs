//! The scenarios: who joins which room and does what there.

use clap::{Args, Subcommand};

use crate::session::Role;
use crate::voice::Speech;

/// In a meeting few speak.
const SPEAKERS_IN_MEETING: usize = 3;

/// What is played.
#[derive(Debug, Subcommand)]
pub(crate) enum Scenario {
    /// Everybody sends camera and microphone, and looks at some of the others
    Meeting(Size),
    /// A few send camera and microphone, the others watch
    Webinar(Size),
    /// A few speak, the others listen
    Audio(Size),
    /// Many rooms of four
    Rooms(Size),
    /// All join at once and send nothing
    JoinStorm(Size),
    /// Participants come and go all the time
    Churn(Size),
    /// Nobody sends anything
    Idle(Size),
}

/// How large it is; what is not given has the scenario's own value.
#[derive(Debug, Args)]
pub(crate) struct Size {
    /// Participants in all
    #[arg(long, short = 'n')]
    participants: Option<usize>,
    /// Rooms over which they are spread
    #[arg(long)]
    rooms: Option<usize>,
    /// Cameras that each looks at
    #[arg(long)]
    visible: Option<usize>,
    /// Participants of each room that send
    #[arg(long)]
    publishers: Option<usize>,
    /// Senders of each room who speak, with pauses; the microphones of the others are silent
    #[arg(long)]
    speakers: Option<usize>,
    /// Those speak without a pause
    #[arg(long)]
    no_pauses: bool,
    /// No microphones
    #[arg(long)]
    no_audio: bool,
    /// No cameras
    #[arg(long)]
    no_video: bool,
    /// One layer of 1.7 Mbit/s in packets of equal size instead of three layers
    #[arg(long)]
    single_layer: bool,
}

/// A scenario with all its numbers.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Plan {
    pub(crate) name: &'static str,
    pub(crate) participants: usize,
    pub(crate) rooms: usize,
    pub(crate) visible: usize,
    pub(crate) publishers: usize,
    pub(crate) speakers: usize,
    pub(crate) pauses: bool,
    pub(crate) audio: bool,
    pub(crate) video: bool,
    pub(crate) simulcast: bool,
    pub(crate) churn: bool,
    /// Joins that may be under way at once.
    pub(crate) joining: usize,
}

impl Scenario {
    pub(crate) fn plan(&self) -> Plan {
        // Name, size, participants, rooms, cameras looked at, senders a room, audio, video.
        let (name, size, participants, rooms, visible, publishers, audio, video) = match self {
            Scenario::Meeting(size) => ("meeting", size, 50, 1, 25, usize::MAX, true, true),
            Scenario::Webinar(size) => ("webinar", size, 101, 1, 5, 1, true, true),
            Scenario::Audio(size) => ("audio", size, 510, 1, 0, 10, true, false),
            Scenario::Rooms(size) => ("rooms", size, 400, 100, 4, usize::MAX, true, true),
            Scenario::JoinStorm(size) => ("join-storm", size, 500, 10, 0, 0, false, false),
            Scenario::Churn(size) => ("churn", size, 50, 5, 4, 2, true, true),
            Scenario::Idle(size) => ("idle", size, 1_000, 20, 0, 0, false, false),
        };
        let participants = size.participants.unwrap_or(participants);
        let rooms = size.rooms.unwrap_or(rooms).max(1);
        let seats = participants.div_ceil(rooms);
        let speakers = match self {
            Scenario::Meeting(_) => SPEAKERS_IN_MEETING,
            _ => usize::MAX,
        };
        Plan {
            name,
            participants,
            rooms,
            visible: size.visible.unwrap_or(visible),
            publishers: size.publishers.unwrap_or(publishers).min(seats),
            speakers: size.speakers.unwrap_or(speakers).min(seats),
            pauses: !size.no_pauses,
            audio: audio && !size.no_audio,
            video: video && !size.no_video,
            simulcast: !size.single_layer,
            churn: matches!(self, Scenario::Churn(_)),
            joining: if matches!(self, Scenario::JoinStorm(_)) {
                participants
            } else {
                8
            },
        }
    }
}

impl Plan {
    /// The room of a participant and what it does there. The senders are the first of a room.
    pub(crate) fn role(&self, index: usize) -> (usize, Role) {
        let room = index % self.rooms;
        let place = index / self.rooms;
        let sends = place < self.publishers;
        let speech = match (place < self.speakers, self.pauses) {
            (false, _) => Speech::Silence,
            (true, true) => Speech::Spurts,
            (true, false) => Speech::Constant,
        };
        let role = Role {
            index,
            audio: self.audio && sends,
            video: self.video && sends,
            simulcast: self.simulcast,
            speech,
            visible: self.visible,
        };
        (room, role)
    }
}
