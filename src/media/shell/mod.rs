//! The I/O around the engines: one thread a shard, with its own sockets.
//!
//! A shard reads datagrams in batches (recvmmsg and UDP_GRO where the kernel has them), gives
//! them, the rooms' orders and the time to its engine, and sends what comes out in segmented
//! runs (UDP_SEGMENT), many in a call (sendmmsg). It waits for nobody: what a socket or a room
//! does not take is dropped or kept within a bound. Subscribers' reports of their way are read
//! when media has just left. Rooms that span shards cross by bounded queues between the threads.

mod delivery;
mod link;
mod reports;
mod shard;
mod socket;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;

pub use shard::{ShardCounters, ShardStatistics};

use link::Link;
use reports::Reports;
use shard::{Shard, ShardParts, WAKE};
use socket::ShardSocket;

use super::handle::{ShardAddress, ShardHandle};
use moim_engine::transport::ServerCertificate;

/// What goes wrong when a shard is started.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// A socket cannot be had.
    #[error("cannot bind UDP {address} for media (rtc.udp_port): {source}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The operating system refuses something else.
    #[error("cannot start a media shard: {0}")]
    Start(#[from] std::io::Error),
}

/// How a shard is set up.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Number of the shard, from 0: its place among those that are started together.
    pub index: usize,
    /// Addresses to bind, all with the same port.
    pub bind: Vec<IpAddr>,
    /// UDP port; 0 takes a free one.
    pub port: u16,
    /// Addresses to announce instead of the bound ones.
    pub announce: Vec<IpAddr>,
}

/// A running shard.
pub struct RunningShard {
    /// For the rooms.
    pub handle: ShardHandle,
    /// Its counters.
    pub statistics: Arc<ShardStatistics>,
    thread: Option<JoinHandle<()>>,
    stop: Box<dyn Fn() + Send + Sync>,
}

impl RunningShard {
    /// Binds the sockets and starts the threads of all shards, which relay to each other.
    ///
    /// # Errors
    /// When a socket cannot be bound or a thread cannot be started.
    pub fn start_all(
        configs: &[ShardConfig],
        certificate: &Arc<ServerCertificate>,
    ) -> Result<Vec<RunningShard>, ShellError> {
        let prepared = configs
            .iter()
            .map(PreparedShard::new)
            .collect::<Result<Vec<_>, _>>()?;
        let wakers: Vec<_> = prepared.iter().map(|shard| shard.waker.clone()).collect();
        prepared
            .into_iter()
            .zip(link::links(&wakers))
            .map(|(shard, links)| shard.start(certificate.clone(), links))
            .collect()
    }

    /// As [`RunningShard::start_all`], for one that is alone.
    ///
    /// # Errors
    /// When a socket cannot be bound or the thread cannot be started.
    pub fn start(
        config: &ShardConfig,
        certificate: Arc<ServerCertificate>,
    ) -> Result<RunningShard, ShellError> {
        PreparedShard::new(config)?.start(certificate, Vec::new())
    }
}

/// A shard that has its sockets and not yet its thread.
struct PreparedShard {
    name: String,
    poll: mio::Poll,
    waker: Arc<mio::Waker>,
    sockets: Vec<ShardSocket>,
    reports: Reports,
    addresses: Vec<ShardAddress>,
}

impl PreparedShard {
    fn new(config: &ShardConfig) -> Result<PreparedShard, ShellError> {
        let poll = mio::Poll::new()?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKE)?);
        let mut sockets = Vec::new();
        let mut port = config.port;
        for ip in &config.bind {
            let address = SocketAddr::new(*ip, port);
            let socket = ShardSocket::bind(address)
                .map_err(|source| ShellError::Bind { address, source })?;
            socket.register(poll.registry(), mio::Token(sockets.len()))?;
            port = socket.local_addr()?.port();
            sockets.push(socket);
        }
        let announced = if config.announce.is_empty() {
            &config.bind
        } else {
            &config.announce
        };
        let reports = Reports::beside(&sockets, poll.registry().try_clone()?);
        let addresses = announced
            .iter()
            .flat_map(|ip| reachable(*ip))
            .map(|ip| ShardAddress {
                ip,
                port,
                tcp: false,
            })
            .collect();
        Ok(PreparedShard {
            name: format!("moim-shard-{}", config.index),
            poll,
            waker,
            sockets,
            reports,
            addresses,
        })
    }

    fn start(
        self,
        certificate: Arc<ServerCertificate>,
        links: Vec<Link>,
    ) -> Result<RunningShard, ShellError> {
        let (wake, stop_waker) = (self.waker.clone(), self.waker);
        let (handle, inbox) = ShardHandle::new(
            move || {
                // Fails only when the shard is gone, which the closed channel tells.
                let _ = wake.wake();
            },
            self.addresses,
        );
        let statistics = Arc::new(ShardStatistics::default());
        let shard = Shard::new(ShardParts {
            poll: self.poll,
            sockets: self.sockets,
            reports: self.reports,
            inbox,
            links,
            certificate,
            statistics: statistics.clone(),
            load: handle.load().clone(),
        });
        let thread = std::thread::Builder::new()
            .name(self.name)
            .spawn(move || shard.run())?;
        let stopping = statistics.clone();
        Ok(RunningShard {
            handle,
            statistics,
            thread: Some(thread),
            stop: Box::new(move || {
                stopping.stop();
                let _ = stop_waker.wake();
            }),
        })
    }
}

impl Drop for RunningShard {
    fn drop(&mut self) {
        (self.stop)();
        if let Some(thread) = self.thread.take() {
            // Its panics are caught and logged where they happen.
            let _ = thread.join();
        }
    }
}

/// The addresses behind a bound one: of a wildcard, those of the interfaces that a default
/// route would use.
fn reachable(ip: IpAddr) -> Vec<IpAddr> {
    if !ip.is_unspecified() {
        return vec![ip];
    }
    // Connecting a datagram socket sends nothing; it only asks the routing table. The targets
    // are addresses for documentation (RFC 5737, RFC 3849).
    let (bind, target) = match ip {
        IpAddr::V4(_) => ("0.0.0.0:0", "192.0.2.1:9"),
        IpAddr::V6(_) => ("[::]:0", "[2001:db8::1]:9"),
    };
    let by_route = std::net::UdpSocket::bind(bind)
        .and_then(|socket| socket.connect(target).and_then(|()| socket.local_addr()))
        .map(|address| address.ip());
    let loopback: IpAddr = match ip {
        IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    let mut found: Vec<IpAddr> = by_route.into_iter().collect();
    if !found.contains(&loopback) {
        found.push(loopback);
    }
    found
}

#[cfg(test)]
mod tests;
