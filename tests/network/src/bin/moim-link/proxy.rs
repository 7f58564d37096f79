//! Signaling: TCP connections handed through to the server. What the server says of its own
//! address becomes ours on the way, so that clients send their media to us.
//!
//! Both addresses have the same length. So the lengths that WebSocket frames and protobuf
//! messages carry stay right, and the stream need not be understood.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Connections at once; further ones are closed.
const MAX_CONNECTIONS: usize = 64;

/// What `127.0.0.1` begins with. The last digit follows.
const PREFIX: &[u8] = b"127.0.0.";

/// Listens at `address`, and hands connections through to `server` from a thread of its own.
/// `last` is the last digit of our address.
pub(crate) fn listen(address: SocketAddrV4, server: SocketAddrV4, last: u8) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    let open = Arc::new(AtomicUsize::new(0));
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            if open.fetch_add(1, Ordering::Relaxed) >= MAX_CONNECTIONS {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let open = Arc::clone(&open);
            thread::spawn(move || {
                // A connection that breaks concerns its two ends alone; they notice.
                let _ = connect_through(&client, server, last);
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(())
}

fn connect_through(client: &TcpStream, server: SocketAddrV4, last: u8) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    thread::scope(|scope| {
        scope.spawn(|| pass(client, &server, |_| {}));
        let mut rewriter = Rewriter::new(last);
        pass(&server, client, |bytes| rewriter.rewrite(bytes));
    });
    Ok(())
}

/// Passes bytes on until one side ends, and ends the other.
fn pass(mut from: &TcpStream, mut to: &TcpStream, mut change: impl FnMut(&mut [u8])) {
    let mut buffer = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..length];
        change(bytes);
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Read);
    let _ = to.shutdown(Shutdown::Write);
}

/// Turns each `127.0.0.1` of a stream into another address of its length, wherever reads cut it.
///
/// Only the last digit changes, so no byte has to wait for what follows it.
struct Rewriter {
    last: u8,
    /// Bytes of [`PREFIX`] that the stream ends with so far.
    matched: usize,
}

impl Rewriter {
    fn new(last: u8) -> Rewriter {
        Rewriter { last, matched: 0 }
    }

    fn rewrite(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.matched = match PREFIX.get(self.matched) {
                Some(expected) if byte == expected => self.matched + 1,
                None if *byte == b'1' => {
                    *byte = self.last;
                    0
                }
                // The first byte stands nowhere else in the prefix: no other start is missed.
                _ => usize::from(*byte == PREFIX[0]),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_replaced_wherever_reads_cut_it() {
        let stream = b"127.0.0.1 7882 1127.0.0.1 127.0.0.2 127.0.127.0.0.1";
        let expected = b"127.0.0.5 7882 1127.0.0.5 127.0.0.2 127.0.127.0.0.5";
        for length in 1..stream.len() {
            let mut rewriter = Rewriter::new(b'5');
            let mut out = *stream;
            out.chunks_mut(length)
                .for_each(|bytes| rewriter.rewrite(bytes));
            assert_eq!(&out, expected, "reads of {length}");
        }
    }
}
