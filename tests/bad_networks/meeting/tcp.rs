//! A TCP flow beside the media: CUBIC (RFC 9438) with selective acknowledgements, as far as a
//! queue sees it. The server's host sends, a client's host acknowledges each segment.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A full segment with its headers, bytes.
pub(super) const SEGMENT: usize = 1_500;
/// An acknowledgement, bytes.
pub(super) const ACKNOWLEDGEMENT: usize = 52;
/// Segments at the beginning (RFC 6928).
const INITIAL_WINDOW: f64 = 10.0;
/// RFC 9438, section 4.6 and 5.1.
const BETA: f64 = 0.7;
const C: f64 = 0.4;
/// This many later segments acknowledged: the segment is lost.
const REORDERING: u64 = 3;
/// The least retransmission timeout.
const MIN_TIMEOUT: Duration = Duration::from_millis(200);

/// The sender of one flow.
#[derive(Debug)]
pub(super) struct TcpFlow {
    /// Segments still to send, for a flow that ends.
    left: Option<u64>,
    next_segment: u64,
    /// Segments under way: when they were sent.
    under_way: BTreeMap<u64, Instant>,
    highest_acknowledged: u64,
    window: f64,
    threshold: f64,
    /// Window before the last reduction, and when that was.
    window_max: f64,
    reduced_at: Option<Instant>,
    /// Losses of segments before this one were answered by the last reduction.
    recovery: u64,
    rtt: Duration,
    last_progress: Instant,
    pub(super) stopped: bool,
    /// Segments acknowledged.
    pub(super) delivered: u64,
}

impl TcpFlow {
    /// `bytes` to send, or without an end.
    pub(super) fn new(now: Instant, bytes: Option<u64>) -> TcpFlow {
        TcpFlow {
            left: bytes.map(|bytes| bytes.div_ceil(SEGMENT as u64)),
            next_segment: 0,
            under_way: BTreeMap::new(),
            highest_acknowledged: 0,
            window: INITIAL_WINDOW,
            threshold: f64::MAX,
            window_max: 0.0,
            reduced_at: None,
            recovery: 0,
            rtt: Duration::from_millis(200),
            last_progress: now,
            stopped: false,
            delivered: 0,
        }
    }

    /// True when all has been sent and acknowledged.
    pub(super) fn is_done(&self) -> bool {
        self.stopped || (self.left == Some(0) && self.under_way.is_empty())
    }

    /// The next segment to send now.
    pub(super) fn poll_send(&mut self, now: Instant) -> Option<u64> {
        let may = !self.stopped && (self.under_way.len() as f64) < self.window;
        if !may || self.left == Some(0) {
            return None;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        if self.under_way.is_empty() {
            self.last_progress = now;
        }
        let segment = self.next_segment;
        self.next_segment += 1;
        self.under_way.insert(segment, now);
        Some(segment)
    }

    /// An acknowledgement of a segment arrived. Lost segments get new numbers and so are sent
    /// again.
    pub(super) fn acknowledged(&mut self, now: Instant, segment: u64) {
        let Some(sent) = self.under_way.remove(&segment) else {
            return;
        };
        self.delivered += 1;
        self.last_progress = now;
        self.rtt = (self.rtt * 7 + now.duration_since(sent)) / 8;
        self.highest_acknowledged = self.highest_acknowledged.max(segment);
        self.grow(now);
        let lost: Vec<u64> = self
            .under_way
            .range(..self.highest_acknowledged.saturating_sub(REORDERING - 1))
            .map(|(lost, _)| *lost)
            .collect();
        for segment in lost {
            self.lose(now, segment);
        }
    }

    fn grow(&mut self, now: Instant) {
        if self.window < self.threshold {
            self.window += 1.0;
            return;
        }
        // RFC 9438, section 4.2, and the Reno-friendly region of section 4.3.
        let since = self
            .reduced_at
            .map_or(0.0, |at| now.duration_since(at).as_secs_f64());
        let rtt = self.rtt.as_secs_f64();
        let k = (self.window_max * (1.0 - BETA) / C).cbrt();
        let target = C * (since + rtt - k).powi(3) + self.window_max;
        let alpha = 3.0 * (1.0 - BETA) / (1.0 + BETA);
        let reno = self.window_max * BETA + alpha * since / rtt;
        let target = target.max(reno).clamp(self.window, 1.5 * self.window);
        self.window += (target - self.window) / self.window;
    }

    fn lose(&mut self, now: Instant, segment: u64) {
        self.under_way.remove(&segment);
        if let Some(left) = &mut self.left {
            *left += 1;
        }
        if segment < self.recovery {
            return;
        }
        self.recovery = self.next_segment;
        self.window_max = self.window;
        self.window = (self.window * BETA).max(2.0);
        self.threshold = self.window;
        self.reduced_at = Some(now);
    }

    fn timeout(&self) -> Option<Instant> {
        let waits = !self.under_way.is_empty() && !self.stopped;
        waits.then(|| self.last_progress + (2 * self.rtt).max(MIN_TIMEOUT))
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timeout()
    }

    /// Nothing came back for too long: all is lost, and the window is reset.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.timeout().is_none_or(|timeout| timeout > now) {
            return;
        }
        let lost = std::mem::take(&mut self.under_way).len() as u64;
        if let Some(left) = &mut self.left {
            *left += lost;
        }
        self.threshold = (self.window * BETA).max(2.0);
        self.window_max = self.window;
        self.window = 1.0;
        self.recovery = self.next_segment;
        self.reduced_at = Some(now);
        self.last_progress = now;
    }
}
