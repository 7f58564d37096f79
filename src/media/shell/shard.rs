//! The loop of one shard: sockets, orders, time, engine, sockets.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mio::{Events, Poll, Token};

use super::delivery::Delivery;
use super::socket::{Received, Sent, ShardSocket};
use crate::media::engine::Engine;
use crate::media::engine::io::{EngineConfig, EngineStatistics, LocalSocket};
use crate::media::engine::transport::ServerCertificate;
use crate::media::handle::ShardInput;

/// Token of the waker; sockets have their index.
pub(super) const WAKE: Token = Token(usize::MAX);
/// Batches read of one socket before the others, the orders and the sending have their turn.
const READ_ROUNDS: usize = 8;
/// Orders taken in one turn.
const COMMANDS: usize = 256;
/// The counters are published this often.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(500);
/// A room whose channel is full is tried again after this time.
const RETRY_INTERVAL: Duration = Duration::from_millis(5);

/// The last published counters of a shard.
#[derive(Debug, Default)]
pub struct ShardStatistics {
    stopping: AtomicBool,
    values: [AtomicU64; 20],
}

impl ShardStatistics {
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The counters as of at most a second ago.
    pub fn engine(&self) -> EngineStatistics {
        let mut values = self
            .values
            .iter()
            .map(|value| value.load(Ordering::Relaxed));
        let mut next = || values.next().unwrap_or(0);
        EngineStatistics {
            packets_in: next(),
            bytes_in: next(),
            packets_out: next(),
            bytes_out: next(),
            datagrams_dropped: next(),
            packets_dropped: next(),
            nacks_in: next(),
            nacks_out: next(),
            retransmissions: next(),
            keyframe_requests_in: next(),
            keyframe_requests_out: next(),
            messages_in: next(),
            messages_out: next(),
            transports: next(),
            tracks: next(),
            subscriptions: next(),
            buffer_bytes: next(),
        }
    }

    /// Runs that the kernel did not take.
    pub fn sends_dropped(&self) -> u64 {
        self.values[17].load(Ordering::Relaxed)
    }

    /// Events that no room took.
    pub fn events_dropped(&self) -> u64 {
        self.values[18].load(Ordering::Relaxed)
    }

    /// Times that the engine had to be started anew.
    pub fn restarts(&self) -> u64 {
        self.values[19].load(Ordering::Relaxed)
    }

    fn publish(&self, engine: &EngineStatistics, more: [u64; 3]) {
        let values = [
            engine.packets_in,
            engine.bytes_in,
            engine.packets_out,
            engine.bytes_out,
            engine.datagrams_dropped,
            engine.packets_dropped,
            engine.nacks_in,
            engine.nacks_out,
            engine.retransmissions,
            engine.keyframe_requests_in,
            engine.keyframe_requests_out,
            engine.messages_in,
            engine.messages_out,
            engine.transports,
            engine.tracks,
            engine.subscriptions,
            engine.buffer_bytes,
            more[0],
            more[1],
            more[2],
        ];
        for (place, value) in self.values.iter().zip(values) {
            place.store(value, Ordering::Relaxed);
        }
    }
}

/// One shard, to be run on its own thread.
pub(super) struct Shard {
    poll: Poll,
    sockets: Vec<ShardSocket>,
    inbox: Receiver<ShardInput>,
    certificate: Arc<ServerCertificate>,
    statistics: Arc<ShardStatistics>,
    engine: Engine,
    delivery: Delivery,
    published: Instant,
    sends_dropped: u64,
    restarts: u64,
}

impl Shard {
    pub(super) fn new(
        poll: Poll,
        sockets: Vec<ShardSocket>,
        inbox: Receiver<ShardInput>,
        certificate: Arc<ServerCertificate>,
        statistics: Arc<ShardStatistics>,
    ) -> Shard {
        let now = Instant::now();
        Shard {
            engine: new_engine(&certificate, now),
            poll,
            sockets,
            inbox,
            certificate,
            statistics,
            delivery: Delivery::default(),
            published: now,
            sends_dropped: 0,
            restarts: 0,
        }
    }

    /// Runs until the server stops. A panic in the engine ends its rooms, which start anew,
    /// and not the other shards.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(16);
        while !self.statistics.is_stopping() {
            if let Some(until) = self.engine.gathers_until() {
                // Nothing that comes meanwhile leaves earlier: sleeping through it spares a
                // wake-up for each datagram, and the next read finds them all.
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
            } else if let Err(error) = self.poll.poll(&mut events, self.wait())
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "a media shard cannot wait for its sockets");
                return;
            }
            if catch_unwind(AssertUnwindSafe(|| self.turn())).is_err() {
                tracing::error!("a media shard's engine panicked; its rooms start anew");
                self.restarts += 1;
                self.engine = new_engine(&self.certificate, Instant::now());
                // Rooms notice by the end of their channel.
                self.delivery = Delivery::default();
            }
        }
    }

    fn wait(&self) -> Option<Duration> {
        let now = Instant::now();
        let engine = self
            .engine
            .poll_timeout()
            .map(|when| when.saturating_duration_since(now));
        let retry = self.delivery.is_waiting().then_some(RETRY_INTERVAL);
        let publish = Some(PUBLISH_INTERVAL);
        [engine, retry, publish].into_iter().flatten().min()
    }

    fn turn(&mut self) {
        let mut more = true;
        while more && !self.statistics.is_stopping() {
            more = self.read_sockets();
            more |= self.take_commands();
            self.engine.handle_timeout(Instant::now());
            self.send();
            self.deliver();
        }
        let now = Instant::now();
        if now.saturating_duration_since(self.published) >= PUBLISH_INTERVAL {
            self.published = now;
            let more = [self.sends_dropped, self.delivery.dropped(), self.restarts];
            self.statistics.publish(&self.engine.statistics(), more);
        }
    }

    /// True when more may be there.
    fn read_sockets(&mut self) -> bool {
        let mut more = false;
        for index in 0..self.sockets.len() {
            let local = LocalSocket(index as u8);
            for round in 1..=READ_ROUNDS {
                let Received::Batch(count) = self.sockets[index].receive() else {
                    break;
                };
                // An answer that a client has may bring a datagram at once: the orders that
                // were given before the answer are obeyed before the datagram is looked at.
                more |= self.take_commands();
                let now = Instant::now();
                for (source, datagram) in self.sockets[index].datagrams(count) {
                    self.engine.handle_datagram(now, source, local, datagram);
                }
                more |= round == READ_ROUNDS;
            }
        }
        more
    }

    /// True when more may wait.
    fn take_commands(&mut self) -> bool {
        for _ in 0..COMMANDS {
            match self.inbox.try_recv() {
                Ok(ShardInput::Command(command)) => {
                    self.engine.handle_command(Instant::now(), command);
                }
                Ok(ShardInput::OpenRoom(room, sender)) => self.delivery.open(room, sender),
                Ok(ShardInput::CloseRoom(room)) => self.delivery.close(room),
                Err(_) => return false,
            }
        }
        true
    }

    fn send(&mut self) {
        while let Some(transmit) = self.engine.poll_transmit(Instant::now()) {
            let Some(socket) = self.sockets.get(usize::from(transmit.local.0)) else {
                continue;
            };
            let sent = socket.send(
                transmit.destination,
                transmit.contents,
                transmit.segment_size,
            );
            if sent == Sent::Dropped {
                self.sends_dropped += 1;
            }
        }
    }

    fn deliver(&mut self) {
        self.delivery.retry();
        while let Some(event) = self.engine.poll_event() {
            self.delivery.deliver(event);
        }
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
