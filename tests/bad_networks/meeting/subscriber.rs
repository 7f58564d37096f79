//! A client's subscribing connection: the tracks it receives and the feedback it gives.

use std::time::{Duration, Instant};

use moim_engine::ids::TrackId;
use moim_engine::rtp::header::RtpHeader;

use super::arrivals::Arrivals;
use super::connection::Connection;
use super::reception::Reception;
use super::rtcp::{self, Message};

/// Id of the transport-wide sequence number on subscribers' connections.
const TRANSPORT_CC: u8 = 3;
/// Missing packets are looked through this often.
const NACK_INTERVAL: Duration = Duration::from_millis(20);
/// Receiver reports are due this often.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// The subscribing side of a client.
pub(super) struct Subscriber {
    pub(super) connection: Connection,
    pub(super) receptions: Vec<(TrackId, Reception)>,
    arrivals: Arrivals,
    /// Keyframes that it asked for.
    pub(super) keyframe_requests: u32,
    /// Bytes that arrived as RTP, whatever they were, with UDP and IP, in tenths of a second.
    pub(super) bytes: Vec<u64>,
    /// What the server took the network to carry, since the meeting began, in bits a second.
    pub(super) estimates: Vec<(Duration, u64)>,
    /// It tells what it misses.
    pub(super) asks: bool,
    ssrc: u32,
    nack_due: Instant,
    report_due: Instant,
    epoch: Instant,
}

impl Subscriber {
    pub(super) fn new(epoch: Instant, now: Instant, connection: Connection) -> Subscriber {
        let ssrc = 5_000 + connection.id.0 as u32;
        Subscriber {
            connection,
            receptions: Vec::new(),
            arrivals: Arrivals::new(epoch),
            keyframe_requests: 0,
            bytes: Vec::new(),
            estimates: Vec::new(),
            asks: true,
            ssrc,
            nack_due: now + NACK_INTERVAL,
            report_due: now + REPORT_INTERVAL,
            epoch,
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        let own = self.connection.poll_timeout().min(self.nack_due);
        let feedback = self.arrivals.due.unwrap_or(own);
        own.min(feedback).min(self.report_due)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.connection.poll_timeout() <= now {
            self.connection.handle_timeout(now);
        }
        if self.arrivals.due.is_some_and(|due| due <= now) {
            let media = self.receptions.first().map_or(0, |(_, first)| first.ssrc);
            for feedback in self.arrivals.report(now, self.ssrc, media) {
                self.connection.send_rtcp(feedback);
            }
        }
        if self.nack_due <= now {
            self.nack_due = now + NACK_INTERVAL;
            for index in 0..self.receptions.len() {
                self.ask(now, index);
            }
        }
        if self.report_due <= now {
            self.report_due = now + REPORT_INTERVAL;
            self.send_reports(now);
        }
    }

    /// Asks for what a track misses: packets, or a keyframe.
    fn ask(&mut self, now: Instant, index: usize) {
        let reception = &mut self.receptions[index].1;
        let mut compound = Vec::new();
        let missing = if self.asks {
            reception.nacks(now)
        } else {
            Vec::new()
        };
        for some in missing.chunks(200) {
            rtcp::nack(&mut compound, self.ssrc, reception.ssrc, some);
        }
        if reception.wants_keyframe(now) {
            self.keyframe_requests += 1;
            rtcp::picture_loss(&mut compound, self.ssrc, reception.ssrc);
        }
        if !compound.is_empty() {
            self.connection.send_rtcp(compound);
        }
    }

    fn send_reports(&mut self, now: Instant) {
        let blocks: Vec<_> = self
            .receptions
            .iter_mut()
            .filter_map(|(_, reception)| reception.report(now))
            .collect();
        for some in blocks.chunks(31) {
            let mut compound = Vec::new();
            rtcp::receiver_report(&mut compound, self.ssrc, some);
            self.connection.send_rtcp(compound);
        }
    }

    pub(super) fn handle_rtp(&mut self, now: Instant, mut datagram: Vec<u8>) {
        let Some(header) = RtpHeader::parse(&datagram) else {
            return;
        };
        let bytes = datagram.len() + super::network::OVERHEAD;
        let index = self.receptions.iter().position(|(_, reception)| {
            reception.ssrc == header.ssrc || reception.rtx_ssrc == header.ssrc
        });
        let rollover = index.map_or(0, |index| self.receptions[index].1.rollover(&header));
        let Some(len) = self.connection.open_rtp(rollover, &header, &mut datagram) else {
            return;
        };
        let packet = &datagram[..len];
        let number = header
            .extensions(packet)
            .find_map(|(id, data)| (id == TRANSPORT_CC).then(|| data.first_chunk())?);
        if let Some(number) = number {
            self.arrivals
                .record(now, u16::from_be_bytes(*number), bytes);
        }
        let tenth = (now.duration_since(self.epoch).as_millis() / 100) as usize;
        if self.bytes.len() <= tenth {
            self.bytes.resize(tenth + 1, 0);
        }
        self.bytes[tenth] += bytes as u64;
        let Some(index) = index else {
            return;
        };
        let reception = &mut self.receptions[index].1;
        reception.receive(now, &header, packet);
        if reception.has_new_gap() {
            self.ask(now, index);
        }
    }

    pub(super) fn handle_rtcp(&mut self, now: Instant, mut datagram: Vec<u8>) {
        let Some(len) = self.connection.open_rtcp(&mut datagram) else {
            return;
        };
        for message in rtcp::read(&datagram[..len]) {
            let Message::SenderReport { ssrc, compact_ntp } = message else {
                continue;
            };
            for (_, reception) in &mut self.receptions {
                if reception.ssrc == ssrc {
                    reception.sender_report(now, compact_ntp);
                }
            }
        }
    }
}
