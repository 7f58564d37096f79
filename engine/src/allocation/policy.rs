//! What a subscriber's bandwidth is spent on: which of its video tracks is sent in which size.
//!
//! Everything gets its smallest size before anything gets a larger one; a shared screen grows
//! before cameras, cameras grow by what the client calls more important, and equals grow in
//! turns. What does not fit in its smallest size is paused, unless the client will not have that.
//! What is left over thus goes to what is looked at, as far as it is wanted.
//!
//! Invariant: the sum of what is chosen is within the budget, but for what was sent before and
//! arrives or is too little more to be taken back, and for the smallest size of what is not to be
//! paused.

use crate::state::table::SubscriptionIx;
use std::cmp::Reverse;

/// Ways in which one track can be sent, at most.
pub(crate) const MAX_CHOICES: usize = 12;
/// What is larger than the current choice, or was paused, is chosen when it leaves so much of the
/// budget, in percent, and not more than this many bit/s: so that a rate which varies around
/// a step does not flap. Of many encoders not all vary the same way at a time.
const SPARE_PERCENT: u64 = 8;
const MAX_SPARE: u64 = 80_000;
/// And what is sent stays while it exceeds the budget by no more than this, in percent: what is
/// taken back comes again only with a keyframe.
const KEPT_PERCENT: u64 = 8;

/// What comes first: the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    camera: bool,
    priority: u8,
}

impl Rank {
    /// `priority` as in [`crate::api::command::SubscriptionSettings`].
    pub(crate) fn new(screen: bool, priority: u8) -> Rank {
        Rank {
            camera: !screen,
            // Unsaid is last.
            priority: priority.wrapping_sub(1),
        }
    }
}

/// One track that wants a share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// Index of the subscription.
    pub(crate) subscription: SubscriptionIx,
    rank: Rank,
    /// It may get nothing.
    allow_pause: bool,
    /// Bits per second of each choice, rising.
    bitrates: [u64; MAX_CHOICES],
    count: usize,
    /// The choice that is sent now.
    current: Option<usize>,
    /// Nothing of it is sent now as there was no room, not because it is new.
    pub(crate) paused: bool,
    /// The choice that has been made; `None` to pause.
    pub(crate) chosen: Option<usize>,
}

impl Candidate {
    /// A track without choices. `allow_pause` as in [`crate::api::command::SubscriptionSettings`].
    pub(crate) fn new(subscription: SubscriptionIx, rank: Rank, allow_pause: bool) -> Candidate {
        Candidate {
            subscription,
            rank,
            allow_pause,
            bitrates: [0; MAX_CHOICES],
            count: 0,
            current: None,
            paused: false,
            chosen: None,
        }
    }

    /// Adds a choice, larger than those before; `current` when it is the one sent now. One that
    /// costs less than a smaller one is taken for as dear as that.
    pub(crate) fn add(&mut self, bitrate: u64, current: bool) {
        if self.count == MAX_CHOICES {
            return;
        }
        let before = self.count.checked_sub(1).map_or(0, |i| self.bitrates[i]);
        if current {
            self.current = Some(self.count);
        }
        self.bitrates[self.count] = bitrate.max(before);
        self.count += 1;
    }

    /// What its smallest choice costs, bits a second.
    pub(crate) fn smallest(&self) -> Option<u64> {
        (self.count > 0).then(|| self.bitrates[0])
    }

    fn cost(&self, choice: Option<usize>) -> u64 {
        choice.map_or(0, |index| self.bitrates[index])
    }

    fn largest(&self) -> Option<usize> {
        self.count.checked_sub(1)
    }

    fn next(&self) -> usize {
        self.chosen.map_or(0, |index| index + 1)
    }

    /// What the next larger choice costs more.
    fn step(&self) -> Option<u64> {
        let next = self.next();
        (next < self.count).then(|| self.bitrates[next] - self.cost(self.chosen))
    }

    /// Whether the next larger choice is more than what is sent now, or there was no room for any.
    fn is_upgrade(&self) -> bool {
        match self.current {
            Some(current) => self.next() > current,
            None => self.paused,
        }
    }

