//! One peer connection below RTP: ICE, DTLS and the data channels, and whether the peer is
//! still there.

pub(crate) mod byte_queue;
mod client_hello;
mod data_channels;
mod data_outbox;
mod dtls;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod ice;
mod other_streams;
mod receive_window;
mod sctp_budget;
mod sctp_packet;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::api::command::{DataChannel, Fingerprint, IceCredentials, NewTransport};
use crate::wire::srtp::SrtpProfile;
use byte_queue::ByteQueue;
use data_channels::DataChannels;
pub use dtls::{DtlsError, ServerCertificate};
use dtls::{DtlsEvent, DtlsServer};
pub(crate) use ice::username_fragment;
use ice::{IceLite, StunOutcome};

/// A peer that has sent no check for this long may be gone. Browsers send one every 2.5 s.
const CONSENT_SILENT: Duration = Duration::from_secs(8);
/// A peer that has sent no check for this long is gone (RFC 7675, section 5.1).
const CONSENT_EXPIRED: Duration = Duration::from_secs(30);
/// A connection whose first check does not come for this long is given up.
const FIRST_CHECK_TIMEOUT: Duration = Duration::from_secs(60);
/// Addresses of a peer that have passed a check.
const MAX_ADDRESSES: usize = 8;
/// Bytes of datagrams that wait to leave, which they do before the next input. What does not
/// fit is as if lost on the network.
const MAX_OUTGOING: usize = 4 << 20;
/// Events that wait to be taken, which they are after each input: that causes a few.
const MAX_EVENTS: usize = 64;

/// What the engine has to know of a connection.
pub(crate) enum TransportEvent {
    /// The peer is who it says: the keys for its media.
    SecureWith {
        profile: SrtpProfile,
        keying_material: Vec<u8>,
    },
    /// The peer does not read its reliable data, or does again.
    DataStalled(bool),
    /// No check for a while.
    Silent,
    /// Checks again.
    Back,
    /// It is over. Said once.
    Failed(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    /// No check yet.
    Awaited {
        since: Instant,
    },
    There,
    Silent,
    Ended,
}

/// One peer connection below RTP.
pub(crate) struct Transport {
    ice: IceLite,
    dtls: DtlsServer,
    data: DataChannels,
    /// Addresses that have passed a check, the latest last.
    validated: Vec<SocketAddr>,
    remote: Option<SocketAddr>,
    presence: Presence,
    outgoing: ByteQueue<(SocketAddr, Bytes)>,
    events: VecDeque<TransportEvent>,
}

impl Transport {
    pub(crate) fn new(
        new: &NewTransport,
        certificate: Arc<ServerCertificate>,
        now: Instant,
    ) -> Transport {
        Transport {
            ice: IceLite::new(&new.local_ice),
            dtls: DtlsServer::new(certificate),
            data: DataChannels::new(new.opens_data_channels),
            validated: Vec::new(),
            remote: None,
            presence: Presence::Awaited { since: now },
            outgoing: ByteQueue::new(MAX_OUTGOING),
            events: VecDeque::new(),
        }
    }

    /// What the peer's SDP says.
    pub(crate) fn set_remote(
        &mut self,
        now: Instant,
        ice: &IceCredentials,
        fingerprint: Fingerprint,
    ) {
        self.ice.set_remote(ice);
        for datagram in self.dtls.expect(fingerprint) {
            self.read_dtls(now, &datagram);
        }
    }

    /// As if a check from `source` had passed, and checks went on for ever.
    #[cfg(test)]
    pub(crate) fn assume_validated(&mut self, source: SocketAddr) {
        self.validated.push(source);
        self.remote = Some(source);
        self.presence = Presence::There;
    }

    pub(crate) fn restart_ice(&mut self, local: &IceCredentials) {
        self.ice.restart(local);
    }

    /// Whether a source has passed a check, so that what it sends is looked at.
    pub(crate) fn is_validated(&self, source: SocketAddr) -> bool {
        self.validated.contains(&source)
    }

    /// Where to send to.
    pub(crate) fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    pub(crate) fn handle_stun(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        let mut answer = Vec::new();
        let outcome = self.ice.handle(now, source, datagram, &mut answer);
        if !answer.is_empty() {
            self.outgoing.push((source, answer.into()));
        }
        let StunOutcome::Passed { nominated } = outcome else {
            return;
        };
        if !self.validated.contains(&source) {
            if self.validated.len() == MAX_ADDRESSES {
                let unused = self
                    .validated
                    .iter()
                    .position(|address| Some(*address) != self.remote);
                self.validated.remove(unused.unwrap_or(0));
            }
            self.validated.push(source);
        }
        // The first valid pair serves until one is nominated; a later nomination moves it.
        if nominated || self.remote.is_none() {
            self.remote = Some(source);
        }
        match self.presence {
            Presence::Awaited { .. } => self.presence = Presence::There,
            Presence::Silent => {
                self.presence = Presence::There;
                self.say(TransportEvent::Back);
            }
            Presence::There | Presence::Ended => {}
        }
    }

