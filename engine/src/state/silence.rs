//! What is left of the silence that shows a subscriber a track (`send/silence.rs`).

use std::time::{Duration, Instant};

use crate::api::codec::{Codec, MediaKind};

/// Media that flows gets this much time to arrive first. LiveKit's value, as the next ones.
pub(crate) const WAIT: Duration = Duration::from_millis(100);
/// Padding is sent this often: a slow picture rate.
pub(crate) const VIDEO_INTERVAL: Duration = Duration::from_millis(100);
/// The length of an audio frame.
pub(crate) const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
/// Silence is sent for this long: a client that has not noticed its track by then will not.
pub(crate) const MAX_DURATION: Duration = Duration::from_secs(5);
/// What is left to be sent of a subscription's silence.
#[derive(Debug)]
pub(crate) struct Silence {
    pub(crate) codec: Codec,
    pub(crate) due: Instant,
    /// Packets that have not been sent.
    pub(crate) left: u16,
}

impl Silence {
    /// The silence of a subscription that begins now, as media of this codec.
    pub(crate) fn new(codec: Codec, now: Instant) -> Silence {
        Silence {
            codec,
            due: now + WAIT,
            left: (MAX_DURATION.as_millis() / interval(codec).as_millis()) as u16,
        }
    }
}

pub(crate) fn interval(codec: Codec) -> Duration {
    match codec.kind() {
        MediaKind::Video => VIDEO_INTERVAL,
        MediaKind::Audio => AUDIO_INTERVAL,
    }
}
