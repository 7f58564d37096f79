//! A meeting of clients made of the `webrtc` crate, on a server process of its own.

mod client;

use std::time::Duration;

use client::{Client, Media, Server};
use moim_signaling::wire::{DataPacket, TrackSource, TrackType, data_packet};
use prost::Message as _;

/// Sends at 50 packets a second until the other side has `count` of each track.
async fn until_received(
    media: &mut [&mut Media],
    from: &mut Client,
    to: &mut Client,
    count: usize,
) {
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for _ in 0..1_000 {
        pace.tick().await;
        for media in &mut *media {
            media.send().await;
        }
        from.handle_pending().await;
        to.handle_pending().await;
        let received = to.subscriber.received();
        if received.marks.len() == media.len()
            && received.marks.values().all(|marks| marks.len() >= count)
        {
            return;
        }
    }
    panic!(
        "only this arrived: {:?}",
        to.subscriber
            .received()
            .marks
            .values()
            .map(Vec::len)
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn camera_and_microphone_reach_the_other_in_order() {
    let server = Server::start();
    let mut ann = Client::join(&server, "crate", "ann").await;
    let mut bob = Client::join(&server, "crate", "bob").await;
    let mut microphone = ann.publish(TrackType::Audio, TrackSource::Microphone).await;
    let mut camera = ann.publish(TrackType::Video, TrackSource::Camera).await;
    until_received(&mut [&mut microphone, &mut camera], &mut ann, &mut bob, 100).await;

    let received = bob.subscriber.received();
    let sids: Vec<&String> = ann.published.values().map(|track| &track.sid).collect();
    for (track, marks) in &received.marks {
        assert!(
            sids.contains(&track),
            "a track {track} that nobody published"
        );
        // Probes for bandwidth repeat some, which come after what they repeat.
        let mut next = marks[0];
        let mut sequence = received.sequences[track][0];
        for (mark, number) in marks.iter().zip(&received.sequences[track]) {
            assert!(*mark <= next, "{mark} before {next} of {track}");
            if *mark == next {
                assert_eq!(*number, sequence, "sequence numbers of {track}");
                next += 1;
                sequence = sequence.wrapping_add(1);
            }
        }
    }
    ann.leave().await;
    bob.leave().await;
}

#[tokio::test]
async fn a_message_arrives_whole_and_names_its_sender() {
    let server = Server::start();
    let mut ann = Client::join(&server, "crate", "ann").await;
    let mut bob = Client::join(&server, "crate", "bob").await;
    let open = |client: &Client| {
        client
            .publisher
            .received()
            .open
            .iter()
            .any(|label| label == "_reliable")
    };
    ann.run_until(open).await;
    bob.run_until(|bob| bob.subscriber.received().open.len() >= 2)
        .await;
    let text: Vec<u8> = (0..15_000u32).map(|n| n as u8).collect();
    ann.send_data(&text, "chat").await;
    bob.run_until(|bob| !bob.subscriber.received().messages.is_empty())
        .await;

    let (label, bytes) = bob.subscriber.received().messages.remove(0);
    assert_eq!(label, "_reliable");
    let packet = DataPacket::decode(&bytes[..]).expect("a data packet");
    assert_eq!(packet.participant_identity, "ann");
    let Some(data_packet::Value::User(user)) = packet.value else {
        panic!("not a user packet: {packet:?}");
    };
    assert_eq!(
        (user.topic.as_deref(), &user.payload[..]),
        (Some("chat"), &text[..])
    );
    ann.leave().await;
    bob.leave().await;
}

#[tokio::test]
async fn a_track_that_ends_gives_its_m_line_to_the_next() {
    let server = Server::start();
    let mut bob = Client::join(&server, "crate", "bob").await;
    for round in 0..3 {
        let mut ann = Client::join(&server, "crate", &format!("ann{round}")).await;
        let mut camera = ann.publish(TrackType::Video, TrackSource::Camera).await;
        let sid = ann.published[&camera.cid].sid.clone();
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        while bob
            .subscriber
            .received()
            .marks
            .get(&sid)
            .is_none_or(|marks| marks.len() < 20)
        {
            pace.tick().await;
            camera.send().await;
            ann.handle_pending().await;
            bob.handle_pending().await;
        }
        ann.leave().await;
        bob.run_until(|bob| !bob.offered.contains("a=sendonly"))
            .await;
    }
    let m_lines = bob.offered.matches("\nm=").count();
    assert_eq!(m_lines, 2, "one for data, one for video");
    bob.leave().await;
}
