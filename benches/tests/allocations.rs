//! The way of a packet through the engine allocates nothing once a meeting is under way.
//!
//! The meeting runs in virtual time, so what is counted is the same in every run. Steps in which
//! a timer of a peer fires, for feedback or reports and not for a packet, are left out.

use std::time::Duration;

use moim_load::in_memory::{Datagram, Meeting};

const SUBSCRIBERS: usize = 49;
const STEP: Duration = Duration::from_millis(20);

#[test]
fn a_forwarded_packet_allocates_nothing() {
    let mut meeting = Meeting::new().expect("a meeting");
    let tracks = meeting.publish(true, 3);
    (0..SUBSCRIBERS).for_each(|_| meeting.subscribe(&tracks));
    meeting.run(Duration::from_secs(2));

    let (mut quiet, mut packets) = (0, 0);
    for step in 0..50 {
        let mut recording = meeting.record(STEP);
        recording.retain(Datagram::is_media);
        let mut sent = None;
        let allocations = allocation_counter::measure(|| {
            sent = Some(meeting.play(&mut recording));
        });
        let sent = sent.expect("a step that was played");
        meeting.deliver();
        if sent.timers + sent.reports + sent.other > 0 {
            continue;
        }
        quiet += 1;
        packets += sent.packets;
        assert_eq!(
            allocations.count_total, 0,
            "step {step} of {sent:?} allocates: {allocations:?}"
        );
    }
    assert!(quiet >= 20, "only {quiet} steps of 50 without timers");
    assert!(packets > 50 * SUBSCRIBERS as u64, "{packets} forwarded");
}
