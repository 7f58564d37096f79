//! The floor: what a forwarded packet costs at the very least on this machine, right now. One
//! copy, one AES-GCM seal, one segment of a segmented send over loopback.

use std::io::IoSliceMut;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

use crate::process::thread_cpu_ns;

const PACKET: usize = 1_200;
const TAG: usize = 16;
const HEADER: usize = 20;
const PACKETS: usize = 200_000;

/// Nanoseconds of one core a packet, with runs of `segments`, to a receiver that is awake.
///
/// # Errors
/// When sockets are not to be had.
pub(crate) fn measure(segments: usize) -> anyhow::Result<u64> {
    let (sender, receiver) = (
        UdpSocket::bind("127.0.0.1:0")?,
        UdpSocket::bind("127.0.0.1:0")?,
    );
    let destination = receiver.local_addr()?;
    let stop = Arc::new(AtomicBool::new(false));
    let draining = drain(receiver, stop.clone())?;
    let state = UdpSocketState::new(UdpSockRef::from(&sender))?;
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[7; 16])?);
    let source = [9u8; PACKET];
    let stride = PACKET + TAG;
    let mut run = vec![0u8; segments * stride];
    let before = thread_cpu_ns();
    let mut counter = 0u64;
    for _ in 0..PACKETS / segments {
        for packet in run.chunks_exact_mut(stride) {
            counter += 1;
            packet[..PACKET].copy_from_slice(&source);
            packet[2..4].copy_from_slice(&(counter as u16).to_be_bytes());
            let (body, tag) = packet.split_at_mut(PACKET);
            let (header, payload) = body.split_at_mut(HEADER);
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&counter.to_be_bytes());
            let nonce = Nonce::assume_unique_for_key(nonce);
            let sealed = key.seal_in_place_separate_tag(nonce, Aad::from(&*header), payload)?;
            tag.copy_from_slice(sealed.as_ref());
        }
        let transmit = Transmit {
            destination,
            ecn: None,
            contents: &run,
            segment_size: (segments > 1).then_some(stride),
            src_ip: None,
        };
        // A full receive buffer loses packets and costs the same.
        let _ = state.try_send(UdpSockRef::from(&sender), &transmit);
    }
    let used = thread_cpu_ns() - before;
    stop.store(true, Ordering::Relaxed);
    let _ = draining.join();
    Ok(used / (PACKETS / segments * segments) as u64)
}

fn drain(socket: UdpSocket, stop: Arc<AtomicBool>) -> anyhow::Result<std::thread::JoinHandle<()>> {
    socket.set_nonblocking(true)?;
    let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
    Ok(std::thread::spawn(move || {
        let mut buffers = vec![vec![0u8; 65_536]; BATCH_SIZE];
        let mut meta = vec![RecvMeta::default(); BATCH_SIZE];
        while !stop.load(Ordering::Relaxed) {
            let mut slices: Vec<IoSliceMut<'_>> =
                buffers.iter_mut().map(|b| IoSliceMut::new(b)).collect();
            let _ = state.recv(UdpSockRef::from(&socket), &mut slices, &mut meta);
        }
    }))
}
