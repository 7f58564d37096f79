//! Which codecs are agreed on, and under which payload types.

use std::collections::HashSet;

use super::*;
use moim_engine::codec::{H264Format, H264Profile, Packetization, RED_PAYLOAD_TYPE};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

fn h264(profile: H264Profile, packetization: Packetization) -> Codec {
    Codec::H264(H264Format {
        profile,
        packetization,
    })
}

fn video_offer(formats: &[(u8, &str, &str)]) -> String {
    media_offer("video", formats)
}

fn media_offer(kind: &str, formats: &[(u8, &str, &str)]) -> String {
    let numbers: Vec<String> = formats.iter().map(|format| format.0.to_string()).collect();
    let mut offer = format!(
        "v=0\r\na=group:BUNDLE 0\r\na=ice-ufrag:client\r\na=ice-pwd:the-password-of-the-client\r\n\
         a=fingerprint:sha-256 {}\r\nm={kind} 9 UDP/TLS/RTP/SAVPF {}\r\na=mid:0\r\na=sendonly\r\n\
         a=rtcp-mux\r\na=msid:s t\r\n",
        ["0A"; 32].join(":"),
        numbers.join(" ")
    );
    for (number, rtpmap, fmtp) in formats {
        if !rtpmap.is_empty() {
            offer.push_str(&format!("a=rtpmap:{number} {rtpmap}\r\n"));
        }
        if !fmtp.is_empty() {
            offer.push_str(&format!("a=fmtp:{number} {fmtp}\r\n"));
        }
    }
    offer
}

#[test]
fn h264_is_told_apart_by_profile_and_mode() {
    use H264Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
    use Packetization::{NonInterleaved, SingleNalUnit};
    let cases = [
        (
            "packetization-mode=1;profile-level-id=42e01f",
            Some((ConstrainedBaseline, NonInterleaved)),
        ),
        (
            "packetization-mode=0;profile-level-id=42e034",
            Some((ConstrainedBaseline, SingleNalUnit)),
        ),
        (
            "packetization-mode=1;profile-level-id=42C01F",
            Some((ConstrainedBaseline, NonInterleaved)),
        ),
        (
            "profile-level-id=4d801f",
            Some((ConstrainedBaseline, SingleNalUnit)),
        ),
        (
            "packetization-mode=1;profile-level-id=42001f",
            Some((Baseline, NonInterleaved)),
        ),
        (
            "packetization-mode=1;profile-level-id=4d001f",
            Some((Main, NonInterleaved)),
        ),
        (
            "packetization-mode=1;profile-level-id=4d401f",
            Some((Main, NonInterleaved)),
        ),
        (
            "packetization-mode=1;profile-level-id=640c34",
            Some((ConstrainedHigh, NonInterleaved)),
        ),
        (
            "packetization-mode=1;profile-level-id=640c1f",
            Some((ConstrainedHigh, NonInterleaved)),
        ),
        (
            "packetization-mode=1;profile-level-id=64001f",
            Some((High, NonInterleaved)),
        ),
        (
            "packetization-mode=1;profile-level-id=640032",
            Some((High, NonInterleaved)),
        ),
        ("packetization-mode=1", Some((Baseline, NonInterleaved))),
        ("", Some((Baseline, SingleNalUnit))),
        ("packetization-mode=2;profile-level-id=42e01f", None),
        ("packetization-mode=1;profile-level-id=f4001f", None),
        ("packetization-mode=1;profile-level-id=42e0", None),
        ("packetization-mode=1;profile-level-id=+2e01f", None),
    ];
    for (fmtp, expected) in cases {
        let answer = answer(&video_offer(&[(102, "H264/90000", fmtp)])).unwrap();
        let codecs: Vec<Codec> = answer.tracks.into_iter().flat_map(|t| t.codecs).collect();
        let expected: Vec<Codec> = expected.into_iter().map(|(p, m)| h264(p, m)).collect();
        assert_eq!(codecs, expected, "{fmtp}");
        if !expected.is_empty() && !fmtp.is_empty() {
            // The level is the client's, as it may not allow another (RFC 6184, section 8.2.2).
            assert!(answer.sdp.contains(&format!("a=fmtp:102 {fmtp}\r\n")));
        }
    }
}

