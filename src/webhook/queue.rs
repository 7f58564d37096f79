//! What waits for one receiver: a queue a room, so that the events of a room arrive in order and
//! rooms do not wait for each other. A value without I/O and clock.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::config::{Retry, Waiting};

/// Events that wait for one receiver, of all rooms.
const MAX_EVENTS: usize = 20_000;
/// Their bytes. One event may have half a megabyte of a room's metadata and as much of a
/// participant's.
const MAX_BYTES: usize = 32 << 20;
/// Deliveries under way at once.
const MAX_UNDER_WAY: usize = 16;

/// Bounds of a queue.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) waiting: Waiting,
    pub(super) retry: Retry,
}

/// One event that is to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) room: Arc<str>,
    pub(super) body: Bytes,
}

/// The outcome of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The receiver has it, or does not want it: the next one's turn.
    Done,
    /// It may be taken later.
    Again,
}

#[derive(Debug)]
struct Waits {
    body: Bytes,
    since: Instant,
}

/// The events of a room. Its name is in [`Queue::ready`] or in [`Queue::later`], or its first
/// event is under way.
#[derive(Debug)]
struct RoomQueue {
    events: VecDeque<Waits>,
    /// Attempts to send the first one that have failed.
    attempts: u32,
}

/// The queue of one receiver.
#[derive(Debug)]
pub(super) struct Queue {
    bounds: Bounds,
    rooms: HashMap<Arc<str>, RoomQueue>,
    ready: VecDeque<Arc<str>>,
    /// Rooms whose first event is sent again at a time.
    later: BTreeMap<Instant, BTreeSet<Arc<str>>>,
    under_way: usize,
    len: usize,
    bytes: usize,
    dropped: u64,
}

impl Queue {
    pub(super) fn new(bounds: Bounds) -> Queue {
        Queue {
            bounds,
            rooms: HashMap::new(),
            ready: VecDeque::new(),
            later: BTreeMap::new(),
            under_way: 0,
            len: 0,
            bytes: 0,
            dropped: 0,
        }
    }

    /// Takes an event; false when there is no space for it, or its room has too many already.
    pub(super) fn push(&mut self, now: Instant, room: &str, body: Bytes) -> bool {
        let known = self.rooms.get(room).map_or(0, |room| room.events.len());
        if self.len >= MAX_EVENTS
            || self.bytes + body.len() > MAX_BYTES
            || known >= self.bounds.waiting.max_depth
        {
            self.dropped += 1;
            return false;
        }
        self.len += 1;
        self.bytes += body.len();
        let event = Waits { body, since: now };
        if let Some(queue) = self.rooms.get_mut(room) {
            queue.events.push_back(event);
            return true;
        }
        let room: Arc<str> = room.into();
        let queue = RoomQueue {
            events: VecDeque::from([event]),
            attempts: 0,
        };
        self.rooms.insert(room.clone(), queue);
        self.ready.push_back(room);
        true
    }

