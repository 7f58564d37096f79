//! Descriptions as the stacks of others write them.

use super::*;

/// Rewrites each m-line with its attributes; an empty result leaves the text as it is.
fn sections(sdp: &str, change: impl Fn(&str, Vec<&str>) -> Vec<String>) -> String {
    let mut parts: Vec<Vec<&str>> = vec![Vec::new()];
    for line in sdp.lines() {
        if line.starts_with("m=") {
            parts.push(Vec::new());
        }
        parts.last_mut().unwrap().push(line);
    }
    let mut out = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        let changed = match index {
            0 => part.into_iter().map(str::to_owned).collect(),
            _ => change(&part[0].to_owned()[..7], part),
        };
        for line in changed {
            out.push_str(&line);
            out.push_str("\r\n");
        }
    }
    out
}

fn owned(lines: Vec<&str>) -> Vec<String> {
    lines.into_iter().map(str::to_owned).collect()
}

/// A change of an answer's text.
type Change = fn(&str) -> String;

/// Variants of an answer: a name, the change of our client's answer, and whether it accepts video.
const ANSWERS: [(&str, Change, bool); 9] = [
    ("as it is", |sdp| sdp.to_owned(), true),
    (
        "video rejected, with mid",
        |sdp| {
            sections(sdp, |kind, lines| match kind {
                "m=video" => vec!["m=video 0 UDP/TLS/RTP/SAVPF 0".into(), "a=mid:2".into()],
                _ => owned(lines),
            })
        },
        false,
    ),
    (
        "video rejected, without mid",
        |sdp| {
            sections(sdp, |kind, lines| match kind {
                "m=video" => vec![
                    "m=video 0 UDP/TLS/RTP/SAVPF 0".into(),
                    "c=IN IP4 0.0.0.0".into(),
                ],
                _ => owned(lines),
            })
        },
        false,
    ),
    (
        "no mid anywhere",
        |sdp| {
            sections(sdp, |_, lines| {
                let kept = lines.into_iter().filter(|line| !line.starts_with("a=mid"));
                kept.map(str::to_owned).collect()
            })
        },
        true,
    ),
    (
        "LF alone, the last one missing",
        |sdp| sdp.replace("\r\n", "\n").trim_end().to_owned(),
        true,
    ),
    (
        "trailing spaces",
        |sdp| sdp.replace("\r\n", " \t\r\n"),
        true,
    ),
    (
        "no direction",
        |sdp| sdp.replace("a=recvonly\r\n", ""),
        true,
    ),
    (
        "inactive video",
        |sdp| {
            let video = sdp.find("m=video").unwrap();
            format!(
                "{}{}",
                &sdp[..video],
                sdp[video..].replace("a=recvonly", "a=inactive")
            )
        },
        false,
    ),
    (
        "transport before the first m-line",
        |sdp| {
            let is_transport = |line: &&str| {
                ["a=ice-", "a=fingerprint", "a=setup"]
                    .iter()
                    .any(|start| line.starts_with(start))
            };
            let (transport, rest): (Vec<&str>, Vec<&str>) = sdp.lines().partition(is_transport);
            let all = [&rest[..4], &transport[..4], &rest[4..]].concat();
            all.into_iter().map(|line| format!("{line}\r\n")).collect()
        },
        true,
    ),
];

#[test]
fn answers_are_read_as_others_write_them() {
    for (name, change, takes_video) in ANSWERS {
        let mut negotiation = SubscriberNegotiation::new(local(), 1);
        negotiation.add_track(send(1, MediaKind::Audio));
        negotiation.add_track(send(2, MediaKind::Video));
        let offer = negotiation.offer().unwrap();
        let answer = change(&client_answer(&offer.sdp));
        let outcome = negotiation
            .answer(0, &answer)
            .unwrap_or_else(|error| panic!("{name}: {error}\n{answer}"));
        let accepted: Vec<u64> = outcome.accepted.iter().map(|track| track.key).collect();
        let expected: (&[u64], &[u64]) = if takes_video {
            (&[1, 2], &[])
        } else {
            (&[1], &[2])
        };
        assert_eq!((&accepted[..], &outcome.rejected[..]), expected, "{name}");
    }
}

