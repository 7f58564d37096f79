//! Recorded offers of real clients, and what goes wrong.

mod agreement;
mod hostile;
mod layers;
mod liberal;
mod turnover;
mod written;

use super::*;
use moim_engine::codec::{Codec, MediaKind};
use moim_engine::command::{HeaderExtension, Payload};

const BROWSER: &str = include_str!("../fixtures/browser_simulcast_offer.sdp");
const NATIVE: &str = include_str!("../fixtures/native_offer.sdp");

fn local() -> LocalEndpoint {
    LocalEndpoint {
        ice: IceCredentials {
            ufrag: "serverufrag".into(),
            pwd: "a-password-of-the-server-long-enough".into(),
        },
        fingerprint: Fingerprint([0xab; 32]),
        candidates: vec![Candidate {
            ip: "192.0.2.1".parse().unwrap(),
            port: 7882,
            tcp: false,
        }],
    }
}

fn accept(_: &OfferedTrack) -> TrackDecision {
    TrackDecision::Accept(TrackParameters::default())
}

/// What our credentials become by a restart.
fn fresh_ice() -> IceCredentials {
    IceCredentials {
        ufrag: "freshufrag".into(),
        pwd: "another-password-of-the-server".into(),
    }
}

fn answer(offer: &str) -> Result<PublisherAnswer, NegotiationError> {
    PublisherNegotiation::new(local()).answer(offer, fresh_ice(), &mut accept)
}

fn lines<'a>(sdp: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    sdp.lines().filter(move |line| line.starts_with(start))
}

#[test]
fn a_browsers_simulcast_camera_is_taken_lowest_layer_first() {
    let answer = answer(BROWSER).unwrap();
    let [audio, video] = &answer.tracks[..] else {
        panic!("{:?}", answer.tracks);
    };
    assert_eq!(
        (audio.kind, audio.codecs.as_slice()),
        (
            MediaKind::Audio,
            &[Codec::Opus, Codec::Pcmu, Codec::Pcma][..]
        )
    );
    assert_eq!(audio.source.ssrcs, [(2_867_824_771, None)]);
    assert_eq!(video.cid, "5bc0500d-4aee-458a-9b8c-b3d05c14a5b0");
    assert_eq!(video.source.rids, ["q", "h", "f"]);
    assert!(answer.sdp.contains("a=simulcast:recv q;h;f\r\n"));
    assert!(
        answer
            .mapping
            .payload_types
            .contains(&(96, Payload::Media(Codec::Vp8)))
    );
    assert!(
        answer
            .mapping
            .payload_types
            .contains(&(97, Payload::Rtx(Codec::Vp8)))
    );
    assert!(
        answer
            .mapping
            .extensions
            .contains(&(10, HeaderExtension::Rid))
    );
    assert!(answer.sdp.contains("a=group:BUNDLE 0 1 2\r\n"));
    assert!(answer.sdp.contains("usedtx=1"));
}

#[test]
fn empty_receiving_m_lines_are_answered_inactive() {
    let answer = answer(NATIVE).unwrap();
    let sections = NATIVE.matches("m=").count();
    assert_eq!(lines(&answer.sdp, "m=").count(), sections);
    assert_eq!(lines(&answer.sdp, "a=mid:").count(), sections);
    assert_eq!(lines(&answer.sdp, "a=inactive").count(), 6);
    let kinds: Vec<MediaKind> = answer.tracks.iter().map(|track| track.kind).collect();
    assert_eq!(kinds, [MediaKind::Audio, MediaKind::Video]);
}

#[test]
fn a_refused_track_is_inactive_and_unknown_to_the_engine() {
    let mut refuse = |track: &OfferedTrack| match track.kind {
        MediaKind::Video => TrackDecision::Refuse,
        MediaKind::Audio => accept(track),
    };
    let answer = PublisherNegotiation::new(local())
        .answer(BROWSER, fresh_ice(), &mut refuse)
        .unwrap();
    assert_eq!(answer.tracks.len(), 1);
    assert!(
        !answer
            .mapping
            .payload_types
            .iter()
            .any(|(number, _)| *number == 96)
    );
    assert_eq!(lines(&answer.sdp, "a=inactive").count(), 1);
}