#[test]
fn of_its_h264_a_client_is_asked_for_what_most_decode() {
    let offer = video_offer(&[
        (96, "VP8/90000", ""),
        (
            102,
            "H264/90000",
            "packetization-mode=1;profile-level-id=42001f",
        ),
        (
            114,
            "H264/90000",
            "packetization-mode=1;profile-level-id=640c34",
        ),
        (
            108,
            "H264/90000",
            "packetization-mode=1;profile-level-id=42e034",
        ),
    ]);
    for (preferred, first) in [
        (
            Codec::named("h264"),
            "m=video 9 UDP/TLS/RTP/SAVPF 108 102 114 96\r\n",
        ),
        (None, "m=video 9 UDP/TLS/RTP/SAVPF 96 102 114 108\r\n"),
        (
            Some(h264(
                H264Profile::ConstrainedHigh,
                Packetization::NonInterleaved,
            )),
            "m=video 9 UDP/TLS/RTP/SAVPF 114 108 102 96\r\n",
        ),
    ] {
        let mut decide = |_: &OfferedTrack| {
            TrackDecision::Accept(TrackParameters {
                preferred,
                ..TrackParameters::default()
            })
        };
        let answer = PublisherNegotiation::new(local())
            .answer(&offer, fresh_ice(), &mut decide)
            .unwrap();
        assert!(answer.sdp.contains(first), "{first}:\n{}", answer.sdp);
    }
}

#[test]
fn g711_needs_no_rtpmap_and_comes_behind_opus() {
    let bare = answer(&media_offer("audio", &[(8, "", ""), (0, "", "")])).unwrap();
    assert_eq!(bare.tracks[0].codecs, [Codec::Pcma, Codec::Pcmu]);
    assert!(bare.sdp.contains("a=rtpmap:8 PCMA/8000\r\n"));
    let formats = [(0, "PCMU/8000/1", ""), (96, "OPUS/48000/2", "")];
    let both = answer(&media_offer("audio", &formats)).unwrap();
    assert_eq!(both.tracks[0].codecs, [Codec::Opus, Codec::Pcmu]);
    assert!(both.sdp.contains("m=audio 9 UDP/TLS/RTP/SAVPF 96 0\r\n"));
    // What is no audio has no place in an m-line of audio.
    let video = answer(&media_offer("audio", &[(96, "VP8/90000", "")])).unwrap();
    assert!(video.tracks.is_empty());
}

#[test]
fn stereo_is_said_of_stereo_tracks_alone() {
    let mut negotiation = SubscriberNegotiation::new(local(), 1);
    for (key, stereo) in [(1, true), (2, false)] {
        negotiation.add_track(SendTrack {
            stereo,
            ..send(key, MediaKind::Audio)
        });
    }
    let offer = negotiation.offer().unwrap();
    let parameters: Vec<&str> = lines(&offer.sdp, "a=fmtp:111 ").collect();
    assert_eq!(
        parameters,
        [
            "a=fmtp:111 minptime=10;useinbandfec=1;sprop-stereo=1;stereo=1",
            "a=fmtp:111 minptime=10;useinbandfec=1"
        ]
    );
}

/// An answer that takes some of the payload types of one m-line, under numbers of its own.
struct RandomAnswer {
    sdp: String,
    /// The number that each offered one became.
    taken: Vec<(u8, u8)>,
}

