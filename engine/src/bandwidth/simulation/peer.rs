//! One subscriber: the server's side, which sends frames at the estimate, paced, with padding for
//! probes; and the client's side, which reports what arrived.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::{RngExt, rngs::SmallRng};

use crate::bandwidth::units::Micros;
use crate::bandwidth::{BandwidthEstimator, Probe};
use crate::receive::transport_cc::TransportCcRecorder;
use crate::wire::rtcp::{self, RtcpPacket};

const FRAME_INTERVAL: Micros = 33_333;
const PACKET: u32 = 1_200;
/// The server sends in runs this far apart.
const FLUSH: Micros = 3_000;
/// Paced at this many times the estimate, while the way is not overloaded.
const PACE: f64 = 1.5;

/// Both ends.
pub(super) struct Peer {
    start: Instant,
    starts: Micros,
    estimator: BandwidthEstimator,
    wanted: f64,
    next_frame: Micros,
    next_flush: Micros,
    queue: VecDeque<u32>,
    credit: f64,
    probe: Option<(Probe, u32, u32)>,
    recorder: TransportCcRecorder,
    arrivals: VecDeque<(Micros, u16)>,
    feedback_interval: Micros,
    next_feedback: Micros,
    reports: VecDeque<(Micros, Vec<u8>)>,
}

impl Peer {
    /// A subscriber whose media begins at `starts` and whose target bitrate is `wanted`, bit/s.
    pub(super) fn new(
        start: Instant,
        starts: Micros,
        wanted: f64,
        feedback_interval: Micros,
    ) -> Self {
        let mut estimator = BandwidthEstimator::new(start);
        estimator.want(start, wanted as u64);
        Peer {
            start,
            starts,
            estimator,
            wanted,
            next_frame: starts,
            next_flush: starts,
            queue: VecDeque::new(),
            credit: 0.0,
            probe: None,
            recorder: TransportCcRecorder::default(),
            arrivals: VecDeque::new(),
            feedback_interval,
            next_feedback: starts + feedback_interval,
            reports: VecDeque::new(),
        }
    }

    pub(super) fn estimate(&self) -> f64 {
        self.estimator.estimate() as f64
    }

    /// The server's side.
    pub(super) fn step(
        &mut self,
        now: Micros,
        media: f64,
        rng: &mut SmallRng,
        mut send: impl FnMut(u16, u32),
    ) {
        if now < self.starts {
            return;
        }
        let at = self.start + micros(now);
        while self.reports.front().is_some_and(|(when, _)| *when <= now) {
            if let Some((_, bytes)) = self.reports.pop_front()
                && let Some(RtcpPacket::TransportFeedback(feedback)) = rtcp::packets(&bytes).next()
            {
                self.estimator.on_feedback(at, at, &feedback, |_| {});
            }
        }
        while self.estimator.poll_timeout().is_some_and(|due| due <= at) {
            self.estimator.handle_timeout(at);
        }
        let wanted = if self.estimate() < self.wanted {
            self.wanted
        } else {
            0.0
        };
        self.estimator.want(at, wanted as u64);
        if now >= self.next_frame {
            self.next_frame += FRAME_INTERVAL;
            let rate = self.estimate().min(self.wanted).min(media);
            self.add_frame(rate, rng);
        }
        if now >= self.next_flush {
            self.next_flush += FLUSH;
            self.flush(at, &mut send);
        }
    }

    fn add_frame(&mut self, rate: f64, rng: &mut SmallRng) {
        let backlog: u32 = self.queue.iter().sum();
        // An allocation holds back when the pacer is behind.
        if f64::from(backlog) * 8.0 > rate * 0.2 {
            return;
        }
        let bytes = rate / 8.0 * (FRAME_INTERVAL as f64 / 1e6) * rng.random_range(0.7..1.3);
        let packets = (bytes / f64::from(PACKET)).ceil().max(1.0);
        for _ in 0..packets as u32 {
            self.queue.push_back((bytes / packets) as u32);
        }
    }

    fn flush(&mut self, at: Instant, send: &mut impl FnMut(u16, u32)) {
        if self.probe.is_none() {
            self.probe = self.estimator.poll_probe(at).map(|probe| (probe, 0, 0));
            if self.probe.is_some() {
                self.credit = 0.0;
            }
        }
        let seconds = FLUSH as f64 / 1e6;
        let rate = match &self.probe {
            Some((probe, ..)) => probe.bps as f64,
            None if !self.estimator.may_probe() => self.estimate(),
            None => PACE * self.estimate(),
        };
        self.credit = (self.credit + rate / 8.0 * seconds).min(rate / 8.0 * seconds + 1_500.0);
        while self.credit > 0.0 {
            let (bytes, id) = match &mut self.probe {
                Some((probe, packets, sent)) => {
                    let padding = (probe.bytes_min / probe.packets_min).clamp(200, 1_000);
                    let bytes = self.queue.pop_front().unwrap_or(padding);
                    *packets += 1;
                    *sent += bytes;
                    (bytes, Some(probe.id))
                }
                None => match self.queue.pop_front() {
                    Some(bytes) => (bytes, None),
                    None => {
                        self.credit = 0.0;
                        return;
                    }
                },
            };
            self.credit -= f64::from(bytes);
            let sequence = self.estimator.on_sent(at, bytes as usize, 0, id);
            send(sequence, bytes);
            if self.probe.is_some_and(|(probe, packets, sent)| {
                packets >= probe.packets_min && sent >= probe.bytes_min
            }) {
                self.probe = None;
                self.credit = self.credit.min(0.0);
            }
        }
    }

    /// A packet is at the client at that time.
    pub(super) fn arrive(&mut self, when: Micros, sequence: u16) {
        self.arrivals.push_back((when, sequence));
    }

    /// The client reports, where it is time.
    pub(super) fn feedback(&mut self, now: Micros, way: Micros, lost: bool) {
        if now < self.next_feedback {
            return;
        }
        self.next_feedback += self.feedback_interval;
        while let Some(&(when, sequence)) = self.arrivals.front() {
            if when > now {
                break;
            }
            self.arrivals.pop_front();
            self.recorder.record(sequence, self.start + micros(when));
        }
        let mut out = [0; 1_150];
        while let len @ 1.. = self.recorder.write_feedback(1, 2, &mut out) {
            if !lost {
                self.reports.push_back((now + way, out[..len].to_vec()));
            }
        }
    }
}

/// A span of virtual time.
fn micros(time: Micros) -> Duration {
    Duration::from_micros(time as u64)
}
