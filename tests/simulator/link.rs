//! What the way between a peer and the server does to a datagram.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// A way with loss and delay, the same in both directions.
///
/// What happens to a datagram is decided by the seed, the flow it belongs to and its place in
/// that flow. So the fate of media does not hang on how many bytes of randomness a handshake
/// took from somewhere else.
pub(crate) struct Link {
    loss: f64,
    delay: Duration,
    seed: u64,
    flows: HashMap<(SocketAddr, SocketAddr, u8), SmallRng>,
}

impl Link {
    /// Loses each datagram with probability `loss`, delays the rest by `delay`.
    pub(crate) fn new(loss: f64, delay: Duration) -> Link {
        Link {
            loss,
            delay,
            seed: 0,
            flows: HashMap::new(),
        }
    }

    pub(super) fn seeded(mut self, seed: u64) -> Link {
        self.seed = seed;
        self
    }

    /// How long a datagram takes; `None` when it is lost.
    pub(super) fn carry(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
    ) -> Option<Duration> {
        let class = class(datagram);
        let seed = self.seed
            ^ (u64::from(from.port()) << 48)
            ^ (u64::from(to.port()) << 32)
            ^ (last_octet(from) << 24)
            ^ (last_octet(to) << 16)
            ^ u64::from(class);
        let rng = self
            .flows
            .entry((from, to, class))
            .or_insert_with(|| SmallRng::seed_from_u64(seed));
        (rng.random::<f64>() >= self.loss).then_some(self.delay)
    }
}

fn last_octet(address: SocketAddr) -> u64 {
    match address {
        SocketAddr::V4(address) => u64::from(address.ip().octets()[3]),
        SocketAddr::V6(address) => u64::from(address.ip().octets()[15]),
    }
}

/// STUN, DTLS, RTP and RTCP apart; RTP by payload type.
fn class(datagram: &[u8]) -> u8 {
    match datagram {
        [128..=191, kind, ..] => *kind & 0x7f,
        [first, ..] => 128 | (first >> 4),
        [] => 255,
    }
}