fn random_answer(rng: &mut SmallRng, offer: &str) -> RandomAnswer {
    let m_line = lines(offer, "m=").nth(1).unwrap();
    let mut offered: Vec<u8> = m_line
        .split(' ')
        .skip(3)
        .map(|number| number.parse().unwrap())
        .collect();
    offered.shuffle(rng);
    offered.truncate(rng.random_range(1..=offered.len()));
    let mut numbers: Vec<u8> = (96..128).chain(35..64).collect();
    numbers.shuffle(rng);
    let renumber = rng.random_ratio(1, 3);
    let taken: Vec<(u8, u8)> = offered
        .iter()
        .map(|&was| {
            (
                was,
                if renumber {
                    numbers.pop().unwrap()
                } else {
                    was
                },
            )
        })
        .collect();
    let becomes = |was: &str| {
        let was: u8 = was.parse().ok()?;
        Some(taken.iter().find(|(from, _)| *from == was)?.1)
    };
    let mut sdp = String::new();
    for line in client_answer(offer).lines() {
        if line.starts_with(m_line.split(' ').next().unwrap()) {
            let numbers: Vec<String> = taken.iter().map(|(_, to)| to.to_string()).collect();
            sdp.push_str(&format!(
                "{} 9 UDP/TLS/RTP/SAVPF {}",
                &line[..7],
                numbers.join(" ")
            ));
        } else if let Some((name @ ("a=rtpmap" | "a=fmtp" | "a=rtcp-fb"), value)) =
            line.split_once(':')
        {
            let (number, value) = value.split_once(' ').unwrap();
            let Some(number) = becomes(number) else {
                continue;
            };
            let value = match value.split_once("apt=") {
                Some((_, apt)) => match becomes(apt) {
                    Some(apt) => format!("apt={apt}"),
                    None => "apt=1".to_owned(),
                },
                None => value.replace(
                    "111/111",
                    &becomes("111").map_or("1".into(), |opus| format!("{opus}/{opus}")),
                ),
            };
            sdp.push_str(&format!("{name}:{number} {value}"));
        } else {
            sdp.push_str(line);
        }
        sdp.push_str("\r\n");
    }
    RandomAnswer { sdp, taken }
}

/// Nobody is sent a payload type that its answer does not have, or that stands there for what it
/// would not be decoded as.
#[test]
fn only_what_is_answered_is_taken() {
    let seed = 3_264;
    let mut rng = SmallRng::seed_from_u64(seed);
    let (mut accepted_count, mut rejected_count) = (0, 0);
    for round in 0..6_000 {
        let context = format!("seed {seed}, round {round}");
        let codec = *Codec::ALL.choose(&mut rng).unwrap();
        let mut negotiation = SubscriberNegotiation::new(local(), 1);
        negotiation.add_track(SendTrack {
            codecs: vec![codec],
            ..send(1, codec.kind())
        });
        let offer = negotiation.offer().unwrap();
        assert!(
            offer
                .sdp
                .contains(&format!("SAVPF {}", codec.payload_type())),
            "{context}: a track's codec is offered first"
        );
        let answer = random_answer(&mut rng, &offer.sdp);
        let outcome = negotiation.answer(offer.id, &answer.sdp).unwrap();
        let decodable: HashSet<u8> = codec
            .decoded_by()
            .filter_map(|by| {
                let was = by.payload_type();
                answer.taken.iter().find(|(from, _)| *from == was)
            })
            .map(|(_, to)| *to)
            .collect();
        let Some(accepted) = outcome.accepted.first() else {
            assert_eq!(outcome.rejected, [1], "{context}");
            assert!(decodable.is_empty(), "{context}: {codec:?}\n{}", answer.sdp);
            rejected_count += 1;
            continue;
        };
        accepted_count += 1;
        assert!(
            outcome.rejected.is_empty() && accepted.takes(codec),
            "{context}"
        );
        let chosen = accepted.payload_types.media(codec).unwrap();
        assert!(
            decodable.contains(&chosen),
            "{context}: {codec:?} as {chosen}"
        );
        let answered: HashSet<u8> = answer.taken.iter().map(|(_, to)| *to).collect();
        for codec in Codec::ALL {
            for chosen in [
                accepted.payload_types.media(codec),
                accepted.payload_types.rtx(codec),
            ] {
                assert!(
                    chosen.is_none_or(|chosen| answered.contains(&chosen)),
                    "{context}"
                );
            }
        }
        let takes = |offered: u8| answer.taken.iter().find(|(from, _)| *from == offered);
        let red = takes(RED_PAYLOAD_TYPE).filter(|_| takes(Codec::Opus.payload_type()).is_some());
        assert_eq!(
            accepted.payload_types.red(),
            red.map(|(_, to)| *to),
            "{context}"
        );
    }
    assert!(accepted_count > 500 && rejected_count > 500);
}

#[test]
fn a_constrained_high_stream_goes_to_a_decoder_of_high_under_its_payload_type() {
    let constrained_high = h264(H264Profile::ConstrainedHigh, Packetization::NonInterleaved);
    let mut negotiation = SubscriberNegotiation::new(local(), 1);
    negotiation.add_track(SendTrack {
        codecs: vec![constrained_high],
        ..send(1, MediaKind::Video)
    });
    let offer = negotiation.offer().unwrap();
    assert!(offer.sdp.contains(
        "a=fmtp:114 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f"
    ));
    let taken =
        client_answer(&offer.sdp).replace("profile-level-id=640c1f", "profile-level-id=640032");
    let answer = negotiation.answer(offer.id, &taken).unwrap();
    assert_eq!(
        answer.accepted[0].payload_types.media(constrained_high),
        Some(114)
    );
    assert_eq!(
        answer.accepted[0].payload_types.rtx(constrained_high),
        Some(115)
    );
}

