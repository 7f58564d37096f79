//! Agents: programs that join rooms as participants, such as those of LiveKit's agents framework.
//! Their workers hold a WebSocket to the server ([`socket`]) and are given jobs ([`pool`]).
//!
//! Rooms hand their facts over and do not wait.

mod assignment;
mod dispatcher;
mod pool;
mod socket;

pub use dispatcher::Agents;
pub use socket::router;
