//! How many connections there may be that are no WebSocket (yet).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use moim_signaling::ClientAddress;

/// Connections at a time. They are short: a request has its time, and a WebSocket is counted by
/// the signaling service from then on.
const MAX_CONNECTIONS: usize = 2_000;
/// Of these from one address, unless it is a proxy's: a client that opens connections and sends
/// nothing leaves room for others.
const MAX_PER_PEER: usize = 500;

/// The places.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_peer: HashMap<IpAddr, usize>,
}

/// One connection's place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    peer: IpAddr,
}

impl Places {
    /// Takes a place, when there is one for this peer.
    pub(super) fn take(&self, peer: IpAddr, is_proxy: bool) -> Option<Place> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= MAX_CONNECTIONS {
            return None;
        }
        let peer = ClientAddress(peer).network();
        let count = taken.by_peer.entry(peer).or_default();
        if *count >= MAX_PER_PEER && !is_proxy {
            return None;
        }
        *count += 1;
        taken.total += 1;
        Some(Place {
            places: self.clone(),
            peer,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total = taken.total.saturating_sub(1);
        if let Some(count) = taken.by_peer.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.by_peer.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_peer_leaves_room_for_others_and_nothing_is_left_behind() {
        let places = Places::default();
        let peer = |n: u8| IpAddr::from([192, 0, 2, n]);
        let take = |n, is_proxy| places.take(peer(n), is_proxy);
        let first: Vec<Place> = (0..3_000).filter_map(|_| take(1, false)).collect();
        assert_eq!(first.len(), MAX_PER_PEER);
        let proxied: Vec<Place> = (0..3_000).filter_map(|_| take(2, true)).collect();
        assert_eq!(proxied.len(), MAX_CONNECTIONS - MAX_PER_PEER);
        assert!(take(3, false).is_none());
        drop((first, proxied));
        assert!(take(3, false).is_some());
        let taken = places.0.lock().unwrap();
        assert!(taken.total == 0 && taken.by_peer.is_empty());
    }
}
