//! Reports that wait for media, on sockets of the system's.

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

    /// The token of the event that wakes the poll within this time.
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