#[test]
fn a_preferred_codec_stands_first() {
    let mut prefer = |_: &OfferedTrack| {
        TrackDecision::Accept(TrackParameters {
            unusable: Vec::new(),
            preferred: Some(Codec::Av1),
            stereo: true,
            dtx: false,
            red: false,
            layers: Vec::new(),
        })
    };
    let answer = PublisherNegotiation::new(local())
        .answer(BROWSER, fresh_ice(), &mut prefer)
        .unwrap();
    assert_eq!(answer.tracks[1].codecs[0], Codec::Av1);
    assert!(answer.sdp.contains("m=video 9 UDP/TLS/RTP/SAVPF 45 "));
    assert!(answer.sdp.contains("stereo=1") && !answer.sdp.contains("usedtx"));
}

#[test]
fn a_track_that_stops_is_told() {
    let mut negotiation = PublisherNegotiation::new(local());
    negotiation
        .answer(BROWSER, fresh_ice(), &mut accept)
        .unwrap();
    let stopped = BROWSER.replacen("a=sendonly", "a=inactive", 1);
    let answer = negotiation
        .answer(&stopped, fresh_ice(), &mut accept)
        .unwrap();
    assert_eq!(answer.stopped_mids, ["1"]);
    assert_eq!(answer.tracks.len(), 1);
}

#[test]
fn a_restart_is_seen_by_other_credentials() {
    let mut negotiation = PublisherNegotiation::new(local());
    for _ in 0..2 {
        let answer = negotiation
            .answer(BROWSER, fresh_ice(), &mut accept)
            .unwrap();
        assert_eq!(answer.restarted_ice, None);
        assert!(answer.sdp.contains("a=ice-ufrag:serverufrag\r\n"));
    }
    let restarted = BROWSER.replace("a=ice-ufrag:Cj/D", "a=ice-ufrag:Xy/Z");
    // A refused offer changes nothing, wherever in it the error is.
    for bad in [
        format!("{restarted}nonsense\n"),
        format!("{restarted}m=video 9 UDP/TLS/RTP/SAVPF 96\na=mid:9\na=rtpmap:96 H264/90000\n"),
        restarted.replace("a=simulcast:send q", "a=simulcast:send ?"),
    ] {
        assert!(negotiation.answer(&bad, fresh_ice(), &mut accept).is_err());
        let answer = negotiation
            .answer(BROWSER, fresh_ice(), &mut accept)
            .unwrap();
        assert_eq!(answer.restarted_ice, None);
    }
    let answer = negotiation
        .answer(&restarted, fresh_ice(), &mut accept)
        .unwrap();
    assert_eq!(answer.restarted_ice, Some(fresh_ice()));
    assert!(answer.sdp.contains("a=ice-ufrag:freshufrag\r\n"));
    let again = negotiation
        .answer(&restarted, local().ice, &mut accept)
        .unwrap();
    assert_eq!(again.restarted_ice, None);
    assert!(again.sdp.contains("a=ice-ufrag:freshufrag\r\n"));
}

