//! One UDP socket of a shard, read and written in batches.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Once;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use moim_engine::io::Transmit;
#[cfg(any(target_os = "linux", target_os = "android"))]
use moim_native::{
    send_many::{Run, send_many},
    steer::steer,
};

/// Asked of the kernel for each direction, so that a burst of keyframes fits.
const KERNEL_BUFFER: usize = 4 << 20;
/// What any kernel has.
const SMALL_KERNEL_BUFFER: usize = 64 << 10;
/// Largest datagram read.
const MAX_DATAGRAM: usize = 2_048;
/// Most that datagrams which are read as one (UDP_GRO) come to: what a UDP datagram's length field
/// can say.
const MAX_JOINED: usize = 64 << 10;

/// How transport-wide feedback begins: version 2 and format 15, then payload type 205 (RFC 4585,
/// section 6.1; draft-holmer-rmcat-transport-wide-cc-extensions-01). Neither is encrypted
/// (RFC 3711, section 3.4).
#[cfg(any(target_os = "linux", target_os = "android"))]
const TRANSPORT_FEEDBACK: u16 = 0x8fcd;
/// The bit in it that tells of padding.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PADDING: u16 = 0x2000;

/// Nothing waits longer to be read; what seems to was stamped before the clock was set.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Whether a read that fills fewer buffers than it could has found the socket empty: true of
/// recvmmsg, not of calls that read one message.
const READS_ALL: bool = cfg!(any(target_os = "linux", target_os = "android"));

/// So that the log says once that this machine cannot send or receive runs of datagrams.
static LACKING: Once = Once::new();
static REFUSED: Once = Once::new();
static UNSTEERED: Once = Once::new();

/// What came of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    Nothing,
    /// So many messages, each of one or more datagrams.
    Batch(usize),
}

/// A bound socket with its buffers.
pub(super) struct ShardSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: [Box<[u8]>; BATCH_SIZE],
    meta: [RecvMeta; BATCH_SIZE],
    /// Something may be there to be read.
    readable: bool,
}

impl ShardSocket {
    /// Binds a socket that nobody else has.
    pub(super) fn bind(address: SocketAddr) -> io::Result<ShardSocket> {
        ShardSocket::new(unbound(address)?, address)
    }

    /// A second socket of the same address, which the subscribers' reports come to instead; `None`
    /// where the system cannot tell them from the rest.
    pub(super) fn for_reports(&self) -> Option<ShardSocket> {
        let beside = self.bind_for_reports();
        if let Err(error) = &beside {
            UNSTEERED.call_once(|| {
                tracing::info!(
                    %error,
                    "this system cannot give reports a socket of their own; each wakes a shard, \
                     which costs more CPU"
                );
            });
        }
        beside.ok()
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn bind_for_reports(&self) -> io::Result<ShardSocket> {
        let address = self.local_addr()?;
        let socket = unbound(address)?;
        socket.set_reuse_port(true)?;
        // Only now that nobody else can have the address.
        let first = socket2::SockRef::from(&self.socket);
        first.set_reuse_port(true)?;
        let beside = ShardSocket::new(socket, address);
        let steered = beside.and_then(|beside| {
            steer(&beside.socket, TRANSPORT_FEEDBACK, !PADDING)?;
            Ok(beside)
        });
        if steered.is_err() {
            first.set_reuse_port(false)?;
        }
        steered
    }

    /// This system has no such filters.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn bind_for_reports(&self) -> io::Result<ShardSocket> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn new(socket: Socket, address: SocketAddr) -> io::Result<ShardSocket> {
        socket.bind(&address.into())?;
        let socket: UdpSocket = socket.into();
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let (gso, gro) = (state.max_gso_segments() > 1, state.gro_segments() > 1);
        if !gso || !gro {
            LACKING.call_once(|| {
                tracing::info!(
                    gso,
                    gro,
                    "this system does not join datagrams in both directions; they go one by \
                     one, which costs more CPU"
                );
            });
        }
        let size = (MAX_DATAGRAM * state.gro_segments().max(1)).min(MAX_JOINED);
        Ok(ShardSocket {
            socket,
            state,
            buffers: std::array::from_fn(|_| vec![0; size].into()),
            meta: [RecvMeta::default(); BATCH_SIZE],
            readable: true,
        })
    }