#[test]
fn a_codec_that_is_new_to_the_client_is_offered() {
    let mut negotiation = SubscriberNegotiation::new(local(), 1);
    negotiation.add_track(send(1, MediaKind::Video));
    let offer = negotiation.offer().unwrap();
    negotiation
        .answer(offer.id, &client_answer(&offer.sdp))
        .unwrap();
    negotiation.set_codecs(1, &[Codec::Av1]);
    assert!(!negotiation.needs_offer(), "it was offered already");
    let high = h264(H264Profile::High, Packetization::NonInterleaved);
    negotiation.set_codecs(1, &[high]);
    let offer = negotiation.offer().unwrap();
    assert!(
        offer.sdp.contains("UDP/TLS/RTP/SAVPF 123 124 96"),
        "{}",
        offer.sdp
    );
}

#[test]
fn a_codec_that_a_publisher_fails_with_is_not_in_its_answer() {
    let formats = [
        (96, "VP8/90000", ""),
        (97, "rtx/90000", "apt=96"),
        (
            102,
            "H264/90000",
            "packetization-mode=1;profile-level-id=42e01f",
        ),
        (103, "rtx/90000", "apt=102"),
        (
            104,
            "H264/90000",
            "packetization-mode=0;profile-level-id=42e01f",
        ),
    ];
    let mut decide = |_: &OfferedTrack| {
        TrackDecision::Accept(TrackParameters {
            preferred: Some(Codec::H264(H264Format::USUAL)),
            unusable: vec!["video/H264"],
            ..TrackParameters::default()
        })
    };
    let mut answer = |formats: &[(u8, &str, &str)]| {
        PublisherNegotiation::new(local())
            .answer(&video_offer(formats), fresh_ice(), &mut decide)
            .unwrap()
    };
    let both = answer(&formats);
    assert_eq!(both.tracks[0].codecs, [Codec::Vp8]);
    assert!(both.sdp.contains("m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n"));
    assert_eq!(both.mapping.payload_types.len(), 2);
    // With nothing left the m-line is not taken, and the connection is.
    let neither = answer(&formats[2..]);
    assert!(neither.tracks.is_empty() && neither.mapping.payload_types.is_empty());
    assert!(neither.sdp.contains("a=inactive\r\n"));
}

#[test]
fn a_track_of_which_no_codec_is_taken_is_withdrawn_until_it_has_another() {
    let mut negotiation = SubscriberNegotiation::new(local(), 1);
    negotiation.add_track(send(1, MediaKind::Video));
    negotiation.set_codecs(1, &[Codec::Vp9]);
    let offer = negotiation.offer().unwrap();
    let without_vp9 = |sdp: &str| client_answer(sdp).replace("VP9/90000", "VP10/90000");
    let answer = negotiation.answer(offer.id, &without_vp9(&offer.sdp));
    assert_eq!(answer.unwrap().rejected, [1]);
    // A client that shows what its m-lines say has a track else that never comes.
    let offer = negotiation.offer().unwrap();
    assert!(offer.sdp.contains("a=inactive\r\n") && !offer.sdp.contains("a=msid:"));
    assert!(offer.mid_to_track_id.is_empty());
    let answer = negotiation.answer(offer.id, &without_vp9(&offer.sdp));
    assert_eq!(answer.unwrap().rejected, [1]);
    assert!(!negotiation.needs_offer());
    // The m-line is its own all the while.
    negotiation.add_track(send(2, MediaKind::Video));
    negotiation.set_codecs(1, &[Codec::Vp8]);
    let offer = negotiation.offer().unwrap();
    assert_eq!(lines(&offer.sdp, "a=msid:").count(), 2);
    let answer = negotiation.answer(offer.id, &without_vp9(&offer.sdp));
    let answer = answer.unwrap();
    assert!(answer.rejected.is_empty());
    assert_eq!(answer.accepted.len(), 2);
}
