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
mod tests {
    use std::net::UdpSocket;

    use mio::{Events, Poll};

    use super::super::socket::Received;
    use super::*;

    const REPORT: [u8; 4] = [0x8f, 205, 0, 0];

    struct Shard {
        poll: Poll,
        socket: ShardSocket,
        reports: Reports,
        client: UdpSocket,
    }

    impl Shard {
        fn new() -> Shard {
            let poll = Poll::new().unwrap();
            let socket = ShardSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let registry = poll.registry().try_clone().unwrap();
            Shard {
                poll,
                reports: Reports::beside(std::slice::from_ref(&socket), registry),
                socket,
                client: UdpSocket::bind("127.0.0.1:0").unwrap(),
            }
        }

        fn send(&self) {
            let to = self.socket.local_addr().unwrap();
            self.client.send_to(&REPORT, to).unwrap();
        }

        /// The token that somebody is woken with, who waits for so long at the most.
        fn woken(&mut self, longest: Duration) -> Option<Token> {
            let mut events = Events::with_capacity(4);
            self.poll.poll(&mut events, Some(longest)).unwrap();
            events.iter().next().map(|event| event.token())
        }

        /// How many are there.
        fn read(&mut self, now: Instant) -> usize {
            let mut found = 0;
            for (_, socket) in self.reports.sockets() {
                if let Received::Batch(count) = socket.receive() {
                    found += socket.datagrams(count).count();
                }
            }
            let all = if found > 0 {
                Found::All
            } else {
                Found::Nothing
            };
            self.reports.were_read(all, now);
            found
        }
    }

    #[test]
    fn reports_that_keep_coming_wake_nobody_and_are_read_in_time() {
        let mut shard = Shard::new();
        let mut now = shard.reports.read;
        for _ in 0..20 {
            assert_eq!(shard.reports.poll_timeout(), Some(now + LONGEST_WAIT));
            shard.send();
            assert_eq!(shard.woken(Duration::ZERO), None);
            now += LONGEST_WAIT;
            assert!(shard.reports.are_due(now));
            assert_eq!(shard.read(now), 1);
            assert!(!shard.reports.are_due(now + INTERVAL / 2));
            assert!(shard.reports.are_due(now + INTERVAL));
        }
    }

    #[test]
    fn after_a_silence_the_next_report_wakes_the_shard_once() {
        let mut shard = Shard::new();
        let mut now = Instant::now() + SILENCE;
        for _ in 0..3 {
            assert_eq!(shard.read(now), 0);
            // The shard may sleep for as long as nothing comes.
            assert_eq!(shard.reports.poll_timeout(), None);
            now += INTERVAL / 2;
            shard.send();
            let token = shard.woken(Duration::from_secs(10)).unwrap();
            assert_eq!(token, Token(1));
            shard.reports.woke(token, now);
            assert!(shard.reports.are_due(now));
            shard.send();
            assert_eq!(shard.woken(Duration::ZERO), None);
            assert_eq!(shard.read(now), 2);
            // Silence begins with the last one.
            assert_eq!(shard.read(now + SILENCE / 2), 0);
            assert!(shard.reports.poll_timeout().is_some());
            now += SILENCE;
        }
    }

    #[test]
    fn a_shard_that_never_waits_finds_them_after_a_silence_too() {
        let mut shard = Shard::new();
        let now = Instant::now() + SILENCE;
        assert_eq!(shard.read(now), 0);
        shard.send();
        assert!(shard.reports.are_due(now + INTERVAL));
        assert_eq!(shard.read(now + INTERVAL), 1);
        assert!(shard.reports.poll_timeout().is_some());
    }

    #[test]
    fn what_is_too_much_for_one_turn_is_read_in_the_next() {
        let mut shard = Shard::new();
        let now = Instant::now() + INTERVAL;
        shard.reports.were_read(Found::Part, now);
        assert!(shard.reports.are_due(now));
        shard.reports.were_read(Found::All, now);
        assert!(!shard.reports.are_due(now));
    }

    #[test]
    fn a_report_that_came_before_the_shard_went_to_sleep_wakes_it() {
        let mut shard = Shard::new();
        shard.send();
        let now = Instant::now() + SILENCE;
        shard.reports.were_read(Found::Nothing, now);
        assert!(shard.woken(Duration::from_secs(10)).is_some());
    }
}
