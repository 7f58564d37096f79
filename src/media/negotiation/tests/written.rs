//! What stands in the descriptions that we write: whatever clients give, only lines of our own, and
//! others can read them.

use super::*;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use rtc::peer_connection::sdp::RTCSessionDescription;

/// Text that clients have no business to give, or that nobody expects.
pub(super) const NASTY: [&str; 22] = [
    "",
    " ",
    "a b",
    "a\ta",
    "a\r\na=inactive",
    "a\na=ice-ufrag:evil",
    "a\ra=setup:active",
    "\0",
    "화상 회의",
    "\u{2028}a=inactive",
    "é",
    "\"quoted\"",
    "a;b",
    "a,b",
    "a/b",
    "a=b",
    "*",
    "~",
    "-1",
    "4294967296",
    "0123456789012345678901234567890123456789012345678901234567890123456789",
    "%0d%0aa=inactive",
];

/// How each line that we write begins; those that stand once at most in an m-line have `true`.
const OURS: [(&str, bool); 31] = [
    ("v=0", true),
    ("o=- ", true),
    ("s=-", true),
    ("t=0 0", true),
    ("m=", true),
    ("c=IN IP4 0.0.0.0", true),
    ("a=group:BUNDLE ", true),
    ("a=ice-lite", true),
    ("a=extmap-allow-mixed", true),
    ("a=msid-semantic:WMS *", true),
    ("a=mid:", true),
    ("a=ice-ufrag:serverufrag", true),
    ("a=ice-pwd:a-password-of-the-server-long-enough", true),
    ("a=fingerprint:sha-256 AB:", true),
    ("a=setup:passive", true),
    ("a=candidate:1 1 udp ", true),
    ("a=end-of-candidates", true),
    ("a=sctp-port:5000", true),
    ("a=sctpmap:5000 webrtc-datachannel 1024", true),
    ("a=max-message-size:65536", true),
    ("a=rtcp-mux", true),
    ("a=rtcp-rsize", true),
    ("a=rtpmap:", false),
    ("a=fmtp:", false),
    ("a=rtcp-fb:", false),
    ("a=extmap:", false),
    ("a=rid:", false),
    ("a=simulcast:recv ", true),
    ("a=msid:", true),
    ("a=ssrc-group:FID ", true),
    ("a=ssrc:", false),
];
const DIRECTIONS: [&str; 3] = ["a=sendonly", "a=recvonly", "a=inactive"];

const USUAL_PROTOCOLS: [&str; 6] = ["UDP", "TLS", "DTLS", "SCTP", "RTP", "SAVPF"];

/// Panics unless a description has nothing in it but what we write.
pub(super) fn check_written(sdp: &str, context: &str) {
    assert!(sdp.ends_with("\r\n"), "{context}");
    let mut seen: Vec<&str> = Vec::new();
    for line in sdp.split_terminator("\r\n") {
        let is_plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        assert!(line.bytes().all(is_plain), "{context}: {line:?} in\n{sdp}");
        if line.starts_with("m=") {
            seen.clear();
        }
        let direction = DIRECTIONS.contains(&line).then_some("direction");
        let (known, once) = direction.map_or_else(
            || {
                let known = OURS.iter().find(|(start, _)| line.starts_with(start));
                *known.unwrap_or(&("", false))
            },
            |direction| (direction, true),
        );
        assert!(!known.is_empty(), "{context}: {line:?} in\n{sdp}");
        assert!(
            !once || !seen.contains(&known),
            "{context}: {line:?} twice in\n{sdp}"
        );
        seen.push(known);
        if let Some(msid) = line.strip_prefix("a=msid:") {
            let tokens: Vec<&str> = msid.split(' ').collect();
            assert_eq!(tokens.len(), 2, "{context}: {line}");
            assert!(
                tokens.iter().all(|token| SdpToken::new(token).is_some()),
                "{line}"
            );
        }
    }
    sdp::Description::offer(sdp)
        .or_else(|_| sdp::Description::answer(sdp))
        .unwrap_or_else(|error| panic!("{context}: {error} in\n{sdp}"));
    // It knows some media types and protocols alone.
    let is_usual = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        ["m=audio", "m=video", "m=application", "m=text"].contains(&words[0])
            && words[2]
                .split('/')
                .all(|word| USUAL_PROTOCOLS.contains(&word))
    };
    if !lines(sdp, "m=").all(is_usual) {
        return;
    }
    RTCSessionDescription::offer(sdp.to_owned())
        .unwrap_or_else(|error| panic!("{context}: {error} in\n{sdp}"));
}

