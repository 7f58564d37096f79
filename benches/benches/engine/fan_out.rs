//! A camera frame on its way through the engine to many subscribers: decrypted once, written and
//! encrypted for each. The time shown is that of a frame; the items a second are packets out. What
//! the subscribers report of it is measured apart; there the items are datagrams in.

use std::cell::RefCell;
use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use moim_load::in_memory::{Datagram, Meeting};

const FRAME: Duration = Duration::from_nanos(33_333_333);
/// Each subscriber reports about once in that time.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

#[divan::bench(args = [1, 9, 49, 500], sample_count = 200, sample_size = 1)]
fn fan_out(bencher: Bencher<'_, '_>, subscribers: usize) {
    let meeting = RefCell::new(meeting(subscribers));
    bencher
        .with_inputs(|| {
            let mut meeting = meeting.borrow_mut();
            meeting.deliver();
            let (frame, mut reports) = record(&mut meeting, FRAME);
            meeting.play(&mut reports);
            frame
        })
        .input_counter(move |frame: &Vec<Datagram>| ItemsCount::new(frame.len() * subscribers))
        .bench_local_refs(|frame| {
            let sent = meeting.borrow_mut().play(frame);
            assert!(
                sent.packets >= (frame.len() * subscribers) as u64,
                "{sent:?}"
            );
        });
}

#[divan::bench(args = [1, 9, 49, 500], sample_count = 200, sample_size = 1)]
fn reports(bencher: Bencher<'_, '_>, subscribers: usize) {
    let meeting = RefCell::new(meeting(subscribers));
    bencher
        .with_inputs(|| {
            let mut meeting = meeting.borrow_mut();
            let (mut frames, reports) = record(&mut meeting, REPORT_INTERVAL);
            meeting.play(&mut frames);
            meeting.deliver();
            reports
        })
        .input_counter(|reports: &Vec<Datagram>| ItemsCount::new(reports.len()))
        .bench_local_refs(|reports| meeting.borrow_mut().play(reports));
}

/// A camera and those who watch it, for as long as it takes until all is as it will be.
fn meeting(subscribers: usize) -> Meeting {
    let mut meeting = Meeting::new().expect("a meeting");
    let tracks = meeting.publish(false, 1);
    (0..subscribers).for_each(|_| meeting.subscribe(&tracks));
    meeting.run(Duration::from_secs(2));
    meeting
}

/// The media of the time that comes next, and everything else that comes in it.
fn record(meeting: &mut Meeting, time: Duration) -> (Vec<Datagram>, Vec<Datagram>) {
    let recording = meeting.record(time);
    recording.into_iter().partition(Datagram::is_media)
}
