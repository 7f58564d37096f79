//! What a participant publishes.

use std::sync::Arc;

use crate::clip::Clip;
use crate::voice::Speech;

/// A track to be sent.
#[derive(Debug, Clone)]
pub(crate) struct PublishedTrack {
    pub(crate) video: bool,
    pub(crate) ssrc: u32,
    pub(crate) layers: usize,
    /// The qualities of video that the server wants, the lowest first.
    pub(crate) qualities: [bool; 3],
    /// What is said into a microphone.
    pub(crate) speech: Speech,
    /// What a camera shows; without it, nothing.
    pub(crate) clip: Option<Arc<Clip>>,
}