/// Mostly the good word, at times a nasty one.
fn word(rng: &mut SmallRng, good: &str) -> String {
    match rng.random_range(0..40u8) {
        0 => (*NASTY.choose(rng).unwrap()).to_owned(),
        1 => format!("{good}{}", NASTY.choose(rng).unwrap()),
        2 => format!("{}{good}", NASTY.choose(rng).unwrap()),
        _ => good.to_owned(),
    }
}

const RTPMAPS: [(u8, &str, &str); 12] = [
    (111, "opus/48000/2", "minptime=10;useinbandfec=1;stereo=1"),
    (63, "red/48000/2", "111/111"),
    (0, "PCMU/8000", ""),
    (8, "PCMA/8000/1", ""),
    (96, "VP8/90000", "x-google-start-bitrate=1000"),
    (97, "rtx/90000", "apt=96"),
    (98, "VP9/90000", "profile-id=0"),
    (
        102,
        "H264/90000",
        "packetization-mode=1;profile-level-id=42001f",
    ),
    (103, "rtx/90000", "apt=102"),
    (
        108,
        "H264/90000",
        "packetization-mode=1;profile-level-id=640c34",
    ),
    (45, "AV1/90000", "profile=0;tier=0"),
    (13, "CN/8000", ""),
];

/// A random offer: mostly sound lines in random order, with nasty words among them.
pub(super) fn random_offer(rng: &mut SmallRng) -> String {
    let mut lines: Vec<String> = vec!["v=0".into(), "o=- 1 1 IN IP4 127.0.0.1".into()];
    let count = rng.random_range(1..5);
    let mids: Vec<String> = (0..count).map(|mid| word(rng, &mid.to_string())).collect();
    lines.push(format!("a=group:BUNDLE {}", mids.join(" ")));
    let transport = [
        "a=ice-ufrag:client".to_owned(),
        "a=ice-pwd:the-password-of-the-client".to_owned(),
        format!("a=fingerprint:sha-256 {}", ["0A"; 32].join(":")),
        "a=setup:actpass".to_owned(),
    ];
    lines.extend(transport);
    for mid in mids {
        random_section(rng, &mid, &mut lines);
    }
    let mut offer = String::new();
    for line in lines {
        offer.push_str(&line);
        if rng.random_ratio(1, 20) {
            offer.push_str("  ");
        }
        offer.push_str(if rng.random_ratio(1, 4) { "\n" } else { "\r\n" });
    }
    offer
}

