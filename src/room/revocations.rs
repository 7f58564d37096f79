//! Tokens that are not taken any more: those of somebody who was removed from a room, made before
//! a time that the administrator named.

use std::collections::{HashMap, VecDeque};

/// People who are remembered, over all rooms; the oldest are forgotten first.
const CAPACITY: usize = 10_000;

/// Whose tokens for which room.
type Key = (String, String);

/// Revoked tokens.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    /// Tokens that became valid before this time, unix seconds, are revoked.
    before: HashMap<Key, u64>,
    /// The same keys, the oldest first.
    order: VecDeque<Key>,
}

impl Revocations {
    /// Revokes somebody's tokens for a room that became valid before a time. A later time stays.
    pub(super) fn revoke(&mut self, room: &str, identity: &str, before: u64) {
        let key = (room.to_owned(), identity.to_owned());
        if let Some(known) = self.before.get_mut(&key) {
            *known = before.max(*known);
            return;
        }
        self.before.insert(key.clone(), before);
        self.order.push_back(key);
        if self.order.len() > CAPACITY
            && let Some(oldest) = self.order.pop_front()
        {
            self.before.remove(&oldest);
        }
    }

    /// Whether a token is revoked. One that does not say since when it is valid is.
    pub(super) fn covers(&self, room: &str, identity: &str, valid_since: Option<u64>) -> bool {
        if self.before.is_empty() {
            return false;
        }
        let key = (room.to_owned(), identity.to_owned());
        let before = self.before.get(&key).copied();
        before.is_some_and(|before| valid_since.unwrap_or(0) < before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_earlier_tokens_of_that_person_for_that_room_are_revoked() {
        let mut revoked = Revocations::default();
        revoked.revoke("a", "x", 100);
        revoked.revoke("a", "x", 50);
        for (room, identity, since, expected) in [
            ("a", "x", Some(99), true),
            ("a", "x", None, true),
            ("a", "x", Some(100), false),
            ("a", "y", Some(1), false),
            ("b", "x", Some(1), false),
        ] {
            assert_eq!(revoked.covers(room, identity, since), expected);
        }
        for number in 0..CAPACITY {
            revoked.revoke("a", &number.to_string(), 1);
        }
        assert!(!revoked.covers("a", "x", None) && revoked.before.len() == CAPACITY);
    }
}
