//! A client's publishing connection: what it publishes, and how it answers the server's RTCP.

use std::time::{Duration, Instant};

use super::connection::Connection;
use super::publication::Publication;
use super::rtcp::{self, Message};

/// Sender reports are due this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The NTP time at which every meeting begins.
const EPOCH_NTP: u64 = 3_900_000_000;

/// What a publisher was told so far.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Told {
    /// Keyframes asked for.
    pub(crate) keyframes: u32,
    /// Packets requested by NACK.
    pub(crate) nacks: u32,
    /// Packets that transport-wide feedback covered, and those of them that arrived.
    pub(crate) covered: u32,
    /// See `covered`.
    pub(crate) arrived: u32,
}

/// The publishing side of a client.
pub(super) struct Publisher {
    pub(super) connection: Connection,
    pub(super) publications: Vec<Publication>,
    pub(super) told: Told,
    transport_cc: u16,
    report_due: Instant,
    epoch: Instant,
}

impl Publisher {
    pub(super) fn new(epoch: Instant, now: Instant, connection: Connection) -> Publisher {
        Publisher {
            connection,
            publications: Vec::new(),
            told: Told::default(),
            transport_cc: 0,
            report_due: now + Duration::from_millis(200),
            epoch,
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        let frames = self.publications.iter().map(|publication| publication.due);
        let own = self.connection.poll_timeout().min(self.report_due);
        frames.fold(own, Instant::min)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.connection.poll_timeout() <= now {
            self.connection.handle_timeout(now);
        }
        for publication in &mut self.publications {
            while publication.due <= now {
                for packet in publication.produce(now, &mut self.transport_cc) {
                    self.connection.send_rtp(packet);
                }
            }
        }
        if self.report_due <= now {
            self.report_due = now + REPORT_INTERVAL;
            self.send_reports(now);
        }
    }

    fn send_reports(&mut self, now: Instant) {
        let since = now.duration_since(self.epoch);
        let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
        let ntp = ((EPOCH_NTP + since.as_secs()) << 32) | fraction;
        let mut compound = Vec::new();
        for publication in &self.publications {
            for (ssrc, timestamp, packets, octets) in publication.sent(now) {
                rtcp::sender_report(&mut compound, ssrc, ntp, timestamp, packets, octets);
            }
        }
        if !compound.is_empty() {
            self.connection.send_rtcp(compound);
        }
    }

    pub(super) fn handle_rtcp(&mut self, mut datagram: Vec<u8>) {
        let Some(len) = self.connection.open_rtcp(&mut datagram) else {
            return;
        };
        for message in rtcp::read(&datagram[..len]) {
            match message {
                Message::Nack { media, sequences } => {
                    self.told.nacks += sequences.len() as u32;
                    for publication in &mut self.publications {
                        for packet in publication.again(media, &sequences, &mut self.transport_cc) {
                            self.connection.send_rtp(packet);
                        }
                    }
                }
                Message::Keyframe { media } => {
                    self.told.keyframes += 1;
                    for publication in &mut self.publications {
                        publication.keyframe_wanted(media);
                    }
                }
                Message::TransportCc { covered, arrived } => {
                    self.told.covered += u32::from(covered);
                    self.told.arrived += u32::from(arrived);
                }
                Message::SenderReport { .. } => {}
            }
        }
    }
}
