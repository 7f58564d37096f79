//! The media of all participants, on one thread: sockets, timers, counting.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use moim::media::engine::command::IceCredentials;
use moim::media::engine::rtp::header::RtpHeader;
use moim::media::engine::rtp::{PacketClass, classify, is_rtcp};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

use crate::receive::{Counts, Histogram, Streams};
use crate::source::{STAMP, Source};
use crate::transport::{Identity, Transport};

/// Room for what one read may join.
const READ_BUFFER: usize = 65_536;
const KERNEL_BUFFER: usize = 1 << 20;

/// A connection that begins.
pub(crate) struct Start {
    /// Number of the participant.
    pub(crate) participant: usize,
    pub(crate) local: IceCredentials,
    pub(crate) remote: IceCredentials,
    pub(crate) address: SocketAddr,
    /// What it sends; empty for a subscriber connection.
    pub(crate) tracks: Vec<PublishedTrack>,
    /// Whether our side nominates.
    pub(crate) controls: bool,
    /// When the participant began to join.
    pub(crate) since: Instant,
}

/// A track to be sent.
pub(crate) struct PublishedTrack {
    pub(crate) video: bool,
    pub(crate) ssrc: u32,
    pub(crate) layers: usize,
}

/// Orders for the media thread.
pub(crate) enum Order {
    Start(Box<Start>),
    /// Ends a participant's connections.
    Stop(usize),
    /// From here on it counts.
    Reset,
    /// It is over.
    Finish,
}

/// What came of the run.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) counts: Counts,
    pub(crate) streams: usize,
    pub(crate) sent: u64,
    pub(crate) latency: Histogram,
    /// Microseconds from the beginning of a join to its first media packet.
    pub(crate) first_media: Histogram,
    /// Microseconds to an open subscriber connection.
    pub(crate) connected: Histogram,
    pub(crate) connections: usize,
    pub(crate) open: usize,
    /// Share of the time for which the thread was busy, 0 to 1.
    pub(crate) busy: f64,
    /// Longest time between two looks at the sockets, in microseconds.
    pub(crate) longest_turn: u64,
}

struct Connection {
    participant: usize,
    since: Instant,
    socket: UdpSocket,
    state: UdpSocketState,
    transport: Transport,
    sources: Vec<Source>,
    streams: Streams,
    armed: Option<Instant>,
    has_media: bool,
}

/// The media thread.
pub(crate) struct Driver {
    identity: Identity,
    epoch: Instant,
    spin: bool,
    poll: Poll,
    connections: Vec<Option<Connection>>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    outcome: Outcome,
    counting_since: Instant,
    idle: Duration,
}

impl Driver {
    pub(crate) fn new(identity: Identity, spin: bool) -> io::Result<Driver> {
        let now = Instant::now();
        Ok(Driver {
            identity,
            epoch: now,
            spin,
            poll: Poll::new()?,
            connections: Vec::new(),
            timers: BinaryHeap::new(),
            outcome: Outcome::default(),
            counting_since: now,
            idle: Duration::ZERO,
        })
    }

    /// Runs until [`Order::Finish`].
    pub(crate) fn run(mut self, orders: &Receiver<Order>) -> io::Result<Outcome> {
        let mut events = Events::with_capacity(1_024);
        let mut buffers = vec![vec![0u8; READ_BUFFER]; BATCH_SIZE];
        let mut turn_began = Instant::now();
        loop {
            let now = Instant::now();
            let longest = (now - turn_began).as_micros() as u64;
            self.outcome.longest_turn = self.outcome.longest_turn.max(longest);
            let wait = if self.spin {
                Duration::ZERO
            } else {
                let due = self.timers.peek().map(|Reverse((when, _))| *when);
                let wait = due.map(|when| when.saturating_duration_since(now));
                // Timers of the kernel are not finer; orders are looked at as often.
                wait.unwrap_or(Duration::from_millis(2))
                    .min(Duration::from_millis(2))
            };
            if let Err(error) = self.poll.poll(&mut events, Some(wait))
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            turn_began = Instant::now();
            let mut worked = false;
            for event in &events {
                worked = true;
                self.read(event.token().0, &mut buffers);
            }
            worked |= self.fire();
            if !worked || !self.spin {
                self.idle += turn_began - now;
            }
            loop {
                match orders.try_recv() {
                    Ok(Order::Start(start)) => self.start(*start)?,
                    Ok(Order::Stop(participant)) => self.stop(participant),
                    Ok(Order::Reset) => self.reset(),
                    Ok(Order::Finish) | Err(TryRecvError::Disconnected) => {
                        return Ok(self.finish());
                    }
                    Err(TryRecvError::Empty) => break,
                }
            }
        }
    }

