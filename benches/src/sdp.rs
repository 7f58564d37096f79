//! The SDP of a lean client: one offer, and answers made of the server's offers.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context, bail};
use moim_engine::command::{Fingerprint, IceCredentials};

/// Header extension ids of what we send.
pub(crate) const MID_EXTENSION: u8 = 1;
/// Id of the RTP stream id extension.
pub(crate) const RID_EXTENSION: u8 = 2;
/// Id of the audio level extension (RFC 6464).
pub(crate) const LEVEL_EXTENSION: u8 = 3;
/// Id of the transport-wide sequence number extension.
pub(crate) const TRANSPORT_CC_EXTENSION: u8 = 4;
/// Payload types of what we send.
pub(crate) const OPUS: u8 = 111;
/// VP8.
pub(crate) const VP8: u8 = 96;
/// Name of the transport-wide sequence number extension.
const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// Simulcast layers, lowest first.
pub(crate) const RIDS: [&str; 3] = ["q", "h", "f"];

/// What a track is in the offer.
pub(crate) struct OfferedTrack {
    pub(crate) cid: String,
    pub(crate) video: bool,
    pub(crate) simulcast: bool,
    pub(crate) ssrc: u32,
}

/// The server's side of a connection.
pub(crate) struct RemoteSide {
    pub(crate) ice: IceCredentials,
    /// It only answers checks (RFC 8445, section 2.5), so that the other side is in control.
    pub(crate) lite: bool,
    /// From the candidates in the SDP; `None` when they trickle.
    pub(crate) address: Option<SocketAddr>,
}

/// What a server's offer says of the packets that it will send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ReceiveParameters {
    /// Id of the transport-wide sequence number extension
    /// (draft-holmer-rmcat-transport-wide-cc-extensions-01), where it is offered.
    pub(crate) transport_cc: Option<u8>,
    /// Payload types of retransmissions (RFC 4588), a bit each.
    pub(crate) repair_types: u128,
}

impl ReceiveParameters {
    pub(crate) fn of_offer(offer: &str) -> ReceiveParameters {
        let mut parameters = ReceiveParameters::default();
        for line in offer.lines().map(str::trim_end) {
            if let Some((id, name)) = attribute(line, "a=extmap:")
                && name.starts_with(TRANSPORT_CC)
            {
                // A direction may follow the id (RFC 8285, section 5).
                let id = id.split('/').next().unwrap_or_default();
                parameters.transport_cc = id.parse().ok();
            }
            if let Some((number, encoding)) = attribute(line, "a=rtpmap:")
                && encoding.starts_with("rtx/")
                && let Some(bit) = number.parse().ok().and_then(|n| 1u128.checked_shl(n))
            {
                parameters.repair_types |= bit;
            }
        }
        parameters
    }

    /// Whether a payload type is that of retransmissions.
    pub(crate) fn is_repair(&self, payload_type: u8) -> bool {
        self.repair_types >> payload_type & 1 == 1
    }
}

/// Both words of an attribute that has two.
fn attribute<'a>(line: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    line.strip_prefix(name)?.split_once(' ')
}

