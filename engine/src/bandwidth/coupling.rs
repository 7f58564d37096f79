//! Viewers who share a link, as those of an office do, each find their part of it slowly; a
//! server that serves them all can share it out. This is coupled congestion control (RFC 8699),
//! with evidence that they share a bottleneck as RFC 8382 asks for.
//!
//! The evidence is how long packets waited over the last ten seconds ([`DelaySeries`]): in one
//! queue that is the same for all at every moment. When the estimate of one falls, its delays are
//! laid beside those of all others whose estimates fell lately. Whose went together with its own
//! counts as one more time together, whose did not as fewer; after some times together the two
//! are coupled. Peers of one address are likely to share a link, and who of them has a little
//! jitter of its own shall not be left out; for those of different addresses the delays have to
//! agree nearly fully. A queue that only one of two has outweighs ten seconds of agreement, so
//! who shares a link no longer is told apart with its first fall.
//!
//! What is done with it: the estimates of those who are coupled with the fallen one, and agreed
//! with it this time too, are summed up, and each gets closer to an equal part of the sum, as far
//! as it has a use for it. The sum stays as it is, so whatever is judged wrongly changes nothing
//! for others, and is undone by the estimators alone. Each goes on with its own estimator: what
//! is shared is the result, not the measurement.
//!
//! Feedback can be made up. But nobody knows the delays of others who does not share their queue;
//! and of who does, and pretends to get nothing itself, another gives a part at a time, and finds
//! it free again.
//!
//! Nothing is done while no estimate falls, but that the delay of each packet to who is compared
//! is added to a sum. An address is that of a peer whose connectivity was checked, and the number
//! of those who are compared is bounded.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::delay_series::DelaySeries;
use crate::api::ids::TransportId;

/// Peers are compared this long after the estimate of one fell: feedback of the same queue comes
/// to others later.
const COMPARED_AFTER: Duration = Duration::from_millis(400);
/// Peers that are remembered.
const MAX_CANDIDATES: usize = 128;
/// A peer whose estimate has not fallen for so long is forgotten.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// How far delays have to go together for peers of one address, and of different ones.
const ONE_ADDRESS: f64 = 0.7;
const DIFFERENT_ADDRESSES: f64 = 0.9;
/// Two peers whose delays moved together this many times are coupled, and more than this are not
/// counted.
const COUPLED: u8 = 3;
const MOST: u8 = 5;
/// What one time counts at which they did not.
const APART: u8 = 2;

/// The share of what a peer has that it gives to others at once.
const MOST_GIVEN: f64 = 0.5;

/// What is known of a peer when it is compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member<'a> {
    /// The delays of late.
    pub(crate) delays: Option<&'a DelaySeries>,
    /// What its network is taken to carry, in bits a second.
    pub(crate) estimate: u64,
    /// What it has a use for, in bits a second; 0 while nothing is sent to it.
    pub(crate) demand: u64,
}

/// The part of a peer, in bits a second.
pub(crate) type Part = (TransportId, u64);

/// A peer whose estimate fell lately.
#[derive(Debug)]
struct Candidate {
    id: TransportId,
    site: IpAddr,
    fell: Instant,
    /// When it is to be compared with the others, after a fall.
    due: Option<Instant>,
}

/// All peers whose estimates fell lately.
#[derive(Debug, Default)]
pub(crate) struct Coupling {
    candidates: Vec<Candidate>,
    /// How many times the delays of two went together; pairs that never did are not there.
    together: BTreeMap<(TransportId, TransportId), u8>,
    /// When the next comparison is due.
    due: Option<Instant>,
}

