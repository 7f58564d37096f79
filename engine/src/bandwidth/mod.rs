//! How much can be sent to one subscriber, found by the sender.
//!
//! Every packet carries a transport-wide sequence number; the subscriber reports which arrived
//! when. From that come a rate by delay (Google congestion control,
//! draft-ietf-rmcat-gcc-02: [`arrival_groups`], [`trendline`], [`rate_control`]), a limit by loss
//! ([`loss`]) and, by probes, room that is not used yet ([`probing`]). The least of the first two
//! is the estimate. Peers without transport-wide feedback tell their own estimate
//! (draft-alvestrand-rmcat-remb-03). Peers whose packets are seen to wait in the same queue
//! ([`delay_series`]) share what their estimates sum up to ([`coupling`]).
//!
//! Who shares a link without being coupled comes to equal parts because growth near the capacity
//! is the slower the higher the rate, and because a probe lasts longer than the time between two
//! frames: a shorter one finds the gap between the frames of all others, whose rate is then taken
//! for room that is not there.
//!
//! The `rtc` crate has an estimator of the same family. In the closed loop of the tests it fills
//! the queue (95 % of packets under 196 ms at 2.5 Mbit/s where ours keeps 25 ms), takes 23 s to
//! find that rate (ours 0.25 s), and falls to 5 % of the link at 10 % random loss (ours 79 %).
//!
//! Feedback that stays away: for 1.5 s nothing happens, as a gap is more often the way back
//! than the way there. Then the estimate falls by a fifth every half second, down to
//! [`FEEDBACK_TIMEOUT_RATE`], as long as packets are sent. When feedback is there again it rises to what it
//! was before within a second, unless that feedback tells of congestion. Where the estimate is
//! too low for anything to be sent, a probe a second asks for feedback.
//!
//! Lengths are those of the UDP payload: estimate and what is counted agree in that.

mod acknowledged;
mod arrival_groups;
mod cluster;
pub(crate) mod coupling;
mod delay_series;
mod loss;
mod probe;
mod probing;
mod queueing_delay;
mod rate_control;
mod sent_packets;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod trendline;
mod units;

use std::mem::offset_of;
use std::time::{Duration, Instant};

use crate::wire::rtcp::TransportFeedback;
use acknowledged::AcknowledgedRate;
use arrival_groups::ArrivalGroups;
use coupling::Member;
use delay_series::DelaySeries;
use loss::LossControl;
pub(crate) use probe::{Probe, ProbeId};
use probing::{Knowledge, Probing};
use queueing_delay::QueueingDelay;
use rate_control::{Input, RateControl};
use sent_packets::SentPackets;
use trendline::{Trendline, Usage};
use units::{MAX_RATE, MIN_RATE, Micros, PACKET_BITS};

use moim_native::prefetch::prefetch_head;

/// The estimate before anything is known, in bits per second: audio and the lowest layer of a
/// camera.
const START_RATE: f64 = 300_000.0;
/// A tick of feedback.
const TICK: Micros = 250;
/// Feedback may be missing for this long, microseconds.
const FEEDBACK_TIMEOUT: Micros = 1_500_000;
/// After that the estimate is multiplied by `FEEDBACK_TIMEOUT_DECREASE` once in this time,
/// microseconds, until it is `FEEDBACK_TIMEOUT_RATE` bits per second. The factor is that of
/// libwebrtc's `SendSideBandwidthEstimation` on a feedback timeout; the rate is our choice: audio and
/// a still picture.
const FEEDBACK_TIMEOUT_STEP: Micros = 500_000;
const FEEDBACK_TIMEOUT_DECREASE: f64 = 0.8;
const FEEDBACK_TIMEOUT_RATE: f64 = 100_000.0;
/// The factor by which the estimate rises with each feedback packet once feedback has returned.
const FEEDBACK_RETURN_INCREASE: f64 = 1.3;
/// When nothing was sent for this long though something is wanted, a probe is.
const IDLE: Micros = 1_000_000;
/// A peer's own estimate is believed up to this many times the last one for each second since,
/// of which not more than one counts.
const REMB_GROWTH: f64 = 4.0;
const REMB_INTERVAL: Micros = 1_000_000;
/// A probe is part of the arriving rate for this long after feedback told of it.
const PROBE_COUNTS: Micros = 500_000;
/// Who has been sent nothing for this long has no part in a link.
const SHARING: Micros = 1_000_000;
/// A receive time further away than this is not of the same clock; counting is reset.
const MAX_REFERENCE: i64 = 1 << 48;
/// A queue shorter than this is no sign of congestion.
const LONG_QUEUE: Micros = 60_000;

