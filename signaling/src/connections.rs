//! How many WebSockets there may be, in all and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use crate::rate::{Rate, TokenBucket};
use crate::rooms::Refusal;

/// From this many addresses on those that are idle are forgotten.
const MIN_SWEEP: usize = 1_024;

/// The address of the client behind a request, as an extension of the request. A request
/// without one counts for no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

impl ClientAddress {
    /// What one subscriber of an Internet provider has: an IPv4 address, or an IPv6 network of
    /// 64 bits (RFC 6177), in which it can have any number of addresses.
    pub fn network(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
            address => address,
        }
    }
}

/// Bounds of a server's WebSockets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConnectionLimits {
    /// WebSockets in all.
    pub total: usize,
    /// WebSockets from one IPv4 address or one IPv6 network of 64 bits.
    pub per_address: usize,
    /// Joins from one of these.
    pub joins: Rate,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits {
            total: 10_000,
            per_address: 2_000,
            joins: Rate {
                per_second: 100.0,
                burst: 1_000.0,
            },
        }
    }
}

/// The WebSockets of a server. A copy counts the same ones.
#[derive(Debug, Clone)]
pub struct Connections {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug)]
struct Counts {
    limits: ConnectionLimits,
    total: usize,
    addresses: HashMap<IpAddr, AddressCounts>,
    sweep_at: usize,
}

#[derive(Debug)]
struct AddressCounts {
    open: usize,
    joins: TokenBucket,
}

/// One WebSocket that counts until it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    counts: Arc<Mutex<Counts>>,
    address: Option<IpAddr>,
}

impl Connections {
    /// None yet, and never more than this.
    pub fn new(limits: ConnectionLimits) -> Connections {
        let counts = Counts {
            limits,
            total: 0,
            addresses: HashMap::new(),
            sweep_at: MIN_SWEEP,
        };
        Connections {
            counts: Arc::new(Mutex::new(counts)),
        }
    }

    /// Sets other bounds. WebSockets that are above them stay. An address keeps its rate of
    /// joins until it has been idle.
    pub fn set_limits(&self, limits: ConnectionLimits) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.limits = limits;
    }

    /// Whether [`Connections::admit`] would count one more now, apart from the rate of joins.
    ///
    /// # Errors
    /// When there are too many, or too many from this address.
    pub(crate) fn check(&self, address: Option<ClientAddress>) -> Result<(), Refusal> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.check(address.map(ClientAddress::network))
    }

    /// Counts one more.
    ///
    /// # Errors
    /// When there are too many, or too many from this address, or they come too fast.
    pub(crate) fn admit(
        &self,
        address: Option<ClientAddress>,
        now: Instant,
    ) -> Result<ConnectionGuard, Refusal> {
        let address = address.map(ClientAddress::network);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.check(address)?;
        if let Some(address) = address {
            counts.admit_address(address, now)?;
        }
        counts.total += 1;
        Ok(ConnectionGuard {
            counts: self.counts.clone(),
            address,
        })
    }
}

impl Counts {
    fn check(&self, address: Option<IpAddr>) -> Result<(), Refusal> {
        let limits = &self.limits;
        if self.total >= limits.total {
            let text = format!(
                "all {} connections of the server are in use; try again later",
                self.total
            );
            return Err(Refusal::Unavailable(text));
        }
        let counts = address.and_then(|address| self.addresses.get(&address));
        match counts {
            Some(counts) if counts.open >= limits.per_address => {
                let text = format!(
                    "all {} connections that one address may have are in use",
                    counts.open
                );
                Err(Refusal::TooMany(text))
            }
            _ => Ok(()),
        }
    }

    fn admit_address(&mut self, address: IpAddr, now: Instant) -> Result<(), Refusal> {
        if self.addresses.len() >= self.sweep_at {
            let is_used =
                |counts: &mut AddressCounts| counts.open > 0 || !counts.joins.is_full(now);
            self.addresses.retain(|_, counts| is_used(counts));
            self.sweep_at = MIN_SWEEP.max(2 * self.addresses.len());
        }
        let counts = self
            .addresses
            .entry(address)
            .or_insert_with(|| AddressCounts {
                open: 0,
                joins: TokenBucket::new(self.limits.joins, now),
            });
        if !counts.joins.take(1.0, now) {
            let text = "too many joins from your address; try again in a moment";
            return Err(Refusal::TooMany(text.into()));
        }
        counts.open += 1;
        Ok(())
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total = counts.total.saturating_sub(1);
        let address = self
            .address
            .and_then(|address| counts.addresses.get_mut(&address));
        if let Some(address) = address {
            address.open = address.open.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LIMITS: ConnectionLimits = ConnectionLimits {
        total: 5,
        per_address: 3,
        joins: Rate {
            per_second: 1.0,
            burst: 6.0,
        },
    };

    fn address(text: &str) -> Option<ClientAddress> {
        Some(ClientAddress(text.parse().unwrap()))
    }

    fn status(outcome: Result<ConnectionGuard, Refusal>) -> u16 {
        outcome.map_or_else(|refusal| refusal.status(), |_| 200)
    }

    #[tokio::test(start_paused = true)]
    async fn each_address_and_the_server_have_their_bound() {
        let connections = Connections::new(LIMITS);
        let now = Instant::now();
        let admit = |text| connections.admit(address(text), now);
        let mut first: Vec<_> = (0..3).map(|_| admit("192.0.2.1").unwrap()).collect();
        assert_eq!(status(admit("192.0.2.1")), 429);
        let checked = |text| {
            connections
                .check(address(text))
                .map_err(|refusal| refusal.status())
        };
        assert_eq!(
            (checked("192.0.2.1"), checked("192.0.2.2")),
            (Err(429), Ok(()))
        );
        assert_eq!(status(admit("::ffff:192.0.2.1")), 429, "it is the same one");
        let _others = [admit("2001:db8::1").unwrap(), admit("2001:db8::2").unwrap()];
        assert_eq!(status(admit("192.0.2.9")), 503);
        assert_eq!(status(connections.admit(None, now)), 503);
        assert_eq!(checked("192.0.2.9"), Err(503));
        first.pop();
        assert_eq!(status(admit("192.0.2.1")), 200);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_joins_from_one_address_leaves_room_for_others() {
        let connections = Connections::new(LIMITS);
        let admit = |text: &str| status(connections.admit(address(text), Instant::now()));
        let admitted = (0..1_000).filter(|_| admit("192.0.2.1") == 200).count();
        assert_eq!(admitted, 6, "as many as come at once");
        assert_eq!(admit("192.0.2.1"), 429);
        assert_eq!(admit("192.0.2.2"), 200);
        // All of one network of 64 bits are one.
        let of = |n: usize| format!("2001:db8::{n:x}");
        assert_eq!((1..1_000).filter(|n| admit(&of(*n)) == 200).count(), 6);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!((0..10).filter(|_| admit("192.0.2.1") == 200).count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_that_went_are_forgotten() {
        let connections = Connections::new(LIMITS);
        for n in 0..100_000u32 {
            let address = ClientAddress(IpAddr::V4(n.into()));
            connections.admit(Some(address), Instant::now()).unwrap();
            if n % 1_000 == 0 {
                tokio::time::advance(Duration::from_secs(10)).await;
            }
        }
        let counts = connections.counts.lock().unwrap();
        assert!(counts.addresses.len() <= 2 * MIN_SWEEP && counts.total == 0);
    }
}