    /// What is to be sent next, now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Delivery> {
        while let Some(entry) = self.later.first_entry() {
            if *entry.key() > now {
                break;
            }
            self.ready.extend(entry.remove());
        }
        while self.under_way < MAX_UNDER_WAY {
            let room = self.ready.pop_front()?;
            self.drop_old(now, &room);
            let first = self.rooms.get(&room).and_then(|room| room.events.front());
            let Some(first) = first else {
                continue;
            };
            self.under_way += 1;
            let body = first.body.clone();
            return Some(Delivery { room, body });
        }
        None
    }

    /// When [`Queue::next`] may have something that it has not now.
    pub(super) fn timeout(&self) -> Option<Instant> {
        let first = self.later.first_key_value().map(|(at, _)| *at);
        first.filter(|_| self.under_way < MAX_UNDER_WAY)
    }

    /// A delivery has come to its end.
    pub(super) fn done(&mut self, now: Instant, room: &Arc<str>, outcome: Outcome) {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(queue) = self.rooms.get_mut(room) else {
            return;
        };
        match outcome {
            Outcome::Done => {
                queue.attempts = 0;
                self.remove_first(room);
                if self.rooms.contains_key(room) {
                    self.ready.push_back(room.clone());
                }
            }
            Outcome::Again => {
                let at = now + self.bounds.retry.after(queue.attempts);
                queue.attempts = queue.attempts.saturating_add(1);
                self.later.entry(at).or_default().insert(room.clone());
            }
        }
    }

    /// Events that are waiting or under way.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Events that were dropped, for lack of space or for their age.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Drops the events at the beginning of a room's queue that are too old.
    fn drop_old(&mut self, now: Instant, room: &Arc<str>) {
        let limit: Duration = self.bounds.waiting.max_age;
        while let Some(queue) = self.rooms.get_mut(room) {
            let is_old = |first: &Waits| now.saturating_duration_since(first.since) > limit;
            if !queue.events.front().is_some_and(is_old) {
                break;
            }
            queue.attempts = 0;
            self.dropped += 1;
            self.remove_first(room);
        }
    }

    fn remove_first(&mut self, room: &Arc<str>) {
        let Some(queue) = self.rooms.get_mut(room) else {
            return;
        };
        if let Some(first) = queue.events.pop_front() {
            self.len -= 1;
            self.bytes -= first.body.len();
        }
        if queue.events.is_empty() {
            self.rooms.remove(room);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn queue(max_depth: usize) -> Queue {
        Queue::new(Bounds {
            waiting: Waiting {
                max_depth,
                ..Default::default()
            },
            retry: Retry::default(),
        })
    }

    fn body(number: usize) -> Bytes {
        Bytes::from(number.to_string())
    }

    #[test]
    fn an_event_that_is_not_taken_holds_up_its_own_room_alone() {
        let (mut queue, now) = (queue(10), Instant::now());
        for (room, number) in [("a", 1), ("a", 2), ("b", 3)] {
            assert!(queue.push(now, room, body(number)));
        }
        let first = queue.next(now).unwrap();
        let other = queue.next(now).unwrap();
        assert_eq!((first.body.clone(), other.body.clone()), (body(1), body(3)));
        assert_eq!(queue.next(now), None);
        queue.done(now, &first.room, Outcome::Again);
        queue.done(now, &other.room, Outcome::Done);
        assert_eq!(queue.next(now), None);
        let later = now + Duration::from_secs(1);
        assert_eq!(queue.timeout(), Some(later));
        assert_eq!(queue.next(later), Some(first));
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn old_events_are_dropped_and_counted() {
        let (mut queue, now) = (queue(10), Instant::now());
        queue.push(now, "a", body(1));
        let later = now + Duration::from_secs(600);
        queue.push(later, "a", body(2));
        let delivery = queue.next(later + Duration::from_secs(600)).unwrap();
        assert_eq!((delivery.body, queue.dropped()), (body(2), 1));
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut queue, now) = (queue(10), Instant::now());
        let taken = (0..20).filter(|n| queue.push(now, "a", body(*n))).count();
        assert_eq!((taken, queue.dropped()), (10, 10));
        let large = Bytes::from(vec![0; 1 << 20]);
        let rooms = (0..100).map(|room| room.to_string());
        let taken = rooms.filter(|room| queue.push(now, room, large.clone()));
        assert_eq!(taken.count(), (MAX_BYTES >> 20) - 1);
        assert!(queue.bytes <= MAX_BYTES);
    }

    /// Whatever a receiver does, the events of each room are taken in order, each of them once,
    /// and nothing is left behind.
    #[test]
    fn each_room_is_told_in_order_whatever_the_receiver_does() {
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let (mut queue, mut now) = (queue(1_000), Instant::now());
            let mut under_way: Vec<Delivery> = Vec::new();
            let mut sent: HashMap<String, usize> = HashMap::new();
            let mut taken: HashMap<Arc<str>, usize> = HashMap::new();
            for step in 0.. {
                let ends = step > 500;
                if !ends && rng.random_bool(0.4) {
                    let room = rng.random_range(0..30).to_string();
                    let number = sent.entry(room.clone()).or_default();
                    assert!(queue.push(now, &room, body(*number)));
                    *number += 1;
                }
                now += Duration::from_millis(rng.random_range(0..200));
                under_way.extend(queue.next(now));
                assert!(under_way.len() <= MAX_UNDER_WAY, "seed {seed}");
                if !under_way.is_empty() && rng.random_bool(0.7) {
                    let index = rng.random_range(0..under_way.len());
                    let delivery = under_way.swap_remove(index);
                    if !ends && rng.random_bool(0.3) {
                        queue.done(now, &delivery.room, Outcome::Again);
                    } else {
                        let number = taken.entry(delivery.room.clone()).or_default();
                        assert_eq!(delivery.body, body(*number), "seed {seed}");
                        *number += 1;
                        queue.done(now, &delivery.room, Outcome::Done);
                    }
                }
                if ends && queue.len() == 0 {
                    break;
                }
            }
            let mut all: Vec<(String, usize)> = taken
                .into_iter()
                .map(|(room, count)| (room.to_string(), count))
                .collect();
            let mut expected: Vec<(String, usize)> = sent.into_iter().collect();
            all.sort();
            expected.sort();
            assert_eq!(all, expected, "seed {seed}");
            assert!(queue.rooms.is_empty() && queue.bytes == 0 && queue.later.is_empty());
        }
    }
}
