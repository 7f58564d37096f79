//! Transport-wide feedback as browsers give it: when each packet arrived
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01), at an interval that keeps it at a
//! twentieth of what arrives.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Bounds of the interval.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(250));
/// What a feedback datagram is reckoned to weigh, bits.
const FEEDBACK_BITS: f64 = 68.0 * 8.0;
/// Packets that one feedback covers at most.
const MAX_COVERED: u64 = 300;
/// A delta counts this many microseconds.
const DELTA: i64 = 250;
/// The reference time counts this many microseconds.
const REFERENCE: i64 = 64_000;

/// When which packet arrived, until it is reported.
#[derive(Debug)]
pub(super) struct Arrivals {
    epoch: Instant,
    waiting: BTreeMap<u64, i64>,
    /// The first number that the next feedback covers.
    next: Option<u64>,
    highest: u64,
    count: u8,
    bytes: u64,
    rate: f64,
    last: Instant,
    /// When feedback is due.
    pub(super) due: Option<Instant>,
}

impl Arrivals {
    pub(super) fn new(epoch: Instant) -> Arrivals {
        Arrivals {
            epoch,
            waiting: BTreeMap::new(),
            next: None,
            // Room below for a packet that comes before the first.
            highest: 1 << 20,
            count: 0,
            bytes: 0,
            rate: 300_000.0,
            last: epoch,
            due: None,
        }
    }

    /// A packet of `bytes` with this transport-wide number is here.
    pub(super) fn record(&mut self, now: Instant, sequence: u16, bytes: usize) {
        let ahead = sequence.wrapping_sub(self.highest as u16) as i16;
        let number = self.highest.saturating_add_signed(i64::from(ahead));
        self.highest = self.highest.max(number);
        let next = *self.next.get_or_insert(number);
        if number < next {
            self.next = Some(number);
        }
        let micros = now.duration_since(self.epoch).as_micros() as i64;
        self.waiting.entry(number).or_insert(micros);
        self.bytes += bytes as u64;
        if self.due.is_none() {
            self.last = now;
            self.due = Some(now + self.interval());
        }
    }

    fn interval(&self) -> Duration {
        let seconds = FEEDBACK_BITS / (0.05 * self.rate.max(1_000.0));
        Duration::from_secs_f64(seconds.min(1.0)).clamp(INTERVALS.0, INTERVALS.1)
    }

    /// Writes what is to be reported, in as many packets as that takes.
    pub(super) fn report(&mut self, now: Instant, sender: u32, media: u32) -> Vec<Vec<u8>> {
        let elapsed = now.duration_since(self.last).as_secs_f64();
        if elapsed > 0.0 {
            let rate = self.bytes as f64 * 8.0 / elapsed;
            self.rate = 0.8 * self.rate + 0.2 * rate;
        }
        self.last = now;
        self.bytes = 0;
        self.due = Some(now + self.interval());
        let mut reports = Vec::new();
        while let Some((&first, _)) = self.waiting.first_key_value() {
            let base = self
                .next
                .unwrap_or(first)
                .min(first)
                .max(first.saturating_sub(200));
            reports.push(self.write(base, sender, media));
        }
        reports
    }

    fn write(&mut self, base: u64, sender: u32, media: u32) -> Vec<u8> {
        let reference = self
            .waiting
            .values()
            .next()
            .map_or(0, |t| t.div_euclid(REFERENCE));
        let mut symbols: Vec<u16> = Vec::new();
        let mut deltas = Vec::new();
        let mut last = reference * REFERENCE / DELTA;
        while let Some((&number, &micros)) = self.waiting.first_key_value() {
            let delta = micros.div_euclid(DELTA) - last;
            let Ok(large) = i16::try_from(delta) else {
                break;
            };
            if number - base >= MAX_COVERED {
                break;
            }
            symbols.resize((number - base) as usize, 0);
            match u8::try_from(delta) {
                Ok(small) => {
                    symbols.push(1);
                    deltas.push(small);
                }
                Err(_) => {
                    symbols.push(2);
                    deltas.extend_from_slice(&large.to_be_bytes());
                }
            }
            last += delta;
            self.waiting.pop_first();
        }
        self.next = Some(base + symbols.len() as u64);
        let mut out = vec![0x8f, 205, 0, 0];
        out.extend_from_slice(&sender.to_be_bytes());
        out.extend_from_slice(&media.to_be_bytes());
        out.extend_from_slice(&(base as u16).to_be_bytes());
        out.extend_from_slice(&(symbols.len() as u16).to_be_bytes());
        out.extend_from_slice(&(((reference as u32) << 8) | u32::from(self.count)).to_be_bytes());
        self.count = self.count.wrapping_add(1);
        for seven in symbols.chunks(7) {
            let vector = seven
                .iter()
                .enumerate()
                .fold(0xc000, |vector, (index, symbol)| {
                    vector | (symbol << (12 - 2 * index))
                });
            out.extend_from_slice(&vector.to_be_bytes());
        }
        out.extend_from_slice(&deltas);
        let padding = (4 - out.len() % 4) % 4;
        if padding > 0 {
            out.resize(out.len() + padding, 0);
            out[0] |= 0x20;
            *out.last_mut().expect("it is not empty") = padding as u8;
        }
        let words = (out.len() / 4 - 1) as u16;
        out[2..4].copy_from_slice(&words.to_be_bytes());
        out
    }
}