#[test]
fn an_answer_to_other_m_lines_is_refused() {
    let mut negotiation = SubscriberNegotiation::new(local(), 1);
    negotiation.add_track(send(1, MediaKind::Audio));
    let offer = negotiation.offer().unwrap();
    let answer = client_answer(&offer.sdp);
    assert!(
        negotiation
            .answer(0, &answer.replace("a=mid:1", "a=mid:7"))
            .is_err()
    );
    assert!(
        negotiation
            .answer(0, &format!("{answer}m=audio 0 X 0\r\n"))
            .is_err()
    );
    assert_eq!(negotiation.answer(0, &answer).unwrap().accepted.len(), 1);
}

#[test]
fn offers_are_read_as_others_write_them() {
    type Change = fn(&str) -> String;
    let cases: [(&str, Change); 8] = [
        ("as it is", |sdp| sdp.to_owned()),
        ("trailing spaces", |sdp| sdp.replace('\n', "  \n")),
        ("CRLF and LF", |sdp| sdp.replacen('\n', "\r\n", 40)),
        ("rtcp-mux-only", |sdp| {
            sdp.replace("a=rtcp-mux\n", "a=rtcp-mux-only\n")
        }),
        ("a rejected m-line without mid", |sdp| {
            format!("{sdp}m=video 0 UDP/TLS/RTP/SAVPF 0\nc=IN IP4 0.0.0.0\n")
        }),
        ("two of them", |sdp| {
            format!("{sdp}{}", "m=video 0 UDP/TLS/RTP/SAVPF 0\n".repeat(2))
        }),
        ("no bundle", |sdp| sdp.replace("a=group:BUNDLE 0 1 2\n", "")),
        ("bundle-only", |sdp| {
            sdp.replacen("m=audio 9 ", "m=audio 0 ", 1)
                .replace("a=mid:1\n", "a=mid:1\na=bundle-only\n")
        }),
    ];
    for (name, change) in cases {
        let offer = change(&BROWSER.replace("\r\n", "\n"));
        let answer = answer(&offer).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(answer.tracks.len(), 2, "{name}");
        assert_eq!(
            lines(&answer.sdp, "m=").count(),
            lines(&offer, "m=").count(),
            "{name}"
        );
        let bundled = lines(&answer.sdp, "a=group:").collect::<Vec<_>>();
        if name == "no bundle" {
            assert!(bundled.is_empty());
        } else {
            assert_eq!(bundled, ["a=group:BUNDLE 0 1 2"], "{name}");
        }
    }
}

#[test]
fn a_lone_m_line_needs_no_mid() {
    let start = BROWSER.find("m=audio").unwrap();
    let end = BROWSER.find("m=video").unwrap();
    let session = &BROWSER[..BROWSER.find("a=group").unwrap()];
    let lone = format!("{session}{}", &BROWSER[start..end]).replace("a=mid:1\r\n", "");
    let answer = answer(&lone).unwrap();
    assert_eq!(answer.tracks[0].mid, "");
    assert!(!answer.sdp.contains("a=mid") && !answer.sdp.contains("a=group"));
}

#[test]
fn data_channels_are_answered_in_their_own_protocol() {
    for (offered, answered) in [
        ("DTLS/SCTP 5000", "m=application 9 DTLS/SCTP 5000\r\n"),
        (
            "TCP/DTLS/SCTP webrtc-datachannel",
            "m=application 9 TCP/DTLS/SCTP webrtc-datachannel\r\n",
        ),
    ] {
        let offer = BROWSER.replace("UDP/DTLS/SCTP webrtc-datachannel", offered);
        assert!(answer(&offer).unwrap().sdp.contains(answered));
    }
}
