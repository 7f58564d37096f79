//! A camera frame on its way through the engine to many subscribers: decrypted once, written and
//! encrypted for each. The time shown is that of a frame; the items a second are packets out.

use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use moim_load::in_memory::{Datagram, Meeting};

const FRAME: Duration = Duration::from_nanos(33_333_333);

#[divan::bench(args = [1, 9, 49, 500], sample_size = 10)]
fn fan_out(bencher: Bencher<'_, '_>, subscribers: usize) {
    let mut meeting = Meeting::new().expect("a meeting");
    let tracks = meeting.publish(false, 1);
    (0..subscribers).for_each(|_| meeting.subscribe(&tracks));
    meeting.run(Duration::from_secs(2));
    let meeting = std::cell::RefCell::new(meeting);
    bencher
        .with_inputs(|| meeting.borrow_mut().record(FRAME))
        .input_counter(move |frame: &Vec<Datagram>| {
            let packets = frame.iter().filter(|datagram| datagram.is_media()).count();
            ItemsCount::new(packets * subscribers)
        })
        .bench_local_refs(|frame| meeting.borrow_mut().play(frame));
}
