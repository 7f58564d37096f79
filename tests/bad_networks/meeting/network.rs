//! The network between the clients and the server: links in a row, shared or not, and what
//! happened on each.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use moim_network::{Link, LinkConfig, Statistics};

/// Headers of UDP and IPv4, bytes, which links count.
pub(super) const OVERHEAD: usize = 28;

/// One direction of one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkId(usize);

/// The links from one end to the other.
pub(crate) type Route = Rc<[LinkId]>;

/// What travels.
#[derive(Debug, Clone)]
pub(super) enum Body {
    Udp {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Rc<[u8]>,
    },
    /// A segment of a TCP flow, or an acknowledgement of it.
    Tcp {
        flow: usize,
        segment: u64,
        acknowledges: bool,
    },
}

#[derive(Debug, Clone)]
struct Datagram {
    route: Route,
    hop: usize,
    size: usize,
    body: Body,
}

/// What happened on a link.
#[derive(Debug, Default, Clone)]
pub(crate) struct LinkLog {
    /// When a datagram came, since the meeting began, and how long the queue made it wait.
    pub(crate) queueing: Vec<(Duration, Duration)>,
    /// Bytes that it carried, in tenths of a second.
    pub(crate) bytes: Vec<u64>,
    /// Since when it has which capacity, bits a second.
    pub(crate) capacity: Vec<(Duration, Option<u64>)>,
}

impl LinkLog {
    /// Bits a second carried from `from` to `to`.
    pub(crate) fn rate(&self, from: Duration, to: Duration) -> f64 {
        super::reception::rate(&self.bytes, from, to)
    }

    /// The wait below which this share of the datagrams from `from` to `to` stayed.
    pub(crate) fn queueing_quantile(&self, share: f64, from: Duration, to: Duration) -> Duration {
        let within = self
            .queueing
            .iter()
            .filter(|(at, _)| *at >= from && *at < to);
        let mut waits: Vec<Duration> = within.map(|(_, wait)| *wait).collect();
        waits.sort();
        let index = (waits.len() as f64 * share) as usize;
        waits
            .get(index.min(waits.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }
}

#[derive(Debug)]
struct Hop {
    link: Link<Datagram>,
    due: Option<Instant>,
    log: LinkLog,
}

/// All links, and what has arrived.
#[derive(Debug)]
pub(super) struct Network {
    epoch: Instant,
    seed: u64,
    hops: Vec<Hop>,
    arrived: VecDeque<Body>,
}

impl Network {
    pub(super) fn new(epoch: Instant, seed: u64) -> Network {
        Network {
            epoch,
            seed,
            hops: Vec::new(),
            arrived: VecDeque::new(),
        }
    }

    pub(super) fn add_link(&mut self, now: Instant, config: LinkConfig) -> LinkId {
        let seed = self.seed ^ ((self.hops.len() as u64 + 1) << 40);
        let mut log = LinkLog::default();
        log.capacity
            .push((now.duration_since(self.epoch), config.rate));
        self.hops.push(Hop {
            link: Link::new(config, seed),
            due: None,
            log,
        });
        LinkId(self.hops.len() - 1)
    }

    pub(super) fn set_link(&mut self, now: Instant, link: LinkId, config: LinkConfig) {
        let hop = &mut self.hops[link.0];
        hop.link.set_config(now, config);
        hop.due = hop.link.poll_timeout();
        let at = now.duration_since(self.epoch);
        hop.log.capacity.push((at, config.rate));
    }

    pub(super) fn link_config(&self, link: LinkId) -> LinkConfig {
        self.hops[link.0].link.config()
    }

    pub(super) fn log(&self, link: LinkId) -> &LinkLog {
        &self.hops[link.0].log
    }

    pub(super) fn statistics(&self, link: LinkId) -> Statistics {
        self.hops[link.0].link.statistics()
    }

    pub(super) fn send_udp(
        &mut self,
        now: Instant,
        route: &Route,
        from: SocketAddr,
        to: SocketAddr,
        bytes: &[u8],
    ) {
        let body = Body::Udp {
            from,
            to,
            bytes: bytes.into(),
        };
        self.send(now, route, bytes.len() + OVERHEAD, body);
    }

    /// Sends `size` bytes, all headers counted.
    pub(super) fn send(&mut self, now: Instant, route: &Route, size: usize, body: Body) {
        let datagram = Datagram {
            route: route.clone(),
            hop: 0,
            size,
            body,
        };
        self.forward(now, datagram);
    }

    fn forward(&mut self, now: Instant, datagram: Datagram) {
        let Some(link) = datagram.route.get(datagram.hop) else {
            self.arrived.push_back(datagram.body);
            return;
        };
        let hop = &mut self.hops[link.0];
        if hop.link.config().rate.is_some() {
            let wait = hop.link.queueing_delay(now);
            hop.log
                .queueing
                .push((now.duration_since(self.epoch), wait));
        }
        hop.link.send(now, datagram.size, datagram);
        hop.due = hop.link.poll_timeout();
    }

    /// Moves on what has come to the end of a link by `now`.
    pub(super) fn advance(&mut self, now: Instant) {
        loop {
            let due = |hop: &Hop| hop.due.is_some_and(|due| due <= now);
            let Some(index) = self.hops.iter().position(due) else {
                return;
            };
            let hop = &mut self.hops[index];
            let Some(mut datagram) = hop.link.poll(now) else {
                // Woken before the arrival, which a time after `now` will tell.
                let next = hop.link.poll_timeout();
                hop.due = next.map(|next| next.max(now + Duration::from_nanos(1)));
                continue;
            };
            hop.due = hop.link.poll_timeout();
            let tenth = (now.duration_since(self.epoch).as_millis() / 100) as usize;
            if hop.log.bytes.len() <= tenth {
                hop.log.bytes.resize(tenth + 1, 0);
            }
            hop.log.bytes[tenth] += datagram.size as u64;
            datagram.hop += 1;
            self.forward(now, datagram);
        }
    }

    pub(super) fn poll_arrived(&mut self) -> Option<Body> {
        self.arrived.pop_front()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.hops.iter().filter_map(|hop| hop.due).min()
    }
}
