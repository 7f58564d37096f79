//! The loop of one shard: sockets, orders, time, engine, sockets.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll, Token};

use super::delivery::{Delivered, Delivery};
use super::link::{self, Link};
use super::reports::{Found, Reports};
use super::socket::{Received, ShardSocket};
use crate::media::handle::{ShardInbox, ShardInput};
use crate::media::placement::ShardLoad;
use moim_engine::io::{COALESCING_INTERVAL, EngineConfig, EngineStatistics, LocalSocket};
use moim_engine::transport::ServerCertificate;
use moim_engine::{Command, Engine};

/// Token of the waker; sockets have their index.
pub(super) const WAKE: Token = Token(usize::MAX);
/// Batches read of one socket before the others, the orders and the sending have their turn.
const READ_ROUNDS: usize = 8;
/// Orders taken in one turn.
const COMMANDS: usize = 256;
/// The counters are published this often.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(500);
/// While datagrams keep coming they are read only this often. What is forwarded leaves no later
/// for it, because the time for which it gathers begins with its arrival.
const READ_INTERVAL: Duration = COALESCING_INTERVAL;
/// A room whose channel is full is tried again after this time.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// The last published counters of a shard.
#[derive(Debug, Default)]
pub struct ShardStatistics {
    stopping: AtomicBool,
    counters: Mutex<ShardCounters>,
}

/// Counters of a shard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardCounters {
    /// Its engine's.
    pub engine: EngineStatistics,
    /// Runs of datagrams that the kernel did not take.
    pub sends_dropped: u64,
    /// Events that no room took.
    pub events_dropped: u64,
    /// Times that the engine had to be started again after a panic.
    pub restarts: u64,
}

impl ShardStatistics {
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The counters as of at most a second ago.
    pub fn counters(&self) -> ShardCounters {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engine's counters as of at most a second ago.
    pub fn engine(&self) -> EngineStatistics {
        self.counters().engine
    }

    /// Called twice a second, between two turns: no packet waits for it.
    fn publish(&self, counters: ShardCounters) {
        *self.counters.lock().unwrap_or_else(PoisonError::into_inner) = counters;
    }
}

/// What a shard is made of.
pub(super) struct ShardParts {
    pub(super) poll: Poll,
    pub(super) sockets: Vec<ShardSocket>,
    pub(super) reports: Reports,
    pub(super) inbox: ShardInbox,
    pub(super) links: Vec<Link>,
    pub(super) certificate: Arc<ServerCertificate>,
    pub(super) statistics: Arc<ShardStatistics>,
    pub(super) load: Arc<ShardLoad>,
}

/// One shard, to be run on its own thread.
pub(super) struct Shard {
    parts: ShardParts,
    engine: Engine,
    delivery: Delivery,
    /// When the last turn began.
    turned: Instant,
    /// Datagrams came in that turn and shortly before.
    is_busy: bool,
    published: Instant,
    /// Time that was spent waiting since then.
    waited: Duration,
    sends_dropped: u64,
    restarts: u64,
}

impl Shard {
    pub(super) fn new(parts: ShardParts) -> Shard {
        let now = Instant::now();
        Shard {
            engine: new_engine(&parts.certificate, now),
            parts,
            delivery: Delivery::default(),
            turned: now,
            is_busy: false,
            published: now,
            waited: Duration::ZERO,
            sends_dropped: 0,
            restarts: 0,
        }
    }

    /// Runs until the server stops. A panic in the engine ends its rooms, which start from scratch,
    /// and not the other shards.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(16);
        let mut now = Instant::now();
        while !self.parts.statistics.is_stopping() {
            if let Err(error) = self.wait(&mut events, now) {
                tracing::error!(%error, "a media shard cannot wait for its sockets");
                self.delivery.end_all();
                return;
            }
            self.waited += now.elapsed();
            if catch_unwind(AssertUnwindSafe(|| self.turn())).is_err() {
                tracing::error!("a media shard's engine panicked; its rooms start from scratch");
                self.restarts += 1;
                self.engine = new_engine(&self.parts.certificate, Instant::now());
                self.delivery.end_all();
            }
            now = Instant::now();
            self.publish(now);
        }
    }

    fn wait(&mut self, events: &mut Events, now: Instant) -> std::io::Result<()> {
        if let Some(until) = self.sleeps_until() {
            // No media that comes meanwhile would leave earlier: sleeping through it spares a
            // wake-up for each datagram, and the next read finds them all.
            std::thread::sleep(until.saturating_duration_since(now));
            self.parts.sockets.iter_mut().for_each(ShardSocket::listen);
            return Ok(());
        }
        let engine = self
            .engine
            .poll_timeout()
            .map(|when| when.saturating_duration_since(now));
        let waiting = self.delivery.is_waiting() || self.parts.links.iter().any(Link::is_waiting);
        let retry = waiting.then_some(RETRY_INTERVAL);
        let publish = Some(PUBLISH_INTERVAL);
        let reports = self.parts.reports.poll_timeout();
        let reports = reports.map(|when| when.saturating_duration_since(now));
        let timeout = [engine, retry, publish, reports]
            .into_iter()
            .flatten()
            .min();
        match self.parts.poll.poll(events, timeout) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in events.iter() {
            match self.parts.sockets.get_mut(event.token().0) {
                Some(socket) => socket.listen(),
                None => self.parts.reports.woke(event.token(), now),
            }
        }
        Ok(())
    }

    /// Until when what comes may wait; `None` when the next datagram or order is to wake us.
    fn sleeps_until(&self) -> Option<Instant> {
        let gathered = self.engine.flush_deadline();
        if gathered.is_some() {
            return gathered;
        }
        let next_read = self.is_busy.then_some(self.turned + READ_INTERVAL)?;
        let timeout = self.engine.poll_timeout();
        Some(timeout.map_or(next_read, |timeout| timeout.min(next_read)))
    }

