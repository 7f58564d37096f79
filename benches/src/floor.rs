//! The floor: what a forwarded packet costs at the very least on this machine, right now. One
//! copy, one bare AES-GCM seal, one segment of a segmented send. Measured twice:
//!
//! - *tight*: a loop that never sleeps, to one socket. Nothing is colder than the processor's
//!   first cache, and no timer fires. No server that paces its media gets there.
//! - *in the same shape*: to as many sockets and with as many keys as the run had subscribers,
//!   as many packets of the same size together, at the same pace, asleep in between, on the
//!   cores that the server had. What the server takes beyond that is its own.
//!
//! The receiver is awake all the time, as the tester is with `--spin`, and joins segments
//! (UDP_GRO) like the tester. The kernel delivers loopback datagrams in the sender's time, so
//! delivery is in both floors as it is in the server's figure.

use std::io::IoSliceMut;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

use crate::cores;
use crate::outcome::Outcome;
use crate::process::thread_cpu_ns;

const TAG: usize = 16;
const HEADER: usize = 20;
/// Size and number of the packets of the tight loop.
const TIGHT_BYTES: usize = 1_200;
const TIGHT_PACKETS: usize = 200_000;
/// Packets of a frame of the highest simulcast layer.
const TIGHT_RUN: usize = 6;
/// For how long the shape is played, and how much of that is not counted.
const SHAPE_TIME: Duration = Duration::from_secs(4);
const WARM_UP: Duration = Duration::from_millis(200);
/// The kernel takes no more at once.
const MAX_SEGMENTS: usize = 64;
const MAX_RUN: usize = 60_000;

/// How a server's packets were sent.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Shape {
    /// Subscribers that received media.
    pub(crate) destinations: usize,
    /// Packets that one of them got together, on average.
    pub(crate) run: usize,
    /// Bytes of a packet in the clear, on average.
    pub(crate) bytes: usize,
    /// Time between two runs to one of them.
    pub(crate) interval: Duration,
}

impl Shape {
    /// The shape of a run that took so long; `None` when nothing arrived.
    pub(crate) fn of(outcome: &Outcome, time: Duration) -> Option<Shape> {
        let received = outcome.counts.received;
        if outcome.bursts == 0 || received == 0 {
            return None;
        }
        let bytes = (outcome.counts.bytes / received).clamp(HEADER as u64 + 1, 1_400) as usize;
        let run = (received as f64 / outcome.bursts as f64).round() as usize;
        Some(Shape {
            destinations: outcome.receivers,
            run: run.clamp(1, MAX_SEGMENTS.min(MAX_RUN / (bytes + TAG))),
            bytes,
            interval: time.mul_f64(outcome.receivers as f64 / outcome.bursts as f64),
        })
    }
}

/// Both floors, in nanoseconds of a core a packet.
#[derive(Debug, Clone, Copy, serde::Serialize)]
pub(crate) struct Floor {
    /// Tight, a packet a call.
    pub(crate) tight_alone_ns: u64,
    /// Tight, six packets a call.
    pub(crate) tight_run_ns: u64,
    /// In the shape of the run; `None` when nothing arrived.
    pub(crate) in_shape: Option<(Shape, u64)>,
}

impl Floor {
    /// Measures all of them, on the cores of the process `server` where the shape is played.
    ///
    /// # Errors
    /// When sockets or those cores are not to be had.
    pub(crate) fn measure(shape: Option<Shape>, server: Option<u32>) -> anyhow::Result<Floor> {
        let in_shape = |shape| anyhow::Ok((shape, in_shape(shape, server)?));
        Ok(Floor {
            tight_alone_ns: tight(1)?,
            tight_run_ns: tight(TIGHT_RUN)?,
            in_shape: shape.map(in_shape).transpose()?,
        })
    }
}

/// Nanoseconds of a core a packet, in a loop that never sleeps, with runs of `segments`.
///
/// # Errors
/// When sockets are not to be had.
fn tight(segments: usize) -> anyhow::Result<u64> {
    let (sender, receivers) = Receivers::start(1)?;
    let mut writer = Writer::new(&sender, segments, TIGHT_BYTES)?;
    let before = thread_cpu_ns();
    for _ in 0..TIGHT_PACKETS / segments {
        writer.send(&sender, 0, receivers.addresses[0])?;
    }
    let used = thread_cpu_ns() - before;
    receivers.stop();
    Ok(used / (TIGHT_PACKETS / segments * segments) as u64)
}

/// Nanoseconds of a core a packet in the shape of a run, on the cores of the process `server`.
///
/// # Errors
/// When sockets or those cores are not to be had.
fn in_shape(shape: Shape, server: Option<u32>) -> anyhow::Result<u64> {
    let (sender, receivers) = Receivers::start(shape.destinations)?;
    let addresses = receivers.addresses.clone();
    // A thread of its own: the receiver stays on the tester's cores.
    let sending = std::thread::Builder::new()
        .name("floor".into())
        .spawn(move || {
            server.map(cores::run_on_those_of).transpose()?;
            play(shape, &sender, &addresses)
        })?;
    let used = sending
        .join()
        .map_err(|_| anyhow::anyhow!("the floor's thread panicked"));
    receivers.stop();
    used?
}

