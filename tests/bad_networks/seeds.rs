//! Near a limit a meeting is chaotic: one packet that comes a millisecond later decides whether a
//! queue is seen now or two seconds on. Figures that depend on that are held by the median of
//! several meetings, each with a seed of its own.

use std::thread;

/// Meetings played for a figure.
const MEETINGS: u64 = 3;

/// The median of each figure that `play` gives for a seed.
pub(crate) fn medians<const COUNT: usize>(
    seed: u64,
    play: impl Fn(u64) -> [f64; COUNT] + Sync,
) -> [f64; COUNT] {
    let all: Vec<[f64; COUNT]> = thread::scope(|scope| {
        let meetings: Vec<_> = (0..MEETINGS)
            .map(|number| {
                scope.spawn({
                    let play = &play;
                    move || play(seed + 1_000 * number)
                })
            })
            .collect();
        let played = meetings.into_iter().map(|meeting| meeting.join());
        played.map(|figures| figures.expect("a meeting")).collect()
    });
    std::array::from_fn(|figure| {
        let mut values: Vec<f64> = all.iter().map(|figures| figures[figure]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    })
}
