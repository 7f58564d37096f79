//! The rate by delay alone: it grows while the queue does not, and falls below what arrives when
//! it does (draft-ietf-rmcat-gcc-02, section 5.5). Until the queue is empty again the rate goes
//! down further for a moment, by as much as the queue is long. A queue that is long already and
//! does not grow, as when it grew during a probe, counts as growing while less arrives than is
//! taken to be carried.
//!
//! A queue that does not empty however little is sent is another's: of a flow that sends until
//! packets are lost. Beside it, whoever yields to delay starves; so delay counts no more, and
//! loss takes its place. From time to time it is tried again whether the queue empties.

#[cfg(test)]
mod tests;

use super::trendline::Usage;
use super::units::{MAX_RATE, MIN_RATE, Micros, PACKET_BITS};

/// What is kept of the arriving rate at overuse: less the longer the queue is.
const DECREASE: (f64, f64) = (0.85, 0.94);
/// Growth per second while the capacity is unknown.
const GROWTH: f64 = 1.10;
/// The rate grows to this many times the arriving one: what was not tried is not known.
const MAX_AHEAD: f64 = 1.5;
const AHEAD: f64 = 10_000.0;
/// And at once to this part of what arrives without a queue.
const ARRIVED: f64 = 0.9;
/// What arrives may be so much more or less than the capacity was, and still be it.
const SPREAD: f64 = 0.15;
/// Least time between two decreases, beside the round trip.
const DECREASE_INTERVAL: Micros = 100_000;
/// A queue shorter than this is not worth a decrease, nor is one that is longer than in ordinary
/// times by no more than the other: that is jitter.
const SHORT_QUEUE: Micros = 20_000;
const HARDLY_LONGER: Micros = 5_000;
/// Up to a queue as long as this the link carries not much less than the rate.
const LONG_QUEUE: Micros = 50_000;
const LITTLE_LESS: f64 = 0.95;
/// A queue longer than in ordinary times by this stands, if it lasts and no more than that share
/// of the rate arrives.
const STANDING_QUEUE: Micros = 100_000;
const STANDING_SHARE: f64 = 0.6;
const STANDS_AFTER: Micros = 150_000;
/// One of this length that has become longer by so much in that time grows, whatever the trend
/// says: after another queue, or in jitter, that takes a while to see it.
const GROWN: Micros = 20_000;
/// A queue is to be empty after about this time, and is given up on after `MAX_DRAIN`.
const DRAIN_TIME: f64 = 600_000.0;
const MAX_DRAIN: Micros = 1_500_000;
const EMPTY_QUEUE: Micros = 20_000;
/// A queue that varies less than this while it is drained is none: the way has become longer.
const STEADY: Micros = 4_000;
/// But it does not become longer again so soon.
const LENGTHENED_ONCE_IN: Micros = 20_000_000;
/// Beside a flow that fills the queue: how long until it is tried again whether it empties.
const COMPETING_FOR: Micros = 15_000_000;
/// What is kept at a loss there, and the least time between two of these, beside the round trip.
const LOSS_DECREASE: f64 = 0.86;
const LOSS_INTERVAL: Micros = 500_000;
/// For this long after a decrease packets arrive that were sent before.
const SETTLING: Micros = 300_000;
/// What the link carries is taken to fall by no more than this share while it is drained.
const LEAST_CARRIED: f64 = 0.5;
/// A fall to less than this share of the rate is a great one, for so long after its beginning.
const GREAT_FALL: f64 = 0.75;
const FALL_TIME: Micros = 5_000_000;
/// Draining takes no more of the rate than the first leaves, and no less than the second.
const LEAST_SHARE: f64 = 0.4;
const MOST_SHARE: f64 = 0.9;
/// Below this share of the known capacity no queue is to be expected, and the rate grows each
/// second by the second share of itself.
const NEAR: f64 = 0.95;
const QUICK_GROWTH: f64 = 0.08;
/// Growth near the known capacity, in bits per second each second, at 1 Mbit/s; by the square root
/// of the rate less at a higher one.
const CAUTIOUS_GROWTH: f64 = 60_000.0;
/// And this share of the rate at most.
const MAX_CAUTIOUS_GROWTH: f64 = 0.035;