/// What is known of the way to one subscriber. What is touched when a packet is sent comes first,
/// and what most reports do not touch last: it is hardly ever in the processor's cache.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct BandwidthEstimator {
    sent: SentPackets,
    epoch: Instant,
    last_sent: Micros,
    /// When a probe is due if nothing else is sent.
    idle_due: Micros,
    /// Since when packets are sent that no feedback has answered.
    unanswered: Option<Micros>,
    /// When missing feedback lowers the estimate next.
    feedback_timeout_due: Micros,
    /// The factor, from 0 to 1, to which missing feedback has lowered the estimate.
    feedback_timeout_factor: f64,
    report: ReportedLoss,
    probing: Probing,
    /// Reference time of the last transport-wide feedback; `None` when there never was one.
    reference: Option<i64>,
    /// Number after the latest packet that feedback told of.
    reported: u64,
    /// Packets before this one took another path.
    path_begins: u64,
    groups: ArrivalGroups,
    trendline: Trendline,
    queueing: QueueingDelay,
    acknowledged: AcknowledgedRate,
    rate: RateControl,
    /// What the peer says it can take, and when it last did.
    remb: Option<(Micros, f64)>,
    rtt: Option<Micros>,
    /// Was the last packet that feedback told of part of a probe?
    in_probe: bool,
    /// Did the present feedback tell of a probe?
    probe_reported: bool,
    /// Until when packets of a probe are part of what is known to arrive.
    probed_until: Micros,
    /// Delays to compare with those of others, while the estimate falls now and then.
    delays: Option<Box<DelaySeries>>,
    /// What most reports do not touch lies at its end.
    loss: LossControl,
}

/// Loss by receiver reports, for peers that give nothing else.
#[derive(Debug, Default)]
struct ReportedLoss {
    loss: f64,
    bytes: u64,
    since: Micros,
}

impl BandwidthEstimator {
    /// An estimator of which nothing has been sent. It holds no memory beside itself.
    pub(crate) fn new(now: Instant) -> Self {
        BandwidthEstimator {
            epoch: now,
            sent: SentPackets::default(),
            groups: ArrivalGroups::default(),
            trendline: Trendline::default(),
            queueing: QueueingDelay::default(),
            acknowledged: AcknowledgedRate::default(),
            rate: RateControl::new(START_RATE),
            loss: LossControl::default(),
            probing: Probing::default(),
            reference: None,
            remb: None,
            rtt: None,
            unanswered: None,
            last_sent: 0,
            idle_due: IDLE,
            feedback_timeout_due: 0,
            feedback_timeout_factor: 1.0,
            path_begins: 0,
            reported: 0,
            in_probe: false,
            probe_reported: false,
            probed_until: 0,
            report: ReportedLoss::default(),
            delays: None,
        }
    }

    /// Asks for the memory that sending touches.
    pub(crate) fn prefetch_head(&self) {
        prefetch_head(self, offset_of!(BandwidthEstimator, reference));
    }

    /// Asks for the memory that a report touches.
    pub(crate) fn prefetch_for_report(&self) {
        let len = offset_of!(BandwidthEstimator, loss) + LossControl::TOUCHED;
        prefetch_head(self, len);
    }

    /// Asks for the memory where the next packets are noted. This itself is to be there.
    pub(crate) fn prefetch_next_sent(&self) {
        self.sent.prefetch_next();
    }

    /// Asks for what is noted of the packets that the next report will tell of. This itself is to
    /// be there.
    pub(crate) fn prefetch_unreported(&self) {
        self.sent.prefetch_from(self.reported);
    }

    fn micros(&self, now: Instant) -> Micros {
        now.saturating_duration_since(self.epoch).as_micros() as Micros
    }

    /// A packet of `len` bytes of UDP payload leaves now, under the transport-wide sequence
    /// number that is returned. `tag` is the caller's, to name it by in [`Self::repeat`]. `probe`
    /// is the probe that the packet is sent for.
    pub(crate) fn on_sent(
        &mut self,
        now: Instant,
        len: usize,
        tag: u64,
        probe: Option<ProbeId>,
    ) -> u16 {
        let now = self.micros(now);
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        let number = self.sent.push(now, len, tag);
        if self.probing.is_idle() {
            self.probing.start(self.bps());
        }
        self.probing.on_sent(number, len, probe);
        self.report.bytes += u64::from(len);
        let paused = now - self.last_sent > FEEDBACK_TIMEOUT;
        self.last_sent = now;
        self.idle_due = now + IDLE;
        if paused || self.unanswered.is_none() {
            self.unanswered = Some(now);
            self.feedback_timeout_due = now + FEEDBACK_TIMEOUT;
        }
        number as u16
    }

