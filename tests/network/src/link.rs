//! One direction of a link: the queue, the bottleneck and the way after it.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::config::LinkConfig;
use crate::loss::Losses;
use crate::queue::{Waiters, Waiting};

/// Carries payloads of type `T` from one end to the other.
///
/// Time must not run backwards between calls.
#[derive(Debug)]
pub struct Link<T> {
    config: LinkConfig,
    waiters: Waiters<T>,
    /// The one that is being sent, its bits that were still to send at `sending_since`.
    sending: Option<Waiting<T>>,
    bits_left: f64,
    sending_since: Option<Instant>,
    travelling: BinaryHeap<Travelling<T>>,
    /// Counts arrivals, so that equal times keep their order.
    order: u64,
    last_arrival: Option<Instant>,
    losses: Losses,
    random: Randomness,
    statistics: Statistics,
}

/// What a link did so far, in datagrams where nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Given to [`Link::send`].
    pub sent: u64,
    /// Dropped by the queue.
    pub dropped: u64,
    /// Lost after the bottleneck.
    pub lost: u64,
    /// Arrived, copies counted.
    pub delivered: u64,
    /// Bytes of those that arrived, copies counted.
    pub delivered_bytes: u64,
    /// Arrived late.
    pub reordered: u64,
    /// Copies that arrived besides.
    pub duplicated: u64,
}

/// One source of randomness an effect: what one of them draws does not change the others.
#[derive(Debug)]
struct Randomness {
    loss: SmallRng,
    jitter: SmallRng,
    reorder: SmallRng,
    duplicate: SmallRng,
}

impl Randomness {
    fn new(seed: u64) -> Randomness {
        let mut seeds = SmallRng::seed_from_u64(seed);
        let mut next = || SmallRng::seed_from_u64(seeds.random());
        Randomness {
            loss: next(),
            jitter: next(),
            reorder: next(),
            duplicate: next(),
        }
    }
}

/// A datagram after the bottleneck.
#[derive(Debug)]
struct Travelling<T> {
    arrives: Instant,
    order: u64,
    bytes: usize,
    payload: T,
}

impl<T: Clone> Link<T> {
    /// An empty link. The same `seed` and calls give the same fates.
    pub fn new(config: LinkConfig, seed: u64) -> Link<T> {
        Link {
            config,
            waiters: Waiters::new(),
            sending: None,
            bits_left: 0.0,
            sending_since: None,
            travelling: BinaryHeap::new(),
            order: 0,
            last_arrival: None,
            losses: Losses::default(),
            random: Randomness::new(seed),
            statistics: Statistics::default(),
        }
    }

    /// The link as it is now.
    pub fn config(&self) -> LinkConfig {
        self.config
    }

    /// Changes the link from now on. What waits, waits on, at the new rate; what travels after
    /// the bottleneck arrives as before.
    pub fn set_config(&mut self, now: Instant, config: LinkConfig) {
        self.advance(now);
        if let Some(since) = &mut self.sending_since {
            let sent = self.config.rate.unwrap_or(0) as f64 * (now - *since).as_secs_f64();
            self.bits_left = (self.bits_left - sent).max(0.0);
            *since = now;
        }
        self.config = config;
        self.advance(now);
    }

    /// Gives a datagram of `bytes` (with whatever headers shall count) to the link.
    pub fn send(&mut self, now: Instant, bytes: usize, payload: T) {
        self.advance(now);
        self.statistics.sent += 1;
        if self.config.rate.is_some() && self.wait_of(now, bytes) > self.config.queue.limit() {
            self.statistics.dropped += 1;
            return;
        }
        self.waiters.push(now, bytes, payload);
        self.advance(now);
    }

    /// The next datagram that has arrived by `now`.
    pub fn poll(&mut self, now: Instant) -> Option<T> {
        self.advance(now);
        if self.travelling.peek()?.arrives > now {
            return None;
        }
        let arrived = self.travelling.pop()?;
        self.statistics.delivered += 1;
        self.statistics.delivered_bytes += arrived.bytes as u64;
        Some(arrived.payload)
    }

