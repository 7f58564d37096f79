//! What the fuzz targets of `tests/fuzz` call: each function hands arbitrary bytes to one
//! reader and checks what holds whatever they are.

use moim_engine::codec::MediaKind;
use moim_engine::command::{Fingerprint, IceCredentials};

use crate::config::Config;
pub use crate::http::fuzzing::request_head;
use crate::media::negotiation::{
    Candidate, LocalEndpoint, PublisherNegotiation, SdpToken, SendTrack, SubscriberNegotiation,
    TrackDecision, TrackParameters,
};

/// What an answer or an offer may have beside the text it is made from, in bytes.
const OWN_TEXT: usize = 64 << 10;

fn local() -> LocalEndpoint {
    LocalEndpoint {
        ice: IceCredentials {
            ufrag: "serverufrag".into(),
            pwd: "a-password-of-the-server-long-enough".into(),
        },
        fingerprint: Fingerprint([0xab; 32]),
        candidates: vec![Candidate {
            ip: std::net::Ipv4Addr::LOCALHOST.into(),
            port: 7882,
            tcp: false,
        }],
    }
}

/// An offer of a publisher. An answer has its m-lines, one for one, and nothing but lines of SDP.
pub fn sdp_offer(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut negotiation = PublisherNegotiation::new(local());
    let mut accept = |_: &_| TrackDecision::Accept(TrackParameters::default());
    let Ok(answer) = negotiation.answer(&text, local().ice, &mut accept) else {
        return;
    };
    assert!(answer.sdp.len() <= 16 * text.len() + OWN_TEXT);
    assert!(is_sdp(&answer.sdp), "{}", answer.sdp);
    let m_lines = |sdp: &str| sdp.lines().filter(|line| line.starts_with("m=")).count();
    assert_eq!(m_lines(&answer.sdp), m_lines(&text));
    // The same offer again changes nothing that is agreed.
    let again = negotiation
        .answer(&text, local().ice, &mut accept)
        .expect("an offer that was answered");
    assert_eq!(again.tracks.len(), answer.tracks.len());
}

/// An answer of a subscriber to an offer of a microphone and a camera.
pub fn sdp_answer(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut negotiation = SubscriberNegotiation::new(local(), 7);
    for (key, kind, ssrc) in [(1, MediaKind::Audio, 10), (2, MediaKind::Video, 20)] {
        let added = negotiation.add_track(SendTrack {
            key,
            kind,
            codecs: Vec::new(),
            stereo: true,
            stream_id: SdpToken::group_stream("PA_a", "camera"),
            own_stream_id: SdpToken::track_stream("PA_a", "TR_a"),
            track_id: SdpToken::track("TR_a"),
            ssrc,
            rtx_ssrc: Some(ssrc + 1),
        });
        assert!(added);
    }
    let offer = negotiation.offer().expect("an offer");
    assert!(is_sdp(&offer.sdp), "{}", offer.sdp);
    if let Ok(answer) = negotiation.answer(offer.id, &text) {
        assert!(answer.accepted.len() + answer.rejected.len() <= 2);
    }
}

/// A configuration, which is an operator's and no attacker's, but should be refused with a reason.
pub fn configuration(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match Config::parse(&text, "fuzz.yaml") {
        Ok((config, _)) => {
            let _ = config.limit.connections();
            drop(config.into_development());
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Whether every line is an attribute's or another field's.
fn is_sdp(text: &str) -> bool {
    text.ends_with("\r\n")
        && text
            .split_terminator("\r\n")
            .all(|line| line.as_bytes().get(1) == Some(&b'=') && !line.contains(['\r', '\n', '\0']))
}

/// What a target runs on each input.
pub type Target = fn(&[u8]);

/// The functions by the names of their targets.
pub const TARGETS: [(&str, Target); 4] = [
    ("sdp_offer", sdp_offer),
    ("sdp_answer", sdp_answer),
    ("configuration", configuration),
    ("request_head", request_head),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_passes() {
        for (name, run) in TARGETS {
            let folder = format!("{}/tests/fuzz/seeds/{name}", env!("CARGO_MANIFEST_DIR"));
            let seeds = std::fs::read_dir(&folder).expect(&folder);
            let mut count = 0;
            for seed in seeds {
                run(&std::fs::read(seed.unwrap().path()).unwrap());
                count += 1;
            }
            assert!(count > 0, "no seed in {folder}");
        }
    }
}