/// What a step goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input {
    pub(super) now: Micros,
    pub(super) usage: Usage,
    /// Arriving rates over half and over a quarter of a second, in bits per second.
    pub(super) acknowledged: Option<f64>,
    pub(super) acknowledged_short: Option<f64>,
    /// Mean and least waiting time of the packets just reported.
    pub(super) queueing: Micros,
    pub(super) least_queueing: Micros,
    pub(super) rtt: Micros,
    /// A probe is part of what arrives.
    pub(super) probed: bool,
    /// More was lost just now than is usual here.
    pub(super) unusual_loss: bool,
}

/// Whose queue it is.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Ours, if there is one.
    Alone,
    /// It is being emptied.
    Draining {
        since: Micros,
        /// What the link carries for us meanwhile.
        carried: f64,
        /// The part of that which is sent.
        factor: f64,
        /// Is it a trial whether the queue is still another's?
        trial: bool,
        /// The queue was hardly longer than in ordinary times when this began.
        began_short: bool,
        /// Least and most that a packet waited, in the second half of the time.
        range: Option<(Micros, Micros)>,
    },
    /// Another's, until it is tried again.
    Competing { until: Micros, decreased: Micros },
}

/// The controller.
#[derive(Debug)]
pub(super) struct RateControl {
    rate: f64,
    /// What the link carried when it was overused.
    capacity: Option<f64>,
    last: Option<Micros>,
    decreased: Option<Micros>,
    phase: Phase,
    base_delay_rose: bool,
    /// How many share the capacity, as far as is known since the last fall.
    sharers: u32,
    /// The rate fell for a queue, and nobody has asked yet.
    fell: bool,
    /// What the rate fell from, and when it began to fall.
    before: Option<(f64, Micros)>,
    /// When that was last.
    lengthened: Option<Micros>,
    /// Waiting time in ordinary times, which is that of bursts and jitter.
    usual_queueing: f64,
    /// Since when there is a long queue and little arrives.
    standing: Option<Micros>,
    /// When it was last looked at how long a long queue is, and what was seen.
    long: Option<(Micros, Micros)>,
}

impl RateControl {
    pub(super) fn new(rate: f64) -> Self {
        RateControl {
            rate,
            capacity: None,
            last: None,
            decreased: None,
            phase: Phase::Alone,
            base_delay_rose: false,
            sharers: 1,
            fell: false,
            before: None,
            lengthened: None,
            usual_queueing: 0.0,
            standing: None,
            long: None,
        }
    }

    /// Bits per second to send.
    pub(super) fn rate(&self) -> f64 {
        match self.phase {
            Phase::Draining {
                carried, factor, ..
            } => self.rate.min(carried * factor).max(MIN_RATE),
            _ => self.rate,
        }
    }

    /// Mean waiting time in ordinary times.
    pub(super) fn usual_queueing(&self) -> Micros {
        self.usual_queueing as Micros
    }

    /// Whether a queue is being emptied.
    pub(super) fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    /// True once after the delay turned out to be that of a longer way, not of a queue.
    pub(super) fn take_base_delay_rose(&mut self) -> bool {
        std::mem::take(&mut self.base_delay_rose)
    }

    /// True once after the rate fell for a queue.
    pub(super) fn take_fall(&mut self) -> bool {
        std::mem::take(&mut self.fell)
    }

    /// Whether the rate is far below what it was a short time ago. If that was for a flow that came
    /// and went, what it took is there again.
    pub(super) fn has_fallen(&self, now: Micros) -> bool {
        self.fall(now)
            .is_some_and(|before| self.rate < GREAT_FALL * before)
    }

    /// Whether the queue is taken to be another's, who fills it.
    pub(super) fn is_competing(&self) -> bool {
        matches!(self.phase, Phase::Competing { .. })
    }

