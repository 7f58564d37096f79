//! Names that the room gives: sids of rooms, participants and tracks.

use rand::distr::Alphanumeric;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};

/// Letters and digits after the prefix of a sid: 62^12 is about 2^71.
const SID_LEN: usize = 12;

/// Number of a participant within its room; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParticipantKey(pub(super) u32);

/// Number of a publication within its room; never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct TrackKey(pub(super) u32);

/// One session's hold on a participant's seat. Each resume gives a new one, and what a former
/// one still says is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeatId {
    /// Whose seat.
    pub participant: ParticipantKey,
    /// Counts the participant's sessions from 1.
    pub session: u32,
}

/// Random letters and digits.
pub(super) fn random_text<R: Rng>(rng: &mut R, len: usize) -> String {
    rng.sample_iter(Alphanumeric)
        .take(len)
        .map(char::from)
        .collect()
}

/// A sid with the protocol's prefix, such as `PA_`.
pub(super) fn sid(rng: &mut StdRng, prefix: &str) -> String {
    format!("{prefix}{}", random_text(rng, SID_LEN))
}
