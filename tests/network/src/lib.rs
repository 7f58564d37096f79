//! One direction of a network link, without I/O and without a clock: datagrams and the time go
//! in, the datagrams that arrive come out.
//!
//! A datagram passes through the [`Queue`] in front of the bottleneck, is sent at the link's
//! rate, may be lost on the way, and arrives after the delay. All that is random comes from a
//! seed: the same calls give the same result.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use moim_network::{Link, LinkConfig};
//!
//! let now = Instant::now();
//! let mut link = Link::new(LinkConfig { delay: Duration::from_millis(20), ..Default::default() }, 1);
//! link.send(now, 1_200, "a datagram");
//! assert_eq!(link.poll(now), None);
//! let arrives = link.poll_timeout().unwrap();
//! assert_eq!(arrives, now + Duration::from_millis(20));
//! assert_eq!(link.poll(arrives), Some("a datagram"));
//! ```
#![forbid(unsafe_code)]

mod config;
mod link;
mod loss;
mod queue;

pub use config::{LinkConfig, Loss, Queue};
pub use link::{Link, Statistics};
