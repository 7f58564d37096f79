//! The client's end of one connection below RTP, sans-I/O: what the load tester's thousands of
//! clients and those of simulated meetings have in common. It is as cheap as a thousand of them
//! in one process must be.
//!
//! [`Transport`] checks one ICE pair, is the DTLS client, gives the keys of SRTP and acknowledges
//! the server's data channels. Datagrams and the time go in, datagrams come out; what is RTP is
//! its owner's.
#![forbid(unsafe_code)]

mod data_channels;
mod identity;
mod transport;

pub use identity::Identity;
pub use transport::Transport;