    /// From now on what comes wakes who polls, under this token.
    pub(super) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        let descriptor = self.socket.as_raw_fd();
        registry.register(&mut SourceFd(&descriptor), token, Interest::READABLE)
    }

    /// What comes wakes nobody any more.
    pub(super) fn deregister(&self, registry: &Registry) -> io::Result<()> {
        registry.deregister(&mut SourceFd(&self.socket.as_raw_fd()))
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Something may be there: the next [`ShardSocket::receive`] looks.
    pub(super) fn listen(&mut self) {
        self.readable = true;
    }

    /// Reads one batch.
    pub(super) fn receive(&mut self) -> Received {
        if !self.readable {
            return Received::Nothing;
        }
        let mut slices = self
            .buffers
            .each_mut()
            .map(|buffer| IoSliceMut::new(buffer));
        let received = self
            .state
            .recv(UdpSockRef::from(&self.socket), &mut slices, &mut self.meta);
        match received {
            Ok(count) => {
                self.readable = count == BATCH_SIZE || !READS_ALL;
                Received::Batch(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Received::Nothing
            }
            // An ICMP answer to something sent earlier; the next read goes on.
            Err(error) => {
                tracing::trace!(%error, "receive");
                Received::Batch(0)
            }
        }
    }

    /// The messages of the last batch, which had `count` of them: where each is from, and its
    /// datagrams one behind the other.
    pub(super) fn messages(&self, count: usize) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let messages = self.meta.iter().zip(&self.buffers).take(count);
        messages.map(|(meta, buffer)| (meta.addr, &buffer[..meta.len]))
    }

    /// The datagrams of the last batch, which had `count` messages: how long each has waited to be
    /// read, where it is from, and what it holds.
    pub(super) fn datagrams(
        &mut self,
        count: usize,
    ) -> impl Iterator<Item = (Duration, SocketAddr, &mut [u8])> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let messages = self.meta.iter().zip(&mut self.buffers).take(count);
        messages.flat_map(move |(meta, buffer)| {
            let waited = waited(now, meta.timestamp);
            let datagrams = buffer[..meta.len].chunks_mut(meta.stride.max(1));
            datagrams.map(move |datagram| (waited, meta.addr, datagram))
        })
    }

    /// Sends runs, many in a call where the system has such calls. Returns how many the kernel
    /// did not take: when it has no room, real-time media is not worth waiting for.
    pub(super) fn send<'a>(&self, mut runs: impl Iterator<Item = Transmit<'a>> + Clone) -> u64 {
        let dropped = self.send_together(&mut runs);
        dropped + runs.filter(|run| !self.send_one(run)).count() as u64
    }

    /// Sends many in a call, as long as the kernel takes segments.
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn send_together<'a>(&self, runs: &mut (impl Iterator<Item = Transmit<'a>> + Clone)) -> u64 {
        let mut dropped = 0;
        while self.state.max_gso_segments() > 1 {
            let together = runs.clone().map(|run| Run {
                destination: run.destination,
                contents: run.contents,
                segment_size: run.segment_size,
            });
            match send_many(&self.socket, together) {
                Ok(0) => return dropped,
                Ok(sent) => runs.by_ref().take(sent).for_each(drop),
                Err(error) => {
                    let refused = runs.next();
                    let has_room = error.kind() != io::ErrorKind::WouldBlock;
                    let sent = has_room && refused.is_some_and(|run| self.send_one(&run));
                    dropped += u64::from(!sent);
                }
            }
        }
        dropped
    }

    /// This system has no such call.
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn send_together<'a>(&self, _: &mut impl Iterator<Item = Transmit<'a>>) -> u64 {
        0
    }

    /// Sends one run, segment by segment where it must be; false when the kernel did not take it.
    fn send_one(&self, run: &Transmit<'_>) -> bool {
        let (socket, state) = (&self.socket, &self.state);
        let sent = send_run(
            run.contents,
            run.segment_size,
            || state.max_gso_segments().max(1),
            |part, segment_size| {
                let transmit = quinn_udp::Transmit {
                    destination: run.destination,
                    ecn: None,
                    contents: part,
                    segment_size,
                    src_ip: None,
                };
                state.try_send(UdpSockRef::from(socket), &transmit)
            },
        );
        if let Err(error) = &sent {
            tracing::trace!(%error, destination = %run.destination, "send");
        }
        sent.is_ok()
    }
}

