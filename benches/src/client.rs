//! One connection of a lean client, without its socket: it sends what its sources make, counts
//! what arrives, and reports that to the server.

use std::time::{Duration, Instant};

use moim_client_transport::Transport;
use moim_engine::rtp::header::RtpHeader;
use moim_engine::rtp::{PacketClass, classify, is_rtcp};
use moim_engine::srtp::MAX_RTCP_OVERHEAD;

use crate::feedback::{Feedback, MAX_RTCP};
use crate::outcome::Outcome;
use crate::published::PublishedTrack;
use crate::receive::{Histogram, Streams};
use crate::sdp::ReceiveParameters;
use crate::shape::{Burst, MAX_RUN};
use crate::source::{STAMP, Source, TRANSPORT_SEQUENCE};
use crate::subscriber::Subscriber;

/// Packets that are not further apart came together.
const BURST_GAP: Duration = Duration::from_millis(1);

/// What makes the packets of the tracks; their m-lines count from 0.
pub(crate) fn sources(now: Instant, tracks: &[PublishedTrack]) -> Vec<Source> {
    let source = |(mid, track): (usize, &PublishedTrack)| {
        // Cameras are not in step with each other.
        let offset = Duration::from_micros(u64::from(track.ssrc.wrapping_mul(7_919)) % 33_000);
        let due = now + offset;
        Source::new(mid as u8, track, due)
    };
    tracks.iter().enumerate().map(source).collect()
}

/// One connection.
pub(crate) struct Client {
    /// When the participant began to join.
    since: Instant,
    pub(crate) transport: Transport,
    sources: Vec<Source>,
    /// Transport-wide, of the next packet that is sent.
    transport_sequence: u16,
    pub(crate) streams: Streams,
    /// What is known of what it receives.
    pub(crate) receive: ReceiveParameters,
    feedback: Feedback,
    latency: Histogram,
    /// Times from the beginning of the join.
    connected: Option<Duration>,
    first_media: Option<Duration>,
    last_arrival: Option<Instant>,
    /// What has arrived since the last pause.
    burst: Burst,
}

impl Client {
    pub(crate) fn new(
        since: Instant,
        transport: Transport,
        sources: Vec<Source>,
        receive: ReceiveParameters,
    ) -> Client {
        Client {
            since,
            transport,
            sources,
            transport_sequence: 0,
            streams: Streams::default(),
            receive,
            feedback: Feedback::new(since),
            latency: Histogram::default(),
            connected: None,
            first_media: None,
            last_arrival: None,
            burst: Burst::new(),
        }
    }

    pub(crate) fn is_subscriber(&self) -> bool {
        self.sources.is_empty()
    }

    /// The server wants of the qualities of its camera, the lowest first, these.
    pub(crate) fn send_qualities(&mut self, wanted: [bool; 3]) {
        for source in &mut self.sources {
            source.send_qualities(wanted);
        }
    }

    /// Starts the counts again from zero.
    pub(crate) fn reset(&mut self) {
        self.streams.reset();
        self.latency = Histogram::default();
    }

    /// Adds up what has been received.
    pub(crate) fn count(&self, participant: usize, outcome: &mut Outcome) -> Subscriber {
        let counts = self.streams.counts();
        outcome.counts.add(&counts);
        outcome.latency.add(&self.latency);
        Subscriber {
            participant,
            counts,
            latency: self.latency.clone(),
            connected: self.connected,
            first_media: self.first_media,
        }
    }

    /// Whether media can flow.
    pub(crate) fn is_open(&self) -> bool {
        self.transport.srtp.is_some()
    }

    /// A datagram of the server. It is decrypted in place.
    pub(crate) fn receive(
        &mut self,
        now: Instant,
        epoch: Instant,
        datagram: &mut [u8],
        outcome: &mut Outcome,
    ) {
        match datagram.first().map(|first| classify(*first)) {
            Some(PacketClass::Stun) => self.transport.handle_stun(now, datagram),
            Some(PacketClass::Dtls) => {
                let open = self.transport.handle_dtls(now, datagram);
                if open && self.is_subscriber() {
                    let time = now.saturating_duration_since(self.since);
                    self.connected = Some(time);
                    outcome.connected.record(time.as_micros() as u64);
                }
                if open {
                    self.sources
                        .iter_mut()
                        .for_each(|source| source.due = source.due.max(now));
                }
            }
            Some(PacketClass::Rtp) if is_rtcp(datagram) => self.rtcp(now, datagram),
            Some(PacketClass::Rtp) => self.media(now, epoch, datagram, outcome),
            _ => {}
        }
    }

