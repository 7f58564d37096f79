//! The formats of packets: RTP, RTCP, SRTP and the payloads of the codecs.

pub(crate) mod padding;
pub(crate) mod payload;
pub(crate) mod red_payload;
pub(crate) mod rtcp;
pub mod rtp;
pub mod srtp;