impl Coupling {
    /// The estimate of a peer at this address fell. True if it is to be compared, for which its
    /// delays are needed from now on.
    pub(crate) fn on_fall(&mut self, now: Instant, address: IpAddr, id: TransportId) -> bool {
        let Some(site) = site(address) else {
            return false;
        };
        let due = now + COMPARED_AFTER;
        let known = self.candidates.iter_mut().find(|known| known.id == id);
        if let Some(known) = known {
            (known.site, known.fell) = (site, now);
            known.due.get_or_insert(due);
        } else {
            if self.candidates.len() >= MAX_CANDIDATES {
                let recent = |fell| now.saturating_duration_since(fell) < FORGOTTEN_AFTER;
                self.forget(|candidate| recent(candidate.fell));
            }
            if self.candidates.len() >= MAX_CANDIDATES {
                return false;
            }
            self.candidates.push(Candidate {
                id,
                site,
                fell: now,
                due: Some(due),
            });
        }
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        true
    }

    /// Keeps the candidates of which `is_kept` is true.
    fn forget(&mut self, is_kept: impl Fn(&Candidate) -> bool) {
        let before = self.candidates.len();
        self.candidates.retain(is_kept);
        if self.candidates.len() == before {
            return;
        }
        let ids: Vec<TransportId> = self.candidates.iter().map(|kept| kept.id).collect();
        self.together
            .retain(|(one, other), _| ids.contains(one) && ids.contains(other));
    }

    /// Whether peers are to be compared now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Compares a peer whose time has come with all others. `look` tells what is known of a
    /// peer; `None` if it is no longer there. Gives the new estimates of those who are coupled
    /// with it.
    pub(crate) fn compare<'a>(
        &mut self,
        now: Instant,
        look: impl Fn(TransportId, IpAddr) -> Option<Member<'a>>,
    ) -> Vec<Part> {
        let is_due = |candidate: &Candidate| candidate.due.is_some_and(|due| due <= now);
        let mut parts = Vec::new();
        if let Some(index) = self.candidates.iter().position(is_due) {
            self.candidates[index].due = None;
            let (id, site) = (self.candidates[index].id, self.candidates[index].site);
            if let Some(first) = look(id, site).filter(|first| first.demand > 0) {
                parts = self.compare_with(id, site, first, &look);
            }
            self.forget(|candidate| look(candidate.id, candidate.site).is_some());
        }
        self.due = self.candidates.iter().filter_map(|other| other.due).min();
        parts
    }

    fn compare_with<'a>(
        &mut self,
        id: TransportId,
        site: IpAddr,
        first: Member<'a>,
        look: &impl Fn(TransportId, IpAddr) -> Option<Member<'a>>,
    ) -> Vec<Part> {
        let mut coupled = vec![(id, first)];
        for other in &mut self.candidates {
            let member = look(other.id, other.site).filter(|member| member.demand > 0);
            let Some(member) = member.filter(|_| other.id != id) else {
                continue;
            };
            let delays = first.delays.zip(member.delays);
            let Some(concordance) = delays.and_then(|(one, two)| one.concordance(two)) else {
                continue;
            };
            let needed = if site == other.site {
                ONE_ADDRESS
            } else {
                DIFFERENT_ADDRESSES
            };
            let pair = (id.min(other.id), id.max(other.id));
            let before = self.together.get(&pair).copied().unwrap_or(0);
            if concordance < needed {
                match before.saturating_sub(APART) {
                    0 => self.together.remove(&pair),
                    times => self.together.insert(pair, times),
                };
                continue;
            }
            // That its estimate fell as well was the same event.
            other.due = None;
            let times = (before + 1).min(MOST);
            self.together.insert(pair, times);
            if times >= COUPLED {
                coupled.push((other.id, member));
            }
        }
        if coupled.len() > 1 {
            share_out(&coupled)
        } else {
            Vec::new()
        }
    }
}

/// By what peers count as of one address: IPv6 networks give each machine its own. `None` for
/// this machine, which no link leads to.
pub(crate) fn site(address: IpAddr) -> Option<IpAddr> {
    match address.to_canonical() {
        address if address.is_loopback() => None,
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            Some(Ipv6Addr::from_bits(network).into())
        }
        address => Some(address),
    }
}

