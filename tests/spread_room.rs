//! A meeting whose publishers are on one shard and whose subscribers are on another, on the
//! engines alone and a virtual clock.

mod simulator;

use std::time::Duration;

use moim_engine::Command;
use moim_engine::codec::MediaKind;
use moim_engine::command::DataChannel;
use simulator::{Link, Simulation};

/// Three who see and hear each other, and are connected.
fn meeting(mut simulation: Simulation) -> Simulation {
    for _ in 0..3 {
        simulation.join();
    }
    simulation.subscribe_all();
    simulation.run(Duration::from_millis(1_500), false);
    simulation
}

/// As [`meeting`], spread over two shards.
fn spread_meeting(seed: u64) -> Simulation {
    let link = Link::new(0.0, Duration::from_millis(30));
    meeting(Simulation::spread(seed, link))
}

/// The least share that anybody received of any track of a kind.
fn worst_share(simulation: &Simulation, kind: MediaKind) -> f64 {
    let mut worst = f64::INFINITY;
    for peer in &simulation.peers {
        let of_kind = peer.expected.iter().filter(|(_, of)| of.kind == kind);
        for (ssrc, published) in of_kind {
            let received = peer.received.get(ssrc).map_or(0, |stream| stream.packets);
            let sent = simulation.peers[published.peer].sent(kind);
            worst = worst.min(received as f64 / f64::from(sent));
        }
    }
    worst
}

#[test]
fn everything_reaches_everybody_and_crosses_once() {
    let mut simulation = spread_meeting(1);
    simulation.run(Duration::from_secs(2), true);
    simulation.run(Duration::from_millis(500), false);
    assert_eq!(worst_share(&simulation, MediaKind::Audio), 1.0);
    assert_eq!(worst_share(&simulation, MediaKind::Video), 1.0);
    let home = simulation.server.engine.statistics();
    let far = simulation.server.far.as_ref().map(|far| far.statistics());
    let far = far.expect("a second shard");
    assert_eq!(home.packets_relayed, home.packets_in);
    assert_eq!((home.packets_out, far.packets_in), (0, 0));
    assert_eq!(far.packets_out, 2 * home.packets_in);
    assert_eq!(home.relays_dropped, 0);
}

#[test]
fn what_subscribers_lose_is_sent_again_by_their_own_shard() {
    let link = || Link::new(0.02, Duration::from_millis(30));
    let whole = meeting(Simulation::new(2, link()));
    let spread = meeting(Simulation::spread(2, link()));
    let [whole_share, share] = [whole, spread].map(|mut simulation| {
        simulation.run(Duration::from_secs(3), true);
        simulation.run(Duration::from_millis(800), false);
        if let Some(far) = &simulation.server.far {
            assert!(far.statistics().retransmissions > 50);
            assert_eq!(simulation.server.engine.statistics().retransmissions, 0);
        }
        worst_share(&simulation, MediaKind::Video)
    });
    assert!(
        share >= 0.98 && share > whole_share - 0.01,
        "{share:.3} of a camera arrived, {whole_share:.3} on one shard"
    );
}

#[test]
fn a_subscribers_wish_for_a_keyframe_goes_to_the_publisher() {
    let mut simulation = spread_meeting(3);
    simulation.run(Duration::from_millis(500), true);
    let requests = |simulation: &Simulation| {
        let home = simulation.server.engine.statistics();
        let far = simulation.server.far.as_ref().expect("a second shard");
        (
            home.keyframe_requests_out,
            far.statistics().keyframe_requests_out,
        )
    };
    // Those who are there from the start begin with the keyframes that arrive. Whoever comes
    // between two of them needs others.
    let (before, _) = requests(&simulation);
    for _ in 0..3 {
        simulation.run(Duration::from_millis(150), true);
        simulation.join_late();
    }
    simulation.run(Duration::from_secs(1), true);
    let (home, far) = requests(&simulation);
    assert!(home > before, "{home} requests, {before} before");
    assert_eq!(far, 0, "the far shard has no publisher to ask");
}

#[test]
fn a_muted_track_stops_and_goes_on_across_shards() {
    let mut simulation = spread_meeting(4);
    simulation.run(Duration::from_secs(1), true);
    let tracks: Vec<_> = simulation
        .server
        .published
        .iter()
        .map(|p| p.track)
        .collect();
    for (muted, expected) in [(true, false), (false, true)] {
        for &track in &tracks {
            let command = Command::SetTrackMuted { track, muted };
            simulation.server.command(simulation.now, command);
        }
        simulation.run(Duration::from_millis(100), true);
        let sent = |simulation: &Simulation| {
            let far = simulation.server.far.as_ref().expect("a second shard");
            far.statistics().packets_out
        };
        let before = sent(&simulation);
        simulation.run(Duration::from_secs(1), true);
        assert_eq!(sent(&simulation) > before, expected, "muted: {muted}");
    }
}

#[test]
fn nothing_crosses_that_nobody_watches_any_more() {
    let mut simulation = spread_meeting(5);
    simulation.run(Duration::from_millis(500), true);
    // The subscribers' connections go.
    for index in 0..simulation.peers.len() {
        let transport = simulation.peers[index].transports[1];
        let command = Command::RemoveTransport(transport);
        simulation.server.command(simulation.now, command);
    }
    simulation.run(Duration::from_millis(100), true);
    let relayed = simulation.server.engine.statistics().packets_relayed;
    simulation.run(Duration::from_secs(1), true);
    assert_eq!(
        simulation.server.engine.statistics().packets_relayed,
        relayed
    );
}

#[test]
fn messages_go_out_on_the_shard_of_their_receiver() {
    let mut simulation = spread_meeting(6);
    let transports = simulation.peers.iter().flat_map(|p| p.transports.clone());
    let command = Command::SendData {
        transports: transports.collect(),
        channel: DataChannel::Reliable,
        payload: vec![1; 100].into(),
        from: None,
    };
    simulation.server.command(simulation.now, command);
    let far = simulation.server.far.as_ref().expect("a second shard");
    assert_eq!(simulation.server.engine.statistics().messages_out, 3);
    assert_eq!(far.statistics().messages_out, 3);
}

#[test]
fn the_end_of_the_room_frees_everything_on_both() {
    let mut simulation = spread_meeting(7);
    simulation.run(Duration::from_secs(1), true);
    for index in 0..simulation.peers.len() {
        for transport in simulation.peers[index].transports.clone() {
            let command = Command::RemoveTransport(transport);
            simulation.server.command(simulation.now, command);
        }
    }
    simulation.run(Duration::from_millis(100), true);
    let far = simulation.server.far.as_ref().expect("a second shard");
    for statistics in [simulation.server.engine.statistics(), far.statistics()] {
        let left = (
            statistics.transports,
            statistics.tracks,
            statistics.subscriptions,
        );
        assert_eq!(left, (0, 0, 0));
    }
}
