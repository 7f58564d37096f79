//! The subscribers' reports of their way (transport-wide feedback), which wait for media.
//!
//! Every subscriber sends some ten of them a second, each at a moment of its own, and in a small
//! webinar waking up for each would cost more than all that is done with it. Where the system can
//! tell them from the rest they have a socket of their own, which is read when media has just been
//! sent: what a report is compared with is in the processor's caches then. What else a subscriber
//! may say, such as what it misses, waits for nothing.

use std::io;
use std::time::{Duration, Instant};

use mio::{Registry, Token};

use super::socket::ShardSocket;
use moim_engine::io::LocalSocket;

/// A subscriber reports ten times a second; reading more often than this finds few at a time.
const INTERVAL: Duration = Duration::from_millis(10);
/// Longest time for which a report waits: a little longer than a camera's frame lasts.
const LONGEST_WAIT: Duration = Duration::from_millis(40);
/// After this time without reports the next one wakes the shard. A subscriber that receives
/// anything sends several within it.
const SILENCE: Duration = Duration::from_millis(250);

/// What reading the sockets gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Found {
    Nothing,
    All,
    /// So much that the shard has something else to do before the rest.
    Part,
}

/// The sockets for reports of a shard: beside its others, as far as the system lets it.
pub(super) struct Reports {
    sockets: Vec<ShardSocket>,
    registry: Registry,
    /// Token of the first socket.
    first: Token,
    /// When they were read last.
    read: Instant,
    /// When reports were found last.
    found: Instant,
    /// They are registered: the next report wakes the shard.
    wakes: bool,
}

impl Reports {
    /// Sockets beside each of the others, where the system can tell reports from the rest.
    pub(super) fn beside(sockets: &[ShardSocket], registry: Registry) -> Reports {
        let now = Instant::now();
        Reports {
            sockets: sockets.iter().map_while(ShardSocket::for_reports).collect(),
            registry,
            first: Token(sockets.len()),
            read: now,
            found: now,
            wakes: false,
        }
    }

    /// One of the sockets has woken the shard: they are due.
    pub(super) fn woke(&mut self, token: Token, now: Instant) {
        let ours = self.first.0..self.first.0 + self.sockets.len();
        if ours.contains(&token.0) {
            self.read = now.checked_sub(LONGEST_WAIT).unwrap_or(self.read);
            self.wake(false);
        }
    }

    /// Until when the shard may sleep without looking at them.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let is_looked_at = !self.wakes && !self.sockets.is_empty();
        is_looked_at.then(|| self.read + LONGEST_WAIT)
    }

    /// Whether they should be read in a turn of the shard, when its media has left. A shard that
    /// never waits for its sockets reads them too.
    pub(super) fn are_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.read) >= INTERVAL
    }

    /// To be read now. The others' index names those beside them.
    pub(super) fn sockets(&mut self) -> impl Iterator<Item = (LocalSocket, &mut ShardSocket)> {
        let sockets = self.sockets.iter_mut().enumerate();
        sockets.map(|(index, socket)| {
            socket.listen();
            (LocalSocket(index as u8), socket)
        })
    }

    /// They have been read.
    pub(super) fn were_read(&mut self, found: Found, now: Instant) {
        if found != Found::Part {
            self.read = now;
        }
        if found != Found::Nothing {
            self.found = now;
        }
        self.wake(now.saturating_duration_since(self.found) >= SILENCE);
    }

    /// Lets the next report wake the shard, or not.
    fn wake(&mut self, wakes: bool) {
        if self.wakes == wakes {
            return;
        }
        let tokens = (self.first.0..).map(Token);
        let done: io::Result<()> =
            self.sockets
                .iter()
                .zip(tokens)
                .try_for_each(|(socket, token)| {
                    if wakes {
                        socket.register(&self.registry, token)
                    } else {
                        socket.deregister(&self.registry)
                    }
                });
        // What the system refuses to wake the shard for is looked at as before; what it still
        // wakes it for costs time and nothing else.
        self.wakes = wakes && done.is_ok();
    }
}

#[cfg(test)]
#[cfg(any(target_os = "linux", target_os = "android"))]
mod tests;
