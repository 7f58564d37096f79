//! Offers and answers (RFC 9429, RFC 8843) of the two connections that each participant has:
//! we answer on the *publisher* connection and offer on the *subscriber* connection.
//!
//! This is the control plane's half of a peer connection; no media passes here.

mod answer;
mod codecs;
mod extensions;
mod feedback;
mod grammar;
mod layers;
mod offer;
mod offered_track;
mod publisher;
mod sdp;
mod send_track;
mod subscriber;
#[cfg(test)]
mod tests;

use std::fmt::{Display, Write as _};
use std::net::IpAddr;

pub use grammar::SdpToken;
pub use layers::AnnouncedLayer;
pub use offered_track::{NegotiatedTrack, OfferedTrack, TrackDecision, TrackParameters};
pub use publisher::{PublisherAnswer, PublisherNegotiation};
pub use send_track::SendTrack;
pub use subscriber::{AcceptedTrack, SubscriberAnswer, SubscriberNegotiation, SubscriberOffer};

use moim_engine::command::{Fingerprint, IceCredentials};

/// Largest message on a data channel, bytes, as our SDP says.
const MAX_MESSAGE_SIZE: u32 = 65_536;

/// What is wrong with a description. The text is for the developer of a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NegotiationError {
    /// It exceeds a bound.
    #[error("the SDP has {what}: {limit} are allowed")]
    TooLarge {
        /// What there is too much of.
        what: String,
        /// The bound.
        limit: usize,
    },
    /// It does not follow the grammar.
    #[error("the SDP is malformed: {0}")]
    Malformed(String),
    /// Something that WebRTC requires is missing.
    #[error("the SDP lacks {0}")]
    Missing(&'static str),
    /// It asks for something that is not possible here.
    #[error("{0}")]
    Unsupported(String),
    /// An answer that answers nothing, or not what was offered.
    #[error("the answer does not match the offer: {0}")]
    Mismatch(String),
}

impl NegotiationError {
    fn too_large(what: String, limit: usize) -> NegotiationError {
        NegotiationError::TooLarge { what, limit }
    }
}

/// An address of ours, as a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// IP address.
    pub ip: IpAddr,
    /// Port.
    pub port: u16,
    /// ICE over TCP, passive (RFC 6544).
    pub tcp: bool,
}

/// Our side of a connection.
#[derive(Debug, Clone)]
pub struct LocalEndpoint {
    /// Our credentials.
    pub ice: IceCredentials,
    /// Fingerprint of our certificate.
    pub fingerprint: Fingerprint,
    /// Where we are reached.
    pub candidates: Vec<Candidate>,
}

/// The peer's side of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteDescription {
    /// Its credentials.
    pub ice: IceCredentials,
    /// Fingerprint of its certificate.
    pub fingerprint: Fingerprint,
}

impl LocalEndpoint {
    /// The session part, up to the first m-line. `version` rises with each description.
    fn write_session(
        &self,
        out: &mut String,
        session: u64,
        version: u64,
        bundled: &[impl Display],
    ) {
        let _ = write!(
            out,
            "v=0\r\no=- {session} {version} IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
        );
        for (index, mid) in bundled.iter().enumerate() {
            let start = if index == 0 { "a=group:BUNDLE" } else { "" };
            let _ = write!(out, "{start} {mid}");
        }
        let end = if bundled.is_empty() { "" } else { "\r\n" };
        let _ = write!(
            out,
            "{end}a=ice-lite\r\na=extmap-allow-mixed\r\na=msid-semantic:WMS *\r\n"
        );
    }

    /// What every m-line of a bundle repeats.
    fn write_transport(&self, out: &mut String, setup: &str) {
        let _ = write!(
            out,
            "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 ",
            self.ice.ufrag, self.ice.pwd
        );
        for (index, byte) in self.fingerprint.0.iter().enumerate() {
            let colon = if index == 0 { "" } else { ":" };
            let _ = write!(out, "{colon}{byte:02X}");
        }
        let _ = write!(out, "\r\na=setup:{setup}\r\n");
    }

    /// Our candidates, on the m-line that carries the bundle. All are known from the start.
    fn write_candidates(&self, out: &mut String) {
        for (index, candidate) in self.candidates.iter().enumerate() {
            let foundation = index + 1;
            let Candidate { ip, port, tcp } = candidate;
            // RFC 8445, section 5.1.2.1: type preference 126 for host candidates; earlier ones
            // are preferred, UDP before TCP.
            let local_preference = 65_535 - index as u32 - if *tcp { 32_768 } else { 0 };
            let priority = (126 << 24) + (local_preference << 8) + 255;
            let _ = if *tcp {
                write!(
                    out,
                    "a=candidate:{foundation} 1 tcp {priority} {ip} {port} typ host tcptype passive\r\n"
                )
            } else {
                write!(
                    out,
                    "a=candidate:{foundation} 1 udp {priority} {ip} {port} typ host\r\n"
                )
            };
        }
        out.push_str("a=end-of-candidates\r\n");
    }

    /// The m-line of data channels (RFC 8841), whose port is always the same.
    fn write_data_section(&self, out: &mut String, line: &DataLine<'_>, setup: &str, first: bool) {
        let DataLine { protocol, mid } = line;
        // Before RFC 8841 the port stood in the place of the format.
        let is_legacy = *protocol == "DTLS/SCTP";
        let format = if is_legacy {
            "5000"
        } else {
            "webrtc-datachannel"
        };
        let _ = write!(
            out,
            "m=application 9 {protocol} {format}\r\nc=IN IP4 0.0.0.0\r\n"
        );
        if let Some(mid) = mid {
            let _ = write!(out, "a=mid:{mid}\r\n");
        }
        self.write_transport(out, setup);
        if first {
            self.write_candidates(out);
        }
        out.push_str(if is_legacy {
            "a=sctpmap:5000 webrtc-datachannel 1024\r\n"
        } else {
            "a=sctp-port:5000\r\n"
        });
        let _ = write!(out, "a=max-message-size:{MAX_MESSAGE_SIZE}\r\n");
    }
}

/// What an m-line of data channels repeats of the other side's.
struct DataLine<'a> {
    protocol: &'a str,
    mid: Option<&'a str>,
}
