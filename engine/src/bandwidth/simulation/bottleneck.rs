//! A link of a given rate with a queue before it.

use std::collections::VecDeque;

use crate::bandwidth::units::Micros;

/// How the queue drops.
#[derive(Debug, Clone, Copy)]
pub(super) enum Queue {
    /// What does not fit into a queue of this length, as the seconds that the link takes to send it.
    DropTail(f64),
    /// At the head, when packets wait too long (RFC 8289).
    CoDel,
}

/// A packet on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passing {
    pub(super) flow: usize,
    pub(super) number: u64,
    /// 0 once dropped.
    pub(super) bytes: u32,
    entered: Micros,
    /// When it was out, and for how long it had waited.
    pub(super) left: Micros,
    pub(super) queueing: Micros,
}

impl Passing {
    pub(super) fn new(flow: usize, number: u64, bytes: u32, entered: Micros) -> Self {
        Passing {
            flow,
            number,
            bytes,
            entered,
            left: entered,
            queueing: 0,
        }
    }
}

#[derive(Debug, Default)]
struct CoDel {
    first_above: Option<Micros>,
    dropping: bool,
    next_drop: Micros,
    count: u32,
}

const TARGET: Micros = 5_000;
const INTERVAL: Micros = 100_000;

/// The link.
pub(super) struct Bottleneck {
    queue: Queue,
    waiting: VecDeque<Passing>,
    waiting_bytes: u32,
    free: f64,
    rate: f64,
    codel: CoDel,
}

impl Bottleneck {
    pub(super) fn new(queue: Queue) -> Self {
        Bottleneck {
            queue,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            free: 0.0,
            rate: 1e6,
            codel: CoDel::default(),
        }
    }

    /// A packet comes; false when it is dropped.
    pub(super) fn offer(&mut self, packet: Passing) -> bool {
        if let Queue::DropTail(seconds) = self.queue {
            // No queue is so short that a packet or two fill it.
            let room = (self.rate / 8.0 * seconds).max(4_000.0);
            if f64::from(self.waiting_bytes + packet.bytes) > room {
                return false;
            }
        }
        self.waiting_bytes += packet.bytes;
        self.waiting.push_back(packet);
        true
    }

    /// How long what waits will take.
    pub(super) fn wait(&self) -> Micros {
        (f64::from(self.waiting_bytes) * 8e6 / self.rate) as Micros
    }

    /// Sends what can leave until `now`.
    pub(super) fn serve(&mut self, now: Micros, rate: f64, out: &mut Vec<Passing>) {
        self.rate = rate;
        while let Some(first) = self.waiting.front() {
            let starts = self.free.max(first.entered as f64);
            if starts >= now as f64 {
                return;
            }
            let mut packet = *first;
            self.waiting.pop_front();
            self.waiting_bytes -= packet.bytes;
            let waited = starts as Micros - packet.entered;
            if matches!(self.queue, Queue::CoDel) && self.codel_drops(starts as Micros, waited) {
                packet.bytes = 0;
                out.push(packet);
                continue;
            }
            self.free = starts + f64::from(packet.bytes) * 8e6 / rate;
            packet.left = self.free as Micros;
            packet.queueing = waited;
            out.push(packet);
        }
    }

    fn codel_drops(&mut self, now: Micros, waited: Micros) -> bool {
        let codel = &mut self.codel;
        if waited < TARGET || self.waiting_bytes < 1_500 {
            codel.first_above = None;
            codel.dropping = false;
            return false;
        }
        let first = *codel.first_above.get_or_insert(now + INTERVAL);
        if codel.dropping {
            if now >= codel.next_drop {
                codel.count += 1;
                codel.next_drop += (INTERVAL as f64 / f64::from(codel.count).sqrt()) as Micros;
                return true;
            }
        } else if now >= first {
            codel.dropping = true;
            let recent = now - codel.next_drop < 8 * INTERVAL;
            codel.count = if recent {
                codel.count.saturating_sub(2).max(1)
            } else {
                1
            };
            codel.next_drop = now + (INTERVAL as f64 / f64::from(codel.count).sqrt()) as Micros;
            return true;
        }
        false
    }
}
