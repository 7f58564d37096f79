//! Seeded meetings against the room core, without I/O: whatever happens in whatever order, and
//! whatever a client misses, in the end everybody knows the room as it is.
//!
//! `ROOM_SEEDS=10000` plays that many meetings, `ROOM_SEED=7` replays one and prints it.
//! `tests/fuzz` plays meetings that a fuzzer makes up; here its seeds are played.

mod actions;
mod checks;
mod choices;
mod data_routing;
mod hostile;
mod meeting;
mod plane;
mod sdp;
mod view;

use std::panic::{AssertUnwindSafe, catch_unwind};

use choices::Choices;
use meeting::Meeting;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

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
        let mut meeting = Meeting::new(seed, Choices::seeded(seed));
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

/// The seeds of a fuzz target.
fn fuzz_seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/tests/fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let files = std::fs::read_dir(&folder).expect(&folder);
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no seed in {folder}");
    paths
        .iter()
        .map(|path| std::fs::read(path).unwrap())
        .collect()
}

#[test]
fn the_fuzzers_meetings_end_with_the_rooms_own_view() {
    fuzz_seeds("meeting")
        .iter()
        .for_each(|seed| Meeting::play_input(seed));
}

#[test]
fn a_room_survives_the_fuzzers_frames() {
    fuzz_seeds("room_frames")
        .iter()
        .for_each(|seed| hostile::play(seed));
}

/// Parts of seeds in another order, with bytes changed: what a fuzzer begins with.
#[test]
fn a_room_survives_frames_of_random_clients() {
    let seeds = fuzz_seeds("room_frames");
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut input = Vec::new();
        for _ in 0..rng.random_range(1..6) {
            let from = seeds.choose(&mut rng).unwrap();
            let start = rng.random_range(0..from.len());
            input.extend_from_slice(&from[start..]);
        }
        for _ in 0..rng.random_range(0..20) {
            let at = rng.random_range(0..input.len());
            input[at] = rng.random();
        }
        if catch_unwind(|| hostile::play(&input)).is_err() {
            panic!("the frames of seed {seed} break the room");
        }
    }
}