    /// A DTLS datagram. Only from where a check has passed: anybody could send a ClientHello.
    pub(crate) fn handle_dtls(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        if self.is_validated(source) {
            self.read_dtls(now, datagram);
        }
    }

    fn read_dtls(&mut self, now: Instant, datagram: &[u8]) {
        let mut happened = Vec::new();
        let outcome = self.dtls.handle(now, datagram, &mut happened);
        for event in happened {
            match event {
                DtlsEvent::Connected {
                    profile,
                    keying_material,
                } => self.say(TransportEvent::SecureWith {
                    profile,
                    keying_material,
                }),
                DtlsEvent::ApplicationData(data) => self.data.handle(now, data),
                DtlsEvent::Closed => self.fail("the peer closed the connection"),
            }
        }
        if let Err(error) = outcome {
            self.fail(&error.to_string());
        }
        self.settle(now);
    }

    /// Sends a message on a data channel as soon as the peer takes it. It is dropped when the
    /// channel is lossy and much waits, or the peer has stalled.
    pub(crate) fn send_data(&mut self, now: Instant, channel: DataChannel, payload: &Bytes) {
        if self.presence != Presence::Ended {
            self.data.send(now, channel, payload);
            self.settle(now);
        }
    }

    /// Whether those that send reliable data to the peer are not to be read for now.
    pub(crate) fn holds_up(&self) -> bool {
        self.presence != Presence::Ended && self.data.holds_up()
    }

    /// The next message on one of the lossy channels.
    pub(crate) fn poll_lossy(&mut self, now: Instant) -> Option<(DataChannel, Bytes)> {
        self.data.poll_lossy(now)
    }

    /// Whether there may be a message on a channel that is read as reliable.
    pub(crate) fn has_reliable(&self) -> bool {
        self.data.has_reliable()
    }

    /// The next message on the reliable channel or on one with a label of the peer's own.
    pub(crate) fn poll_reliable(&mut self, now: Instant) -> Option<(DataChannel, Bytes)> {
        let message = self.data.poll_reliable(now);
        self.settle(now);
        message
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Err(error) = self.dtls.handle_timeout(now) {
            self.fail(&error.to_string());
        }
        if self.data.poll_timeout().is_some_and(|due| due <= now) {
            self.data.handle_timeout(now);
        }
        self.check_presence(now);
        self.settle(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let presence = match self.presence {
            Presence::Awaited { since } => Some(since + FIRST_CHECK_TIMEOUT),
            Presence::There => self.ice.last_check().map(|last| last + CONSENT_SILENT),
            Presence::Silent => self.ice.last_check().map(|last| last + CONSENT_EXPIRED),
            Presence::Ended => return None,
        };
        [presence, self.dtls.poll_timeout(), self.data.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<(SocketAddr, Bytes)> {
        self.outgoing.pop()
    }

    pub(crate) fn poll_event(&mut self) -> Option<TransportEvent> {
        self.events.pop_front()
    }

    /// Says goodbye.
    pub(crate) fn close(&mut self, now: Instant) {
        self.dtls.close(now);
        self.settle(now);
        self.presence = Presence::Ended;
    }

    fn check_presence(&mut self, now: Instant) {
        let passed = |since: Instant, limit| now.saturating_duration_since(since) >= limit;
        match (self.presence, self.ice.last_check()) {
            (Presence::Awaited { since }, _) if passed(since, FIRST_CHECK_TIMEOUT) => {
                self.fail("no ICE check arrived");
            }
            (Presence::There, Some(last)) if passed(last, CONSENT_SILENT) => {
                self.presence = Presence::Silent;
                self.say(TransportEvent::Silent);
            }
            (Presence::Silent, Some(last)) if passed(last, CONSENT_EXPIRED) => {
                self.fail("the peer sends no ICE checks any more");
            }
            _ => {}
        }
    }

    fn say(&mut self, event: TransportEvent) {
        if self.events.len() < MAX_EVENTS {
            self.events.push_back(event);
        } else {
            self.fail("its events are not taken");
        }
    }

    fn fail(&mut self, reason: &str) {
        if self.presence != Presence::Ended {
            self.presence = Presence::Ended;
            self.events
                .push_back(TransportEvent::Failed(reason.to_owned()));
        }
    }

    /// Moves what the layers have produced: SCTP through DTLS, DTLS to the network, events up.
    fn settle(&mut self, now: Instant) {
        if let Some(stalled) = self.data.poll_stalled() {
            self.say(TransportEvent::DataStalled(stalled));
        }
        if let Some(reason) = self.data.poll_failure() {
            self.fail(&format!("data channels: {reason}"));
        }
        while let Some(packet) = self.data.poll_transmit() {
            self.dtls.write(now, &packet);
        }
        while let Some(datagram) = self.dtls.poll_transmit() {
            if let Some(remote) = self.remote {
                self.outgoing.push((remote, datagram.freeze()));
            }
        }
    }
}
