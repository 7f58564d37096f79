//! Probes: short runs at more than the estimate, whose arrival tells whether there is room. They
//! find at once what cautious growth would find in many seconds, and are the only way up when
//! the media sent does not fill what is known already.

use super::cluster::Cluster;
use super::probe::{Probe, ProbeId};
use super::units::Micros;

/// The first probe is this many times the start rate, each further one of the start twice what
/// the last one found: 3, 6, 12 times.
const FIRST: f64 = 3.0;
const NEXT: f64 = 2.0;
/// A probe of the start that finds this share of its rate is followed by a higher one.
const FOUND: f64 = 0.7;
/// A probe later on is at most this many times the estimate, as others may be on the link, in
/// whose way it is; or this many bit/s above it, where that is more.
const LATER: f64 = 1.5;
const LATER_ABOVE: f64 = 300_000.0;
/// And so much above what is wanted, as it finds a little less than it sends.
const ABOVE_WANTED: f64 = 1.15;
/// A probe has at least this length: that of a frame at first, when others are to be disturbed as
/// little as possible, and later longer than one, so that it meets the frames of others and
/// not the gap between them.
const FIRST_LENGTH_SECONDS: f64 = 0.035;
const LATER_LENGTH_SECONDS: f64 = 0.06;
/// A slow link's probe is shorter, as a queue takes long to empty there: of a length in seconds of
/// its bits a second by this.
const SLOW: f64 = 30e6;
/// The fewest packets of a probe cluster.
const MIN_PACKETS: u32 = 5;
/// Packets of probes need not be longer than this.
const MIN_LEN: f64 = 200.0;
/// Where packets wait longer than this in ordinary times, a probe is longer by this multiple of what
/// they wait more, up to a limit: jitter would make a short one look as if it had found
/// anything.
const NO_JITTER: Micros = 12_000;
const JITTER_LENGTHS: f64 = 4.0;
const MAX_LENGTH_SECONDS: f64 = 0.07;
/// A probe without a result after this time has failed.
const DEADLINE: Micros = 1_000_000;
/// Time between probes: at first, and at most after probes that found nothing.
const INTERVAL: Micros = 1_500_000;
const MAX_INTERVAL: Micros = 3_000_000;
/// And after one that found room and no end of it.
const FURTHER: Micros = 100_000;
/// And after the end of a queue for which the rate fell by much: it may have been a short flow's.
const AFTER_FALL: Micros = 100_000;
/// And from one to the next as long as that is not long ago.
const AGAIN: Micros = 500_000;
/// Once the capacity is known, a full link has to show so much more than the estimate: less may
/// be the share of others that the probe pushed aside.
const CLEARLY_MORE: f64 = 1.25;
/// Later on this part of what a probe found beyond the estimate is taken at once, and the next
/// probe comes soon: a rate which others have to make room for is not sent all of a sudden.
const TAKEN: f64 = 0.65;

/// Decides when to probe and for how much, and what follows from it.
#[derive(Debug)]
pub(super) struct Probing {
    wanted: f64,
    planned: Option<Probe>,
    /// Boxed, as there hardly ever is one.
    cluster: Option<Box<Cluster>>,
    next_id: u32,
    /// Before media flows there is nothing to probe for; the start is over with the first probe
    /// that finds a limit.
    phase: Phase,
    due: Micros,
    interval: Micros,
    /// Bits that the last probe left waiting in the network, if nobody has asked yet.
    probe_backlog: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Start,
    Later,
}

/// What the estimator knows when a feedback packet has been read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Knowledge {
    pub(super) now: Micros,
    pub(super) estimate: f64,
    /// The queue neither grows nor is being drained, and loss does not limit the rate.
    pub(super) may_probe: bool,
    /// The rate is far below what it was a short time ago.
    pub(super) has_fallen: bool,
    /// How much packets wait in ordinary times: that is jitter, and bursts of our own.
    pub(super) usual_queueing: Micros,
}

impl Default for Probing {
    fn default() -> Self {
        Probing {
            wanted: 0.0,
            planned: None,
            cluster: None,
            next_id: 0,
            phase: Phase::Idle,
            due: 0,
            interval: INTERVAL,
            probe_backlog: 0.0,
        }
    }
}

impl Probing {
    /// What could be sent if there were room, in bits per second.
    pub(super) fn want(&mut self, wanted: f64, known: Knowledge) {
        self.wanted = wanted;
        if self.cluster.is_none() {
            self.consider(known);
        }
    }

    /// Once after a probe: how many bits of it the link was too slow for when it had been sent.
    pub(super) fn take_probe_backlog(&mut self) -> f64 {
        std::mem::take(&mut self.probe_backlog)
    }

