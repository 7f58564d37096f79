//! A client's offers and answers, as short as the server takes them.

use std::fmt::Write as _;

/// One m-line of a client's publisher connection.
#[derive(Debug, Clone)]
pub(crate) struct Section {
    pub(crate) video: bool,
    /// Id of the track that it sends; `None` when it sends none.
    pub(crate) cid: Option<String>,
}

const FINGERPRINT: &str = "sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:\
                           10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F";

fn transport(out: &mut String, setup: &str) {
    let _ = write!(
        out,
        "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef0123456789\r\n\
         a=fingerprint:{FINGERPRINT}\r\na=setup:{setup}\r\n"
    );
}

fn session(out: &mut String, mids: usize) {
    out.push_str("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE");
    for mid in 0..mids {
        let _ = write!(out, " {mid}");
    }
    out.push_str("\r\n");
}

/// An offer with a data channel on m-line 0 and these sections behind it.
pub(crate) fn offer(sections: &[Section]) -> String {
    let mut out = String::new();
    session(&mut out, sections.len() + 1);
    out.push_str("m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\n");
    transport(&mut out, "actpass");
    out.push_str("a=sctp-port:5000\r\n");
    for (index, section) in sections.iter().enumerate() {
        let mid = index + 1;
        let media = if section.video {
            "m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 VP8/90000\r\n"
        } else {
            "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\n"
        };
        out.push_str(media);
        let _ = write!(out, "a=mid:{mid}\r\na=rtcp-mux\r\n");
        transport(&mut out, "actpass");
        match &section.cid {
            Some(cid) => {
                let _ = write!(
                    out,
                    "a=sendonly\r\na=msid:stream {cid}\r\na=ssrc:{mid} cname:c\r\n"
                );
            }
            None => out.push_str("a=inactive\r\n"),
        }
    }
    out
}

/// An answer that takes everything that is offered.
pub(crate) fn answer(offer: &str) -> String {
    let mut out = String::new();
    let mut sections = offer.split("\r\nm=");
    let _ = sections.next();
    let sections: Vec<&str> = sections.collect();
    session(&mut out, sections.len());
    for section in sections {
        let mut lines = section.split("\r\n");
        let _ = write!(out, "m={}\r\n", lines.next().unwrap_or_default());
        transport(&mut out, "active");
        for line in lines {
            match line {
                "a=sendonly" => out.push_str("a=recvonly\r\n"),
                line if [
                    "a=mid:",
                    "a=rtpmap:",
                    "a=fmtp:",
                    "a=rtcp-mux",
                    "a=inactive",
                    "a=sctp-port",
                ]
                .iter()
                .any(|kept| line.starts_with(kept)) =>
                {
                    let _ = write!(out, "{line}\r\n");
                }
                _ => {}
            }
        }
    }
    out
}
