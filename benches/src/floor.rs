//! The floor: what a forwarded packet costs at the very least on this machine, right now. One
//! copy, one bare AES-GCM seal, one segment of a segmented send. Measured twice:
//!
//! - *tight*: a loop that never sleeps, to one socket. Nothing is colder than the processor's
//!   first cache, and no timer fires. No server that paces its media gets there.
//! - *in the same shape*: to as many sockets and with as many keys as the run had subscribers,
//!   packets of the same sizes together, in as few sends as they allow, at the same pace, asleep in
//!   between, on the cores that the server had. What the server takes beyond that is its own.
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
use crate::process::thread_cpu_ns;
use crate::shape::Shape;

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

/// Both floors, in nanoseconds of a core a packet.
#[derive(Debug, Clone, serde::Serialize)]
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
        let in_shape = |shape| {
            let cost = in_shape(&shape, server)?;
            anyhow::Ok((shape, cost))
        };
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
    let mut writer = Writer::new(&sender, 1)?;
    let run = vec![TIGHT_BYTES; segments];
    let before = thread_cpu_ns();
    for _ in 0..TIGHT_PACKETS / segments {
        writer.send(&sender, 0, receivers.addresses[0], &run)?;
    }
    let used = thread_cpu_ns() - before;
    receivers.stop();
    Ok(used / (TIGHT_PACKETS / segments * segments) as u64)
}

/// Nanoseconds of a core a packet in the shape of a run, on the cores of the process `server`.
///
/// # Errors
/// When sockets or those cores are not to be had.
fn in_shape(shape: &Shape, server: Option<u32>) -> anyhow::Result<u64> {
    let (sender, receivers) = Receivers::start(shape.destinations)?;
    let addresses = receivers.addresses.clone();
    let shape = shape.clone();
    // A thread of its own: the receiver stays on the tester's cores.
    let sending = std::thread::Builder::new()
        .name("floor".into())
        .spawn(move || {
            server.map(cores::run_on_those_of).transpose()?;
            play(&shape, &sender, &addresses)
        })?;
    let used = sending
        .join()
        .map_err(|_| anyhow::anyhow!("the floor's thread panicked"));
    receivers.stop();
    used?
}

fn play(shape: &Shape, sender: &UdpSocket, addresses: &[SocketAddr]) -> anyhow::Result<u64> {
    let mut writer = Writer::new(sender, addresses.len())?;
    let mut bursts = shape.bursts.iter().cycle();
    let start = Instant::now();
    let mut due = start;
    let (mut before, mut packets) = (None, 0);
    while due - start < SHAPE_TIME {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let counts = due - start >= WARM_UP;
        if counts {
            before.get_or_insert_with(thread_cpu_ns);
        }
        for (index, address) in addresses.iter().enumerate() {
            for run in bursts.next().into_iter().flatten() {
                writer.send(sender, index, *address, run)?;
                packets += if counts { run.len() as u64 } else { 0 };
            }
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
    sealed: Vec<u8>,
    counter: u64,
}

impl Writer {
    /// For this number of destinations.
    fn new(socket: &UdpSocket, destinations: usize) -> anyhow::Result<Writer> {
        Ok(Writer {
            state: UdpSocketState::new(UdpSockRef::from(socket))?,
            keys: (0..destinations).map(key).collect::<Result<_, _>>()?,
            source: vec![9; usize::from(u16::MAX)],
            sealed: vec![0; 2 * usize::from(u16::MAX)],
            counter: 0,
        })
    }

    /// Sends packets of these sizes as one run: all are of that of the first one, but the last,
    /// which may be smaller.
    fn send(
        &mut self,
        socket: &UdpSocket,
        index: usize,
        destination: SocketAddr,
        run: &[usize],
    ) -> anyhow::Result<()> {
        let mut end = 0;
        for bytes in run {
            let packet = &mut self.sealed[end..end + bytes + TAG];
            end += packet.len();
            self.counter += 1;
            packet[..*bytes].copy_from_slice(&self.source[..*bytes]);
            packet[2..4].copy_from_slice(&(self.counter as u16).to_be_bytes());
            let (body, tag) = packet.split_at_mut(*bytes);
            let (header, payload) = body.split_at_mut(HEADER.min(*bytes));
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            let aad = Aad::from(&*header);
            let sealed = self.keys[index].seal_in_place_separate_tag(nonce, aad, payload)?;
            tag.copy_from_slice(sealed.as_ref());
        }
        let segment = run.first().map(|first| first + TAG);
        let transmit = Transmit {
            destination,
            ecn: None,
            contents: &self.sealed[..end],
            segment_size: segment.filter(|segment| *segment < end),
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
    fn a_shape_can_be_played() {
        let shape = Shape {
            destinations: 3,
            interval: Duration::from_millis(20),
            packets: 2.0,
            runs: 1.0,
            bytes: 250.0,
            bursts: vec![vec![vec![300, 200]]],
        };
        let cost = in_shape(&shape, Some(std::process::id())).expect("sockets");
        assert!(cost > 0);
    }
}