    /// The rate that is to hold once the queue is empty.
    pub(super) fn shared(&self) -> f64 {
        self.rate
    }

    /// This is the share of a link whose capacity is known and that `sharers` peers have.
    pub(super) fn share(&mut self, rate: f64, sharers: u32) {
        self.rate = rate.clamp(MIN_RATE, MAX_RATE);
        self.capacity = Some(self.rate);
        self.sharers = sharers.max(1);
        self.before = None;
    }

    /// A probe says that there is room for `rate`; or, if that is less than the rate, which was
    /// only assumed, that there is no more.
    pub(super) fn found(&mut self, rate: f64) {
        if rate > self.rate {
            self.rate = rate.min(MAX_RATE);
            self.forget_capacity_below(rate);
        } else {
            self.share(rate, 1);
        }
    }

    /// All that is known is the share lost of what was sent (draft-ietf-rmcat-gcc-02, section 6).
    pub(super) fn follow_loss(&mut self, loss: f64, sent: f64) {
        if loss > 0.1 {
            self.rate *= 1.0 - 0.5 * loss;
        } else if loss < 0.02 {
            self.rate = (self.rate * 1.05).min((MAX_AHEAD * sent).max(self.rate));
        }
        self.rate = self.rate.clamp(MIN_RATE, MAX_RATE);
    }

    /// A feedback packet has been read.
    pub(super) fn update(&mut self, input: Input) {
        let since = self
            .last
            .map_or(0, |last| input.now - last)
            .clamp(0, 1_000_000);
        self.last = Some(input.now);
        match self.phase {
            Phase::Alone => match input.usage {
                Usage::Over if input.queueing > self.short_queue() => self.decrease(&input),
                _ if self.stands(&input) || self.grows(&input) => self.decrease(&input),
                Usage::Normal if self.standing.is_none() => {
                    let usual = input.queueing as f64 - self.usual_queueing;
                    self.usual_queueing += 0.02 * usual;
                    self.increase(&input, since);
                }
                _ => {}
            },
            Phase::Draining { .. } => self.drain(&input),
            Phase::Competing { until, decreased } => {
                self.compete(&input, since, until, decreased);
            }
        }
        self.rate = self.rate.clamp(MIN_RATE, MAX_RATE);
    }

    fn decrease(&mut self, input: &Input) {
        let Some(long) = input.acknowledged.or(input.acknowledged_short) else {
            // Too early to know what arrives.
            return;
        };
        let interval = input.rtt + DECREASE_INTERVAL;
        if self
            .decreased
            .is_some_and(|last| input.now - last < interval)
        {
            return;
        }
        let carried = if input.queueing > LONG_QUEUE {
            long.min(input.acknowledged_short.unwrap_or(long))
        } else {
            // The link is overused by a little: the arrival rate varies, or little was sent.
            long.max(LITTLE_LESS * self.rate)
        };
        self.decreased = Some(input.now);
        self.standing = None;
        if self.fall(input.now).is_none_or(|before| before < self.rate) {
            self.before = Some((self.rate, input.now));
        }
        self.fell = true;
        self.sharers = 1;
        self.note_capacity(carried);
        self.rate = self.rate.min(kept(input.queueing) * carried);
        self.start_drain(input, carried, false);
    }

    /// Whether the queue is long for a while, and not of packets that another way takes longer for.
    fn stands(&mut self, input: &Input) -> bool {
        let arriving = input.acknowledged_short.or(input.acknowledged);
        let is_little = arriving.is_some_and(|bps| bps < STANDING_SHARE * self.rate);
        if !(self.is_long(input) && is_little) {
            self.standing = None;
            return false;
        }
        let since = *self.standing.get_or_insert(input.now);
        input.now - since >= STANDS_AFTER
    }

    /// Whether even the packet that waited least did so for much longer than in ordinary times.
    fn is_long(&self, input: &Input) -> bool {
        input.least_queueing > self.usual_queueing() + STANDING_QUEUE
    }

