//! Many runs of datagrams to many destinations in one system call (`sendmmsg`, `UDP_SEGMENT`),
//! which no crate offers with a segment size for each run.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use libc::{c_uint, c_void, cmsghdr, iovec, mmsghdr, msghdr};
use socket2::SockAddr;

/// Most runs that one call sends.
const MOST: usize = 32;

/// Datagrams to one destination.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// Where the run goes.
    pub destination: SocketAddr,
    /// The segments, one after the other.
    pub contents: &'a [u8],
    /// The length of each but the last, which may be shorter; `None` when there is only one.
    pub segment_size: Option<usize>,
}

/// What `UDP_SEGMENT` takes: the size of a segment.
type SegmentSize = u16;

// SAFETY: it computes a length from a length.
const CONTROL_LEN: usize = unsafe { libc::CMSG_SPACE(size_of::<SegmentSize>() as c_uint) } as usize;

/// Room for one control message, placed as the kernel wants it.
#[repr(C)]
union Control {
    bytes: [u8; CONTROL_LEN],
    _align: cmsghdr,
}

/// Sends runs in their order, [`MOST`] at the most; the socket is bound and does not block.
/// Returns how many the kernel took.
///
/// # Errors
/// When it did not take the first one: it has no room, or refuses segments.
pub fn send_many<'a>(socket: &UdpSocket, runs: impl Iterator<Item = Run<'a>>) -> io::Result<usize> {
    let mut names: [Option<SockAddr>; MOST] = [const { None }; MOST];
    // SAFETY: all of these are plain numbers and pointers, for which zero is a value.
    let (mut vectors, mut controls, mut messages) = unsafe {
        (
            zeroed::<[iovec; MOST]>(),
            zeroed::<[Control; MOST]>(),
            zeroed::<[mmsghdr; MOST]>(),
        )
    };
    let mut count = 0;
    let parts = names.iter_mut().zip(&mut vectors).zip(&mut controls);
    for ((message, ((name, vector), control)), run) in messages.iter_mut().zip(parts).zip(runs) {
        let name = name.insert(SockAddr::from(run.destination));
        vector.iov_base = run.contents.as_ptr().cast::<c_void>().cast_mut();
        vector.iov_len = run.contents.len();
        let header = &mut message.msg_hdr;
        header.msg_name = name.as_ptr().cast::<c_void>().cast_mut();
        header.msg_namelen = name.len();
        header.msg_iov = vector;
        header.msg_iovlen = 1;
        if let Some(size) = run.segment_size {
            header.msg_control = std::ptr::from_mut(control).cast();
            header.msg_controllen = CONTROL_LEN as _;
            set_segment_size(header, size as SegmentSize);
        }
        count += 1;
    }
    if count == 0 {
        return Ok(0);
    }
    loop {
        // SAFETY: this many messages are filled in, and what they point to (names, vectors, control
        // messages, the runs' bytes) outlives the call; the kernel reads it and writes no more
        // than each message's length.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), count, 0) };
        if sent >= 0 {
            return Ok(sent as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Writes the control message of a header that has a [`Control`].
fn set_segment_size(header: &mut msghdr, size: SegmentSize) {
    // SAFETY: there is room for exactly one message of this type, so the first one is there and
    // ends within it.
    unsafe {
        let control = libc::CMSG_FIRSTHDR(header);
        (*control).cmsg_level = libc::SOL_UDP;
        (*control).cmsg_type = libc::UDP_SEGMENT;
        (*control).cmsg_len = libc::CMSG_LEN(size_of::<SegmentSize>() as c_uint) as _;
        let data = libc::CMSG_DATA(control).cast::<SegmentSize>();
        data.write_unaligned(size);
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use super::*;

    fn run(to: &UdpSocket, contents: &'static [u8], segment_size: Option<usize>) -> Run<'static> {
        Run {
            destination: to.local_addr().unwrap(),
            contents,
            segment_size,
        }
    }

    fn received(socket: &UdpSocket, count: usize) -> Vec<Vec<u8>> {
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut buffer = [0; 100];
        (0..count)
            .map(|_| {
                let len = socket.recv(&mut buffer).unwrap();
                buffer[..len].to_vec()
            })
            .collect()
    }

    fn are_sent_between(address: std::net::IpAddr) {
        let bound = || UdpSocket::bind((address, 0)).unwrap();
        let (sender, first, second) = (bound(), bound(), bound());
        let runs = [
            run(&first, b"aaabbbcc", Some(3)),
            run(&second, b"alone", None),
            run(&first, b"ddee", Some(2)),
        ];
        assert_eq!(send_many(&sender, runs.into_iter()).unwrap(), 3);
        let to_first: [&[u8]; 5] = [b"aaa", b"bbb", b"cc", b"dd", b"ee"];
        assert_eq!(received(&first, 5), to_first);
        assert_eq!(received(&second, 1), [b"alone"]);
    }

    #[test]
    fn runs_to_several_destinations_are_sent_in_one_call() {
        are_sent_between(Ipv4Addr::LOCALHOST.into());
    }

    #[test]
    fn so_are_those_over_ipv6() {
        if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            are_sent_between(Ipv6Addr::LOCALHOST.into());
        }
    }

    #[test]
    fn no_more_than_a_call_takes_are_sent() {
        let bound = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (sender, receiver) = (bound(), bound());
        let runs = [run(&receiver, b"x", None); MOST + 1];
        assert_eq!(send_many(&sender, runs.into_iter()).unwrap(), MOST);
        assert_eq!(send_many(&sender, std::iter::empty()).unwrap(), 0);
    }

    #[test]
    fn what_the_kernel_refuses_is_an_error_when_it_is_first() {
        let bound = || UdpSocket::bind("127.0.0.1:0").unwrap();
        let (sender, receiver) = (bound(), bound());
        static TOO_LARGE: [u8; 70_000] = [0; 70_000];
        let refused = run(&receiver, &TOO_LARGE, None);
        let taken = run(&receiver, b"x", None);
        assert_eq!(
            send_many(&sender, [taken, refused, taken].into_iter()).unwrap(),
            1
        );
        assert!(send_many(&sender, [refused, taken].into_iter()).is_err());
    }
}
