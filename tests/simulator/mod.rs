//! Whole meetings on a virtual clock: the engine alone on one side, complete WebRTC peers on
//! the other, and between them links that lose and delay by a seed.
//!
//! Nothing here sleeps, opens a socket or reads the time: a run takes as long as its
//! computation, and the same seed gives the same run.
// Each test file takes what it needs.
#![allow(dead_code, unused_imports)]

mod link;
mod peer;
mod report_order;
mod server;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub(crate) use link::{Accident, Link};
pub(crate) use peer::{Peer, Received};
pub(crate) use server::Server;

/// A datagram under way.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    arrives: Instant,
    /// Keeps datagrams with the same arrival in the order in which they were sent.
    order: u64,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Vec<u8>,
}

/// The network with everything that is on it.
pub(crate) struct Simulation {
    /// The present.
    pub(crate) now: Instant,
    /// The server under test.
    pub(crate) server: Server,
    /// The meeting's participants.
    pub(crate) peers: Vec<Peer>,
    link: Link,
    in_flight: BinaryHeap<Reverse<InFlight>>,
    order: u64,
}

impl Simulation {
    /// An empty meeting. The same `seed` and `link` give the same run.
    pub(crate) fn new(seed: u64, link: Link) -> Simulation {
        Simulation::on_shards(seed, link, false)
    }

    /// As [`Simulation::new`], with the publishers on one shard and the subscribers on another.
    pub(crate) fn spread(seed: u64, link: Link) -> Simulation {
        Simulation::on_shards(seed, link, true)
    }

    fn on_shards(seed: u64, link: Link, spread: bool) -> Simulation {
        let now = Instant::now();
        Simulation {
            now,
            server: Server::new(seed, now, spread),
            peers: Vec::new(),
            link: link.seeded(seed),
            in_flight: BinaryHeap::new(),
            order: 0,
        }
    }

    /// Adds a participant with microphone and camera and connects both of its connections.
    pub(crate) fn join(&mut self) {
        let index = self.peers.len();
        self.peers.push(Peer::new(self.now, index as u16));
        self.peers[index].negotiate(self.now, &mut self.server);
    }

    /// Adds a participant that sees and hears those who are there already.
    pub(crate) fn join_late(&mut self) {
        let index = self.peers.len();
        self.join();
        self.peers[index].subscribe(self.now, index, &mut self.server);
    }

    /// Everybody sees and hears everybody else.
    pub(crate) fn subscribe_all(&mut self) {
        for index in 0..self.peers.len() {
            self.peers[index].subscribe(self.now, index, &mut self.server);
        }
    }

    /// From now on what the clients' SDP says does not reach the engine.
    pub(crate) fn hold_sdp(&mut self) {
        self.server.late_sdp = Some(Vec::new());
    }

    /// What was held back arrives.
    pub(crate) fn release_sdp(&mut self) {
        for command in self.server.late_sdp.take().into_iter().flatten() {
            self.server.command(self.now, command);
        }
    }

    /// Lets the time pass, with media when `media` is set.
    pub(crate) fn run(&mut self, duration: Duration, media: bool) {
        let end = self.now + duration;
        while self.now < end {
            self.now = self.next_step(end, media);
            self.deliver();
            self.server.tick(self.now);
            for peer in &mut self.peers {
                peer.tick(self.now, media);
            }
            self.collect();
        }
    }

    /// Runs until `done`, at most for `limit`. True when it came to be.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Simulation) -> bool,
    ) -> bool {
        let end = self.now + limit;
        while self.now < end {
            if done(self) {
                return true;
            }
            self.run(Duration::from_millis(5), false);
        }
        done(self)
    }

    fn next_step(&self, end: Instant, media: bool) -> Instant {
        let arrival = self.in_flight.peek().map(|Reverse(next)| next.arrives);
        let peers = self.peers.iter().filter_map(|peer| peer.next(media));
        [arrival, self.server.poll_timeout()]
            .into_iter()
            .flatten()
            .chain(peers)
            .min()
            .unwrap_or(end)
            .clamp(
                self.now + Duration::from_micros(100),
                end.max(self.now + Duration::from_micros(100)),
            )
    }

    fn deliver(&mut self) {
        while self
            .in_flight
            .peek()
            .is_some_and(|Reverse(next)| next.arrives <= self.now)
        {
            let Some(Reverse(datagram)) = self.in_flight.pop() else {
                return;
            };
            if self.server.owns(datagram.to) {
                let InFlight {
                    from, to, bytes, ..
                } = datagram;
                self.server.receive(self.now, from, to, bytes);
            } else if let Some(peer) = self.peers.iter_mut().find(|peer| peer.owns(datagram.to)) {
                peer.receive(self.now, datagram.from, datagram.to, &datagram.bytes);
            }
        }
    }

    fn collect(&mut self) {
        let mut sent = self.server.drain(self.now);
        for peer in &mut self.peers {
            sent.extend(peer.drain());
        }
        for (from, to, bytes) in sent {
            for delay in self.link.carry(from, to, &bytes) {
                self.order += 1;
                self.in_flight.push(Reverse(InFlight {
                    arrives: self.now + delay,
                    order: self.order,
                    from,
                    to,
                    bytes: bytes.clone(),
                }));
            }
        }
    }
}