fn play(shape: Shape, sender: &UdpSocket, addresses: &[SocketAddr]) -> anyhow::Result<u64> {
    let mut writer = Writer::new(sender, shape.run, shape.bytes)?;
    writer.keys = (0..addresses.len()).map(key).collect::<Result<_, _>>()?;
    let start = Instant::now();
    let mut due = start;
    let (mut before, mut packets) = (None, 0);
    while due - start < SHAPE_TIME {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        if due - start >= WARM_UP {
            before.get_or_insert_with(thread_cpu_ns);
            packets += (addresses.len() * shape.run) as u64;
        }
        for (index, address) in addresses.iter().enumerate() {
            writer.send(sender, index, *address)?;
        }
        due = (due + shape.interval).max(Instant::now());
    }
    let used = before.map_or(0, |before| thread_cpu_ns() - before);
    Ok(used / packets.max(1))
}

/// A key of its own for each destination.
fn key(index: usize) -> anyhow::Result<LessSafeKey> {
    let bytes = (index as u128 + 1).to_be_bytes();
    Ok(LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &bytes)?))
}

/// Copies, seals and sends.
struct Writer {
    state: UdpSocketState,
    keys: Vec<LessSafeKey>,
    source: Vec<u8>,
    run: Vec<u8>,
    counter: u64,
}

impl Writer {
    fn new(socket: &UdpSocket, segments: usize, bytes: usize) -> anyhow::Result<Writer> {
        Ok(Writer {
            state: UdpSocketState::new(UdpSockRef::from(socket))?,
            keys: vec![key(0)?],
            source: vec![9; bytes],
            run: vec![0; segments * (bytes + TAG)],
            counter: 0,
        })
    }

    fn send(
        &mut self,
        socket: &UdpSocket,
        index: usize,
        destination: SocketAddr,
    ) -> anyhow::Result<()> {
        let bytes = self.source.len();
        let stride = bytes + TAG;
        for packet in self.run.chunks_exact_mut(stride) {
            self.counter += 1;
            packet[..bytes].copy_from_slice(&self.source);
            packet[2..4].copy_from_slice(&(self.counter as u16).to_be_bytes());
            let (body, tag) = packet.split_at_mut(bytes);
            let (header, payload) = body.split_at_mut(HEADER);
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            let aad = Aad::from(&*header);
            let sealed = self.keys[index].seal_in_place_separate_tag(nonce, aad, payload)?;
            tag.copy_from_slice(sealed.as_ref());
        }
        let transmit = Transmit {
            destination,
            ecn: None,
            contents: &self.run,
            segment_size: (stride < self.run.len()).then_some(stride),
            src_ip: None,
        };
        // A full receive buffer loses packets and costs the same.
        let _ = self.state.try_send(UdpSockRef::from(socket), &transmit);
        Ok(())
    }
}

/// Sockets that a thread drains without ever sleeping.
struct Receivers {
    addresses: Vec<SocketAddr>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Receivers {
    /// As many as that, and a socket whose datagrams they take.
    fn start(count: usize) -> anyhow::Result<(UdpSocket, Receivers)> {
        let sender = UdpSocket::bind("127.0.0.1:0")?;
        let (mut addresses, mut sockets) = (Vec::new(), Vec::new());
        let poll = Poll::new()?;
        for index in 0..count {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(sender.local_addr()?)?;
            let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
            poll.registry().register(
                &mut SourceFd(&socket.as_raw_fd()),
                Token(index),
                Interest::READABLE,
            )?;
            addresses.push(socket.local_addr()?);
            sockets.push((socket, state));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || drain(poll, &sockets, &stopped));
        let receivers = Receivers {
            addresses,
            stop,
            thread,
        };
        Ok((sender, receivers))
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
    }
}

fn drain(mut poll: Poll, sockets: &[(UdpSocket, UdpSocketState)], stop: &AtomicBool) {
    let mut events = Events::with_capacity(1_024);
    let mut buffers = vec![vec![0u8; 65_536]; BATCH_SIZE];
    let mut meta = vec![RecvMeta::default(); BATCH_SIZE];
    while !stop.load(Ordering::Relaxed) {
        if poll.poll(&mut events, Some(Duration::ZERO)).is_err() {
            continue;
        }
        for event in &events {
            let (socket, state) = &sockets[event.token().0];
            loop {
                let mut slices: Vec<IoSliceMut<'_>> =
                    buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
                let socket = UdpSockRef::from(socket);
                if state.recv(socket, &mut slices, &mut meta).is_err() {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_what_arrived_together_and_how_often() {
        let mut outcome = Outcome {
            receivers: 50,
            bursts: 50 * 300,
            ..Outcome::default()
        };
        assert_eq!(Shape::of(&outcome, SHAPE_TIME), None);
        outcome.counts.received = 50 * 300 * 6;
        outcome.counts.bytes = outcome.counts.received * 1_180;
        let shape = Shape::of(&outcome, Duration::from_secs(10)).expect("a shape");
        assert_eq!((shape.destinations, shape.run, shape.bytes), (50, 6, 1_180));
        assert_eq!(shape.interval.as_millis(), 33);
    }

    #[test]
    fn a_shape_can_be_played() {
        let shape = Shape {
            destinations: 3,
            run: 2,
            bytes: 300,
            interval: Duration::from_millis(20),
        };
        let cost = in_shape(shape, Some(std::process::id())).expect("sockets");
        assert!(cost > 0);
    }
}
