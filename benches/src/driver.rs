//! The media of all participants, on one thread: sockets, timers, counting.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use moim_client_transport::{Identity, Transport};
use moim_engine::command::IceCredentials;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

use crate::client::{Client, sources};
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::published::PublishedTrack;
use crate::sdp::ReceiveParameters;

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
    /// What is known of what it receives.
    pub(crate) receive: ReceiveParameters,
    /// Whether our side nominates.
    pub(crate) controls: bool,
    /// When the participant began to join.
    pub(crate) since: Instant,
}

/// Orders for the media thread.
pub(crate) enum Order {
    Start(Box<Start>),
    /// What a participant's subscriber connection receives from now on.
    Receive(usize, ReceiveParameters),
    /// Which qualities of a participant's camera the server wants, the lowest first.
    SendQualities(usize, [bool; 3]),
    /// Ends a participant's connections.
    Stop(usize),
    /// From here on it counts.
    Reset,
    /// It is over.
    Finish,
}

struct Connection {
    participant: usize,
    socket: UdpSocket,
    state: UdpSocketState,
    client: Client,
    armed: Option<Instant>,
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
    progress: Arc<Progress>,
}

impl Driver {
    /// `epoch` is when the time in the stamps of payloads begins.
    pub(crate) fn new(
        identity: Identity,
        spin: bool,
        epoch: Instant,
        progress: Arc<Progress>,
    ) -> io::Result<Driver> {
        Ok(Driver {
            identity,
            epoch,
            spin,
            poll: Poll::new()?,
            connections: Vec::new(),
            timers: BinaryHeap::new(),
            outcome: Outcome::default(),
            counting_since: epoch,
            idle: Duration::ZERO,
            progress,
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
            self.progress
                .publish(self.outcome.arrived, self.outcome.feedback);
            loop {
                match orders.try_recv() {
                    Ok(Order::Start(start)) => self.start(*start)?,
                    Ok(Order::Receive(participant, parameters)) => {
                        self.set_receive(participant, parameters);
                    }
                    Ok(Order::SendQualities(participant, wanted)) => {
                        self.send_qualities(participant, wanted);
                    }
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
        let mut transport = Transport::new(
            now,
            &self.identity,
            &start.local,
            &start.remote,
            start.address,
            start.controls,
        );
        if start.tracks.is_empty() {
            transport = transport.with_data_channels();
        }
        let sources = sources(now, &start.tracks);
        self.connections.push(Some(Connection {
            participant: start.participant,
            socket,
            state,
            client: Client::new(start.since, transport, sources, start.receive),
            armed: None,
        }));
        self.arm(index, now);
        Ok(())
    }

    fn set_receive(&mut self, participant: usize, parameters: ReceiveParameters) {
        for connection in self.connections.iter_mut().flatten() {
            if connection.participant == participant && connection.client.is_subscriber() {
                connection.client.receive = parameters;
            }
        }
    }

    fn send_qualities(&mut self, participant: usize, wanted: [bool; 3]) {
        for connection in self.connections.iter_mut().flatten() {
            if connection.participant == participant {
                connection.client.send_qualities(wanted);
            }
        }
    }

    fn stop(&mut self, participant: usize) {
        for place in &mut self.connections {
            if place.as_ref().is_some_and(|c| c.participant == participant)
                && let Some(connection) = place.take()
            {
                connection.client.count(participant, &mut self.outcome);
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
            connection.client.reset();
        }
        self.counting_since = Instant::now();
        self.idle = Duration::ZERO;
    }

    fn finish(mut self) -> Outcome {
        for connection in self.connections.iter().flatten() {
            let client = &connection.client;
            let subscriber = client.count(connection.participant, &mut self.outcome);
            self.outcome.streams += client.streams.len();
            self.outcome.receivers += usize::from(subscriber.counts.received > 0);
            if client.is_subscriber() {
                self.outcome.subscribers.push(subscriber);
            }
            self.outcome.connections += 1;
            self.outcome.open += usize::from(connection.client.is_open());
            let transport = &connection.client.transport;
            self.outcome.with_data += usize::from(transport.has_data());
            self.outcome.data_open += usize::from(transport.channels() > 0);
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
                connection.handle_timeout(now, self.epoch, &mut self.outcome);
                self.arm(index, now);
            }
        }
        fired
    }

    fn arm(&mut self, index: usize, now: Instant) {
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return;
        };
        let due = connection.client.poll_timeout().max(now);
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
                    let outcome = &mut self.outcome;
                    connection
                        .client
                        .receive(now, self.epoch, datagram, outcome);
                }
            }
            connection.flush();
        }
        self.arm(index, Instant::now());
    }
}

impl Connection {
    fn handle_timeout(&mut self, now: Instant, epoch: Instant, outcome: &mut Outcome) {
        let (socket, state) = (&self.socket, &self.state);
        let destination = self.client.transport.remote();
        self.client
            .handle_timeout(now, epoch, outcome, |run, segment| {
                transmit(socket, state, destination, run, segment);
            });
        self.flush();
    }

    fn flush(&mut self) {
        let destination = self.client.transport.remote();
        for datagram in self.client.transport.take_outgoing() {
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
