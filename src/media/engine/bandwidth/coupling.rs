//! Viewers behind one address, as those of an office, mostly share its link. Each of them alone
//! finds its part of it slowly; a server that serves them all can share it out. This is coupled
//! congestion control (RFC 8699), with evidence that they share a bottleneck as RFC 8382 asks for.
//!
//! The evidence: those who share a queue wait in it equally long at the same time. When the
//! estimate of one falls, all of its address are looked at a little later: for how long did
//! packets wait lately, beyond what is usual? Who waited as long counts as one more time together
//! with it, who did not as one less; after some times together they are coupled. Who is alone
//! with its queue, as behind bad radio of its own, says nothing of the others and moves away from
//! them twice as fast.
//!
//! What is done with it: the estimates of the coupled ones are summed up, and each gets an equal
//! part of the sum, as far as it has a use for it. The sum stays as it is, so whatever is judged
//! wrongly changes nothing for others, and is undone by the estimators alone. Each goes on
//! with its own estimator: what is shared is the result, not the measurement.
//!
//! Nothing is done a packet, and nothing while no estimate falls. An address is that of a peer
//! whose connectivity was checked, and addresses and their members are bounded in number.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use crate::media::engine::ids::TransportId;

/// Members of an address are compared this long after the estimate of one fell: feedback of the
/// same queue comes to others later.
const COMPARED_AFTER: Duration = Duration::from_millis(400);
/// Addresses that are remembered, and members of each.
const MAX_GROUPS: usize = 256;
const MAX_MEMBERS: usize = 16;
/// An address at which no estimate has fallen for so long is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// Who has been congested together so many times is coupled, and more than so many are not
/// counted.
const COUPLED: i8 = 4;
const MOST: i8 = 8;
/// A shorter wait than this is no queue, in microseconds.
const QUEUE: i64 = 12_000;
/// Waits are equally long when neither is more than this many times the other.
const EQUALLY_LONG: f64 = 1.7;

/// What is known of a member when it is compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Member {
    /// For how long packets waited at most of late, beyond what is usual, in microseconds.
    pub(crate) waited: i64,
    /// What its network is taken to carry, in bits a second.
    pub(crate) estimate: u64,
    /// What it has a use for, in bits a second; 0 while nothing is sent to it.
    pub(crate) demand: u64,
}

/// The part of a member, in bits a second.
pub(crate) type Part = (TransportId, u64);

/// The members of one address.
#[derive(Debug, Default)]
struct Group {
    /// With the times they were congested together.
    members: Vec<(TransportId, i8)>,
    /// Whose estimate fell, when it is to be compared.
    fell: Option<(TransportId, Instant)>,
    last: Option<Instant>,
}

/// All addresses at which estimates fell lately.
#[derive(Debug, Default)]
pub(crate) struct Coupling {
    groups: BTreeMap<IpAddr, Group>,
    /// When the next one is due.
    due: Option<Instant>,
}

