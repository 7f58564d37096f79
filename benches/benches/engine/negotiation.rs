//! SDP: what a participant who joins costs the control plane.

use std::fmt::Write as _;

use divan::Bencher;
use moim::media::negotiation::{
    LocalEndpoint, PublisherNegotiation, SdpToken, SendTrack, SubscriberNegotiation, TrackDecision,
    TrackParameters,
};
use moim_engine::codec::{Codec, MediaKind};
use moim_engine::command::{Fingerprint, IceCredentials};

const TRACKS: [u32; 2] = [1, 50];

fn ice() -> IceCredentials {
    IceCredentials {
        ufrag: "ufrag".into(),
        pwd: "a password of 24 letters".into(),
    }
}

fn endpoint() -> LocalEndpoint {
    LocalEndpoint {
        ice: ice(),
        fingerprint: Fingerprint([7; 32]),
        candidates: Vec::new(),
    }
}

fn subscriber(tracks: u32) -> SubscriberNegotiation {
    let mut negotiation = SubscriberNegotiation::new(endpoint(), 1);
    for key in 0..tracks {
        let added = negotiation.add_track(SendTrack {
            key: key.into(),
            kind: MediaKind::Video,
            codecs: vec![Codec::Vp8],
            stereo: false,
            stream_id: SdpToken::group_stream(&format!("PA_{key}"), ""),
            own_stream_id: SdpToken::track_stream(&format!("PA_{key}"), &format!("TR_{key}")),
            track_id: SdpToken::track(&format!("TR_{key}")),
            ssrc: 2 * key + 1,
            rtx_ssrc: Some(2 * key + 2),
        });
        assert!(added, "room for {tracks} tracks");
    }
    negotiation
}

#[divan::bench(args = TRACKS)]
fn subscriber_offer(bencher: Bencher<'_, '_>, tracks: u32) {
    bencher
        .with_inputs(|| subscriber(tracks))
        .bench_local_refs(|negotiation| negotiation.offer().expect("an offer"));
}

#[divan::bench(args = TRACKS)]
fn subscriber_answer(bencher: Bencher<'_, '_>, tracks: u32) {
    bencher
        .with_inputs(|| {
            let mut negotiation = subscriber(tracks);
            let offer = negotiation.offer().expect("an offer");
            let answer = offer.sdp.replace("a=sendonly", "a=recvonly");
            (negotiation, answer)
        })
        .bench_local_refs(|(negotiation, answer)| {
            let outcome = negotiation.answer(1, answer).expect("a good answer");
            assert_eq!(outcome.accepted.len(), tracks as usize);
        });
}

#[divan::bench(args = TRACKS)]
fn publisher_offer_answered(bencher: Bencher<'_, '_>, tracks: u32) {
    let fingerprint = ["AA"; 32].join(":");
    let mids: Vec<String> = (0..tracks).map(|mid| mid.to_string()).collect();
    let mut offer = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE {}\r\n",
        mids.join(" ")
    );
    for mid in mids {
        let _ = write!(
            offer,
            "m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:client\r\n\
             a=ice-pwd:a password of the client\r\na=fingerprint:sha-256 {fingerprint}\r\n\
             a=setup:actpass\r\na=mid:{mid}\r\na=sendonly\r\na=msid:stream track-{mid}\r\n\
             a=rtcp-mux\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack pli\r\n\
             a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=ssrc:1{mid} cname:c\r\n"
        );
    }
    bencher
        .with_inputs(|| PublisherNegotiation::new(endpoint()))
        .bench_local_refs(|negotiation| {
            let mut decide = |_: &_| TrackDecision::Accept(TrackParameters::default());
            let answer = negotiation
                .answer(&offer, ice(), &mut decide)
                .expect("an answer");
            assert_eq!(answer.tracks.len(), tracks as usize);
        });
}
