//! Connectivity checks and joins.

use divan::Bencher;
use moim_load::in_memory::Meeting;

/// A check of a connected client, verified and answered.
#[divan::bench]
fn stun_check_answered(bencher: Bencher<'_, '_>) {
    let mut meeting = Meeting::new().expect("a meeting");
    meeting.subscribe(&[]);
    let meeting = std::cell::RefCell::new(meeting);
    bencher
        .with_inputs(|| [meeting.borrow_mut().check()])
        .bench_local_refs(|check| meeting.borrow_mut().play(check));
}

/// ICE and DTLS of both ends until the keys are there, and the goodbye.
#[divan::bench]
fn join_to_connected(bencher: Bencher<'_, '_>) {
    let mut meeting = Meeting::new().expect("a meeting");
    bencher.bench_local(|| meeting.connect_and_leave());
}