    fn start(&mut self, start: Start) -> io::Result<()> {
        let now = Instant::now();
        let socket = UdpSocket::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
        socket.connect(start.address)?;
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let options = socket2::SockRef::from(&socket);
        options.set_recv_buffer_size(KERNEL_BUFFER)?;
        let index = self.connections.len();
        self.poll.registry().register(
            &mut SourceFd(&socket.as_raw_fd()),
            Token(index),
            Interest::READABLE,
        )?;
        let source = |(mid, track): (usize, &PublishedTrack)| {
            // Cameras are not in step with each other.
            let offset = Duration::from_micros(u64::from(track.ssrc.wrapping_mul(7_919)) % 33_000);
            Source::new(
                mid as u8,
                track.video,
                track.ssrc,
                track.layers,
                now + offset,
            )
        };
        let transport = Transport::new(
            now,
            &self.identity,
            &start.local,
            &start.remote,
            start.address,
            start.controls,
        );
        self.connections.push(Some(Connection {
            participant: start.participant,
            since: start.since,
            socket,
            state,
            transport,
            sources: start.tracks.iter().enumerate().map(source).collect(),
            streams: Streams::default(),
            armed: None,
            has_media: false,
        }));
        self.arm(index, now);
        Ok(())
    }

    fn stop(&mut self, participant: usize) {
        for place in &mut self.connections {
            if place.as_ref().is_some_and(|c| c.participant == participant)
                && let Some(connection) = place.take()
            {
                self.outcome.counts.add(&connection.streams.counts());
            }
        }
    }

    fn reset(&mut self) {
        let (first_media, connected) = (
            std::mem::take(&mut self.outcome.first_media),
            std::mem::take(&mut self.outcome.connected),
        );
        self.outcome = Outcome {
            first_media,
            connected,
            ..Outcome::default()
        };
        for connection in self.connections.iter_mut().flatten() {
            connection.streams.reset();
        }
        self.counting_since = Instant::now();
        self.idle = Duration::ZERO;
    }

    fn finish(mut self) -> Outcome {
        for connection in self.connections.iter().flatten() {
            self.outcome.counts.add(&connection.streams.counts());
            self.outcome.streams += connection.streams.len();
            self.outcome.connections += 1;
            self.outcome.open += usize::from(connection.transport.srtp.is_some());
        }
        let time = self.counting_since.elapsed().as_secs_f64();
        self.outcome.busy = 1.0 - self.idle.as_secs_f64() / time;
        self.outcome
    }

    /// True when something was due.
    fn fire(&mut self) -> bool {
        let now = Instant::now();
        let mut fired = false;
        while let Some(Reverse((when, index))) = self.timers.peek().copied() {
            if when > now {
                break;
            }
            self.timers.pop();
            fired = true;
            if let Some(Some(connection)) = self.connections.get_mut(index)
                && connection.armed == Some(when)
            {
                connection.armed = None;
                connection.transport.handle_timeout(now);
                connection.produce(now, self.epoch, &mut self.outcome);
                connection.flush();
                self.arm(index, now);
            }
        }
        fired
    }

    fn arm(&mut self, index: usize, now: Instant) {
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return;
        };
        let open = connection.transport.srtp.is_some();
        let media = connection.sources.iter().map(|source| source.due).min();
        let due = match media.filter(|_| open) {
            Some(media) => media.min(connection.transport.poll_timeout()),
            None => connection.transport.poll_timeout(),
        };
        let due = due.max(now);
        if connection.armed.is_none_or(|armed| due < armed) {
            connection.armed = Some(due);
            self.timers.push(Reverse((due, index)));
        }
    }

    fn read(&mut self, index: usize, buffers: &mut [Vec<u8>]) {
        let mut meta = [RecvMeta::default(); BATCH_SIZE];
        loop {
            let Some(Some(connection)) = self.connections.get_mut(index) else {
                return;
            };
            let mut slices: Vec<IoSliceMut<'_>> =
                buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
            let socket = UdpSockRef::from(&connection.socket);
            let received = connection.state.recv(socket, &mut slices, &mut meta);
            drop(slices);
            let Ok(count) = received else {
                break;
            };
            let now = Instant::now();
            for (meta, buffer) in meta.iter().zip(&mut *buffers).take(count) {
                for datagram in buffer[..meta.len].chunks_mut(meta.stride.max(1)) {
                    connection.receive(now, self.epoch, datagram, &mut self.outcome);
                }
            }
            connection.flush();
        }
        self.arm(index, Instant::now());
    }
}