/// Brings each closer to an equal part of what all have.
fn share_out(coupled: &[(TransportId, Member<'_>)]) -> Vec<Part> {
    let used = |member: &Member<'_>| member.estimate.min(member.demand);
    let mut left: u64 = coupled.iter().map(|(_, member)| used(member)).sum();
    let mut sorted: Vec<&(TransportId, Member<'_>)> = coupled.iter().collect();
    sorted.sort_by_key(|(_, member)| member.demand);
    let mut parts = Vec::with_capacity(sorted.len());
    let mut step = 1.0_f64;
    for (index, (id, member)) in sorted.iter().enumerate() {
        // A peer whose target is below an equal share leaves the rest to the others.
        let part = member.demand.min(left / (sorted.len() - index) as u64);
        left -= part;
        let had = used(member) as f64;
        let given = had - part as f64;
        if given > MOST_GIVEN * had {
            step = step.min(MOST_GIVEN * had / given);
        }
        if member.estimate < member.demand || part < member.demand {
            parts.push((*id, had, given));
        }
    }
    let closer = |(id, had, given): (TransportId, f64, f64)| (id, (had - step * given) as u64);
    parts.into_iter().map(closer).collect()
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;
    use crate::test_clock;

    const SECOND: i64 = 1_000_000;

    /// Peers, by their number, each with a queue of its own or the one that all share.
    struct Network {
        coupling: Coupling,
        now: Instant,
        time: i64,
        addresses: Vec<IpAddr>,
        delays: Vec<DelaySeries>,
        estimates: Vec<u64>,
    }

    impl Network {
        fn new(addresses: &[[u8; 4]], estimates: &[u64]) -> Network {
            Network {
                coupling: Coupling::default(),
                now: test_clock::start(),
                time: 0,
                addresses: addresses.iter().map(|octets| (*octets).into()).collect(),
                delays: addresses.iter().map(|_| DelaySeries::new(0)).collect(),
                estimates: estimates.to_vec(),
            }
        }

        /// Peers at addresses of their own.
        fn wide(estimates: &[u64]) -> Network {
            let addresses: Vec<[u8; 4]> = (0..estimates.len() as u8)
                .map(|number| [198, 51, 100, number])
                .collect();
            Network::new(&addresses, estimates)
        }

        /// For some seconds packets wait as `delay` tells of a peer and a time, in microseconds.
        fn pass(&mut self, seconds: i64, delay: impl Fn(usize, i64) -> i64) {
            let end = self.time + seconds * SECOND;
            while self.time < end {
                for (number, delays) in self.delays.iter_mut().enumerate() {
                    delays.on_packet(self.time, delay(number, self.time));
                }
                self.time += 10_000;
            }
            self.now += Duration::from_secs(seconds as u64);
        }

        /// The estimate of a peer falls.
        fn fall(&mut self, who: usize) {
            let address = self.addresses[who];
            assert!(
                self.coupling
                    .on_fall(self.now, address, TransportId(who as u64))
            );
            self.now += COMPARED_AFTER;
            while self.coupling.is_due(self.now) {
                let (delays, estimates) = (&self.delays, &self.estimates);
                let look = |id: TransportId, _| {
                    let number = id.0 as usize;
                    Some(Member {
                        delays: delays.get(number),
                        estimate: *estimates.get(number)?,
                        demand: 3_000_000,
                    })
                };
                for (id, rate) in self.coupling.compare(self.now, look) {
                    self.estimates[id.0 as usize] = rate;
                }
            }
        }
    }

    /// Delays of a queue that is another for each number, as bursts of frames make it.
    fn queue(number: usize, time: i64) -> i64 {
        let seed = (time / 40_000 + 1_000_000 * number as i64) as u64;
        SmallRng::seed_from_u64(seed).random_range(0..60_000)
    }

    fn are_equal(estimates: &[u64], each: u64) -> bool {
        estimates
            .iter()
            .all(|rate| rate.abs_diff(each) < each / 100)
    }

    #[test]
    fn who_waits_in_one_queue_gets_an_equal_part_wherever_it_is() {
        let mut network = Network::wide(&[2_000_000, 600_000, 400_000]);
        for turn in 0..2 {
            network.pass(5, |_, time| queue(0, time));
            network.fall(turn % 3);
        }
        assert_eq!(network.estimates, [2_000_000, 600_000, 400_000]);
        network.pass(5, |_, time| queue(0, time));
        network.fall(2);
        assert!(network.estimates[0] >= 1_500_000, "{:?}", network.estimates);
        for turn in 0..9 {
            network.pass(2, |_, time| queue(0, time));
            network.fall(turn % 3);
        }
        assert!(are_equal(&network.estimates, 1_000_000));
    }

    #[test]
    fn queues_of_their_own_are_no_reason_even_behind_one_address() {
        let office = [192, 0, 2, 1];
        let mut network = Network::new(&[office; 3], &[2_000_000, 1_000_000, 100_000]);
        for turn in 0..100 {
            // Of the time in which all are sent a keyframe, each has a part in its queue.
            let burst = |time: i64| if time % SECOND < 50_000 { 30_000 } else { 0 };
            network.pass(2, |number, time| queue(number, time) + burst(time));
            network.fall(turn % 3);
        }
        assert_eq!(network.estimates, [2_000_000, 1_000_000, 100_000]);
    }

    #[test]
    fn some_jitter_is_forgiven_within_one_address() {
        for (address, shared) in [([192, 0, 2, 1], true), ([192, 0, 2, 2], false)] {
            let mut network = Network::new(&[[192, 0, 2, 1], address], &[1_500_000, 500_000]);
            for turn in 0..20 {
                network.pass(2, |number, time| {
                    queue(0, time) + queue(number + 1, time) * 2 / 5
                });
                network.fall(turn % 2);
            }
            let equal = are_equal(&network.estimates, 1_000_000);
            assert_eq!(equal, shared, "{address:?}: {:?}", network.estimates);
        }
    }

    #[test]
    fn a_link_that_gets_worse_takes_nothing_from_others_that_were_like_it() {
        let mut network = Network::wide(&[1_000_000, 1_000_000]);
        for turn in 0..20 {
            network.pass(2, |_, time| queue(0, time));
            network.fall(turn % 2);
        }
        network.pass(1, |number, time| {
            let full = 200_000 - 50_000 * i64::from(time % SECOND < 250_000);
            if number == 0 { full } else { queue(0, time) }
        });
        network.estimates[0] = 300_000;
        for _ in 0..3 {
            network.fall(0);
        }
        assert_eq!(network.estimates, [300_000, 1_000_000]);
    }

    #[test]
    fn who_wants_less_keeps_it_and_leaves_the_rest() {
        let member = |estimate, demand| Member {
            delays: None,
            estimate,
            demand,
        };
        let all = [
            (TransportId(1), member(1_400_000, 3_000_000)),
            (TransportId(2), member(900_000, 200_000)),
            (TransportId(3), member(1_000_000, 3_000_000)),
        ];
        let mut parts = share_out(&all);
        parts.sort();
        assert_eq!(
            parts,
            [(TransportId(1), 1_200_000), (TransportId(3), 1_200_000)]
        );
    }

    #[test]
    fn candidates_are_bounded_and_loopback_is_none() {
        let mut coupling = Coupling::default();
        let now = test_clock::start();
        for number in 0..2_000 {
            let address = IpAddr::from((0x0a00_0000_u32 + number).to_be_bytes());
            let taken = coupling.on_fall(now, address, TransportId(number.into()));
            assert_eq!(taken, (number as usize) < MAX_CANDIDATES);
            assert!(!coupling.on_fall(now, [127, 0, 0, 1].into(), TransportId(number.into())));
        }
        assert_eq!(coupling.candidates.len(), MAX_CANDIDATES);
        let later = now + FORGOTTEN_AFTER;
        assert!(coupling.on_fall(later, [203, 0, 113, 1].into(), TransportId(5_000)));
        assert_eq!(coupling.candidates.len(), 1);
        assert_eq!(
            site("2001:db8::1:2:3:4".parse().unwrap()),
            site("2001:db8::9".parse().unwrap())
        );
    }
}
