//! Descriptions that are made to cost much.

use super::written::random_offer;
use super::*;
use crate::media::negotiation::sdp::work;
use rand::{RngExt, SeedableRng, rngs::SmallRng};

const HEAD: &str = "v=0\r\na=ice-ufrag:client\r\na=ice-pwd:the-password-of-the-client\r\n\
     a=fingerprint:sha-256 0A:0A:0A:0A:0A:0A:0A:0A:0A:0A:0A:0A:0A:0A:0A:0A:0A:0A:0A:0A:0A:0A:0A:0A:\
     0A:0A:0A:0A:0A:0A:0A:0A\r\n";

/// Repeats lines until a description has a size.
fn filled(size: usize, mut line: impl FnMut(usize) -> String) -> String {
    let mut offer = HEAD.to_owned();
    for index in 0.. {
        let next = line(index);
        if offer.len() + next.len() > size {
            break;
        }
        offer.push_str(&next);
    }
    offer
}

/// An m-line with 128 formats, and an attribute about each.
fn section(index: usize, attributes: bool) -> String {
    let numbers: Vec<String> = (0..128).map(|number| number.to_string()).collect();
    let mut section = format!(
        "m=video 9 UDP/TLS/RTP/SAVPF {}\r\na=mid:{index}\r\na=rtcp-mux\r\n",
        numbers.join(" ")
    );
    if attributes {
        for number in numbers {
            section.push_str(&format!("a=rtpmap:{number} VP8/90000\r\n"));
        }
    }
    section
}

/// Each step is a byte read or an entry of a table looked at, so that a few a byte are linear.
#[test]
fn the_work_for_an_offer_is_linear_in_its_size() {
    type Line = fn(usize) -> String;
    let shapes: [(&str, Line); 9] = [
        ("formats", |_| {
            "m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".replace("96", &"96 ".repeat(2_600))
        }),
        ("m-lines", |index| section(index, false)),
        ("m-lines with attributes", |index| section(index, true)),
        ("attributes", |index| match index {
            0 => section(0, false),
            _ => "a=rtpmap:96 VP8/90000\r\n".into(),
        }),
        ("unknown attributes", |index| match index {
            0 => section(0, false),
            _ => "a=x\r\n".into(),
        }),
        ("SSRCs", |index| match index {
            0 => section(0, true),
            _ => format!("a=ssrc-group:FID {index} {}\r\n", index + 1),
        }),
        ("session attributes", |index| {
            format!("a=group:BUNDLE {index}\r\n")
        }),
        ("header extensions", |index| match index {
            0 => section(0, true),
            _ => format!("a=extmap:{} urn:3gpp:video-orientation\r\n", index % 255),
        }),
        ("rejected m-lines", |_| "m=audio 0 X 0\r\n".into()),
    ];
    for (name, line) in shapes {
        for size in [32 << 10, 128 << 10, 512 << 10] {
            let offer = filled(size, line);
            work::take();
            let _ = answer(&offer);
            let steps = work::take();
            assert!(steps <= 8 * size, "{name}, {size} bytes: {steps} steps");
            let mut subscriber = SubscriberNegotiation::new(local(), 1);
            subscriber.offer();
            let _ = subscriber.answer(0, &offer);
            let steps = work::take();
            assert!(
                steps <= 8 * size,
                "{name}, {size} bytes answered: {steps} steps"
            );
        }
    }
}

#[test]
fn what_is_too_much_is_refused_with_its_bound() {
    let with = |lines: String| format!("{HEAD}{}{lines}", section(0, true));
    let cases = [
        (
            format!("{HEAD}m=video 9 UDP/TLS/RTP/SAVPF{}", " 96".repeat(129)),
            "formats",
        ),
        (with("a=x\r\n".repeat(1_025)), "attributes"),
        (with("a=ssrc:1 x:y\r\n".repeat(257)), "SSRCs"),
        (
            with(format!("a=fmtp:96 {}\r\n", "x".repeat(1_025))),
            "1025 bytes",
        ),
        (
            format!("a=x\r\n{}", "a=x\r\n".repeat(1_024)),
            "before the first",
        ),
        (with(format!("a=mid:{}\r\n", "m".repeat(256))), "a=mid"),
        (
            with("a=simulcast:send q;0123456789abcdefg\r\n".into()),
            "rid-id",
        ),
    ];
    for (offer, expected) in cases {
        let error = answer(&offer).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn mutilated_descriptions_never_panic() {
    let mut rng = SmallRng::seed_from_u64(6);
    for round in 0..6_000 {
        let mut offer = match round % 3 {
            0 => BROWSER.to_owned(),
            1 => NATIVE.to_owned(),
            _ => random_offer(&mut rng),
        }
        .into_bytes();
        for _ in 0..rng.random_range(1..8u8) {
            if offer.is_empty() {
                break;
            }
            let at = rng.random_range(0..offer.len());
            match rng.random_range(0..3u8) {
                0 => offer[at] = rng.random_range(10..127),
                1 => offer.truncate(at.max(1)),
                _ => offer.extend_from_within(at..(at + 60).min(offer.len())),
            }
        }
        let offer = String::from_utf8_lossy(&offer).into_owned();
        if let Ok(answer) = answer(&offer) {
            super::written::check_written(&answer.sdp, &format!("round {round}"));
        }
        let mut subscriber = SubscriberNegotiation::new(local(), 1);
        subscriber.add_track(send(1, MediaKind::Video));
        subscriber.offer();
        let _ = subscriber.answer(0, &offer);
    }
}