    fn grow(&mut self) {
        self.chosen = Some(self.next());
    }

    /// Whether less of it is chosen than is sent now.
    fn is_taken_back(&self) -> bool {
        self.chosen < self.current
    }

    /// Whether more of it is chosen than is sent now, or than there was room for.
    fn has_grown(&self) -> bool {
        self.chosen > self.current && (self.current.is_some() || self.paused)
    }
}

/// What came of an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allocation {
    /// Bits per second of what is chosen.
    pub(crate) chosen: u64,
    /// Bits per second of everything that is wanted.
    pub(crate) wanted: u64,
    /// Less is chosen of a track than is sent of it now.
    pub(crate) takes_back: bool,
    /// More is chosen of a track than is sent of it now, or than there was room for.
    pub(crate) grows: bool,
}

/// Why an allocation is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// What is wanted or there has changed: what is sent now does not count.
    Settings,
    /// The budget has changed. What is sent now stays as long as it fits and nothing better
    /// does with room to spare. While nothing is paused it stays even where the budget is
    /// smaller: encoders vary, and that it arrives says more than an estimate of what else would.
    Budget,
    /// As before, and more is sent than the way carries: what is sent now stays only if it fits, or
    /// hardly does not.
    Congestion,
}

/// Chooses for each candidate within `budget` bits a second; in all `upgrades` of them are sent
/// one choice larger than now, at most, beside those of which nothing is sent now.
pub(crate) fn allocate(
    candidates: &mut [Candidate],
    budget: u64,
    reason: Reason,
    upgrades: usize,
) -> Allocation {
    // Of equals the one that may become the largest is looked at most: it is the last to be
    // paused. Of those who are equal in that too, the one of which most is sent already: else
    // they would take turns.
    candidates.sort_by_key(|c| (c.rank, Reverse(c.count), Reverse(c.current)));
    let current = Extent::of(candidates, |candidate| candidate.current);
    let fits = current.bitrate * 100 <= budget.saturating_mul(100 + KEPT_PERCENT);
    let all_there = current.tracks == candidates.iter().filter(|c| c.count > 0).count();
    let keep = match reason {
        Reason::Settings => false,
        Reason::Budget => fits || all_there,
        Reason::Congestion => fits,
    };
    let spare = match reason {
        Reason::Settings => 0,
        // One picture is so much better than none that it is tried.
        _ if current.tracks == 0 => 0,
        _ => spare(budget),
    };
    fill(
        candidates,
        Room {
            left: budget,
            spare,
            upgrades,
        },
    );
    let chosen = Extent::of(candidates, |candidate| candidate.chosen);
    if keep && chosen.tracks <= current.tracks && chosen.levels <= current.levels {
        for candidate in &mut *candidates {
            candidate.chosen = candidate.current;
        }
    }
    Allocation {
        chosen: Extent::of(candidates, |candidate| candidate.chosen).bitrate,
        wanted: Extent::of(candidates, Candidate::largest).bitrate,
        takes_back: candidates.iter().any(Candidate::is_taken_back),
        grows: candidates.iter().any(Candidate::has_grown),
    }
}

/// What an upgrade is to leave of a budget, bits a second.
fn spare(budget: u64) -> u64 {
    (budget * SPARE_PERCENT / 100).min(MAX_SPARE)
}

/// How much is sent.
#[derive(Debug, Default)]
struct Extent {
    tracks: usize,
    /// Each track counts by the place of its choice.
    levels: usize,
    bitrate: u64,
}

impl Extent {
    fn of(candidates: &[Candidate], choice: impl Fn(&Candidate) -> Option<usize>) -> Extent {
        let mut extent = Extent::default();
        for candidate in candidates {
            let choice = choice(candidate);
            extent.tracks += usize::from(choice.is_some());
            extent.levels += choice.map_or(0, |index| index + 1);
            extent.bitrate += candidate.cost(choice);
        }
        extent
    }
}

/// What is not given away yet.
#[derive(Debug)]
struct Room {
    /// Bits a second.
    left: u64,
    /// What an upgrade is to leave of it.
    spare: u64,
    /// Upgrades that may still be made.
    upgrades: usize,
}

