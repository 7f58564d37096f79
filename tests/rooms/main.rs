//! Seeded meetings against the room core, without I/O: whatever happens in whatever order, and
//! whatever a client misses, in the end everybody knows the room as it is.
//!
//! `ROOM_SEEDS=10000` plays that many meetings, `ROOM_SEED=7` replays one and prints it.

mod actions;
mod checks;
mod data_routing;
mod meeting;
mod plane;
mod sdp;
mod view;

use std::panic::{AssertUnwindSafe, catch_unwind};

use meeting::Meeting;

/// Steps of one meeting.
const STEPS: usize = 60;
/// Meetings that are played unless the environment says otherwise.
const SEEDS: u64 = 300;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Plays the meetings of some seeds; the first that fails prints what happened in it.
fn play(seeds: impl Iterator<Item = u64>) {
    for seed in seeds {
        let mut meeting = Meeting::new(seed);
        let outcome = catch_unwind(AssertUnwindSafe(|| meeting.play(STEPS)));
        if outcome.is_err() {
            for line in meeting.log() {
                eprintln!("  {line}");
            }
            panic!("the meeting of seed {seed} failed: replay it with ROOM_SEED={seed}");
        }
    }
}

#[test]
fn every_client_ends_with_the_rooms_own_view() {
    if let Some(seed) = number("ROOM_SEED") {
        play(std::iter::once(seed));
        return;
    }
    let seeds = number("ROOM_SEEDS").unwrap_or(SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || play((thread..seeds).step_by(threads as usize)));
        }
    });
}
