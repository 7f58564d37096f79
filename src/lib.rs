//! moim, a video-conferencing server.
pub mod media;
pub mod room;
