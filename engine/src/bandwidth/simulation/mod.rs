//! The estimator in a closed loop: senders of video-like frames and a bottleneck with a queue, in
//! virtual time, with feedback as it comes over the wire. Networks and targets are those of
//! RFC 8867 and stricter ones of our own. `cargo test bandwidth::simulation -- --nocapture` prints
//! a table.

mod bottleneck;
mod peer;
mod targets;
mod tcp;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::units::Micros;
use crate::test_clock;
use bottleneck::{Bottleneck, Passing, Queue};
use peer::Peer;
use tcp::Tcp;

/// Virtual time goes on in steps of this.
const STEP: Micros = 1_000;

/// A network and who uses it.
#[derive(Clone)]
struct Scenario {
    /// Bits per second from each time in seconds on.
    capacity: Vec<(f64, f64)>,
    queue: Queue,
    /// Both ways together, in ms.
    rtt: f64,
    /// Which becomes another at a time in seconds.
    rtt_change: Option<(f64, f64)>,
    /// Most that a packet is delayed at random, in ms; order is kept.
    jitter: f64,
    loss: f64,
    feedback_loss: f64,
    /// Time without any feedback, in seconds.
    feedback_gap: (f64, f64),
    /// Between feedback packets, in ms.
    feedback_interval: f64,
    /// Start of each subscriber's media, in seconds.
    starts: Vec<f64>,
    /// Most that the media of a subscriber takes, in bits per second, from each time on.
    media: Vec<(f64, f64)>,
    /// What it would take if it could.
    wanted: f64,
    tcp: Option<f64>,
    seconds: f64,
    seed: u64,
}

impl Default for Scenario {
    fn default() -> Self {
        Scenario {
            capacity: vec![(0.0, 1e6)],
            queue: Queue::DropTail(0.25),
            rtt: 50.0,
            rtt_change: None,
            jitter: 0.0,
            loss: 0.0,
            feedback_loss: 0.0,
            feedback_gap: (0.0, 0.0),
            feedback_interval: 100.0,
            starts: vec![0.0],
            media: vec![(0.0, f64::INFINITY)],
            wanted: 8e6,
            tcp: None,
            seconds: 60.0,
            seed: 1,
        }
    }
}

/// A packet that came through.
#[derive(Debug, Clone, Copy)]
struct Delivered {
    flow: usize,
    at: Micros,
    bytes: u32,
    queueing: Micros,
}

/// What happened.
struct Outcome {
    delivered: Vec<Delivered>,
    /// Every 50 ms, of the first subscriber.
    estimates: Vec<(f64, f64)>,
}

/// The flow of the competing TCP.
const TCP: usize = usize::MAX;

fn at(schedule: &[(f64, f64)], time: Micros) -> f64 {
    let seconds = time as f64 / 1e6;
    let mut now = schedule[0].1;
    for (from, value) in schedule {
        if *from <= seconds {
            now = *value;
        }
    }
    now
}