fn unbound(address: SocketAddr) -> io::Result<Socket> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    enlarge(|size| socket.set_recv_buffer_size(size));
    enlarge(|size| socket.set_send_buffer_size(size));
    Ok(socket)
}

/// How long ago the kernel stamped a datagram, by a clock that may have been set since. Kernels that
/// stamp none give no better answer than that it has just come.
fn waited(now: Duration, stamp: Option<Duration>) -> Duration {
    stamp
        .and_then(|stamp| now.checked_sub(stamp))
        .filter(|waited| *waited < LONGEST_WAIT)
        .unwrap_or_default()
}

/// Asks for as large a buffer as there is to be had. Linux gives less than what is asked for where
/// it has a bound; others refuse, and leave a buffer that is smaller than one keyframe.
fn enlarge(set: impl Fn(usize) -> io::Result<()>) {
    let mut size = KERNEL_BUFFER;
    while set(size).is_err() && size > SMALL_KERNEL_BUFFER {
        size /= 2;
    }
}

/// Sends a run in calls of as many segments as are taken. Where the kernel or the card refuses
/// segments, `max_segments` falls to one with the refusal, and what was refused goes out one by
/// one, as everything does from then on.
fn send_run(
    contents: &[u8],
    segment_size: Option<usize>,
    max_segments: impl Fn() -> usize,
    mut send: impl FnMut(&[u8], Option<usize>) -> io::Result<()>,
) -> io::Result<()> {
    let Some(size) = segment_size.filter(|size| (1..contents.len()).contains(size)) else {
        return send(contents, None);
    };
    let max = max_segments();
    let mut rest = contents;
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(rest.len().min(size * max));
        let joined = part.len() > size;
        match send(part, joined.then_some(size)) {
            Err(error) if joined && max_segments() == 1 => {
                REFUSED.call_once(|| {
                    tracing::warn!(%error, "the network card or the kernel refuses segmented \
                        sends; datagrams go one by one, which costs more CPU");
                });
                for segment in rest.chunks(size) {
                    send(segment, None)?;
                }
                return Ok(());
            }
            sent => sent?,
        }
        rest = behind;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// A kernel that takes `max` segments at once, until it finds that the card takes none.
    struct Kernel {
        max: Cell<usize>,
        card_takes_segments: bool,
        sent: RefCell<Vec<u8>>,
        calls: Cell<usize>,
    }

    impl Kernel {
        fn new(max: usize, card_takes_segments: bool) -> Kernel {
            Kernel {
                max: Cell::new(max),
                card_takes_segments,
                sent: RefCell::default(),
                calls: Cell::new(0),
            }
        }

        fn run(&self, contents: &[u8], segment_size: Option<usize>) {
            let sent = send_run(
                contents,
                segment_size,
                || self.max.get(),
                |part, segment_size| {
                    self.calls.set(self.calls.get() + 1);
                    assert!(part.len() <= segment_size.unwrap_or(10) * self.max.get());
                    if segment_size.is_some() && !self.card_takes_segments {
                        self.max.set(1);
                        return Err(io::Error::from(io::ErrorKind::InvalidInput));
                    }
                    self.sent.borrow_mut().extend_from_slice(part);
                    Ok(())
                },
            );
            sent.unwrap();
        }
    }

    #[test]
    fn a_run_is_sent_in_as_few_calls_as_the_kernel_takes() {
        let kernel = Kernel::new(4, true);
        let contents: Vec<u8> = (0..95).collect();
        kernel.run(&contents, Some(10));
        assert_eq!(kernel.sent.take(), contents);
        assert_eq!(kernel.calls.get(), 3);
    }

    #[test]
    fn a_refused_run_is_sent_again_one_by_one_and_no_run_is_tried_after_it() {
        let kernel = Kernel::new(4, false);
        let contents: Vec<u8> = (0..95).collect();
        kernel.run(&contents, Some(10));
        assert_eq!(kernel.sent.take(), contents);
        assert_eq!(kernel.calls.get(), 11);
        kernel.run(&contents[..25], Some(10));
        assert_eq!(kernel.sent.take(), contents[..25]);
        assert_eq!(kernel.calls.get(), 14);
    }

    #[test]
    fn a_kernel_that_refuses_large_buffers_is_asked_for_smaller_ones() {
        let asked = RefCell::new(Vec::new());
        let bounded = |bound: usize| {
            asked.borrow_mut().clear();
            enlarge(|size| {
                asked.borrow_mut().push(size);
                (size <= bound)
                    .then_some(())
                    .ok_or(io::ErrorKind::InvalidInput.into())
            });
            asked.borrow().last().copied()
        };
        assert_eq!(bounded(usize::MAX), Some(KERNEL_BUFFER));
        assert_eq!(bounded(600 << 10), Some(512 << 10));
        assert_eq!(bounded(0), Some(SMALL_KERNEL_BUFFER));
    }

    #[test]
    fn a_stamp_that_no_wait_explains_counts_as_none() {
        let now = Duration::from_secs(1_000);
        let stamped = |ago| waited(now, now.checked_sub(ago));
        let ago = Duration::from_millis(30);
        assert_eq!(stamped(ago), ago);
        assert_eq!(stamped(LONGEST_WAIT), Duration::ZERO);
        assert_eq!(waited(now, Some(now + ago)), Duration::ZERO);
        assert_eq!(waited(now, None), Duration::ZERO);
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn it_is_known_how_long_a_datagram_has_waited() {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut socket = ShardSocket::bind(address).unwrap();
        let sender = UdpSocket::bind(address).unwrap();
        let to = socket.local_addr().unwrap();
        let sent = |number: u8| sender.send_to(&[number], to);
        // Linux begins to stamp a moment after it was asked to, when nobody else had asked before.
        let ago = Duration::from_millis(2);
        for _ in 0..500 {
            sent(0).unwrap();
            std::thread::sleep(ago);
            socket.listen();
            if let Received::Batch(count) = socket.receive()
                && socket.datagrams(count).any(|(waited, ..)| waited >= ago)
            {
                break;
            }
        }
        socket.listen();
        sent(1).unwrap();
        std::thread::sleep(Duration::from_millis(30));
        sent(2).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        let Received::Batch(count) = socket.receive() else {
            panic!("nothing is there");
        };
        let waits: Vec<Duration> = socket.datagrams(count).map(|(waited, ..)| waited).collect();
        let [first, second] = waits[..] else {
            panic!("not two: {waits:?}");
        };
        // A clock that is being set right may run a little slow.
        assert!(second >= Duration::from_millis(9), "{waits:?}");
        assert!(first - second >= Duration::from_millis(29), "{waits:?}");
    }

    #[test]
    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn reports_come_to_a_socket_of_their_own_and_nothing_else_does() {
        let mut socket = ShardSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let mut reports = socket.for_reports().unwrap();
        let to = socket.local_addr().unwrap();
        assert_eq!(reports.local_addr().unwrap(), to);
        let nack: &[u8] = &[0x81, 205, 0, 1];
        let others: [&[u8]; 7] = [
            nack,
            &[0x81, 206, 0, 1],
            &[0x8f, 206, 0, 1],
            &[0x80, 96],
            &[0x4f, 205],
            &[0x8f],
            &[0, 1, 0, 0],
        ];
        let feedback: [&[u8]; 2] = [&[0x8f, 205, 0, 1], &[0xaf, 205, 0, 1]];
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for datagram in others.iter().chain(&feedback) {
            sender.send_to(datagram, to).unwrap();
        }
        let received = |socket: &mut ShardSocket| -> Vec<Vec<u8>> {
            let Received::Batch(count) = socket.receive() else {
                panic!("nothing is there");
            };
            let datagrams = socket.datagrams(count);
            datagrams.map(|(_, _, bytes)| bytes.to_vec()).collect()
        };
        assert_eq!(received(&mut socket), others);
        assert_eq!(received(&mut reports), feedback);
        // A second server is told that the address is taken.
        let second = ShardSocket::bind(to).err().map(|error| error.kind());
        assert_eq!(second, Some(io::ErrorKind::AddrInUse));
    }

    #[test]
    fn a_single_datagram_is_sent_as_it_is() {
        let kernel = Kernel::new(4, false);
        kernel.run(&[1; 8], None);
        kernel.run(&[1; 8], Some(8));
        assert_eq!((kernel.sent.take().len(), kernel.calls.get()), (16, 2));
    }
}
