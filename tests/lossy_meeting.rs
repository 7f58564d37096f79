//! A meeting of three on a lossy network, on the engine alone and a virtual clock.

mod simulator;

use std::time::Duration;

use moim_engine::codec::MediaKind;
use simulator::{Link, Received, Simulation};

/// Packets of a stream that are not counted.
const START: u32 = 60;

/// What one run of the meeting gave: for each peer, what it received under each SSRC.
fn meeting(seed: u64) -> (Simulation, Vec<Vec<(u32, Received)>>) {
    let mut simulation = Simulation::new(seed, Link::new(0.02, Duration::from_millis(40)));
    for _ in 0..3 {
        simulation.join();
    }
    simulation.subscribe_all();
    simulation.run(Duration::from_millis(1_500), false);
    simulation.run(Duration::from_secs(3), true);
    simulation.run(Duration::from_millis(800), false);
    let received = simulation
        .peers
        .iter()
        .map(|peer| peer.received.clone().into_iter().collect())
        .collect();
    (simulation, received)
}

#[test]
fn three_peers_see_and_hear_each_other_through_loss() {
    let (simulation, _) = meeting(1);
    for (index, peer) in simulation.peers.iter().enumerate() {
        assert_eq!(peer.expected.len(), 4, "two tracks of each of the others");
        for (ssrc, published) in &peer.expected {
            let received = peer
                .received
                .get(ssrc)
                .unwrap_or_else(|| panic!("peer {index} got nothing of {published:?}"));
            // How much the way carries is found out while the first frames pass.
            let sent = simulation.peers[published.peer].sent(published.kind);
            let received = received.marks.range(START..).count();
            let share = received as f64 / f64::from(sent - START);
            let least = match published.kind {
                MediaKind::Audio => 0.93,
                MediaKind::Video => 0.99,
            };
            assert!(
                share >= least,
                "peer {index} got {share:.3} of {published:?}: {received} of {sent}"
            );
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_meeting() {
    let (_, first) = meeting(7);
    let (_, second) = meeting(7);
    assert!(first == second, "two runs of one seed differ");
}