impl Connection {
    fn receive(
        &mut self,
        now: Instant,
        epoch: Instant,
        datagram: &mut [u8],
        outcome: &mut Outcome,
    ) {
        match datagram.first().map(|first| classify(*first)) {
            Some(PacketClass::Stun) => self.transport.handle_stun(now, datagram),
            Some(PacketClass::Dtls) => {
                let open = self.transport.handle_dtls(now, datagram);
                if open && self.sources.is_empty() {
                    let time = now.saturating_duration_since(self.since);
                    outcome.connected.record(time.as_micros() as u64);
                }
                if open {
                    self.sources
                        .iter_mut()
                        .for_each(|source| source.due = source.due.max(now));
                }
            }
            Some(PacketClass::Rtp) if is_rtcp(datagram) => self.feedback(datagram),
            Some(PacketClass::Rtp) => self.media(now, epoch, datagram, outcome),
            _ => {}
        }
    }

    fn media(&mut self, now: Instant, epoch: Instant, datagram: &mut [u8], outcome: &mut Outcome) {
        let (Some((_, receiver)), Some(header)) =
            (&self.transport.srtp, RtpHeader::parse(datagram))
        else {
            return;
        };
        let rollover = self.streams.rollover(header.ssrc, header.sequence);
        let Some(len) = receiver.unprotect_rtp(rollover, header.header_len, datagram) else {
            return;
        };
        self.streams.receive(header.ssrc, header.sequence, len);
        let Some(stamp) = header
            .payload(&datagram[..len])
            .and_then(|payload| payload.last_chunk::<STAMP>())
        else {
            return;
        };
        // Probes and padding carry no stamp.
        let made = stamp
            .first_chunk::<8>()
            .map_or(0, |b| u64::from_be_bytes(*b));
        let arrived = now.saturating_duration_since(epoch).as_nanos() as u64;
        if made > 0 && made <= arrived {
            outcome.latency.record((arrived - made) / 1_000);
        }
        if !self.has_media {
            self.has_media = true;
            let time = now.saturating_duration_since(self.since);
            outcome.first_media.record(time.as_micros() as u64);
        }
    }

    /// Keyframe requests: PLI (RFC 4585) and FIR (RFC 5104).
    fn feedback(&mut self, datagram: &mut [u8]) {
        let Some((_, receiver)) = &mut self.transport.srtp else {
            return;
        };
        let Some(len) = receiver.unprotect_rtcp(datagram) else {
            return;
        };
        let mut rest = &datagram[..len];
        while let Some(&[first, kind, l0, l1]) = rest.first_chunk::<4>() {
            let size = 4 * (usize::from(u16::from_be_bytes([l0, l1])) + 1);
            let Some(packet) = rest.get(..size) else {
                return;
            };
            let place = match (kind, first & 31) {
                (206, 1) => Some(8),
                (206, 4) => Some(12),
                _ => None,
            };
            let ssrc = place.and_then(|at| packet.get(at..at + 4)?.first_chunk::<4>());
            if let Some(ssrc) = ssrc {
                let ssrc = u32::from_be_bytes(*ssrc);
                self.sources
                    .iter_mut()
                    .for_each(|source| source.request_keyframe(ssrc));
            }
            rest = &rest[size..];
        }
    }

    /// Sends what is due, a frame's equal packets as one run.
    fn produce(&mut self, now: Instant, epoch: Instant, outcome: &mut Outcome) {
        let Some((sender, _)) = &self.transport.srtp else {
            return;
        };
        let mut run: Vec<u8> = Vec::new();
        let mut segment = 0;
        let (socket, state, destination) = (&self.socket, &self.state, self.transport.remote());
        let send = |run: &mut Vec<u8>, segment: usize| {
            if !run.is_empty() {
                transmit(socket, state, destination, run, segment);
                run.clear();
            }
        };
        for source in self.sources.iter_mut().filter(|source| source.due <= now) {
            source.produce(now, epoch, |packet, len, sequence, header| {
                let len = sender.protect_rtp(sequence >> 16, header, packet, len);
                if len != segment || run.len() + len > 60_000 {
                    send(&mut run, segment);
                }
                segment = len;
                run.extend_from_slice(&packet[..len]);
                outcome.sent += 1;
            });
        }
        send(&mut run, segment);
    }

    fn flush(&mut self) {
        let destination = self.transport.remote();
        for datagram in self.transport.take_outgoing() {
            let len = datagram.len();
            transmit(&self.socket, &self.state, destination, &datagram, len);
        }
    }
}

fn transmit(
    socket: &UdpSocket,
    state: &UdpSocketState,
    destination: SocketAddr,
    contents: &[u8],
    segment: usize,
) {
    let transmit = Transmit {
        destination,
        ecn: None,
        contents,
        segment_size: (segment < contents.len()).then_some(segment),
        src_ip: None,
    };
    // What the kernel does not take is lost, as on any network; the server did not lose it and
    // does not number it.
    let _ = state.try_send(UdpSockRef::from(socket), &transmit);
}