    fn turn(&mut self) {
        let now = Instant::now();
        // A turn after a sleep for the whole interval counts too: sleeps take a little longer.
        let is_soon = now.saturating_duration_since(self.turned) < 2 * READ_INTERVAL;
        self.turned = now;
        self.is_busy = false;
        loop {
            let mut more = self.read_sockets(is_soon);
            more |= self.take_commands();
            more |= self.read_links();
            let now = Instant::now();
            self.engine.handle_timeout(now);
            for link in &mut self.parts.links {
                link.send(now, &mut self.engine);
            }
            self.send(now);
            self.deliver(now);
            more = more || self.read_reports(now);
            if !more || self.parts.statistics.is_stopping() {
                return;
            }
        }
    }

    fn publish(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.published);
        if since < PUBLISH_INTERVAL {
            return;
        }
        let busy = since.saturating_sub(self.waited);
        let share = busy.as_micros() * 1_000 / since.as_micros();
        self.parts.load.publish(share as u32);
        self.published = now;
        self.waited = Duration::ZERO;
        self.parts.statistics.publish(ShardCounters {
            engine: self.engine.statistics(),
            sends_dropped: self.sends_dropped,
            events_dropped: self.delivery.dropped(),
            restarts: self.restarts,
        });
    }

    /// True when more may be there. What comes soon after the last turn makes the shard busy.
    fn read_sockets(&mut self, is_soon: bool) -> bool {
        let mut more = false;
        for index in 0..self.parts.sockets.len() {
            let local = LocalSocket(index as u8);
            for round in 1..=READ_ROUNDS {
                let Received::Batch(count) = self.parts.sockets[index].receive() else {
                    break;
                };
                self.is_busy = is_soon;
                // An answer that a client has may bring a datagram at once: the orders that
                // were given before the answer are obeyed before the datagram is looked at.
                more |= self.take_commands();
                hand_over(
                    &mut self.engine,
                    &mut self.parts.sockets[index],
                    local,
                    count,
                );
                more |= round == READ_ROUNDS;
            }
        }
        more
    }

    /// Reads what may wait until media was sent; true when there was something.
    fn read_reports(&mut self, now: Instant) -> bool {
        if !self.parts.reports.are_due(now) {
            return false;
        }
        let mut found = Found::Nothing;
        for (local, socket) in self.parts.reports.sockets() {
            for round in 1..=READ_ROUNDS {
                let Received::Batch(count) = socket.receive() else {
                    break;
                };
                let is_last = round == READ_ROUNDS;
                found = found.max(if is_last { Found::Part } else { Found::All });
                hand_over(&mut self.engine, socket, local, count);
            }
        }
        self.parts.reports.were_read(found, now);
        found != Found::Nothing
    }

    /// True when more may be there.
    fn read_links(&mut self) -> bool {
        let mut more = false;
        for index in 0..self.parts.links.len() {
            for round in 1..=link::DEPTH {
                let Some((sent, batch)) = self.parts.links[index].receive() else {
                    break;
                };
                // The other shard may name what an order here made known before.
                while self.take_commands() {}
                let link = &self.parts.links[index];
                self.engine
                    .handle_relay(Instant::now(), sent, link.shard, &batch);
                link.give_back(batch);
                more |= round == link::DEPTH;
            }
        }
        more
    }

    /// True when more may wait.
    fn take_commands(&mut self) -> bool {
        let mut now = None;
        for _ in 0..COMMANDS {
            let Some(input) = self.parts.inbox.try_recv() else {
                return false;
            };
            let now = *now.get_or_insert_with(Instant::now);
            match input {
                ShardInput::Command(command) => self.engine.handle_command(now, command),
                ShardInput::OpenRoom(room, sender) => self.delivery.open(room, sender),
                ShardInput::CloseRoom(room) => {
                    self.delivery.close(room);
                    self.engine.handle_command(now, Command::CloseRoom(room));
                }
            }
        }
        true
    }

    fn send(&mut self, now: Instant) {
        while let Some(transmits) = self.engine.poll_transmits(now) {
            for (index, socket) in self.parts.sockets.iter().enumerate() {
                let runs = transmits.clone();
                let runs = runs.filter(|run| usize::from(run.local.0) == index);
                self.sends_dropped += socket.send(runs);
            }
        }
    }

    fn deliver(&mut self, now: Instant) {
        self.delivery.retry();
        while let Some(event) = self.engine.poll_event() {
            let (room, cost) = (event.room, event.event.window_cost());
            match self.delivery.deliver(event) {
                Delivered::Taken => {}
                Delivered::Dropped => {
                    let taken = Command::DataTaken { room, cost };
                    self.engine.handle_command(now, taken);
                }
                Delivered::Ended => {
                    tracing::error!(?room, "a room does not read its media events; it is ended");
                    self.engine.handle_command(now, Command::CloseRoom(room));
                }
            }
        }
    }
}

/// Gives the engine a batch that was read.
fn hand_over(engine: &mut Engine, socket: &mut ShardSocket, local: LocalSocket, count: usize) {
    let now = Instant::now();
    engine.prefetch_for_reports(socket.messages(count));
    for (waited, source, datagram) in socket.datagrams(count) {
        let arrived = now.checked_sub(waited).unwrap_or(now);
        engine.handle_datagram_received_at(now, arrived, source, local, datagram);
    }
}

fn new_engine(certificate: &Arc<ServerCertificate>, now: Instant) -> Engine {
    let config = EngineConfig {
        seed: rand::random(),
        certificate: certificate.clone(),
        wall_clock: SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default(),
    };
    Engine::new(config, now)
}
