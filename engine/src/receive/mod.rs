//! What a receiver of RTP does with a packet, keeps of a stream, and tells the sender.

pub(crate) mod audio_level;
pub(crate) mod feedback;
pub(crate) mod ingress;
pub(crate) mod keyframes;
pub(crate) mod nack;
pub(crate) mod received_streams;
pub(crate) mod red;
pub(crate) mod rtcp;
pub(crate) mod statistics;
pub mod transport_cc;
