//! Same seed, same meeting.

use std::time::Duration;

use moim_network::{LinkConfig, Loss};

use crate::meeting::{Audio, Meeting, Traced, Video};

fn trace(seed: u64) -> Vec<Traced> {
    let mut meeting = Meeting::new(seed);
    meeting.start_trace();
    let bad = LinkConfig {
        rate: Some(6_000_000),
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(10),
        loss: Loss::Random(0.03),
        reorder: 0.01,
        duplicate: 0.01,
        ..Default::default()
    };
    let speaks = Audio {
        red: false,
        speaking: true,
    };
    let mut clients = Vec::new();
    for _ in 0..3 {
        let (up, down) = (meeting.link(bad), meeting.link(bad));
        let client = meeting.join(&[up], &[down]);
        let tracks = [
            meeting.publish(client, Video::Simulcast),
            meeting.publish_audio(client, speaks),
        ];
        clients.push((client, tracks));
    }
    for &(client, _) in &clients {
        for &(other, tracks) in &clients {
            for track in tracks.into_iter().filter(|_| client != other) {
                meeting.subscribe(client, track);
            }
        }
    }
    meeting.run(Duration::from_secs(5));
    let (viewer, other) = (clients[0].0, clients[1].1[0]);
    assert!(meeting.shown(viewer, other).pictures > 50);
    assert_eq!(meeting.received(viewer, other).violations, 0);
    meeting.trace().to_vec()
}

#[test]
fn the_same_seed_gives_the_same_packets() {
    let (first, second) = (trace(1), trace(1));
    assert!(first.len() > 5_000, "{}", first.len());
    let differs = first.iter().zip(&second).position(|(a, b)| a != b);
    assert_eq!(
        differs,
        None,
        "the first of them: {:?}",
        differs.map(|at| first[at])
    );
    assert_eq!(first.len(), second.len());
    let other = trace(2);
    assert_ne!(first, other);
}