    /// Plans a probe if it is time for one, and takes a plan back that would do harm.
    fn consider(&mut self, known: Knowledge) {
        if !known.may_probe {
            self.planned = None;
            if known.has_fallen {
                self.interval = INTERVAL;
                self.due = known.now + AFTER_FALL;
            } else {
                self.due = self.due.max(known.now + INTERVAL / 2);
            }
        } else if self.planned.is_none() && known.now >= self.due {
            let bps = match self.phase {
                Phase::Idle => return,
                Phase::Start => FIRST * known.estimate,
                // It may be there again all at once.
                Phase::Later if known.has_fallen => {
                    (NEXT * known.estimate).max(later(known.estimate))
                }
                Phase::Later => later(known.estimate),
            };
            self.plan(bps, known.estimate, known.usual_queueing);
        }
    }

    /// Whether more is wanted than `estimate`.
    pub(super) fn is_wanted(&self, estimate: f64) -> bool {
        self.wanted > estimate
    }

    /// Plans a probe whatever the way was like: nothing has been sent for so long that nothing
    /// else would tell when it carries again.
    pub(super) fn probe_after_idle(&mut self, estimate: f64) {
        self.cluster = None;
        self.plan(later(estimate), estimate, 0);
    }

    /// Whether a probe waits to be sent.
    pub(super) fn is_planned(&self) -> bool {
        self.planned.is_some() && self.cluster.is_none()
    }

    /// Whether nothing has been sent yet.
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    /// Media starts.
    pub(super) fn start(&mut self, estimate: f64) {
        self.phase = Phase::Start;
        self.plan(FIRST * estimate, estimate, 0);
    }

    /// A packet leaves.
    pub(super) fn on_sent(&mut self, number: u64, len: u16, probe: Option<ProbeId>) {
        if let Some(cluster) = &mut self.cluster
            && probe == Some(cluster.probe.id)
        {
            cluster.on_sent(number, len);
        }
    }

    /// Whether a packet was sent in the course of the present probe.
    pub(super) fn covers(&self, number: u64) -> bool {
        self.cluster
            .as_ref()
            .is_some_and(|cluster| cluster.covers(number))
    }

    /// A packet of the present probe was reported, for the first time.
    pub(super) fn on_report(&mut self, sent: Micros, len: u16, arrival: Option<Micros>) {
        if let Some(cluster) = &mut self.cluster {
            cluster.on_report(sent, len, arrival);
        }
    }

    /// The next probe to send.
    pub(super) fn poll(&mut self, now: Micros) -> Option<Probe> {
        if self.cluster.is_some() {
            return None;
        }
        let probe = self.planned.take()?;
        self.cluster = Some(Box::new(Cluster::new(probe, now)));
        Some(probe)
    }

    /// A feedback packet has been read. Gives the rate for which a probe found room: more than the
    /// estimate, and at the start perhaps less.
    pub(super) fn update(&mut self, known: Knowledge) -> Option<f64> {
        let is_over = |cluster: &mut Box<Cluster>| {
            cluster.is_complete() || known.now - cluster.started > DEADLINE
        };
        if let Some(cluster) = self.cluster.take_if(is_over) {
            return self.finish(&cluster, known);
        }
        if self.cluster.is_none() {
            self.consider(known);
        }
        None
    }

    fn finish(&mut self, cluster: &Cluster, known: Knowledge) -> Option<f64> {
        let Some(result) = cluster.result() else {
            self.due = known.now + INTERVAL;
            return None;
        };
        let (found, full) = (result.bps, result.full);
        self.probe_backlog = result.waiting;
        let start = self.phase == Phase::Start;
        let needed = if full && !start { CLEARLY_MORE } else { 1.0 };
        let raised = found > needed * known.estimate;
        if start && found >= FOUND * cluster.probe.bps as f64 && known.may_probe {
            self.plan(NEXT * found, found, known.usual_queueing);
        } else {
            self.phase = Phase::Later;
        }
        self.interval = if raised {
            INTERVAL
        } else {
            (self.interval * 3 / 2).min(MAX_INTERVAL)
        };
        let wait = if raised && !full {
            FURTHER
        } else if known.has_fallen {
            AGAIN
        } else {
            self.interval
        };
        self.due = known.now + wait;
        if start {
            // The start rate was only assumed.
            return (raised || full).then_some(found);
        }
        raised.then_some(known.estimate + TAKEN * (found - known.estimate))
    }

    fn plan(&mut self, bps: f64, estimate: f64, usual_queueing: Micros) {
        if self.wanted <= estimate {
            return;
        }
        let bps = bps.min(ABOVE_WANTED * self.wanted);
        let jitter = JITTER_LENGTHS * jitter(usual_queueing) as f64 / 1e6;
        let length = match self.phase {
            Phase::Later => LATER_LENGTH_SECONDS.min(bps / SLOW),
            Phase::Idle | Phase::Start => FIRST_LENGTH_SECONDS,
        };
        let length = (length + jitter).min(MAX_LENGTH_SECONDS);
        let bytes = (bps / 8.0 * length).max(f64::from(MIN_PACKETS) * MIN_LEN);
        self.next_id = self.next_id.wrapping_add(1);
        self.planned = Some(Probe {
            id: ProbeId(self.next_id),
            bps: bps as u64,
            packets_min: MIN_PACKETS,
            bytes_min: bytes as u32,
        });
    }
}

