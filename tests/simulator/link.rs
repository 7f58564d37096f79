//! What the way between a peer and the server does to a datagram.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// How much later a late datagram comes than the ones sent after it.
const LATE: Duration = Duration::from_millis(30);

/// Something that happens to chosen datagrams.
pub(crate) enum Accident {
    /// The DTLS datagram with this number, from 0, both ways counted, is lost.
    DtlsLost(u32),
    /// It comes after the ones that were sent behind it.
    DtlsLate(u32),
    /// Every datagram comes three times: STUN, DTLS with SCTP inside, RTP, RTCP.
    Repeated,
}

/// A way with loss and delay, the same in both directions.
///
/// What happens to a datagram is decided by the seed, the flow it belongs to and its place in
/// that flow. So the fate of media does not hang on how many bytes of randomness a handshake
/// took from somewhere else.
pub(crate) struct Link {
    loss: f64,
    delay: Duration,
    accident: Option<Accident>,
    seed: u64,
    flows: HashMap<(SocketAddr, SocketAddr, u8), SmallRng>,
}

impl Link {
    /// Loses each datagram with probability `loss`, delays the rest by `delay`.
    pub(crate) fn new(loss: f64, delay: Duration) -> Link {
        Link {
            loss,
            delay,
            accident: None,
            seed: 0,
            flows: HashMap::new(),
        }
    }

    /// With one accident besides.
    pub(crate) fn with(mut self, accident: Accident) -> Link {
        self.accident = Some(accident);
        self
    }

    pub(super) fn seeded(mut self, seed: u64) -> Link {
        self.seed = seed;
        self
    }

    /// How long a datagram takes, and each copy of it; nothing when it is lost.
    pub(super) fn carry(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        datagram: &[u8],
    ) -> Vec<Duration> {
        let class = class(datagram);
        match &mut self.accident {
            Some(Accident::DtlsLost(left)) if is_dtls(datagram) => {
                let happens = *left == 0;
                *left = left.wrapping_sub(1);
                if happens {
                    return Vec::new();
                }
            }
            Some(Accident::DtlsLate(left)) if is_dtls(datagram) => {
                let happens = *left == 0;
                *left = left.wrapping_sub(1);
                if happens {
                    return vec![self.delay + LATE];
                }
            }
            Some(Accident::Repeated) => {
                return vec![self.delay, self.delay, self.delay + LATE];
            }
            _ => {}
        }
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
        let arrives = rng.random::<f64>() >= self.loss;
        arrives.then_some(self.delay).into_iter().collect()
    }
}

fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram, [20..=63, ..])
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
