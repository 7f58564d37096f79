//! The targets, each over the networks to which it applies. A failure names network and seed.

use super::*;

const QUEUES: [Queue; 3] = [Queue::DropTail(0.2), Queue::DropTail(0.3), Queue::CoDel];
const RTTS: [f64; 2] = [20.0, 100.0];

fn networks() -> impl Iterator<Item = (Queue, f64)> {
    QUEUES
        .iter()
        .flat_map(|&queue| RTTS.iter().map(move |&rtt| (queue, rtt)))
}

#[test]
fn a_link_is_used_and_its_queue_kept_short() {
    for capacity in [3e5, 8e5, 1e6, 2.5e6, 6e6] {
        for (queue, rtt) in networks() {
            let outcome = run(&Scenario {
                capacity: vec![(0.0, capacity)],
                queue,
                rtt,
                ..Scenario::default()
            });
            let used = outcome.rate(0, 20.0, 60.0) / capacity;
            let queueing = outcome.queueing(0.95, 20.0, 60.0);
            let found = outcome.reached(0.7 * capacity, 0.0);
            let network = format!("{} kbit/s, {queue:?}, {rtt} ms", capacity / 1e3);
            println!(
                "{network:36} used {:3.0} %, queue {queueing:3.0} ms, found after {found:.2} s",
                100.0 * used
            );
            assert!(used >= 0.85, "{network}");
            assert!(queueing < 70.0, "{network}");
            assert!(found < 1.0, "{network}");
        }
    }
}

#[test]
fn the_queue_that_a_drop_leaves_is_gone_in_two_seconds() {
    for (before, after) in [(2e6, 1e6), (5e6, 2.5e6), (8e5, 4e5)] {
        for (queue, rtt) in networks() {
            let outcome = run(&Scenario {
                capacity: vec![(0.0, before), (40.0, after)],
                queue,
                rtt,
                ..Scenario::default()
            });
            let network = format!("{} kbit/s, {queue:?}, {rtt} ms", before / 1e3);
            let queueing = outcome.queueing(0.95, 42.0, 44.0);
            let used = outcome.rate(0, 44.0, 60.0) / after;
            println!(
                "{network:36} halved: queue {queueing:3.0} ms, used {:3.0} %",
                100.0 * used
            );
            assert!(queueing < 100.0, "{network}");
            assert!(used >= 0.85, "{network}");
        }
    }
}

#[test]
fn a_rise_is_found_in_ten_seconds() {
    for (before, after) in [(1e6, 2e6), (1e6, 4e6), (3e5, 2e6)] {
        for (queue, rtt) in networks() {
            let outcome = run(&Scenario {
                capacity: vec![(0.0, before), (40.0, after)],
                queue,
                rtt,
                ..Scenario::default()
            });
            let network = format!(
                "{} to {} kbit/s, {queue:?}, {rtt} ms",
                before / 1e3,
                after / 1e3
            );
            let found = outcome.reached(0.85 * after, 40.0);
            let used = outcome.rate(0, 50.0, 60.0) / after;
            println!(
                "{network:44} found after {found:.2} s, used {:3.0} %",
                100.0 * used
            );
            assert!(found < 8.0, "{network}");
            assert!(used >= 0.85, "{network}");
        }
    }
}

#[test]
fn subscribers_of_one_link_get_alike() {
    let mut gaps = Vec::new();
    for capacity in [1e6, 2e6, 5e6] {
        for (queue, rtt) in networks() {
            for seed in 1..3 {
                let outcome = run(&Scenario {
                    capacity: vec![(0.0, capacity)],
                    queue,
                    rtt,
                    starts: vec![0.0, 10.0],
                    seconds: 120.0,
                    seed,
                    ..Scenario::default()
                });
                let rates = [0, 1].map(|flow| outcome.rate(flow, 60.0, 120.0) / capacity);
                let queueing = outcome.queueing(0.95, 60.0, 120.0);
                let network = format!(
                    "{} kbit/s, {queue:?}, {rtt} ms, seed {seed}",
                    capacity / 1e3
                );
                println!(
                    "{network:44} {:3.0} % and {:3.0} %, queue {queueing:3.0} ms",
                    100.0 * rates[0],
                    100.0 * rates[1]
                );
                assert!(rates[0] + rates[1] >= 0.85, "{network}");
                let gap = 1.0 - rates[0].min(rates[1]) / rates[0].max(rates[1]);
                assert!(gap < 0.5, "{network}");
                gaps.push(gap);
            }
        }
    }
    gaps.sort_by(f64::total_cmp);
    let median = gaps[gaps.len() / 2];
    println!("median gap {:.0} %", 100.0 * median);
    assert!(median < 0.2);
}

