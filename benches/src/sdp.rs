//! The SDP of a lean client: one offer, and answers made of the server's offers.

use std::fmt::Write as _;
use std::net::SocketAddr;

use anyhow::{Context, bail};
use moim::media::engine::command::IceCredentials;

/// Header extension ids of what we send.
pub(crate) const MID_EXTENSION: u8 = 1;
/// Id of the RTP stream id extension.
pub(crate) const RID_EXTENSION: u8 = 2;
/// Payload types of what we send.
pub(crate) const OPUS: u8 = 111;
/// VP8.
pub(crate) const VP8: u8 = 96;
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

/// The offer of a publisher connection.
pub(crate) fn offer(tracks: &[OfferedTrack], ice: &IceCredentials, fingerprint: &str) -> String {
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
                "a=rtpmap:{OPUS} opus/48000/2\r\na=fmtp:{OPUS} minptime=10;useinbandfec=1\r\n"
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
pub(crate) fn answer(offer: &str, ice: &IceCredentials, fingerprint: &str) -> String {
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

fn transport(sdp: &mut String, ice: &IceCredentials, fingerprint: &str, setup: &str) {
    let _ = write!(
        sdp,
        "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {fingerprint}\r\n\
         a=setup:{setup}\r\n",
        ice.ufrag, ice.pwd
    );
}
