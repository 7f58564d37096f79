//! A link emulator in user space: one home with its own bottleneck, for clients that run on the
//! machine of the server.
//!
//! `moim-link ADDRESS HTTP_PORT MEDIA_PORT` stands at a loopback address of its own before a
//! server on 127.0.0.1. The address must be as long as the server's, `127.0.0.2` to
//! `127.0.0.9`. Clients connect to the same ports there: signaling passes unshaped, with the
//! server's address in it replaced ([`proxy`]); every datagram of media passes through one
//! [`moim_network::Link`] a direction, which all clients share ([`relay`]). Links start perfect
//! and are changed, and asked for their statistics, on standard input ([`control`]). The process
//! ends when that does.
#![forbid(unsafe_code)]

mod control;
mod proxy;
mod relay;

use std::env;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::thread;

use relay::Relay;

/// Where the server is.
const SERVER: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [address, http, media] = arguments.as_slice() else {
        return Err("usage: moim-link ADDRESS HTTP_PORT MEDIA_PORT".into());
    };
    let address = address.parse::<Ipv4Addr>()?;
    let last = match address.octets() {
        [127, 0, 0, last @ 2..=9] => b'0' + last,
        _ => return Err("the address must be one of 127.0.0.2 to 127.0.0.9".into()),
    };
    let (http, media) = (http.parse::<u16>()?, media.parse::<u16>()?);

    proxy::listen(
        SocketAddrV4::new(address, http),
        SocketAddrV4::new(SERVER, http),
        last,
    )?;
    let (relay, orders) = Relay::new(
        SocketAddrV4::new(address, media),
        SocketAddrV4::new(SERVER, media),
    )?;
    thread::spawn(move || relay.run());
    control::obey(&orders)?;
    Ok(())
}
