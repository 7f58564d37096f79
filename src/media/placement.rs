//! Which shard gets what: how loaded each one is, and when a room outgrows its own.

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// What a room or connection is thought to cost until it shows in the figures, in thousandths
/// of a core. One seat of a meeting of 50 takes about that.
const EXPECTED_COST: u32 = 5;
/// Differences below this, in thousandths of a core, are noise.
const NOISE: u32 = 10;

/// How loaded a shard is. Its thread publishes how busy it is; whoever places something says
/// so, because it takes a while until that shows.
#[derive(Debug, Default)]
pub struct ShardLoad {
    /// Thousandths of the last second or so in which the thread was not waiting.
    busy: AtomicU32,
    /// Rooms and connections placed lately, halved with each new figure.
    recent: AtomicU32,
    /// All rooms and connections that are here.
    placed: AtomicUsize,
}

impl ShardLoad {
    /// The share of the last half second in which the shard's thread was busy, in thousandths.
    pub fn publish(&self, busy: u32) {
        let former = self.busy.load(Ordering::Relaxed);
        self.busy.store((former + busy) / 2, Ordering::Relaxed);
        let recent = self.recent.load(Ordering::Relaxed);
        self.recent.fetch_sub(recent.div_ceil(2), Ordering::Relaxed);
    }

    /// Thousandths of a core that are in use, or soon will be.
    pub fn estimate(&self) -> u32 {
        let recent = self.recent.load(Ordering::Relaxed);
        let expected = recent.saturating_mul(EXPECTED_COST);
        self.busy.load(Ordering::Relaxed).saturating_add(expected)
    }

    /// Thousandths of a core that would be in use if everybody here took part as one does in a
    /// meeting: many may be silent now and watch the same thing in a minute.
    fn potential(&self) -> u32 {
        let placed = u32::try_from(self.placed()).unwrap_or(u32::MAX);
        self.estimate().max(placed.saturating_mul(EXPECTED_COST))
    }

    /// How many rooms and connections are here.
    pub fn placed(&self) -> usize {
        self.placed.load(Ordering::Relaxed)
    }

    pub(super) fn place(&self) {
        self.recent.fetch_add(1, Ordering::Relaxed);
        self.placed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn release(&self, count: usize) {
        self.placed.fetch_sub(count, Ordering::Relaxed);
    }

    /// Less is better: by load, and where that is the same by number.
    pub(super) fn rank(&self) -> (u32, usize) {
        (self.estimate() / NOISE, self.placed())
    }
}

/// When a subscriber's connection goes to another shard than its room.
#[derive(Debug, Clone, Copy)]
pub struct Spreading {
    /// The room's shard is that loaded, in thousandths of a core,
    pub busy: u32,
    /// or the room has that many connections there, and what all that is placed could take
    /// counts instead;
    pub connections: usize,
    /// and another shard is less loaded by at least this much, in thousandths of a core.
    pub margin: i32,
}

impl Default for Spreading {
    /// A core that is mostly used, or a room of a hundred publishers or two hundred viewers;
    /// and a quarter of a core to gain, since each packet has to cross.
    fn default() -> Spreading {
        Spreading {
            busy: 700,
            connections: 200,
            margin: 250,
        }
    }
}

impl Spreading {
    /// Which other shard a subscriber's connection should go to, if any. `loads` has all
    /// shards, with whether the room is there already: those come first, because its tracks
    /// cross to them anyway.
    pub(super) fn elsewhere<'a>(
        &self,
        home: usize,
        connections: usize,
        loads: impl Iterator<Item = (&'a ShardLoad, bool)> + Clone,
    ) -> Option<usize> {
        let (home_load, _) = loads.clone().nth(home)?;
        let large = connections >= self.connections;
        if home_load.estimate() < self.busy && !large {
            return None;
        }
        let used = |load: &ShardLoad| match large {
            true => i64::from(load.potential()),
            false => i64::from(load.estimate()),
        };
        let limit = used(home_load) - i64::from(self.margin);
        loads
            .enumerate()
            .filter(|(index, _)| *index != home)
            .filter(|(_, (load, _))| used(load) <= limit)
            .min_by_key(|(_, (load, is_there))| (!is_there, load.rank()))
            .map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loads<const N: usize>(busy: [u32; N]) -> [ShardLoad; N] {
        busy.map(|busy| ShardLoad {
            busy: busy.into(),
            ..ShardLoad::default()
        })
    }

    fn elsewhere(connections: usize, loads: &[ShardLoad], there: &[usize]) -> Option<usize> {
        let loads = loads.iter().enumerate();
        Spreading::default().elsewhere(
            0,
            connections,
            loads.map(|(index, load)| (load, there.contains(&index))),
        )
    }

    #[test]
    fn what_was_placed_counts_until_it_shows_in_the_figures() {
        let load = ShardLoad::default();
        for _ in 0..100 {
            load.place();
        }
        assert_eq!(load.estimate(), 100 * EXPECTED_COST);
        for _ in 0..10 {
            load.publish(300);
        }
        assert!((290..=300).contains(&load.estimate()), "{load:?}");
        assert_eq!(load.placed(), 100);
    }

    #[test]
    fn a_small_room_on_a_free_shard_stays_whole() {
        assert_eq!(elsewhere(100, &loads([600, 0]), &[]), None);
    }

    #[test]
    fn a_loaded_shard_or_a_large_room_spreads_to_a_shard_that_is_much_freer() {
        assert_eq!(elsewhere(10, &loads([800, 100]), &[]), Some(1));
        assert_eq!(elsewhere(10, &loads([800, 700]), &[]), None);
        assert_eq!(elsewhere(500, &loads([400, 100]), &[]), Some(1));
        assert_eq!(elsewhere(500, &loads([200, 100]), &[]), None);
    }

    #[test]
    fn a_shard_where_the_room_is_already_comes_before_a_freer_one() {
        let loads = loads([900, 500, 10]);
        assert_eq!(elsewhere(10, &loads, &[1]), Some(1));
        assert_eq!(elsewhere(10, &loads, &[]), Some(2));
    }

    #[test]
    fn a_large_room_that_is_silent_yet_spreads_too() {
        let loads = loads([0, 0]);
        let mut at_home = 0;
        for _ in 0..1_000 {
            let index = elsewhere(at_home, &loads, &[]).unwrap_or(0);
            loads[index].place();
            at_home += usize::from(index == 0);
            // It takes so long to fill that nothing of it counts as placed lately.
            loads.iter().for_each(|load| load.publish(0));
        }
        assert!((450..550).contains(&at_home), "{at_home} of 1,000 at home");
    }

    #[test]
    fn a_burst_of_joins_does_not_all_go_elsewhere() {
        let loads = loads([800, 100]);
        let mut moved = 0;
        for _ in 0..500 {
            match elsewhere(1_000, &loads, &[]) {
                Some(index) => {
                    loads[index].place();
                    moved += 1;
                }
                None => loads[0].place(),
            }
        }
        assert!((200..400).contains(&moved), "{moved} of 500 went elsewhere");
    }
}