#[test]
fn bad_offers_get_a_clear_error() {
    let without = |start: &str| {
        BROWSER
            .lines()
            .filter(|line| !line.starts_with(start))
            .map(|line| format!("{line}\r\n"))
            .collect::<String>()
    };
    let cases = [
        (without("a=fingerprint"), "a=fingerprint"),
        (without("a=ice-ufrag"), "a=ice-ufrag"),
        (without("a=mid"), "mid"),
        (BROWSER.replace("a=mid:2", "a=mid:1"), "mid `1`"),
        (
            BROWSER.replace("a=setup:actpass", "a=setup:passive"),
            "passive",
        ),
        (format!("{BROWSER}a=x:{}\r\n", "y".repeat(9_000)), "line of"),
        (
            format!("{BROWSER}{}", "m=audio 9 X 0\r\n".repeat(400)),
            "m-lines",
        ),
        (format!("{BROWSER}{}", "a=x\r\n".repeat(200_000)), "bytes"),
        ("hello".into(), "hello"),
        (String::new(), "m-line"),
    ];
    for (offer, expected) in cases {
        let error = answer(&offer).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn rids_without_simulcast_are_one_stream() {
    let offer = BROWSER.replace("a=simulcast:send q;h;f\r\n", "");
    assert!(answer(&offer).unwrap().tracks[1].source.rids.is_empty());
}

fn send(key: u64, kind: MediaKind) -> SendTrack {
    SendTrack {
        key,
        kind,
        codecs: Vec::new(),
        stereo: false,
        stream_id: SdpToken::group_stream("PA_a", "camera"),
        own_stream_id: SdpToken::track_stream("PA_a", &format!("TR_{key}")),
        track_id: SdpToken::track(&format!("TR_{key}")),
        ssrc: key as u32 * 10,
        rtx_ssrc: Some(key as u32 * 10 + 1),
    }
}

/// The answer of a client that takes what is offered.
fn client_answer(offer: &str) -> String {
    let mut sdp = String::from("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n");
    for line in offer.lines().skip_while(|line| !line.starts_with("m=")) {
        let line = match line {
            "a=sendonly" => "a=recvonly",
            "a=setup:passive" => "a=setup:active",
            line if line.starts_with("a=ssrc") || line.starts_with("a=candidate") => continue,
            line => line,
        };
        sdp.push_str(line);
        sdp.push_str("\r\n");
    }
    sdp
}

#[test]
fn an_m_line_is_used_again_only_after_the_client_knows_its_track_ended() {
    let mut negotiation = SubscriberNegotiation::new(local(), 1);
    negotiation.add_track(send(1, MediaKind::Video));
    let offer = negotiation.offer().unwrap();
    assert_eq!(offer.mid_to_track_id["1"], "TR_1");
    let answer = negotiation
        .answer(offer.id, &client_answer(&offer.sdp))
        .unwrap();
    assert_eq!(answer.accepted.len(), 1);
    assert!(answer.accepted[0].payload_types.has_rtx());

    negotiation.remove_track(1);
    negotiation.add_track(send(2, MediaKind::Video));
    let offer = negotiation.offer().unwrap();
    assert_eq!(offer.mid_to_track_id["2"], "TR_2");
    negotiation
        .answer(offer.id, &client_answer(&offer.sdp))
        .unwrap();

    negotiation.add_track(send(3, MediaKind::Video));
    let offer = negotiation.offer().unwrap();
    assert_eq!(offer.mid_to_track_id["1"], "TR_3");
    assert!(
        offer.sdp.contains("a=msid:PA_a|TR_3 TR_3"),
        "who it is, by its stream"
    );
    assert!(offer.sdp.contains("a=msid:PA_a|camera TR_2"));
    assert_eq!(lines(&offer.sdp, "m=video").count(), 2);
}

#[test]
fn each_packets_arrival_is_reported_on_when_both_sides_take_it() {
    let name = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    let mut negotiation = SubscriberNegotiation::new(local(), 1);
    negotiation.add_track(send(1, MediaKind::Audio));
    negotiation.add_track(send(2, MediaKind::Video));
    let offer = negotiation.offer().unwrap();
    let extmap = format!("a=extmap:3 {name}");
    assert_eq!(lines(&offer.sdp, &extmap).count(), 2);
    assert_eq!(lines(&offer.sdp, "a=rtcp-fb:111 transport-cc").count(), 1);
    assert_eq!(lines(&offer.sdp, "a=rtcp-fb:35 transport-cc").count(), 1);
    assert_eq!(lines(&offer.sdp, "a=rtcp-fb:96 goog-remb").count(), 1);

    let taken = client_answer(&offer.sdp);
    let without_audio_feedback = taken.replace("a=rtcp-fb:111 transport-cc\r\n", "");
    let without_extension = taken.replace(&format!("{extmap}\r\n"), "");
    let cases = [
        (without_audio_feedback, [false, true]),
        (without_extension, [false, false]),
        (taken, [true, true]),
    ];
    for (sdp, expected) in cases {
        let answer = negotiation.answer(0, &sdp).unwrap();
        let takes = answer.accepted.iter().map(|track| track.takes_transport_cc);
        assert_eq!(takes.collect::<Vec<_>>(), expected);
        negotiation.restart_ice(local().ice);
        negotiation.offer().unwrap();
    }
}

#[test]
fn a_publisher_that_can_numbers_its_audio_too() {
    let name = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    let offer = BROWSER.replacen(
        "a=mid:1\r\n",
        &format!("a=mid:1\r\na=extmap:3 {name}\r\n"),
        1,
    );
    let answer = answer(&offer).unwrap();
    assert_eq!(lines(&answer.sdp, &format!("a=extmap:3 {name}")).count(), 2);
    assert_eq!(lines(&answer.sdp, "a=rtcp-fb:111 transport-cc").count(), 1);
}

#[test]
fn redundant_audio_is_asked_for_unless_it_is_not_wanted() {
    let audio = answer(BROWSER).unwrap();
    assert!(
        audio
            .sdp
            .contains("m=audio 9 UDP/TLS/RTP/SAVPF 63 111 0 8\r\n"),
        "{}",
        audio.sdp
    );
    assert!(audio.mapping.payload_types.contains(&(63, Payload::Red)));
    let mut without = |_: &OfferedTrack| {
        TrackDecision::Accept(TrackParameters {
            red: false,
            ..TrackParameters::default()
        })
    };
    let plain = PublisherNegotiation::new(local())
        .answer(BROWSER, fresh_ice(), &mut without)
        .unwrap();
    assert!(!plain.sdp.contains("red/48000"));
    assert!(
        plain
            .mapping
            .payload_types
            .iter()
            .all(|(number, _)| *number != 63)
    );
    let foreign = BROWSER.replace("a=fmtp:63 111/111", "a=fmtp:63 111/0");
    assert!(!answer(&foreign).unwrap().sdp.contains("red/48000"));
}

#[test]
fn a_subscriber_takes_redundant_audio_by_its_answer() {
    let mut negotiation = SubscriberNegotiation::new(local(), 1);
    negotiation.add_track(send(1, MediaKind::Audio));
    let offer = negotiation.offer().unwrap();
    let taken = client_answer(&offer.sdp);
    let plain = taken.replace("a=rtpmap:63 red/48000/2\r\n", "");
    for (sdp, takes) in [(taken, true), (plain, false)] {
        let answer = negotiation.answer(0, &sdp).unwrap();
        assert_eq!(answer.accepted[0].payload_types.red().is_some(), takes);
        negotiation.restart_ice(local().ice);
        negotiation.offer().unwrap();
    }
}

#[test]
fn there_is_never_more_than_one_offer_under_way() {
    let mut negotiation = SubscriberNegotiation::new(local(), 1);
    let offer = negotiation.offer().unwrap();
    negotiation.add_track(send(1, MediaKind::Audio));
    assert!(negotiation.offer().is_none() && !negotiation.needs_offer());
    assert!(
        negotiation
            .answer(offer.id + 1, &client_answer(&offer.sdp))
            .is_err()
    );
    negotiation.answer(0, &client_answer(&offer.sdp)).unwrap();
    assert!(negotiation.needs_offer());
    assert!(
        negotiation
            .answer(offer.id, &client_answer(&offer.sdp))
            .is_err()
    );
}
