//! What the estimator promises to those who call it.

use std::time::Duration;

use super::*;
use crate::receive::transport_cc::TransportCcRecorder;
use crate::test_clock;
use crate::wire::rtcp::{RtcpPacket, packets};

fn on_feedback(estimator: &mut BandwidthEstimator, now: Instant, bytes: &[u8]) {
    if let Some(RtcpPacket::TransportFeedback(feedback)) = packets(bytes).next() {
        estimator.on_feedback(now, now, &feedback, |_| {});
    }
}

/// A feedback packet that tells of `count` packets from `base` on, all received at once.
fn feedback(base: u16, count: u16, reference: u32) -> Vec<u8> {
    let mut bytes = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    bytes.extend(base.to_be_bytes());
    bytes.extend(count.to_be_bytes());
    bytes.extend(&reference.to_be_bytes()[1..]);
    bytes.push(0);
    bytes.extend((0x2000 | count).to_be_bytes());
    bytes.extend((0..count).map(|_| 0));
    while bytes.len() % 4 > 0 {
        bytes.push(0);
    }
    let words = (bytes.len() / 4 - 1) as u16;
    bytes[2..4].copy_from_slice(&words.to_be_bytes());
    bytes
}

#[test]
fn a_remb_is_the_estimate_of_who_gives_nothing_else_and_a_bound_otherwise() {
    let start = test_clock::start();
    let mut estimator = BandwidthEstimator::new(start);
    assert_eq!(estimator.estimate(), 300_000);
    estimator.on_remb(start, 700_000);
    assert_eq!(estimator.estimate(), 700_000);
    for second in 1..5 {
        estimator.on_remb(start + Duration::from_secs(second), 10_000_000_000);
        assert!(estimator.estimate() <= 700_000 * 4u64.pow(second as u32));
    }
    estimator.on_remb(start, 0);
    assert_eq!(estimator.estimate(), 50_000);
    let sequence = estimator.on_sent(start, 1_000, 0, None);
    on_feedback(&mut estimator, start, &feedback(sequence, 1, 7));
    estimator.on_remb(start, 5_000_000);
    assert_eq!(estimator.estimate(), 300_000);
    estimator.on_remb(start, 200_000);
    assert_eq!(estimator.estimate(), 200_000);
}

#[test]
fn receiver_reports_alone_move_it_by_loss() {
    let start = test_clock::start();
    let mut estimator = BandwidthEstimator::new(start);
    let mut now = start;
    let mut second = |estimator: &mut BandwidthEstimator, lost| {
        for _ in 0..100 {
            now += Duration::from_millis(10);
            estimator.on_sent(now, estimator.estimate() as usize / 800, 0, None);
        }
        estimator.on_report(now, lost, Some(Duration::from_millis(80)));
        estimator.estimate()
    };
    let first = second(&mut estimator, 0);
    let second_rate = second(&mut estimator, 0);
    assert!(second_rate > first && first > 300_000);
    assert!(second(&mut estimator, 64) < second_rate);
    assert_eq!(estimator.rtt(), Some(Duration::from_millis(80)));
    assert!((estimator.loss() - 0.25).abs() < 0.01);
}

#[test]
fn no_timeout_is_wanted_while_nothing_is_sent() {
    let start = test_clock::start();
    let mut estimator = BandwidthEstimator::new(start);
    assert_eq!(estimator.poll_timeout(), None);
    let sequence = estimator.on_sent(start, 1_000, 0, None);
    assert_eq!(
        estimator.poll_timeout(),
        None,
        "no feedback is expected yet"
    );
    on_feedback(&mut estimator, start, &feedback(sequence, 1, 7));
    assert_eq!(estimator.poll_timeout(), None);
    let mut now = start;
    for _ in 0..10 {
        now += Duration::from_millis(20);
        estimator.on_sent(now, 1_000, 0, None);
    }
    let due = estimator.poll_timeout().expect("feedback is expected");
    estimator.handle_timeout(due);
    assert_eq!(estimator.estimate(), 240_000);
    // Nothing was sent since: that nothing comes back means nothing.
    assert_eq!(estimator.poll_timeout(), None);
}

#[test]
fn a_packet_that_came_only_when_repeated_does_not_slow_a_probe_down() {
    let start = test_clock::start();
    let mut estimator = BandwidthEstimator::new(start);
    estimator.want(start, 10_000_000);
    estimator.on_sent(start, 1_000, 0, None);
    let probe = estimator.poll_probe(start).expect("a probe of the start");
    let mut recorder = TransportCcRecorder::default();
    let mut lost = None;
    for tag in 1..=20 {
        let now = start + Duration::from_micros(2_000 * tag);
        let sequence = estimator.on_sent(now, 250, tag, Some(probe.id));
        if tag == 5 {
            lost = Some(sequence);
        } else {
            recorder.record(sequence, now + Duration::from_millis(40));
        }
    }
    assert_eq!(estimator.repeat(5), lost);
    let again = start + Duration::from_millis(150);
    recorder.record(lost.unwrap(), again);
    let mut bytes = [0; 1_150];
    let len = recorder.write_feedback(1, 2, &mut bytes);
    on_feedback(&mut estimator, again, &bytes[..len]);
    assert!(estimator.estimate() > 850_000, "{}", estimator.estimate());
}

#[test]
fn feedback_of_any_kind_is_survived() {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};
    let mut rng = SmallRng::seed_from_u64(11);
    let mut now = test_clock::start();
    let mut estimator = BandwidthEstimator::new(now);
    estimator.want(now, 10_000_000);
    for _ in 0..20_000 {
        now += Duration::from_millis(rng.random_range(0..20));
        let probe = estimator.poll_probe(now).map(|probe| probe.id);
        let sequence = estimator.on_sent(now, rng.random_range(0..70_000), 0, probe);
        let base = sequence.wrapping_sub(rng.random_range(0..30));
        let mut bytes = feedback(base, rng.random_range(0..40), rng.random());
        let index = rng.random_range(12..bytes.len());
        bytes[index] = rng.random();
        on_feedback(&mut estimator, now, &bytes);
        if let Some(due) = estimator.poll_timeout() {
            estimator.handle_timeout(due);
        }
        assert!((50_000..=100_000_000).contains(&estimator.estimate()));
        assert!((0.0..=1.0).contains(&estimator.loss()));
    }
}

#[test]
fn it_is_small_while_nothing_is_sent() {
    assert!(size_of::<BandwidthEstimator>() <= 1_600);
}

#[test]
fn a_way_over_which_nothing_is_sent_is_probed_while_something_is_wanted() {
    let mut now = test_clock::start();
    let mut estimator = BandwidthEstimator::new(now);
    let sequence = estimator.on_sent(now, 1_000, 0, None);
    on_feedback(&mut estimator, now, &feedback(sequence, 1, 7));
    estimator.want(now, 1_000_000);
    for _ in 0..5 {
        // None of them is answered.
        while estimator.poll_probe(now).is_some() {}
        let due = estimator.poll_timeout().unwrap();
        assert_eq!(due - now, Duration::from_secs(1));
        now = due;
        estimator.handle_timeout(now);
        assert!(estimator.has_probe());
    }
    estimator.want(now, 0);
    assert_eq!(estimator.poll_timeout(), None);
}