/// The offer of a publisher connection.
pub(crate) fn offer(
    tracks: &[OfferedTrack],
    ice: &IceCredentials,
    fingerprint: Fingerprint,
) -> String {
    let mids: Vec<String> = (0..tracks.len()).map(|mid| mid.to_string()).collect();
    let mut sdp = String::from("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
    let _ = write!(sdp, "a=group:BUNDLE {}\r\n", mids.join(" "));
    sdp.push_str("a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n");
    for (track, mid) in tracks.iter().zip(&mids) {
        let (kind, payload_type) = if track.video {
            ("video", VP8)
        } else {
            ("audio", OPUS)
        };
        let _ = write!(
            sdp,
            "m={kind} 9 UDP/TLS/RTP/SAVPF {payload_type}\r\nc=IN IP4 0.0.0.0\r\n"
        );
        // We are a DTLS client only, and say so at once: some servers would be the client too.
        transport(&mut sdp, ice, fingerprint, "active");
        let _ = write!(
            sdp,
            "a=mid:{mid}\r\na=extmap:{MID_EXTENSION} urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
             a=extmap:{TRANSPORT_CC_EXTENSION} {TRANSPORT_CC}\r\n\
             a=rtcp-fb:{payload_type} transport-cc\r\n\
             a=sendonly\r\na=msid:stream-{cid} {cid}\r\na=rtcp-mux\r\n",
            cid = track.cid
        );
        if track.video {
            let _ = write!(
                sdp,
                "a=extmap:{RID_EXTENSION} urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\n\
                 a=rtcp-rsize\r\na=rtpmap:{VP8} VP8/90000\r\na=rtcp-fb:{VP8} nack\r\n\
                 a=rtcp-fb:{VP8} nack pli\r\na=rtcp-fb:{VP8} ccm fir\r\n"
            );
        } else {
            let _ = write!(
                sdp,
                "a=extmap:{LEVEL_EXTENSION} urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
                 a=rtpmap:{OPUS} opus/48000/2\r\n\
                 a=fmtp:{OPUS} minptime=10;useinbandfec=1;usedtx=1\r\n"
            );
        }
        if track.video && track.simulcast {
            for rid in RIDS {
                let _ = write!(sdp, "a=rid:{rid} send\r\n");
            }
            let _ = write!(sdp, "a=simulcast:send {}\r\n", RIDS.join(";"));
        } else {
            let (ssrc, cid) = (track.ssrc, &track.cid);
            let _ = write!(
                sdp,
                "a=ssrc:{ssrc} cname:load\r\na=ssrc:{ssrc} msid:stream-{cid} {cid}\r\n"
            );
        }
    }
    sdp
}

/// The answer that takes all that a server offers.
pub(crate) fn answer(offer: &str, ice: &IceCredentials, fingerprint: Fingerprint) -> String {
    let mut sdp = String::from("v=0\r\no=- 2 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n");
    for line in offer.lines().filter(|line| line.starts_with("a=group:")) {
        let _ = write!(sdp, "{line}\r\n");
    }
    sdp.push_str("a=extmap-allow-mixed\r\n");
    for line in offer.lines().skip_while(|line| !line.starts_with("m=")) {
        let line = line.trim_end();
        let name = line.split(':').next().unwrap_or(line);
        match name {
            "a=setup"
            | "a=ice-ufrag"
            | "a=ice-pwd"
            | "a=fingerprint"
            | "a=ssrc"
            | "a=ssrc-group"
            | "a=msid"
            | "a=candidate"
            | "a=end-of-candidates"
            | "a=ice-options" => continue,
            "a=sendonly" | "a=sendrecv" => sdp.push_str("a=recvonly\r\n"),
            _ => {
                let _ = write!(sdp, "{line}\r\n");
            }
        }
        if name.starts_with("c=") {
            transport(&mut sdp, ice, fingerprint, "active");
        }
    }
    sdp
}

/// An offer without transport-wide feedback and receivers' estimates.
pub(crate) fn without_feedback(offer: &str) -> String {
    let kept = |line: &&str| {
        let feedback = line.starts_with("a=rtcp-fb:")
            && (line.contains("transport-cc") || line.contains("goog-remb"));
        !feedback && !line.contains(TRANSPORT_CC)
    };
    let lines = offer.lines().filter(kept);
    lines.flat_map(|line| [line.trim_end(), "\r\n"]).collect()
}

/// Where and who the server is.
pub(crate) fn remote_side(sdp: &str) -> anyhow::Result<RemoteSide> {
    let value = |name: &str| {
        let found = sdp.lines().find_map(|line| line.strip_prefix(name));
        found.map(|value| value.trim().to_owned())
    };
    let ice = IceCredentials {
        ufrag: value("a=ice-ufrag:").context("no ice-ufrag in the server's SDP")?,
        pwd: value("a=ice-pwd:").context("no ice-pwd in the server's SDP")?,
    };
    let candidates = sdp.lines().filter_map(|l| l.strip_prefix("a=candidate:"));
    let address = candidates.filter_map(|text| candidate(text).ok()).next();
    let lite = sdp.lines().any(|line| line.trim_end() == "a=ice-lite");
    Ok(RemoteSide { ice, lite, address })
}

/// The address of a UDP candidate over IPv4.
pub(crate) fn candidate(text: &str) -> anyhow::Result<SocketAddr> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [_, _, protocol, _, ip, port, ..] = words[..] else {
        bail!("not a candidate: {text}");
    };
    if !protocol.eq_ignore_ascii_case("udp") || ip.contains(':') {
        bail!("not a candidate for us: {text}");
    }
    Ok(SocketAddr::new(ip.parse()?, port.parse()?))
}

fn transport(sdp: &mut String, ice: &IceCredentials, fingerprint: Fingerprint, setup: &str) {
    let digits: Vec<String> = fingerprint.0.iter().map(|b| format!("{b:02X}")).collect();
    let _ = write!(
        sdp,
        "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\na=setup:{setup}\r\n",
        ice.ufrag,
        ice.pwd,
        digits.join(":")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offer_says_how_to_answer_what_it_brings() {
        let offer = format!(
            "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 VP8/90000\r\n\
             a=rtpmap:97 rtx/90000\r\na=extmap:11/recvonly {TRANSPORT_CC}\r\na=sendonly\r\n"
        );
        let parameters = ReceiveParameters::of_offer(&offer);
        assert_eq!(parameters.transport_cc, Some(11));
        assert!(parameters.is_repair(97) && !parameters.is_repair(96));
        assert_eq!(
            ReceiveParameters::of_offer("a=rtpmap:96 VP8/90000\r\na=rtpmap:300 rtx/90000\r\n"),
            ReceiveParameters::default()
        );
    }

    #[test]
    fn the_answer_takes_the_extensions_of_the_offer() {
        let ice = IceCredentials {
            ufrag: "u".into(),
            pwd: "p".into(),
        };
        let offer = format!(
            "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n\
             a=extmap:3 {TRANSPORT_CC}\r\na=rtcp-fb:111 transport-cc\r\na=sendonly\r\n"
        );
        let answer = answer(&offer, &ice, Fingerprint([0; 32]));
        assert!(answer.contains(&format!("a=extmap:3 {TRANSPORT_CC}\r\n")));
        assert!(answer.contains("a=rtcp-fb:111 transport-cc\r\n"));
        assert!(answer.contains("a=recvonly\r\n"));
    }
}