impl Room {
    /// Gives a candidate its next larger choice, if there is room for it.
    fn give_step(&mut self, candidate: &mut Candidate) {
        let is_upgrade = candidate.is_upgrade();
        let counts = is_upgrade && candidate.chosen.is_some();
        if counts && self.upgrades == 0 {
            return;
        }
        let spare = if is_upgrade { self.spare } else { 0 };
        if let Some(step) = candidate.step()
            && step + spare <= self.left
        {
            self.left -= step;
            self.upgrades -= usize::from(counts);
            candidate.grow();
        }
    }
}

/// Shares the room out from nothing.
fn fill(candidates: &mut [Candidate], mut room: Room) {
    for candidate in &mut *candidates {
        candidate.chosen = None;
        if let Some(smallest) = candidate.smallest().filter(|_| !candidate.allow_pause) {
            room.left = room.left.saturating_sub(smallest);
            candidate.grow();
        }
    }
    for candidate in candidates.iter_mut().filter(|c| c.allow_pause) {
        room.give_step(candidate);
    }
    for equals in candidates.chunk_by_mut(|a, b| a.rank == b.rank) {
        // In turns, the smallest first: who cannot grow any more is passed over.
        let mut level = 0;
        while level < MAX_CHOICES {
            let at_level = |candidate: &&mut Candidate| candidate.chosen == Some(level);
            for candidate in equals.iter_mut().filter(at_level) {
                room.give_step(candidate);
            }
            level += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAMERA: [u64; 3] = [150, 500, 1_700];

    fn candidate(subscription: u32, rank: Rank, bitrates: &[u64]) -> Candidate {
        let mut candidate = Candidate::new(SubscriptionIx(subscription), rank, true);
        for bitrate in bitrates {
            candidate.add(*bitrate, false);
        }
        candidate
    }

    fn cameras(count: u32) -> Vec<Candidate> {
        let rank = Rank::new(false, 0);
        (0..count).map(|n| candidate(n, rank, &CAMERA)).collect()
    }

    fn choose(candidates: &mut [Candidate], budget: u64, reason: Reason) -> Allocation {
        allocate(candidates, budget, reason, usize::MAX)
    }

    fn chosen(candidates: &[Candidate], subscription: u32) -> Option<usize> {
        let of = |c: &&Candidate| c.subscription == SubscriptionIx(subscription);
        candidates.iter().find(of).and_then(|c| c.chosen)
    }

    /// What was chosen is what is sent from now on.
    fn send(candidates: &mut [Candidate]) {
        for candidate in candidates {
            candidate.current = candidate.chosen;
            candidate.paused = candidate.chosen.is_none();
        }
    }

    #[test]
    fn equals_get_equal_shares() {
        let mut candidates = cameras(5);
        let allocation = choose(&mut candidates, 2_600, Reason::Settings);
        assert!((0..5).all(|n| chosen(&candidates, n) == Some(1)));
        assert_eq!(
            allocation,
            Allocation {
                chosen: 2_500,
                wanted: 8_500,
                takes_back: false,
                grows: false,
            }
        );
    }

    #[test]
    fn who_is_shown_large_is_the_last_of_equals_to_be_paused() {
        let rank = Rank::new(false, 0);
        let mut candidates: Vec<_> = (0..4).map(|n| candidate(n, rank, &CAMERA[..1])).collect();
        candidates.push(candidate(9, rank, &CAMERA));
        choose(&mut candidates, 300, Reason::Congestion);
        assert_eq!(chosen(&candidates, 9), Some(0));
        assert_eq!(chosen(&candidates, 0), Some(0));
        assert_eq!(chosen(&candidates, 1), None);
    }

    #[test]
    fn a_screen_grows_before_cameras_and_everything_is_seen() {
        let mut candidates = cameras(2);
        candidates.push(candidate(9, Rank::new(true, 0), &[300, 1_500]));
        choose(&mut candidates, 1_900, Reason::Settings);
        assert_eq!(chosen(&candidates, 9), Some(1));
        assert_eq!(chosen(&candidates, 0), Some(0));
        assert_eq!(chosen(&candidates, 1), Some(0));
    }

    #[test]
    fn what_does_not_fit_at_its_smallest_is_paused_least_important_first() {
        let mut candidates = vec![
            candidate(0, Rank::new(false, 0), &CAMERA),
            candidate(1, Rank::new(false, 2), &CAMERA),
            candidate(2, Rank::new(false, 1), &CAMERA),
        ];
        choose(&mut candidates, 310, Reason::Settings);
        assert_eq!(chosen(&candidates, 2), Some(0));
        assert_eq!(chosen(&candidates, 1), Some(0));
        assert_eq!(chosen(&candidates, 0), None);
    }

    #[test]
    fn what_is_not_to_be_paused_gets_its_smallest_before_all_others() {
        let mut candidates = cameras(4);
        candidates[3].allow_pause = false;
        choose(&mut candidates, 310, Reason::Settings);
        assert_eq!(chosen(&candidates, 3), Some(0));
        assert_eq!(chosen(&candidates, 0), Some(0));
        assert_eq!(chosen(&candidates, 1), None);
        for candidate in &mut candidates {
            candidate.allow_pause = false;
        }
        let allocation = choose(&mut candidates, 0, Reason::Congestion);
        assert!((0..4).all(|n| chosen(&candidates, n) == Some(0)));
        assert_eq!(allocation.chosen, 600);
        // Beyond that the budget counts as ever.
        choose(&mut candidates, 1_000, Reason::Settings);
        assert_eq!(chosen(&candidates, 0), Some(1));
        assert_eq!(chosen(&candidates, 1), Some(0));
        choose(
            &mut [candidate(0, Rank::new(false, 0), &[])],
            0,
            Reason::Settings,
        );
    }

    #[test]
    fn a_budget_that_varies_around_a_step_does_not_flap() {
        let mut candidates = cameras(1);
        choose(&mut candidates, 520, Reason::Settings);
        send(&mut candidates);
        assert_eq!(chosen(&candidates, 0), Some(1));
        for budget in [1_690, 1_720, 1_650, 1_800] {
            choose(&mut candidates, budget, Reason::Congestion);
            assert_eq!(chosen(&candidates, 0), Some(1), "{budget}");
        }
        choose(&mut candidates, 1_900, Reason::Congestion);
        send(&mut candidates);
        assert_eq!(chosen(&candidates, 0), Some(2));
        choose(&mut candidates, 1_600, Reason::Congestion);
        assert_eq!(chosen(&candidates, 0), Some(2), "it still fits, about");
        choose(&mut candidates, 1_500, Reason::Budget);
        assert_eq!(chosen(&candidates, 0), Some(2), "it arrives all the same");
        let allocation = choose(&mut candidates, 1_500, Reason::Congestion);
        assert_eq!(chosen(&candidates, 0), Some(1));
        assert!(allocation.takes_back && !allocation.grows);
    }

    #[test]
    fn only_so_many_grow_at_a_time_and_all_that_are_paused_begin() {
        let mut candidates = cameras(4);
        choose(&mut candidates, 1_000, Reason::Settings);
        send(&mut candidates);
        let levels = |candidates: &[Candidate]| [0, 1, 2, 3].map(|n| chosen(candidates, n));
        assert_eq!(levels(&candidates), [Some(1), Some(0), Some(0), Some(0)]);
        for grown in [2, 3, 4, 4] {
            let allocation = allocate(&mut candidates, 2_500, Reason::Budget, 1);
            let large = levels(&candidates).map(|level| usize::from(level == Some(1)));
            assert_eq!(large.iter().sum::<usize>(), grown);
            assert_eq!(
                allocation.grows,
                candidates.iter().any(Candidate::has_grown)
            );
            send(&mut candidates);
        }
        for candidate in &mut candidates {
            (candidate.current, candidate.paused) = (None, true);
        }
        let allocation = allocate(&mut candidates, 2_500, Reason::Budget, 0);
        assert_eq!(levels(&candidates), [Some(0); 4]);
        assert!(allocation.grows);
    }

    #[test]
    fn equals_do_not_take_turns_in_being_large() {
        let mut candidates = cameras(3);
        candidates[2].current = Some(1);
        candidates[0].current = Some(0);
        candidates[1].current = Some(0);
        // Not all fits as before, so the budget is allocated from scratch.
        choose(&mut candidates, 820, Reason::Congestion);
        assert_eq!(chosen(&candidates, 2), Some(1));
        assert_eq!(chosen(&candidates, 0), Some(0));
    }

    #[test]
    fn what_an_upgrade_leaves_is_no_more_than_what_encoders_vary_by() {
        let mut candidates = vec![
            candidate(0, Rank::new(true, 0), &[150_000]),
            candidate(1, Rank::new(false, 0), &[500_000, 9_500_000]),
        ];
        choose(&mut candidates, 9_000_000, Reason::Settings);
        send(&mut candidates);
        for (budget, choice) in [(9_720_000, 0), (9_740_000, 1)] {
            choose(&mut candidates, budget, Reason::Budget);
            assert_eq!(chosen(&candidates, 1), Some(choice), "{budget}");
        }
    }

    #[test]
    fn equals_do_not_take_turns_in_being_paused() {
        let rank = Rank::new(false, 0);
        let mut candidates: Vec<_> = (0..4).map(|n| candidate(n, rank, &CAMERA[..1])).collect();
        choose(&mut candidates, 460, Reason::Settings);
        for (budget, bitrates) in [
            (500, [160, 150, 160, 140]),
            (460, [150, 155, 150, 150]),
            (440, [150, 140, 150, 150]),
            (600, [150, 140, 150, 150]),
        ] {
            send(&mut candidates);
            candidates.sort_by_key(|candidate| candidate.subscription);
            for (candidate, bitrate) in candidates.iter_mut().zip(bitrates) {
                candidate.bitrates[0] = bitrate;
            }
            choose(&mut candidates, budget, Reason::Budget);
            let sent: Vec<_> = (0..4).map(|n| chosen(&candidates, n).is_some()).collect();
            assert_eq!(sent, [true, true, true, false], "{budget}");
        }
        choose(&mut candidates, 650, Reason::Budget);
        assert_eq!(chosen(&candidates, 3), Some(0), "with room to spare");
        // What is sent and does not fit makes room for nobody.
        send(&mut candidates);
        choose(&mut candidates, 430, Reason::Congestion);
        let paused = candidates.iter().filter(|c| c.chosen.is_none()).count();
        assert_eq!(paused, 2);
    }

    #[test]
    fn random_candidates_never_exceed_the_budget_nor_leave_a_fitting_step() {
        use rand::{RngExt, SeedableRng, rngs::SmallRng};
        let mut rng = SmallRng::seed_from_u64(4);
        for _ in 0..2_000 {
            let mut candidates: Vec<Candidate> = (0..rng.random_range(1..20))
                .map(|n| {
                    let rank = Rank::new(rng.random(), rng.random_range(0..4));
                    let mut candidate = Candidate::new(SubscriptionIx(n), rank, true);
                    for _ in 0..rng.random_range(0..15u8) {
                        candidate.add(rng.random_range(1..1_000), rng.random());
                    }
                    candidate
                })
                .collect();
            let reason = if rng.random() {
                Reason::Settings
            } else if rng.random() {
                Reason::Budget
            } else {
                Reason::Congestion
            };
            let budget = rng.random_range(0..10_000);
            let allocation = choose(&mut candidates, budget, reason);
            // What is sent already may exceed it by a little.
            let kept = candidates.iter().all(|c| c.chosen == c.current);
            let bound = budget * (100 + u64::from(kept) * KEPT_PERCENT) / 100;
            assert!(allocation.chosen <= bound || reason == Reason::Budget);
            let left = budget - spare(budget);
            if allocation.chosen < left {
                let left = left - allocation.chosen;
                let none = candidates
                    .iter()
                    .all(|c| c.step().is_none_or(|step| step > left));
                assert!(kept || none);
            }
        }
    }
}