    fn media(&mut self, now: Instant, epoch: Instant, datagram: &mut [u8], outcome: &mut Outcome) {
        let (Some((_, receiver)), Some(header)) =
            (&self.transport.srtp, RtpHeader::parse(datagram))
        else {
            return;
        };
        let rollover = self.streams.rollover(header.ssrc, header.sequence);
        let Some(len) = receiver.unprotect_rtp(rollover, header.header_len, datagram) else {
            return;
        };
        let packet = &datagram[..len];
        let transport_cc = self.receive.transport_cc.and_then(|wanted| {
            let mut extensions = header.extensions(packet);
            let (_, data) = extensions.find(|(id, _)| *id == wanted)?;
            data.first_chunk().copied().map(u16::from_be_bytes)
        });
        self.feedback.packet(now, header.ssrc, transport_cc);
        let stamp = header
            .payload(packet)
            .filter(|_| !self.receive.is_repair(header.payload_type))
            .and_then(|payload| payload.last_chunk::<STAMP>());
        self.streams
            .receive(header.ssrc, header.sequence, len, stamp.is_none());
        let last = self.last_arrival.replace(now);
        let paused = last.is_none_or(|last| now.saturating_duration_since(last) > BURST_GAP);
        outcome.bursts.packet(&mut self.burst, len, paused);
        outcome.arrived += 1;
        let Some(stamp) = stamp else {
            return;
        };
        let made = stamp
            .first_chunk::<8>()
            .map_or(0, |b| u64::from_be_bytes(*b));
        let arrived = now.saturating_duration_since(epoch).as_nanos() as u64;
        if made > 0 && made <= arrived {
            self.latency.record((arrived - made) / 1_000);
        }
        if self.first_media.is_none() {
            let time = now.saturating_duration_since(self.since);
            self.first_media = Some(time);
            outcome.first_media.record(time.as_micros() as u64);
        }
    }

    /// Sender reports (RFC 3550), and keyframe requests: PLI (RFC 4585) and FIR (RFC 5104).
    fn rtcp(&mut self, now: Instant, datagram: &mut [u8]) {
        let Some((_, receiver)) = &mut self.transport.srtp else {
            return;
        };
        let Some(len) = receiver.unprotect_rtcp(datagram) else {
            return;
        };
        let mut rest = &datagram[..len];
        while let Some(&[first, kind, l0, l1]) = rest.first_chunk::<4>() {
            let size = 4 * (usize::from(u16::from_be_bytes([l0, l1])) + 1);
            let Some(packet) = rest.get(..size) else {
                return;
            };
            let word = |at: usize| {
                let word = packet.get(at..at + 4)?.first_chunk();
                word.map(|word| u32::from_be_bytes(*word))
            };
            let keyframe = match (kind, first & 31) {
                (206, 1) => word(8),
                (206, 4) => word(12),
                _ => None,
            };
            if let Some(ssrc) = keyframe {
                self.sources
                    .iter_mut()
                    .for_each(|source| source.request_keyframe(ssrc));
            }
            if let (200, Some(ssrc), Some(seconds), Some(fraction)) =
                (kind, word(4), word(8), word(12))
            {
                let ntp = u64::from(seconds) << 32 | u64::from(fraction);
                self.feedback.sender_report(now, ssrc, ntp);
            }
            rest = &rest[size..];
        }
    }

    /// Time has come to [`Client::poll_timeout`]. `send` gets media and RTCP: packets of equal
    /// size one after the other, and that size.
    pub(crate) fn handle_timeout(
        &mut self,
        now: Instant,
        epoch: Instant,
        outcome: &mut Outcome,
        mut send: impl FnMut(&[u8], usize),
    ) {
        self.transport.handle_timeout(now);
        let Some((sender, _)) = &mut self.transport.srtp else {
            return;
        };
        self.feedback.write(now, &mut self.streams, |rtcp| {
            let mut packet = [0; MAX_RTCP + MAX_RTCP_OVERHEAD];
            packet[..rtcp.len()].copy_from_slice(rtcp);
            let len = sender.protect_rtcp(&mut packet, rtcp.len());
            send(&packet[..len], len);
            outcome.feedback += 1;
        });
        let mut run: Vec<u8> = Vec::new();
        let mut segment = 0;
        for source in self.sources.iter_mut().filter(|source| source.due <= now) {
            source.produce(now, epoch, |packet, len, sequence, header| {
                let number = &mut self.transport_sequence;
                packet[TRANSPORT_SEQUENCE].copy_from_slice(&number.to_be_bytes());
                *number = number.wrapping_add(1);
                let len = sender.protect_rtp(sequence >> 16, header, packet, len);
                if !run.is_empty() && (len != segment || run.len() + len > MAX_RUN) {
                    send(&run, segment);
                    run.clear();
                }
                segment = len;
                run.extend_from_slice(&packet[..len]);
                outcome.sent += 1;
            });
        }
        if !run.is_empty() {
            send(&run, segment);
        }
    }

    /// When [`Client::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Instant {
        let transport = self.transport.poll_timeout();
        let media = self.sources.iter().map(|source| source.due).min();
        let flowing = media.into_iter().chain(self.feedback.due());
        flowing
            .filter(|_| self.is_open())
            .fold(transport, Instant::min)
    }
}