    /// Packets take another path from now on, as to a peer that changed from one network to another.
    /// Nothing is known of the new path, so the estimator starts as it did at first.
    pub(crate) fn on_path_change(&mut self) {
        self.rate = RateControl::new(self.bps().min(START_RATE));
        self.path_begins = self.sent.next();
        self.groups = ArrivalGroups::default();
        self.trendline = Trendline::default();
        self.queueing = QueueingDelay::default();
        self.acknowledged = AcknowledgedRate::default();
        self.loss = LossControl::default();
        self.probing = Probing::default();
        self.report = ReportedLoss::default();
        (self.remb, self.rtt, self.unanswered) = (None, None, None);
        (self.feedback_timeout_factor, self.in_probe, self.delays) = (1.0, false, None);
    }

    /// The latest packet with that tag is repeated byte for byte: under the number that it had,
    /// which is returned while it is remembered. It is not told to [`Self::on_sent`] again.
    pub(crate) fn repeat(&mut self, tag: u64) -> Option<u16> {
        self.sent.repeat(tag)
    }

    /// Transport-wide feedback is looked at, which has `arrived` before. `missing` gets the tag of
    /// each packet that it tells is not there.
    pub(crate) fn on_feedback(
        &mut self,
        now: Instant,
        arrived: Instant,
        feedback: &TransportFeedback<'_>,
        mut missing: impl FnMut(u64),
    ) {
        let (now, arrived) = (self.micros(now), self.micros(arrived));
        let near = self.reference.filter(|near| near.abs() < MAX_REFERENCE);
        let reference = feedback.reference(near);
        self.reference = Some(reference);
        let mut latest_sent = None;
        for (sequence, ticks) in feedback.packets() {
            let arrival = ticks.map(|ticks| (reference + ticks) * TICK);
            if let Some(sent) = self.on_packet(sequence, arrival, &mut missing) {
                latest_sent = latest_sent.max(Some(sent));
            }
        }
        self.queueing.on_feedback(now);
        self.delays.take_if(|delays| delays.is_done(now));
        let Some(latest_sent) = latest_sent else {
            return;
        };
        self.note_rtt(arrived - latest_sent);
        self.unanswered = None;
        self.update(now);
    }

    /// The fate of one packet. Gives its departure if it arrived.
    fn on_packet(
        &mut self,
        sequence: u16,
        arrival: Option<Micros>,
        missing: &mut impl FnMut(u64),
    ) -> Option<Micros> {
        let packet = self.sent.report(sequence, arrival.is_some())?;
        if packet.number < self.path_begins {
            return None;
        }
        let reported = self.reported;
        self.reported = reported.max(packet.number + 1);
        if packet.was_lost {
            self.loss.on_late_packet();
        } else {
            self.loss
                .on_packet(packet.sent, packet.len, arrival.is_some());
        }
        let in_probe = self.probing.covers(packet.number);
        self.probe_reported |= in_probe;
        if in_probe && !packet.was_lost {
            let timed = arrival.filter(|_| !packet.is_repeated);
            self.probing.on_report(packet.sent, packet.len, timed);
        }
        let Some(arrival) = arrival else {
            missing(self.sent.tag(packet.number)?);
            return None;
        };
        // When feedback got lost, what it told of counts as if it had taken as long.
        let delay = arrival - packet.sent;
        if reported < packet.number {
            for (sent, len) in self.sent.assume_received(reported, packet.number) {
                if packet.sent - sent < FEEDBACK_TIMEOUT / 2 {
                    self.acknowledged.on_packet(sent + delay, len);
                }
            }
        }
        if !packet.was_assumed {
            self.acknowledged.on_packet(arrival, packet.len);
        }
        if packet.is_repeated {
            // When it came says nothing of how long either of the two was under way.
            return None;
        }
        self.queueing.on_packet(delay);
        if let Some(delays) = &mut self.delays {
            delays.on_packet(packet.sent, delay);
        }
        if in_probe != self.in_probe {
            // A probe makes a queue of its own, which is no trend.
            self.groups.reset();
            self.in_probe = in_probe;
        }
        if !in_probe && let Some(delta) = self.groups.on_packet(packet.sent, arrival) {
            self.trendline.on_group(delta);
        }
        Some(packet.sent)
    }