fn random_section(rng: &mut SmallRng, mid: &str, lines: &mut Vec<String>) {
    let kinds = ["audio", "video", "video", "application", "text"];
    let kind = *kinds.choose(rng).unwrap();
    let protocol = if kind == "application" {
        *["UDP/DTLS/SCTP", "DTLS/SCTP", "TCP/DTLS/SCTP"]
            .choose(rng)
            .unwrap()
    } else {
        *["UDP/TLS/RTP/SAVPF", "RTP/SAVPF"].choose(rng).unwrap()
    };
    let mut formats = RTPMAPS.to_vec();
    formats.shuffle(rng);
    formats.truncate(rng.random_range(1..RTPMAPS.len()));
    let numbers: Vec<String> = formats
        .iter()
        .map(|(number, ..)| word(rng, &number.to_string()))
        .collect();
    let port = if rng.random_ratio(1, 8) { "0" } else { "9" };
    lines.push(format!(
        "m={} {port} {} {}",
        word(rng, kind),
        word(rng, protocol),
        numbers.join(" ")
    ));
    let mut attributes = vec![
        format!("a=mid:{mid}"),
        "a=sendonly".to_owned(),
        "a=rtcp-mux".to_owned(),
        format!("a=msid:{} {}", word(rng, "stream"), word(rng, "track")),
        format!(
            "a=extmap:{} urn:ietf:params:rtp-hdrext:sdes:mid",
            word(rng, "4")
        ),
        format!(
            "a=extmap:{}/sendonly {}",
            word(rng, "5"),
            word(rng, "urn:3gpp:video-orientation")
        ),
        format!("a=ssrc:{} cname:{}", word(rng, "1234"), word(rng, "name")),
        format!(
            "a=ssrc-group:FID {} {}",
            word(rng, "1234"),
            word(rng, "5678")
        ),
        format!("a={}:{}", word(rng, "foo"), word(rng, "bar")),
    ];
    for (number, rtpmap, fmtp) in formats {
        attributes.push(format!("a=rtpmap:{number} {}", word(rng, rtpmap)));
        attributes.push(format!("a=fmtp:{number} {}", word(rng, fmtp)));
        attributes.push(format!("a=rtcp-fb:{number} {}", word(rng, "nack pli")));
    }
    if rng.random_ratio(1, 3) {
        let rids = ["q", "h", "f"].map(|rid| word(rng, rid));
        attributes.extend(rids.iter().map(|rid| format!("a=rid:{rid} send")));
        attributes.push(format!("a=simulcast:send {}", rids.join(";")));
    }
    attributes.shuffle(rng);
    if rng.random_ratio(1, 20) {
        attributes.truncate(rng.random_range(0..attributes.len()));
    }
    lines.extend(attributes);
}

#[test]
fn whatever_is_offered_only_our_lines_are_answered() {
    let seed = 851;
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut answered = 0;
    for round in 0..4_000 {
        let offer = random_offer(&mut rng);
        let Ok(answer) = answer(&offer) else {
            continue;
        };
        answered += 1;
        let context = format!("seed {seed}, round {round}");
        check_written(&answer.sdp, &context);
        let media = |sdp: &str| -> Vec<(String, String)> {
            sdp.lines()
                .filter_map(|line| line.strip_prefix("m="))
                .map(|line| {
                    let words: Vec<&str> = line.split_ascii_whitespace().collect();
                    (words[0].to_owned(), words[2].to_owned())
                })
                .collect()
        };
        assert_eq!(media(&answer.sdp), media(&offer), "{context}:\n{offer}");
    }
    assert!(answered > 400, "{answered} answered");
}

#[test]
fn whatever_streams_are_called_only_our_lines_are_offered() {
    let seed = 8_830;
    let mut rng = SmallRng::seed_from_u64(seed);
    for round in 0..1_000 {
        let mut negotiation = SubscriberNegotiation::new(local(), rng.random());
        for key in 0..rng.random_range(1..5u64) {
            let kind = if rng.random() {
                MediaKind::Audio
            } else {
                MediaKind::Video
            };
            let count = if rng.random_ratio(1, 50) {
                900
            } else {
                rng.random_range(0..4)
            };
            let name: String = (0..count)
                .map(|_| *NASTY.choose(&mut rng).unwrap())
                .collect();
            let sid = word(&mut rng, "PA_abcdef");
            negotiation.add_track(SendTrack {
                codecs: vec![*Codec::ALL.choose(&mut rng).unwrap()],
                stereo: rng.random(),
                stream_id: SdpToken::group_stream(&sid, &name),
                own_stream_id: SdpToken::track_stream(&sid, &name),
                track_id: SdpToken::track(&name),
                ..send(key, kind)
            });
            if rng.random_ratio(1, 3) {
                negotiation.remove_track(rng.random_range(0..4));
            }
        }
        let context = format!("seed {seed}, round {round}");
        for _ in 0..2 {
            let offer = negotiation.offer().unwrap();
            check_written(&offer.sdp, &context);
            negotiation
                .answer(offer.id, &client_answer(&offer.sdp))
                .unwrap_or_else(|error| panic!("{context}: {error}"));
        }
    }
}