    /// Whether a long queue becomes longer.
    fn grows(&mut self, input: &Input) -> bool {
        if !self.is_long(input) {
            self.long = None;
            return false;
        }
        let (since, before) = *self.long.get_or_insert((input.now, input.least_queueing));
        if input.now - since < STANDS_AFTER {
            return false;
        }
        self.long = Some((input.now, input.least_queueing));
        input.least_queueing > before + GROWN
    }

    /// What the rate has fallen from lately.
    fn fall(&self, now: Micros) -> Option<f64> {
        self.before
            .filter(|(_, since)| now - since < FALL_TIME)
            .map(|(before, _)| before)
    }

    /// A queue that is not longer than this is not worth a decrease.
    fn short_queue(&self) -> Micros {
        SHORT_QUEUE.max(self.usual_queueing() + HARDLY_LONGER)
    }

    fn start_drain(&mut self, input: &Input, carried: f64, trial: bool) {
        self.phase = Phase::Draining {
            since: input.now,
            carried,
            factor: drain_factor(input.queueing, trial),
            trial,
            began_short: !trial && input.queueing <= LONG_QUEUE,
            range: None,
        };
    }

    fn drain(&mut self, input: &Input) {
        let usual = self.usual_queueing;
        let Phase::Draining {
            since,
            carried,
            factor,
            trial,
            began_short,
            range,
        } = &mut self.phase
        else {
            return;
        };
        let empty = empty_queue(usual, *carried);
        let growing = input.usage == Usage::Over;
        if *began_short && growing && input.queueing > 2 * LONG_QUEUE {
            // That is more than what this began for: the link carries less only now.
            (*began_short, *since) = (false, input.now);
        }
        let time = input.now - *since;
        // A trial goes on a little, so that whoever else thinks that he competes sees it too.
        let goes_on = *trial && time < MAX_DRAIN;
        if input.least_queueing < if goes_on { empty / 4 } else { empty } {
            if *trial {
                // It was ours: no more is carried than that, whatever was thought before. Or
                // no more was sent.
                let carried = carried.max(LEAST_CARRIED * self.rate);
                self.rate = self.rate.min(DECREASE.1 * carried);
            }
            self.phase = Phase::Alone;
            return;
        }
        *factor = drain_factor(input.queueing, *trial);
        let early = time < SETTLING;
        let settling = !*trial && (early || growing) && input.queueing > LONG_QUEUE;
        if let (true, Some(now)) = (settling, input.acknowledged_short) {
            // What arrives was sent before and still fills the link: the last of what it
            // carried earlier leaves the measurement. Later on the queue grows when the link
            // carries still less, or another takes more of it, who is not given all.
            let least = self.capacity.filter(|_| !early);
            let now = now.max(least.map_or(0.0, |known| LEAST_CARRIED * known));
            *carried = carried.min(now);
            self.rate = self.rate.min(kept(input.queueing) * *carried);
        }
        if time > MAX_DRAIN / 2 {
            let waited = input.least_queueing;
            let (least, most) = range.unwrap_or((waited, waited));
            *range = Some((least.min(waited), most.max(waited)));
        }
        if time < MAX_DRAIN {
            return;
        }
        if range.is_some_and(|(_, most)| 10 * input.least_queueing < 7 * most) {
            // It empties, if slowly.
            *since += MAX_DRAIN / 2;
            *range = None;
            return;
        }
        let steady = range.is_some_and(|(least, most)| most - least < STEADY);
        let (trial, carried) = (*trial, *carried);
        self.end_drain(input, carried, trial, steady);
    }

    /// The queue has not emptied in its time. It was `steady`, or has grown and shrunk.
    fn end_drain(&mut self, input: &Input, carried: f64, trial: bool, steady: bool) {
        let again = self
            .lengthened
            .is_some_and(|last| input.now - last < LENGTHENED_ONCE_IN);
        self.base_delay_rose = steady && !again;
        if self.base_delay_rose {
            self.lengthened = Some(input.now);
        }
        if !trial && !steady {
            // The capacity may have been misjudged: it is tried again, by less.
            let carried = input.acknowledged.unwrap_or(carried).min(carried);
            self.start_drain(input, carried, true);
            return;
        }
        self.phase = if self.base_delay_rose {
            Phase::Alone
        } else {
            Phase::Competing {
                until: input.now + COMPETING_FOR,
                decreased: input.now,
            }
        };
    }