    fn update(&mut self, now: Micros) {
        if std::mem::take(&mut self.probe_reported) {
            self.probed_until = now + PROBE_COUNTS;
        }
        let usage = self.trendline.usage();
        self.rate.update(Input {
            now,
            usage,
            acknowledged: self.acknowledged.rate(),
            acknowledged_short: self.acknowledged.short_rate(),
            queueing: self.queueing.mean(),
            least_queueing: self.queueing.least(),
            rtt: self.rtt.unwrap_or(100_000),
            probed: now < self.probed_until,
            unusual_loss: self.loss.take_unusual_loss(),
        });
        if self.rate.take_base_delay_rose() {
            self.queueing.rebase();
        }
        self.loss.update(self.rate.rate());
        if self.feedback_timeout_factor < 1.0
            && usage != Usage::Over
            && self.queueing.mean() < LONG_QUEUE
        {
            self.feedback_timeout_factor =
                (self.feedback_timeout_factor * FEEDBACK_RETURN_INCREASE).min(1.0);
        }
        let known = self.knowledge(now);
        if let Some(found) = self.probing.update(known) {
            self.rate.found(found);
        }
    }

    fn knowledge(&self, now: Micros) -> Knowledge {
        Knowledge {
            now,
            estimate: self.bps(),
            may_probe: self.may_probe(),
            has_fallen: self.rate.has_fallen(now),
            // Of which a packet of our own before it is a part, the longer the slower the link.
            usual_queueing: self.rate.usual_queueing() - (PACKET_BITS * 1e6 / self.bps()) as Micros,
        }
    }

    fn note_rtt(&mut self, rtt: Micros) {
        let rtt = rtt.clamp(0, 2_000_000);
        self.rtt = Some(self.rtt.map_or(rtt, |mean| (7 * mean + rtt) / 8));
    }

    /// A receiver estimated maximum bitrate arrived, in bits per second. It is the estimate where
    /// there is no transport-wide feedback, though one that is followed up only step by step;
    /// else it is the upper bound.
    pub(crate) fn on_remb(&mut self, now: Instant, bps: u64) {
        let now = self.micros(now);
        let mut rate = (bps as f64).clamp(MIN_RATE, MAX_RATE);
        if self.reference.is_none() {
            let (last, known) = self.remb.unwrap_or((now - REMB_INTERVAL, START_RATE));
            let seconds = (now - last).clamp(0, REMB_INTERVAL) as f64 / 1_000_000.0;
            rate = rate.min(known * REMB_GROWTH.powf(seconds));
        }
        self.remb = Some((now, rate));
    }

    /// A receiver report arrived: the share of packets lost since the last one, in 1/256, and
    /// the round trip where it tells one.
    pub(crate) fn on_report(&mut self, now: Instant, fraction_lost: u8, rtt: Option<Duration>) {
        let now = self.micros(now);
        if let Some(rtt) = rtt {
            self.note_rtt(rtt.as_micros().min(2_000_000) as Micros);
        }
        if self.reference.is_some() {
            return;
        }
        self.unanswered = None;
        let loss = f64::from(fraction_lost) / 256.0;
        self.report.loss = loss;
        let time = now - self.report.since;
        if time < 500_000 {
            return;
        }
        let sent = self.report.bytes as f64 * 8_000_000.0 / time as f64;
        (self.report.bytes, self.report.since) = (0, now);
        self.rate.follow_loss(loss, sent);
    }

    fn bps(&self) -> f64 {
        let mut rate = self.rate.rate();
        if let Some((_, remb)) = self.remb {
            rate = match self.reference {
                None => remb,
                Some(_) => rate.min(remb),
            };
        }
        if let Some(limit) = self.loss.limit() {
            rate = rate.min(limit);
        }
        if self.feedback_timeout_factor < 1.0 {
            rate = rate.min((rate * self.feedback_timeout_factor).max(FEEDBACK_TIMEOUT_RATE));
        }
        rate.clamp(MIN_RATE, MAX_RATE)
    }

    /// What may be sent to this peer in all, in bits per second.
    pub(crate) fn estimate(&self) -> u64 {
        self.bps() as u64
    }

    /// Whether more is sent now than the path carries, or feedback has been missing for so long that
    /// nothing is known of it.
    pub(crate) fn is_overusing(&self) -> bool {
        self.rate.is_draining()
            || self.trendline.usage() == Usage::Over
            || self.loss.is_overusing()
            || self.feedback_timeout_factor < 1.0
    }

