//! What a receiver of RTP keeps of a stream, and what it tells the sender.

pub(crate) mod audio_level;
pub(crate) mod nack;
pub(crate) mod statistics;
pub mod transport_cc;