/// The rate of a probe when the start is over.
fn later(estimate: f64) -> f64 {
    (LATER * estimate).max(estimate + LATER_ABOVE)
}

/// The part of the ordinary waiting time that is not of our own bursts.
fn jitter(usual_queueing: Micros) -> Micros {
    (usual_queueing - NO_JITTER).max(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: Knowledge = Knowledge {
        now: 0,
        estimate: 300_000.0,
        may_probe: true,
        has_fallen: false,
        usual_queueing: 0,
    };

    /// Sends a probe over a link of `capacity` bits per second and reads its result.
    fn send(probing: &mut Probing, probe: Probe, now: Micros, capacity: f64) -> Option<f64> {
        let mut busy = now as f64;
        let mut reports = Vec::new();
        for number in 0..u64::from(probe.packets_min) {
            let len = probe.bytes_min / probe.packets_min + 1;
            let bits = f64::from(8 * len);
            let sent = now + (number as f64 * bits * 1e6 / probe.bps as f64) as Micros;
            probing.on_sent(number, len as u16, Some(probe.id));
            busy = busy.max(sent as f64) + bits * 1e6 / capacity;
            reports.push((sent, len as u16, busy as Micros));
        }
        for (sent, len, arrival) in reports {
            probing.on_report(sent, len, Some(arrival));
        }
        let now = now + 100_000;
        probing.update(Knowledge { now, ..KNOWN })
    }

    #[test]
    fn the_start_goes_up_until_it_finds_the_limit() {
        let mut probing = Probing::default();
        probing.want(20_000_000.0, KNOWN);
        assert!(probing.poll(0).is_none());
        probing.start(300_000.0);
        probing.on_sent(0, 100, None);
        let mut found = Vec::new();
        let mut now = 0;
        while let Some(probe) = probing.poll(now) {
            found.extend(send(&mut probing, probe, now, 4_000_000.0));
            now += 150_000;
        }
        let rates: Vec<u64> = found.iter().map(|found| (found / 1e5) as u64).collect();
        assert_eq!(rates[..2], [9, 18]);
        assert!((36..=40).contains(rates.last().unwrap()), "{rates:?}");
    }

    #[test]
    fn none_is_sent_when_nothing_more_is_wanted_or_while_congested() {
        let mut probing = Probing::default();
        probing.start(300_000.0);
        probing.on_sent(0, 100, None);
        assert!(probing.poll(0).is_none());
        probing.update(KNOWN);
        assert!(probing.poll(0).is_none());
        probing.want(1_000_000.0, KNOWN);
        probing.update(Knowledge {
            may_probe: false,
            ..KNOWN
        });
        assert!(probing.poll(0).is_none());
        probing.update(Knowledge {
            now: INTERVAL,
            ..KNOWN
        });
        assert_eq!(probing.poll(0).map(|probe| probe.bps), Some(900_000));
    }

    #[test]
    fn after_a_great_fall_the_next_comes_as_soon_as_the_queue_is_gone() {
        for (has_fallen, wait) in [(true, AFTER_FALL), (false, INTERVAL / 2)] {
            let mut probing = Probing::default();
            probing.want(1_000_000.0, KNOWN);
            probing.start(300_000.0);
            probing.update(Knowledge {
                may_probe: false,
                has_fallen,
                ..KNOWN
            });
            for (now, planned) in [(wait - 1, false), (wait, true)] {
                probing.update(Knowledge { now, ..KNOWN });
                assert_eq!(probing.is_planned(), planned, "{has_fallen} at {now}");
            }
        }
    }

    #[test]
    fn later_probes_ask_for_little_more_unless_the_rate_has_just_fallen() {
        for (estimate, has_fallen, asked) in [
            (2_000_000.0, false, 3_000_000),
            (2_000_000.0, true, 4_000_000),
            (100_000.0, true, 400_000),
        ] {
            let mut probing = Probing {
                phase: Phase::Later,
                ..Probing::default()
            };
            let known = Knowledge {
                estimate,
                has_fallen,
                ..KNOWN
            };
            probing.want(20_000_000.0, known);
            assert_eq!(probing.poll(0).map(|probe| probe.bps), Some(asked));
        }
    }

    #[test]
    fn a_probe_that_got_lost_frees_the_way_for_the_next() {
        let mut probing = Probing::default();
        probing.want(1_000_000.0, KNOWN);
        probing.start(300_000.0);
        probing.on_sent(0, 100, None);
        assert!(probing.poll(0).is_some());
        assert!(probing.poll(0).is_none());
        for second in 1..5 {
            let now = second * 1_000_001;
            assert_eq!(probing.update(Knowledge { now, ..KNOWN }), None);
        }
        assert!(probing.poll(5_000_000).is_some());
    }
}
