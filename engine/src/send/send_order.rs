//! The order in which a peer's packets leave: one that makes few runs.
//!
//! The kernel takes in one piece (UDP_SEGMENT), for little more than the price of one packet, what
//! is of equal size, and behind it one packet that is smaller. So packets are sorted by size, the
//! largest first; and those of a size that few have are spared a run of their own where there are
//! runs of larger ones for each of them to end.

/// Packets of one SSRC that follow each other and are of equal size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Group {
    /// Bytes of each.
    pub(crate) len: u16,
    /// How many there are.
    pub(crate) packets: u16,
    /// The group of the same SSRC before this one.
    pub(crate) previous: Option<u16>,
}

/// Packets of a group that leave one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) group: u16,
    /// The first one's place in its group.
    pub(crate) first: u16,
    pub(crate) packets: u16,
}

/// A group on its way into the order.
#[derive(Debug, Clone, Copy)]
struct Sorted {
    /// That of the largest packet of the SSRC which does not come before it.
    len: u16,
    group: u16,
    packets: u16,
    /// It may leave earlier than others of its size: nothing of its SSRC has to leave before.
    is_free: bool,
}

/// Groups that leave together: a stretch of the sorted ones, and behind it a smaller packet of
/// another group.
#[derive(Debug, Clone, Copy)]
struct Run {
    start: u16,
    end: u16,
    last: Option<Stretch>,
}

/// An order, with the room in which it is found.
#[derive(Debug, Default)]
pub(crate) struct SendOrder {
    stretches: Vec<Stretch>,
    sorted: Vec<Sorted>,
    runs: Vec<Run>,
}

impl SendOrder {
    /// Finds the order of groups. No packet overtakes another of its SSRC.
    pub(crate) fn decide(
        &mut self,
        groups: impl DoubleEndedIterator<Item = Group> + ExactSizeIterator + Clone,
    ) {
        self.clear();
        if groups.len() <= 2 && groups.clone().is_sorted_by(|one, next| one.len >= next.len) {
            return;
        }
        self.sort(groups);
        self.join();
        for run in &self.runs {
            let sorted = &self.sorted[usize::from(run.start)..usize::from(run.end)];
            let whole = sorted.iter().map(|sorted| Stretch {
                group: sorted.group,
                first: 0,
                packets: sorted.packets,
            });
            self.stretches.extend(whole.chain(run.last));
        }
    }

    /// The stretch at that place of the order; `None` behind the last one, and anywhere when
    /// the groups had best leave as they came.
    pub(crate) fn get(&self, place: usize) -> Option<Stretch> {
        self.stretches.get(place).copied()
    }

    /// The groups leave as they came.
    pub(crate) fn is_as_they_came(&self) -> bool {
        self.stretches.is_empty()
    }

    pub(crate) fn clear(&mut self) {
        self.stretches.clear();
        self.sorted.clear();
        self.runs.clear();
    }

    /// Frees memory beyond that of this many groups.
    pub(crate) fn shrink_to(&mut self, groups: usize) {
        self.stretches.shrink_to(groups);
        self.sorted.shrink_to(groups);
        self.runs.shrink_to(groups);
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.stretches.capacity() * size_of::<Stretch>()
            + self.sorted.capacity() * size_of::<Sorted>()
            + self.runs.capacity() * size_of::<Run>()
    }

    /// Largest first. A packet counts as large as the largest of its SSRC that comes after it,
    /// so that none overtakes another of the same SSRC.
    fn sort(&mut self, groups: impl DoubleEndedIterator<Item = Group> + ExactSizeIterator + Clone) {
        self.sorted
            .extend((0..).zip(groups.clone()).map(|(index, group)| Sorted {
                len: group.len,
                group: index,
                packets: group.packets,
                is_free: group.previous.is_none(),
            }));
        for (index, group) in groups.enumerate().rev() {
            if let Some(previous) = group.previous {
                let len = self.sorted[index].len;
                let before = &mut self.sorted[usize::from(previous)];
                if before.len < len {
                    before.len = len;
                    before.is_free = false;
                }
            }
        }
        self.sorted
            .sort_unstable_by_key(|sorted| (u16::MAX - sorted.len, sorted.group));
    }

