//! Which messages of the server API were sent before: a caller whose connection broke sends its
//! message again, and says by a nonce that it is the same one.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;

/// Nonces that are remembered. LiveKit's server remembers as many.
const CAPACITY: usize = 100;
/// Bytes of a nonce, which is a UUID.
const LEN: usize = 16;

/// The last nonces.
#[derive(Debug, Default)]
pub(super) struct Nonces {
    known: HashSet<[u8; LEN]>,
    /// The same ones, oldest first.
    order: VecDeque<[u8; LEN]>,
}

impl Nonces {
    /// Whether a message with this nonce was not seen before. One that is no UUID says nothing.
    pub(super) fn is_new(&mut self, nonce: &Bytes) -> bool {
        let Ok(nonce) = <[u8; LEN]>::try_from(nonce.as_ref()) else {
            return true;
        };
        if !self.known.insert(nonce) {
            return false;
        }
        self.order.push_back(nonce);
        if self.order.len() > CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nonce(number: u128) -> Bytes {
        Bytes::copy_from_slice(&number.to_be_bytes())
    }

    #[test]
    fn a_nonce_counts_once_and_the_oldest_is_forgotten() {
        let mut nonces = Nonces::default();
        assert!(nonces.is_new(&nonce(0)) && !nonces.is_new(&nonce(0)));
        for number in 1..=CAPACITY as u128 {
            assert!(nonces.is_new(&nonce(number)));
        }
        assert!(nonces.is_new(&nonce(0)));
        assert_eq!(
            (nonces.known.len(), nonces.order.len()),
            (CAPACITY, CAPACITY)
        );
    }

    #[test]
    fn what_is_no_uuid_counts_each_time() {
        let mut nonces = Nonces::default();
        for nonce in [&b""[..], b"", b"short", b"short", &[0; 17], &[0; 17]] {
            assert!(nonces.is_new(&Bytes::copy_from_slice(nonce)));
        }
    }
}