    /// When to poll next: not after the next arrival, perhaps a little before it. Nothing when
    /// nothing is under way.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let sent = self.sending_done().map(|done| done + self.config.delay);
        let arrival = self.travelling.peek().map(|next| next.arrives);
        [sent, arrival].into_iter().flatten().min()
    }

    /// How long a datagram given now would wait before it is sent. At a rate of 0 it is
    /// [`Duration::MAX`] when anything waits.
    pub fn queueing_delay(&mut self, now: Instant) -> Duration {
        self.advance(now);
        self.wait_of(now, 0)
    }

    /// What the link did so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// How long it takes to send all that waits; with a first datagram of `bytes` among it when
    /// something is being sent already.
    fn wait_of(&self, now: Instant, bytes: usize) -> Duration {
        let (Some(rate), Some(since)) = (self.config.rate, self.sending_since) else {
            return Duration::ZERO;
        };
        let sent = rate as f64 * (now - since).as_secs_f64();
        let bits = (self.bits_left - sent).max(0.0) + (self.waiters.bytes + bytes) as f64 * 8.0;
        Duration::try_from_secs_f64(bits / rate as f64).unwrap_or(Duration::MAX)
    }

    fn sending_done(&self) -> Option<Instant> {
        let since = self.sending_since?;
        let takes = match self.config.rate {
            None => Duration::ZERO,
            Some(rate) => Duration::try_from_secs_f64(self.bits_left / rate as f64).ok()?,
        };
        since.checked_add(takes)
    }

    /// Sends what the bottleneck can send by `now`.
    fn advance(&mut self, now: Instant) {
        loop {
            let free_at = match &self.sending {
                None => now,
                Some(_) => match self.sending_done() {
                    Some(done) if done <= now => done,
                    _ => return,
                },
            };
            if let Some(sent) = self.sending.take() {
                self.travel(free_at, sent);
            }
            let (next, dropped) = self.waiters.pop(free_at, self.config.queue);
            self.statistics.dropped += dropped;
            self.sending_since = next.as_ref().map(|_| free_at);
            self.bits_left = next.as_ref().map_or(0.0, |next| next.bytes as f64 * 8.0);
            self.sending = next;
            if self.sending.is_none() {
                return;
            }
        }
    }

    /// The fate of a datagram after the bottleneck. Every effect draws its number for every
    /// datagram, so that a change of one effect leaves the others as they were.
    fn travel(&mut self, sent: Instant, datagram: Waiting<T>) {
        let lost = self.losses.lost(self.config.loss, &mut self.random.loss);
        let jitter = self.config.jitter.mul_f64(self.random.jitter.random());
        let late = self.random.reorder.random::<f64>() < self.config.reorder;
        let twice = self.random.duplicate.random::<f64>() < self.config.duplicate;
        if lost {
            self.statistics.lost += 1;
            return;
        }
        let in_order = (sent + self.config.delay + jitter).max(self.last_arrival.unwrap_or(sent));
        let arrives = if late {
            self.statistics.reordered += 1;
            in_order + LinkConfig::LATE
        } else {
            self.last_arrival = Some(in_order);
            in_order
        };
        if twice {
            self.statistics.duplicated += 1;
            self.arrive_at(arrives, datagram.bytes, datagram.payload.clone());
        }
        self.arrive_at(arrives, datagram.bytes, datagram.payload);
    }

    fn arrive_at(&mut self, arrives: Instant, bytes: usize, payload: T) {
        self.order += 1;
        self.travelling.push(Travelling {
            arrives,
            order: self.order,
            bytes,
            payload,
        });
    }
}

impl<T> Ord for Travelling<T> {
    /// The first arrival is the greatest: a binary heap gives that.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.arrives, other.order).cmp(&(self.arrives, self.order))
    }
}

impl<T> PartialOrd for Travelling<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Travelling<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Travelling<T> {}

#[cfg(test)]
mod tests;
