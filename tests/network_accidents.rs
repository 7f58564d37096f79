//! Single accidents on the way, each at every place where it can happen.

mod simulator;

use std::time::Duration;

use moim_engine::Event;
use moim_engine::codec::MediaKind;
use simulator::{Accident, Link, Simulation};

const DELAY: Duration = Duration::from_millis(10);
/// More DTLS datagrams than two handshakes take.
const DATAGRAMS: u32 = 24;

fn connected(simulation: &Simulation) -> usize {
    let connected = |event: &&Event| matches!(event, Event::TransportConnected(_));
    simulation.server.events.iter().filter(connected).count()
}

/// One participant connects both of its connections.
fn connects_within(limit: Duration, accident: Accident) -> bool {
    let mut simulation = Simulation::new(3, Link::new(0.0, DELAY).with(accident));
    simulation.join();
    simulation.subscribe_all();
    simulation.run_until(limit, |simulation| connected(simulation) == 2)
}

#[test]
fn any_lost_datagram_of_a_handshake_is_sent_again() {
    for number in 0..DATAGRAMS {
        // The client's first retransmission comes after a second.
        let limit = Duration::from_secs(3);
        assert!(
            connects_within(limit, Accident::DtlsLost(number)),
            "with DTLS datagram {number} lost"
        );
    }
}

#[test]
fn any_late_datagram_of_a_handshake_is_taken_where_it_belongs() {
    for number in 0..DATAGRAMS {
        let limit = Duration::from_secs(3);
        assert!(
            connects_within(limit, Accident::DtlsLate(number)),
            "with DTLS datagram {number} late"
        );
    }
}

#[test]
fn a_handshake_that_overtakes_its_sdp_waits_for_it() {
    let mut simulation = Simulation::new(4, Link::new(0.0, DELAY));
    simulation.hold_sdp();
    simulation.join();
    simulation.subscribe_all();
    simulation.run(Duration::from_millis(600), false);
    assert_eq!(connected(&simulation), 0);
    simulation.release_sdp();
    // Sooner than the client would repeat its ClientHello.
    let soon = Duration::from_millis(200);
    assert!(simulation.run_until(soon, |simulation| connected(simulation) == 2));
}

#[test]
fn replayed_datagrams_change_nothing() {
    let link = Link::new(0.0, DELAY).with(Accident::Repeated);
    let mut simulation = Simulation::new(5, link);
    simulation.join();
    simulation.join();
    simulation.subscribe_all();
    assert!(simulation.run_until(Duration::from_secs(4), |s| connected(s) == 4));
    // The clients' side of it is done when the server's last flight has arrived.
    simulation.run(Duration::from_millis(100), false);
    simulation.run(Duration::from_secs(2), true);
    simulation.run(Duration::from_millis(500), false);
    let sent: u32 = simulation
        .peers
        .iter()
        .map(|peer| peer.sent(MediaKind::Audio) + peer.sent(MediaKind::Video))
        .sum();
    let statistics = simulation.server.engine.statistics();
    assert_eq!(statistics.packets_in, u64::from(sent));
    assert_eq!(statistics.packets_out, u64::from(sent));
}