    /// Whether more may be sent than the estimate: not while the path is overused, nor while loss
    /// limits the rate, as too little is known of the path then. Pacing keeps to the estimate
    /// meanwhile.
    pub(crate) fn may_probe(&self) -> bool {
        !self.is_overusing() && self.loss.limit().is_none()
    }

    /// Round trip time, feedback's own delay included, once known.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt.map(|rtt| Duration::from_micros(rtt as u64))
    }

    /// Share of packets lost lately, from 0 to 1.
    pub(crate) fn loss(&self) -> f64 {
        match self.reference {
            Some(_) => self.loss.loss(),
            None => self.report.loss,
        }
    }

    /// True once after the estimate fell for a queue.
    pub(crate) fn take_fall(&mut self) -> bool {
        self.rate.take_fall()
    }

    /// Once after a probe that the link was too slow for: the bits that it left waiting there.
    pub(crate) fn take_probe_backlog(&mut self) -> Option<u64> {
        let bits = self.probing.take_probe_backlog();
        (bits > 0.0).then_some(bits as u64)
    }

    /// Keeps the delays of packets for a while, to be compared with those of others. `zero` is an
    /// instant that is the same for all.
    pub(crate) fn compare_delays(&mut self, now: Instant, zero: Instant) {
        let later = self.epoch.saturating_duration_since(zero).as_micros();
        let until = self.micros(now + coupling::FORGOTTEN_AFTER);
        let series = || Box::new(DelaySeries::new(later as Micros));
        self.delays.get_or_insert_with(series).keep_until(until);
    }

    /// What [`coupling`] compares, of a peer who has a use for `demand` bits a second. It counts
    /// as none when something else than a queue says what the peer is sent.
    pub(crate) fn member(&self, now: Instant, demand: u64) -> Member<'_> {
        let elsewise = self.rate.is_competing() || self.loss.limit().is_some();
        let idle = self.micros(now) - self.last_sent > SHARING;
        Member {
            delays: self.delays.as_deref(),
            estimate: self.rate.shared() as u64,
            demand: if elsewise || idle { 0 } else { demand },
        }
    }

    /// The estimate is `bps`, the share of a link that `sharers` peers have.
    pub(crate) fn share(&mut self, bps: u64, sharers: u32) {
        self.rate.share(bps as f64, sharers);
    }

    /// What the subscriber would be sent if there were room, in bits per second in all; 0 when
    /// it gets all that it could use. Probes are sent towards it.
    pub(crate) fn want(&mut self, now: Instant, wanted_bps: u64) {
        let known = self.knowledge(self.micros(now));
        self.probing.want(wanted_bps as f64, known);
    }

    /// The next probe to send, at once. Each is given once; packets sent for it are told to
    /// [`Self::on_sent`].
    pub(crate) fn poll_probe(&mut self, now: Instant) -> Option<Probe> {
        let now = self.micros(now);
        self.probing.poll(now)
    }

    /// Whether the peer has told of anything that it was sent.
    pub(crate) fn is_answered(&self) -> bool {
        self.reference.is_some() || self.remb.is_some()
    }

    /// Whether a probe waits to be sent.
    pub(crate) fn has_probe(&self) -> bool {
        self.probing.is_planned()
    }

    /// Feedback may have been missing for too long, or nothing been sent that asks for it.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let now = self.micros(now);
        if self.feedback_timeout_is_watched() && now >= self.feedback_timeout_due {
            self.feedback_timeout_factor *= FEEDBACK_TIMEOUT_DECREASE;
            self.feedback_timeout_due = now + FEEDBACK_TIMEOUT_STEP;
        }
        if now >= self.idle_due {
            self.idle_due = now + IDLE;
            // What was lost before says nothing of the way now, and too little is sent to say
            // more.
            self.loss = LossControl::default();
            self.probing.probe_after_idle(self.bps());
        }
    }

    /// When [`Self::handle_timeout`] is to be called; `None` while nothing is sent nor wanted.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let silence = self
            .feedback_timeout_is_watched()
            .then_some(self.feedback_timeout_due);
        let idle = self.probing.is_wanted(self.bps()).then_some(self.idle_due);
        let due = silence.into_iter().chain(idle).min()?;
        Some(self.epoch + Duration::from_micros(due as u64))
    }

    /// Missing feedback means something only for a peer that has given some, and only while packets
    /// are sent to it.
    fn feedback_timeout_is_watched(&self) -> bool {
        self.reference.is_some()
            && self.unanswered.is_some()
            && self.feedback_timeout_due - self.last_sent < FEEDBACK_TIMEOUT
            && self.bps() > FEEDBACK_TIMEOUT_RATE
    }
}
