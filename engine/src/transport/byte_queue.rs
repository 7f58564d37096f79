//! A queue that is bounded by the bytes of what waits in it.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};

use crate::api::command::DataChannel;

/// Bytes that an entry counts beyond its contents: about its own size and that of its
/// allocation. Without it a million empty messages would cost nothing.
const ENTRY: usize = 64;

/// What can wait in a [`ByteQueue`].
pub(crate) trait Contents {
    /// Bytes that are kept for it.
    fn contents_len(&self) -> usize;
}

impl Contents for Bytes {
    fn contents_len(&self) -> usize {
        self.len()
    }
}

impl Contents for BytesMut {
    fn contents_len(&self) -> usize {
        self.len()
    }
}

impl Contents for (SocketAddr, Bytes) {
    fn contents_len(&self) -> usize {
        self.1.len()
    }
}

impl Contents for (DataChannel, Bytes) {
    fn contents_len(&self) -> usize {
        self.1.len()
    }
}

/// First in, first out, up to a number of bytes.
pub(crate) struct ByteQueue<T> {
    entries: VecDeque<T>,
    bytes: usize,
    capacity: usize,
}

impl<T: Contents> ByteQueue<T> {
    /// An empty queue for `capacity` bytes.
    pub(crate) const fn new(capacity: usize) -> ByteQueue<T> {
        ByteQueue {
            entries: VecDeque::new(),
            bytes: 0,
            capacity,
        }
    }

    /// Puts an entry at the end. False, and it is dropped, when there is no space for it.
    pub(crate) fn push(&mut self, entry: T) -> bool {
        let size = size_of_entry(&entry);
        let fits = self.bytes + size <= self.capacity;
        if fits {
            self.bytes += size;
            self.entries.push_back(entry);
        }
        fits
    }

    /// Puts an entry at the end, and drops the oldest ones until there is space for it. How many
    /// were dropped; one that is larger than the queue is itself.
    pub(crate) fn push_over_oldest(&mut self, entry: T) -> u64 {
        let size = size_of_entry(&entry);
        if size > self.capacity {
            return 1;
        }
        let mut dropped = 0;
        while self.bytes + size > self.capacity && self.pop().is_some() {
            dropped += 1;
        }
        self.push(entry);
        dropped
    }

    /// Takes the oldest entry.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let entry = self.entries.pop_front()?;
        self.bytes -= size_of_entry(&entry);
        Some(entry)
    }

    /// The oldest entry.
    pub(crate) fn front(&self) -> Option<&T> {
        self.entries.front()
    }

    /// Bytes that count against the capacity.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Drops everything. How many entries there were.
    pub(crate) fn clear(&mut self) -> u64 {
        let dropped = self.entries.len() as u64;
        self.entries = VecDeque::new();
        self.bytes = 0;
        dropped
    }
}

fn size_of_entry(entry: &impl Contents) -> usize {
    entry.contents_len() + ENTRY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(first: u8, len: usize) -> Bytes {
        let mut bytes = vec![0; len];
        bytes[0] = first;
        bytes.into()
    }

    #[test]
    fn empty_entries_have_a_bound_too() {
        let mut queue = ByteQueue::new(1_000);
        let pushed = (0..10_000).filter(|_| queue.push(Bytes::new())).count();
        assert_eq!(pushed, 1_000 / ENTRY);
        assert_eq!(queue.clear(), pushed as u64);
        assert_eq!(queue.bytes(), 0);
    }

    #[test]
    fn what_does_not_fit_is_refused_and_the_rest_keeps_its_order() {
        let mut queue = ByteQueue::new(3 * (100 + ENTRY));
        let taken: Vec<bool> = (1..=5).map(|n| queue.push(message(n, 100))).collect();
        assert_eq!(taken, [true, true, true, false, false]);
        let order: Vec<u8> = std::iter::from_fn(|| Some(queue.pop()?[0])).collect();
        assert_eq!(order, [1, 2, 3]);
        assert!(queue.push(message(9, 100)));
    }

    #[test]
    fn the_oldest_make_space() {
        let mut queue = ByteQueue::new(2 * (100 + ENTRY));
        let dropped: Vec<u64> = (1..=4)
            .map(|n| queue.push_over_oldest(message(n, 100)))
            .collect();
        assert_eq!(dropped, [0, 0, 1, 1]);
        assert_eq!(queue.push_over_oldest(message(9, 10_000)), 1);
        let order: Vec<u8> = std::iter::from_fn(|| Some(queue.pop()?[0])).collect();
        assert_eq!(order, [3, 4]);
    }
}