fn run(scenario: &Scenario) -> Outcome {
    let mut rng = SmallRng::seed_from_u64(scenario.seed);
    let start = test_clock::start();
    let feedback_interval = (scenario.feedback_interval * 1e3) as Micros;
    let peer = |from: &f64| {
        let starts = (from * 1e6) as Micros;
        Peer::new(start, starts, scenario.wanted, feedback_interval)
    };
    let mut peers: Vec<Peer> = scenario.starts.iter().map(peer).collect();
    let mut tcp = scenario.tcp.map(|from| Tcp::new((from * 1e6) as Micros));
    let mut link = Bottleneck::new(scenario.queue);
    let mut outcome = Outcome {
        delivered: Vec::new(),
        estimates: Vec::new(),
    };
    let mut passed: Vec<Passing> = Vec::new();
    let mut last_arrival = 0;
    let mut now = 0;
    while now < (scenario.seconds * 1e6) as Micros {
        now += STEP;
        let rtt = match scenario.rtt_change {
            Some((from, rtt)) if now as f64 >= from * 1e6 => rtt,
            _ => scenario.rtt,
        };
        let way = (rtt * 500.0) as Micros;
        for (flow, peer) in peers.iter_mut().enumerate() {
            peer.step(
                now,
                at(&scenario.media, now),
                &mut rng,
                |sequence, bytes| {
                    link.offer(Passing::new(flow, u64::from(sequence), bytes, now));
                },
            );
        }
        if let Some(tcp) = &mut tcp {
            let rtt = 2 * way + link.wait();
            tcp.step(now, rtt, |number, bytes| {
                let accepted = link.offer(Passing::new(TCP, number, bytes, now));
                if !accepted {
                    passed.push(Passing::new(TCP, number, 0, now));
                }
            });
        }
        link.serve(now, at(&scenario.capacity, now), &mut passed);
        for packet in passed.drain(..) {
            if packet.flow == TCP
                && let Some(tcp) = &mut tcp
            {
                tcp.answer(packet.left + 2 * way, packet.number, packet.bytes > 0);
            }
            if packet.bytes == 0 || rng.random_bool(scenario.loss) {
                continue;
            }
            let jitter = (rng.random::<f64>() * scenario.jitter * 1e3) as Micros;
            last_arrival = (packet.left + way + jitter).max(last_arrival);
            outcome.delivered.push(Delivered {
                flow: packet.flow,
                at: last_arrival,
                bytes: packet.bytes,
                queueing: packet.queueing,
            });
            if let Some(peer) = peers.get_mut(packet.flow) {
                peer.arrive(last_arrival, packet.number as u16);
            }
        }
        let (from, to) = scenario.feedback_gap;
        let silent = (from..to).contains(&(now as f64 / 1e6));
        for peer in &mut peers {
            let lost = silent || rng.random_bool(scenario.feedback_loss);
            peer.feedback(now, way, lost);
        }
        if now % 50_000 == 0 {
            let estimate = peers[0].estimate();
            outcome.estimates.push((now as f64 / 1e6, estimate));
        }
    }
    outcome
}

impl Outcome {
    /// Bits per second that a flow got between two times in seconds.
    fn rate(&self, flow: usize, from: f64, to: f64) -> f64 {
        let bytes: u64 = self
            .between(flow, from, to)
            .map(|packet| u64::from(packet.bytes))
            .sum();
        bytes as f64 * 8.0 / (to - from)
    }

    fn between(&self, flow: usize, from: f64, to: f64) -> impl Iterator<Item = &Delivered> {
        let window = (from * 1e6) as Micros..(to * 1e6) as Micros;
        self.delivered
            .iter()
            .filter(move |packet| packet.flow == flow && window.contains(&packet.at))
    }

    /// The waiting time in ms that `share` of the packets do not exceed.
    fn queueing(&self, share: f64, from: f64, to: f64) -> f64 {
        let mut waits: Vec<Micros> = self
            .between(0, from, to)
            .map(|packet| packet.queueing)
            .collect();
        waits.sort_unstable();
        let index = ((waits.len() as f64 * share) as usize).min(waits.len().saturating_sub(1));
        waits.get(index).copied().unwrap_or(0) as f64 / 1e3
    }

    /// When the estimate was first at least `rate` after a time.
    fn reached(&self, rate: f64, after: f64) -> f64 {
        self.estimates
            .iter()
            .find(|(time, estimate)| *time >= after && *estimate >= rate)
            .map_or(f64::INFINITY, |(time, _)| time - after)
    }

    /// Mean estimate between two times.
    fn mean_estimate(&self, from: f64, to: f64) -> f64 {
        let values: Vec<f64> = self
            .estimates
            .iter()
            .filter(|(time, _)| (from..to).contains(time))
            .map(|(_, estimate)| *estimate)
            .collect();
        values.iter().sum::<f64>() / values.len() as f64
    }
}
