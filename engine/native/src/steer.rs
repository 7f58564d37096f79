//! Which of the sockets of one address gets a datagram (`SO_ATTACH_REUSEPORT_CBPF`), which no
//! crate offers.

use std::io;
use std::mem::size_of_val;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use libc::{
    BPF_ABS, BPF_ALU, BPF_AND, BPF_H, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, sock_filter,
    sock_fprog, socklen_t,
};

/// Gives what begins with `beginning`, where the bits of `mask` are set, to the second of the
/// sockets that share an address, and all else to the first: they are counted in the order in
/// which they were bound.
///
/// # Errors
/// When the system does not know such filters, or the socket shares its address with no other.
pub fn steer(socket: &UdpSocket, beginning: u16, mask: u16) -> io::Result<()> {
    let instruction = |code: u32, k: u32, jf: u8| sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    // A datagram that is too short to be looked at is the first one's, as if 0 were returned.
    let mut filter = [
        instruction(BPF_LD | BPF_H | BPF_ABS, 0, 0),
        instruction(BPF_ALU | BPF_AND | BPF_K, mask.into(), 0),
        instruction(BPF_JMP | BPF_JEQ | BPF_K, (beginning & mask).into(), 1),
        instruction(BPF_RET | BPF_K, 1, 0),
        instruction(BPF_RET | BPF_K, 0, 0),
    ];
    let program = sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the program, whose length is given in instructions, and keeps no
    // pointer to it.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            std::ptr::from_ref(&program).cast(),
            size_of_val(&program) as socklen_t,
        )
    };
    match status {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