#[test]
fn a_flow_that_fills_the_queue_does_not_starve_us() {
    for capacity in [1e6, 2e6, 5e6] {
        for (queue, rtt) in networks() {
            let outcome = run(&Scenario {
                capacity: vec![(0.0, capacity)],
                queue,
                rtt,
                tcp: Some(10.0),
                seconds: 120.0,
                ..Scenario::default()
            });
            let ours = outcome.rate(0, 60.0, 120.0) / capacity;
            let tcp = outcome.rate(TCP, 60.0, 120.0) / capacity;
            let network = format!("{} kbit/s, {queue:?}, {rtt} ms", capacity / 1e3);
            println!(
                "{network:36} ours {:3.0} %, TCP {:3.0} %",
                100.0 * ours,
                100.0 * tcp
            );
            assert!(ours >= 0.3, "{network}");
            assert!(tcp >= 0.15, "{network}");
        }
    }
}

#[test]
fn loss_at_random_and_lost_feedback_cost_little() {
    for (loss, feedback_loss, least) in [
        (0.05, 0.0, 0.80),
        (0.1, 0.0, 0.70),
        (0.0, 0.2, 0.85),
        (0.1, 0.1, 0.60),
    ] {
        for capacity in [3e5, 2e6] {
            let outcome = run(&Scenario {
                capacity: vec![(0.0, capacity)],
                rtt: 80.0,
                loss,
                feedback_loss,
                ..Scenario::default()
            });
            let used = outcome.rate(0, 20.0, 60.0) / capacity;
            let network = format!(
                "{} kbit/s, loss {loss}, of feedback {feedback_loss}",
                capacity / 1e3
            );
            println!("{network:44} arrives {:3.0} %", 100.0 * used);
            assert!(used >= least, "{network}");
        }
    }
}

#[test]
fn jitter_is_not_taken_for_a_queue() {
    for jitter in [15.0, 30.0, 60.0] {
        for capacity in [3e5, 2e6] {
            let outcome = run(&Scenario {
                capacity: vec![(0.0, capacity)],
                jitter,
                ..Scenario::default()
            });
            let used = outcome.rate(0, 20.0, 60.0) / capacity;
            let network = format!("{} kbit/s, jitter {jitter} ms", capacity / 1e3);
            println!("{network:36} used {:3.0} %", 100.0 * used);
            assert!(used >= 0.7, "{network}");
        }
    }
}

#[test]
fn little_media_neither_raises_nor_lowers_the_estimate() {
    for media in [1.5e5, 5e5, 1e6] {
        let outcome = run(&Scenario {
            capacity: vec![(0.0, 3e6)],
            jitter: 10.0,
            media: vec![(0.0, f64::INFINITY), (20.0, media), (50.0, f64::INFINITY)],
            wanted: 2.5e6,
            ..Scenario::default()
        });
        let before = outcome.mean_estimate(15.0, 20.0);
        let during = outcome.mean_estimate(45.0, 50.0);
        let after = outcome.rate(0, 51.0, 60.0);
        println!("{media:7.0}: {before:.0} before, {during:.0} at the end, then sent {after:.0}");
        assert!((0.85..1.15).contains(&(during / before)), "{media}");
        assert!(after > 0.8 * 2.5e6, "{media}");
    }
}

#[test]
fn without_feedback_the_rate_falls_slowly_and_comes_back_fast() {
    let outcome = run(&Scenario {
        capacity: vec![(0.0, 3e6)],
        feedback_gap: (30.0, 35.0),
        ..Scenario::default()
    });
    let before = outcome.mean_estimate(25.0, 30.0);
    let after_a_second = outcome.mean_estimate(30.0, 31.2);
    let at_the_end = outcome.mean_estimate(34.5, 35.0);
    let back = outcome.mean_estimate(36.0, 38.0);
    println!("{before:.0}, in the gap {after_a_second:.0} to {at_the_end:.0}, then {back:.0}");
    assert!(after_a_second > 0.85 * before);
    assert!(at_the_end < 0.4 * before);
    assert!(back > 0.8 * before);
}

#[test]
fn a_longer_way_is_not_taken_for_a_queue() {
    let outcome = run(&Scenario {
        capacity: vec![(0.0, 2e6)],
        rtt_change: Some((30.0, 140.0)),
        ..Scenario::default()
    });
    let used = outcome.rate(0, 35.0, 60.0) / 2e6;
    let queueing = outcome.queueing(0.95, 35.0, 60.0);
    println!(
        "longer way: used {:.0} %, queue {queueing:.0} ms",
        100.0 * used
    );
    assert!(used >= 0.85);
    assert!(queueing < 60.0);
}
