//! Clients made of the `webrtc` crate in a room that is spread over two running shards.

mod client;

use std::collections::BTreeSet;
use std::time::Duration;

use client::{Client, Server};
use moim_signaling::wire::{DataPacket, TrackSource, TrackType, data_packet};
use prost::Message as _;

/// Looks at something this often, at most.
const PACE: Duration = Duration::from_millis(20);
/// More polls than anything takes.
const PATIENCE: usize = 1_000;

#[tokio::test]
async fn media_and_messages_cross_and_the_rooms_end_frees_both_shards() {
    let server = Server::start_spread().await;
    let mut ann = Client::join(&server, "spread", "ann").await;
    let mut bob = Client::join(&server, "spread", "bob").await;
    let mut eve = Client::join(&server, "spread", "eve").await;
    let mut microphone = ann.publish(TrackType::Audio, TrackSource::Microphone).await;
    let mut camera = ann.publish(TrackType::Video, TrackSource::Camera).await;

    let mut pace = tokio::time::interval(PACE);
    let enough = |client: &Client| {
        let marks = client.subscriber.received().marks;
        marks.len() == 2 && marks.values().all(|marks| marks.len() >= 100)
    };
    for _ in 0..PATIENCE {
        pace.tick().await;
        microphone.send().await;
        camera.send().await;
        for client in [&mut ann, &mut bob, &mut eve] {
            client.handle_pending().await;
        }
        if enough(&bob) && enough(&eve) {
            break;
        }
    }
    for client in [&bob, &eve] {
        let received = client.subscriber.received();
        assert_eq!(received.marks.len(), 2, "both tracks arrive");
        for marks in received.marks.values() {
            assert!(marks.len() >= 100, "{} packets arrived", marks.len());
            // Probes for bandwidth may repeat some.
            let marks: BTreeSet<u32> = marks.iter().copied().collect();
            let span = marks
                .last()
                .zip(marks.first())
                .map(|(last, first)| last - first);
            assert_eq!(span, Some(marks.len() as u32 - 1), "some lack: {marks:?}");
        }
    }

    ann.send_data(b"hello", "chat").await;
    for client in [&mut bob, &mut eve] {
        client
            .run_until(|client| !client.subscriber.received().messages.is_empty())
            .await;
        let (_, bytes) = client.subscriber.received().messages.remove(0);
        let packet = DataPacket::decode(&bytes[..]).expect("a data packet");
        let Some(data_packet::Value::User(user)) = packet.value else {
            panic!("not a user packet: {packet:?}");
        };
        assert_eq!(&user.payload[..], b"hello");
    }

    for client in [ann, bob, eve] {
        client.leave().await;
    }
    let mut left = Vec::new();
    for _ in 0..PATIENCE {
        pace.tick().await;
        left = server.statistics();
        if left.iter().all(|shard| shard.transports == 0) {
            break;
        }
    }
    for shard in &left {
        let held = (shard.transports, shard.tracks, shard.subscriptions);
        assert_eq!(held, (0, 0, 0));
    }
    assert!(left[0].packets_relayed >= 200, "{left:?}");
    assert_eq!((left[0].packets_out, left[0].relays_dropped), (0, 0));
    assert!(left[1].packets_out >= 400, "{left:?}");
}