    /// Makes runs of what is sorted.
    fn join(&mut self) {
        // Runs before this one have a smaller packet at their end.
        let mut ended = 0;
        let mut end = 0;
        for equal in self.sorted.chunk_by(|one, next| one.len == next.len) {
            let start = end;
            end += equal.len() as u16;
            let packets: usize = equal.iter().map(|sorted| usize::from(sorted.packets)).sum();
            let are_free = equal.iter().all(|sorted| sorted.is_free);
            if are_free && packets <= self.runs.len() - ended {
                for (sorted, first) in equal
                    .iter()
                    .flat_map(|sorted| (0..sorted.packets).map(move |first| (sorted, first)))
                {
                    self.runs[ended].last = Some(Stretch {
                        group: sorted.group,
                        first,
                        packets: 1,
                    });
                    ended += 1;
                }
            } else {
                self.runs.push(Run {
                    start,
                    end,
                    last: None,
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn group(len: u16, packets: u16) -> Group {
        Group {
            len,
            packets,
            previous: None,
        }
    }

    /// The order of groups: of each packet its group and its place in it.
    fn order(groups: &[Group]) -> Vec<(u16, u16)> {
        let mut order = SendOrder::default();
        order.decide(groups.iter().copied());
        let as_they_came = (0..).zip(groups).map(|(group, of)| Stretch {
            group,
            first: 0,
            packets: of.packets,
        });
        let stretches: Vec<Stretch> = if order.is_as_they_came() {
            as_they_came.collect()
        } else {
            (0..).map_while(|place| order.get(place)).collect()
        };
        let places = |of: Stretch| (of.first..of.first + of.packets).map(move |at| (of.group, at));
        stretches.into_iter().flat_map(places).collect()
    }

    /// How many runs the kernel gets.
    fn runs(groups: &[Group], order: &[(u16, u16)]) -> usize {
        let mut open = None;
        let mut runs = 0;
        for (group, _) in order {
            let len = groups[usize::from(*group)].len;
            match open {
                Some(size) if len == size => {}
                Some(size) if len < size => open = None,
                _ => {
                    open = Some(len);
                    runs += 1;
                }
            }
        }
        runs
    }

    #[test]
    fn equal_sizes_leave_together_and_the_largest_first() {
        let groups = [100, 132, 100, 132].map(|len| group(len, 1));
        assert_eq!(order(&groups), [(1, 0), (3, 0), (0, 0), (2, 0)]);
    }

    #[test]
    fn what_is_in_order_stays() {
        assert_eq!(order(&[group(900, 2), group(300, 1)])[2], (1, 0));
        assert_eq!(order(&[group(300, 2)]), [(0, 0), (0, 1)]);
    }

    #[test]
    fn those_of_which_there_are_few_end_the_runs_of_others() {
        let groups = [
            group(900, 2),
            group(800, 2),
            group(700, 2),
            group(600, 5),
            group(500, 1),
        ];
        let order = order(&groups);
        let expected = [
            (0, 0),
            (0, 1),
            (2, 0),
            (1, 0),
            (1, 1),
            (2, 1),
            (3, 0),
            (3, 1),
            (3, 2),
            (3, 3),
            (3, 4),
            (4, 0),
        ];
        assert_eq!(order, expected);
        assert_eq!(runs(&groups, &order), 3);
        // As they came each size begins a run, as the one before has taken its first packet.
        let as_they_came: Vec<_> = (0..5)
            .flat_map(|index| (0..groups[usize::from(index)].packets).map(move |at| (index, at)))
            .collect();
        assert_eq!(runs(&groups, &as_they_came), 4);
    }

    #[test]
    fn nothing_is_lost_nor_overtakes_its_stream_whatever_comes() {
        let mut rng = SmallRng::seed_from_u64(5);
        for _ in 0..3_000 {
            let streams = rng.random_range(1..12usize);
            let mut latest = vec![None; streams];
            let mut stream_of = Vec::new();
            let groups: Vec<Group> = (0..rng.random_range(0..40))
                .map(|index| {
                    let stream = rng.random_range(0..streams);
                    stream_of.push(stream);
                    Group {
                        len: rng.random_range(1..9) * 100,
                        packets: rng.random_range(1..6),
                        previous: latest[stream].replace(index),
                    }
                })
                .collect();
            let order = order(&groups);
            let mut sorted = order.clone();
            sorted.sort_unstable();
            let all: Vec<_> = (0..)
                .zip(&groups)
                .flat_map(|(group, of)| (0..of.packets).map(move |at| (group, at)))
                .collect();
            assert_eq!(sorted, all);
            for stream in 0..streams {
                let own = |packet: &&(u16, u16)| stream_of[usize::from(packet.0)] == stream;
                assert!(
                    order.iter().filter(own).is_sorted(),
                    "{groups:?}: {order:?}"
                );
            }
        }
    }
}
