//! The meetings that the fuzz targets of the room core play: those of `tests/rooms`, whose
//! choices are here an input's.

#[path = "../../rooms/actions.rs"]
mod actions;
#[path = "../../rooms/checks.rs"]
mod checks;
#[path = "../../rooms/choices.rs"]
mod choices;
#[path = "../../rooms/hostile.rs"]
mod hostile;
#[path = "../../rooms/meeting.rs"]
mod meeting;
#[path = "../../rooms/plane.rs"]
mod plane;
#[path = "../../rooms/sdp.rs"]
mod sdp;
#[path = "../../rooms/view.rs"]
mod view;

/// A meeting of well-behaved clients: each byte is a choice of one of them.
pub fn meeting(input: &[u8]) {
    meeting::Meeting::play_input(input);
}

/// A meeting of clients that send anything.
pub fn room_frames(input: &[u8]) {
    hostile::play(input);
}