    fn compete(&mut self, input: &Input, since: Micros, until: Micros, decreased: Micros) {
        if input.least_queueing < empty_queue(self.usual_queueing, self.rate) / 2 {
            self.phase = Phase::Alone;
        } else if let (true, Some(carried)) = (input.now >= until, input.acknowledged) {
            self.start_drain(input, carried, true);
        } else if input.unusual_loss && input.now - decreased > input.rtt + LOSS_INTERVAL {
            self.rate *= LOSS_DECREASE;
            self.phase = Phase::Competing {
                until,
                decreased: input.now,
            };
        } else {
            self.capacity = None;
            self.increase(input, since);
        }
    }

    fn note_capacity(&mut self, carried: f64) {
        self.capacity = match self.capacity {
            Some(known) if (carried / known - 1.0).abs() < SPREAD => {
                Some(known + 0.2 * (carried - known))
            }
            _ => Some(carried),
        };
    }

    fn forget_capacity_below(&mut self, rate: f64) {
        self.capacity = self
            .capacity
            .filter(|capacity| rate < (1.0 + SPREAD) * capacity);
    }

    fn increase(&mut self, input: &Input, since: Micros) {
        let Some(arriving) = input.acknowledged else {
            return;
        };
        let seconds = since as f64 / 1_000_000.0;
        self.forget_capacity_below(arriving);
        let grown = match self.capacity {
            Some(capacity) => self.rate + seconds * self.cautious_growth(capacity),
            None => self.rate * GROWTH.powf(seconds) + 1_000.0 * seconds,
        };
        // What a probe adds is not what media fills.
        let ahead = if input.probed && self.capacity.is_none() {
            1.0
        } else {
            MAX_AHEAD
        };
        let bound = ahead * arriving + AHEAD;
        // The bound stops the growth; it does not take back what is known.
        self.rate = grown.min(bound.max(self.rate));
        if !input.probed && input.queueing <= self.short_queue() {
            // More than the rate is sent, as a picture that arrives is kept, and waits for nothing.
            let below = self.capacity.map_or(MAX_RATE, |known| NEAR * known);
            self.rate = self.rate.max((ARRIVED * arriving).min(below));
        }
    }

    /// Bits per second, each second, where the link carries `capacity`. Near that a higher rate
    /// grows by less than a lower one, however long the way is: so flows that share a link come
    /// together. Those who are known to share it grow together as one would (RFC 8699).
    fn cautious_growth(&self, capacity: f64) -> f64 {
        if self.rate < NEAR * capacity {
            return QUICK_GROWTH * self.rate;
        }
        let growth = CAUTIOUS_GROWTH * (1e6 / self.rate).sqrt() / f64::from(self.sharers);
        growth.min(MAX_CAUTIOUS_GROWTH * self.rate)
    }
}

/// A queue that is not longer than this counts as empty where this many bit/s are
/// carried: a slow link takes as long for a single packet.
fn empty_queue(usual: f64, carried: f64) -> Micros {
    let packet = PACKET_BITS * 1e6 / carried.max(MIN_RATE);
    EMPTY_QUEUE
        .max(usual.max(packet) as Micros)
        .min(4 * EMPTY_QUEUE)
}

/// The part of what the link carries that is the rate after a decrease.
fn kept(queueing: Micros) -> f64 {
    (1.0 - queueing as f64 / 1e6).clamp(DECREASE.0, DECREASE.1)
}

/// The part of what the link carries that is sent while a queue is emptied.
fn drain_factor(queueing: Micros, trial: bool) -> f64 {
    if trial {
        return LEAST_SHARE;
    }
    (1.0 - queueing as f64 / DRAIN_TIME).clamp(LEAST_SHARE, MOST_SHARE)
}
