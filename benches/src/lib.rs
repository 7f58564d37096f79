//! `moim-load`: drives meetings against any server that speaks LiveKit's client protocol, and
//! says what that cost the server and what arrived.
//!
//! A participant here is a lean client: a WebSocket, an ICE agent that checks one pair, a DTLS
//! client, SRTP, data channels, and the reports that a receiver owes. All media is on one
//! thread, so that the other cores are the server's. `session.rs` joins, `client.rs` is what
//! flows on a connection, `driver.rs` gives it sockets and time, `report.rs` says what came of it.
//!
//! [`in_memory`] has the engine and lean clients together without sockets, for the
//! micro-benchmarks and for tests that count.

mod cli;
mod client;
mod clip;
mod cores;
mod driver;
mod feedback;
mod floor;
mod full_client;
pub mod in_memory;
mod outcome;
mod page;
mod process;
mod progress;
mod published;
mod receive;
mod report;
mod report_counter;
mod scenario;
mod sdp;
mod session;
mod shape;
mod source;
mod subscriber;
#[cfg_attr(not(target_os = "linux"), path = "system_calls_elsewhere.rs")]
mod system_calls;
mod voice;

pub use cli::run;
