//! One UDP socket of a shard, read and written in batches.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

/// Asked of the kernel for each direction, so that a burst of keyframes fits.
const KERNEL_BUFFER: usize = 4 << 20;
/// Largest datagram read, times the datagrams that one read may join.
const MAX_DATAGRAM: usize = 2_048;

/// What came of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Received {
    Nothing,
    /// So many messages, each of one or more datagrams.
    Batch(usize),
}

/// What became of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Yes,
    /// The kernel has no room: real-time media is not worth waiting for.
    Dropped,
}

/// A bound socket with its buffers.
pub(super) struct ShardSocket {
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: [Box<[u8]>; BATCH_SIZE],
    meta: [RecvMeta; BATCH_SIZE],
}

impl ShardSocket {
    /// Binds and registers for reading under `index`.
    pub(super) fn bind(
        address: SocketAddr,
        registry: &Registry,
        index: usize,
    ) -> io::Result<ShardSocket> {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::DGRAM,
            Some(Protocol::UDP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // As much as the kernel allows; less is not an error.
        let _ = socket.set_recv_buffer_size(KERNEL_BUFFER);
        let _ = socket.set_send_buffer_size(KERNEL_BUFFER);
        socket.bind(&address.into())?;
        let socket: UdpSocket = socket.into();
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        use std::os::fd::AsRawFd;
        registry.register(
            &mut SourceFd(&socket.as_raw_fd()),
            Token(index),
            Interest::READABLE,
        )?;
        let size = MAX_DATAGRAM * state.gro_segments().max(1);
        Ok(ShardSocket {
            socket,
            state,
            buffers: std::array::from_fn(|_| vec![0; size].into()),
            meta: [RecvMeta::default(); BATCH_SIZE],
        })
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Reads one batch.
    pub(super) fn receive(&mut self) -> Received {
        let mut slices = self
            .buffers
            .each_mut()
            .map(|buffer| IoSliceMut::new(buffer));
        let received = self
            .state
            .recv(UdpSockRef::from(&self.socket), &mut slices, &mut self.meta);
        match received {
            Ok(count) => Received::Batch(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
            // An ICMP answer to something sent earlier; the next read goes on.
            Err(error) => {
                tracing::trace!(%error, "receive");
                Received::Batch(0)
            }
        }
    }

    /// The datagrams of the last batch, which had `count` messages.
    pub(super) fn datagrams(
        &mut self,
        count: usize,
    ) -> impl Iterator<Item = (SocketAddr, &mut [u8])> {
        let messages = self.meta.iter().zip(&mut self.buffers).take(count);
        messages.flat_map(|(meta, buffer)| {
            let datagrams = buffer[..meta.len].chunks_mut(meta.stride.max(1));
            datagrams.map(|datagram| (meta.addr, datagram))
        })
    }

    /// Sends one run.
    pub(super) fn send(
        &self,
        destination: SocketAddr,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> Sent {
        let max = self.state.max_gso_segments().max(1);
        let per_call = segment_size
            .map_or(contents.len(), |size| size * max)
            .max(1);
        for part in contents.chunks(per_call) {
            let transmit = Transmit {
                destination,
                ecn: None,
                contents: part,
                segment_size: segment_size.filter(|size| *size < part.len()),
                src_ip: None,
            };
            // `try_send` steps down by itself where the kernel or the card refuses segments.
            let outcome = self
                .state
                .try_send(UdpSockRef::from(&self.socket), &transmit);
            if let Err(error) = outcome {
                tracing::trace!(%error, %destination, "send");
                return Sent::Dropped;
            }
        }
        Sent::Yes
    }
}