impl Coupling {
    /// The estimate of a member of this address fell.
    pub(crate) fn on_fall(&mut self, now: Instant, address: IpAddr, id: TransportId) {
        let Some(site) = site(address) else {
            return;
        };
        if self.groups.len() >= MAX_GROUPS && !self.groups.contains_key(&site) {
            self.groups.retain(|_, group| group.is_recent(now));
            if self.groups.len() >= MAX_GROUPS {
                return;
            }
        }
        let group = self.groups.entry(site).or_default();
        group.last = Some(now);
        if !group.members.iter().any(|(member, _)| *member == id) {
            if group.members.len() >= MAX_MEMBERS {
                return;
            }
            group.members.push((id, 0));
        }
        if group.fell.is_none() && group.members.len() > 1 {
            let due = now + COMPARED_AFTER;
            group.fell = Some((id, due));
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    /// Whether members are to be compared now.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Compares the members of an address whose time has come. `look` tells what is known of a
    /// member; `None` if it is no longer there. Gives the new estimates of those who are coupled.
    pub(crate) fn compare(
        &mut self,
        now: Instant,
        look: impl Fn(TransportId, IpAddr) -> Option<Member>,
    ) -> Vec<Part> {
        let is_due = |group: &Group| group.fell.is_some_and(|(_, due)| due <= now);
        let mut parts = Vec::new();
        if let Some((&site, group)) = self.groups.iter_mut().find(|(_, group)| is_due(group)) {
            parts = group.compare(|id| look(id, site));
        }
        let dues = self.groups.values().filter_map(|group| group.fell);
        self.due = dues.map(|(_, due)| due).min();
        parts
    }
}

impl Group {
    fn is_recent(&self, now: Instant) -> bool {
        self.last
            .is_some_and(|last| now.saturating_duration_since(last) < FORGOTTEN_AFTER)
    }

    fn compare(&mut self, look: impl Fn(TransportId) -> Option<Member>) -> Vec<Part> {
        let fell = self.fell.take();
        self.members.retain(|(id, _)| look(*id).is_some());
        let Some((fallen, first)) = fell.and_then(|(id, _)| Some((id, look(id)?))) else {
            return Vec::new();
        };
        let compared = |id: TransportId| {
            let other = look(id).filter(|other| other.demand > 0);
            other.map(|other| (other, waited_equally(first.waited, other.waited)))
        };
        let others = self.members.iter().filter(|(id, _)| *id != fallen);
        let together = others
            .filter_map(|(id, _)| compared(*id))
            .any(|(_, equally)| equally);
        let mut coupled = Vec::new();
        for (id, times) in &mut self.members {
            let Some((member, equally)) = compared(*id) else {
                continue;
            };
            let change = match (*id == fallen, together) {
                // A queue that was hardly one and is gone says nothing.
                _ if first.waited < QUEUE => 0,
                (true, false) => -2,
                (false, false) => 0,
                (false, true) if !equally => -1,
                (_, true) => 1,
            };
            *times = (*times + change).clamp(0, MOST);
            if *times >= COUPLED {
                coupled.push((*id, member));
            }
        }
        if coupled.iter().any(|(id, _)| *id == fallen) {
            share_out(&coupled)
        } else {
            Vec::new()
        }
    }
}

/// Those who share a link: nobody on this machine, and all of one IPv6 network.
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

fn waited_equally(one: i64, other: i64) -> bool {
    let (less, more) = (one.min(other), one.max(other));
    more >= QUEUE && more as f64 <= EQUALLY_LONG * less as f64
}

/// Gives each an equal part of what all have.
fn share_out(coupled: &[(TransportId, Member)]) -> Vec<Part> {
    let used = |member: &Member| member.estimate.min(member.demand);
    let mut left: u64 = coupled.iter().map(|(_, member)| used(member)).sum();
    let mut sorted: Vec<&(TransportId, Member)> = coupled.iter().collect();
    sorted.sort_by_key(|(_, member)| member.demand);
    let mut parts = Vec::with_capacity(sorted.len());
    for (index, (id, member)) in sorted.iter().enumerate() {
        // Who wants less than an equal part leaves the rest to those who want more.
        let part = member.demand.min(left / (sorted.len() - index) as u64);
        left -= part;
        if member.estimate < member.demand || part < member.demand {
            parts.push((*id, part));
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::test_clock;

    const OFFICE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    /// Members of one address, by their number.
    struct Office {
        coupling: Coupling,
        now: Instant,
        members: Vec<Member>,
    }

    impl Office {
        fn new(estimates: &[u64]) -> Office {
            let member = |&estimate| Member {
                waited: 0,
                estimate,
                demand: 3_000_000,
            };
            Office {
                coupling: Coupling::default(),
                now: test_clock::start(),
                members: estimates.iter().map(member).collect(),
            }
        }

        /// The estimate of a member falls while these wait for this long, in milliseconds.
        fn fall(&mut self, who: u32, waited: &[i64]) {
            for (member, waited) in self.members.iter_mut().zip(waited) {
                member.waited = waited * 1_000;
            }
            self.coupling.on_fall(self.now, OFFICE, TransportId(who));
            self.now += COMPARED_AFTER;
            while self.coupling.is_due(self.now) {
                let members = &self.members;
                let look = |id: TransportId, _| members.get(id.0 as usize).copied();
                for (id, rate) in self.coupling.compare(self.now, look) {
                    self.members[id.0 as usize].estimate = rate;
                }
            }
            self.now += Duration::from_secs(2);
        }

        fn estimates(&self) -> Vec<u64> {
            self.members.iter().map(|member| member.estimate).collect()
        }
    }

    #[test]
    fn who_waits_in_one_queue_gets_an_equal_part() {
        let mut office = Office::new(&[2_000_000, 600_000, 400_000]);
        for turn in 0..4 {
            office.fall(turn % 3, &[50, 45, 60]);
        }
        assert_eq!(
            office.estimates(),
            [2_000_000, 600_000, 400_000],
            "too early"
        );
        for turn in 0..20 {
            office.fall(turn % 3, &[50, 45, 60]);
        }
        let estimates = office.estimates();
        assert!(
            estimates.iter().all(|rate| rate.abs_diff(1_000_000) < 10),
            "{estimates:?}"
        );
    }

    #[test]
    fn a_bad_way_of_its_own_behind_the_same_address_drags_nobody_down() {
        let mut office = Office::new(&[2_000_000, 1_000_000, 100_000]);
        office.fall(0, &[50, 50, 0]);
        office.fall(1, &[50, 50, 0]);
        for turn in 0..200 {
            // Its own queue is there most of the time, so by chance when the others' is.
            let chance = if turn % 3 == 0 { 60 } else { 0 };
            office.fall(2, &[0, 5, 100]);
            office.fall(turn % 2, &[50, 50, chance]);
            office.fall(2, &[5, 0, 40]);
        }
        assert_eq!(office.estimates()[2], 100_000);
        let others = &office.estimates()[..2];
        assert!(
            others.iter().all(|rate| rate.abs_diff(1_500_000) < 10),
            "{others:?}"
        );
    }

    #[test]
    fn it_ends_when_they_share_a_queue_no_longer() {
        let mut office = Office::new(&[1_000_000, 1_000_000]);
        for turn in 0..20 {
            office.fall(turn % 2, &[50, 50]);
        }
        for turn in 0..8 {
            let waited = if turn % 2 == 0 { [50, 0] } else { [0, 50] };
            office.fall(turn % 2, &waited);
        }
        office.members[0].estimate = 300_000;
        office.fall(0, &[50, 0]);
        office.fall(0, &[50, 50]);
        assert_eq!(office.estimates(), [300_000, 1_000_000]);
    }

    #[test]
    fn who_wants_less_keeps_it_and_leaves_the_rest() {
        let member = |estimate, demand| Member {
            waited: 0,
            estimate,
            demand,
        };
        let all = [
            (TransportId(1), member(2_000_000, 3_000_000)),
            (TransportId(2), member(900_000, 200_000)),
            (TransportId(3), member(400_000, 3_000_000)),
        ];
        let mut parts = share_out(&all);
        parts.sort();
        assert_eq!(
            parts,
            [(TransportId(1), 1_200_000), (TransportId(3), 1_200_000)]
        );
    }

    #[test]
    fn addresses_and_members_are_bounded_and_loopback_is_none() {
        let mut coupling = Coupling::default();
        let now = test_clock::start();
        for number in 0..2_000 {
            let address = IpAddr::from((0x0a00_0000_u32 + number).to_be_bytes());
            coupling.on_fall(now, address, TransportId(number));
            coupling.on_fall(now, OFFICE, TransportId(number));
            coupling.on_fall(now, IpAddr::from([127, 0, 0, 1]), TransportId(number));
        }
        assert_eq!(coupling.groups.len(), MAX_GROUPS);
        let members = coupling.groups.values().map(|group| group.members.len());
        assert_eq!(members.max(), Some(MAX_MEMBERS));
        let later = now + FORGOTTEN_AFTER;
        coupling.on_fall(later, IpAddr::from([203, 0, 113, 1]), TransportId(1));
        assert_eq!(coupling.groups.len(), 1);
        assert_eq!(
            site("2001:db8::1:2:3:4".parse().unwrap()),
            site("2001:db8::9".parse().unwrap())
        );
    }
}
