//! The targets.

use super::*;

fn explore(scenario: &Scenario) {
    let outcome = run(scenario);
    let end = scenario.seconds;
    let half = end / 2.0;
    let capacity = at(&scenario.capacity, (half * 1e6) as Micros);
    println!(
        "{:28} used {:5.1}% est {:6.0}k q50 {:5.1} q95 {:5.1} | first s q95 {:5.1} reach70% {:.2}s",
        scenario.name,
        100.0 * outcome.rate(0, half, end) / capacity,
        outcome.mean_estimate(half, end) / 1e3,
        outcome.queueing(0.5, half, end),
        outcome.queueing(0.95, half, end),
        outcome.queueing(0.95, 0.0, 2.0),
        outcome.reached(0.7 * capacity, 0.0),
    );
}

#[test]
fn table() {
    for (name, capacity) in [
        ("300k", 3e5),
        ("800k", 8e5),
        ("1M", 1e6),
        ("2.5M", 2.5e6),
        ("6M", 6e6),
    ] {
        for queue in [Queue::DropTail(0.3), Queue::CoDel] {
            for rtt in [20.0, 100.0] {
                explore(&Scenario {
                    name,
                    capacity: vec![(0.0, capacity)],
                    queue,
                    rtt,
                    ..Scenario::default()
                });
            }
        }
    }
}

#[test]
fn changes() {
    for (name, before, after) in [
        ("2M to 1M", 2e6, 1e6),
        ("5M to 2.5M", 5e6, 2.5e6),
        ("800k to 400k", 8e5, 4e5),
        ("1M to 2M", 1e6, 2e6),
        ("1M to 4M", 1e6, 4e6),
        ("300k to 2M", 3e5, 2e6),
    ] {
        for queue in [Queue::DropTail(0.3), Queue::CoDel] {
            for rtt in [20.0, 100.0] {
                let outcome = run(&Scenario {
                    name,
                    capacity: vec![(0.0, before), (40.0, after)],
                    queue,
                    rtt,
                    ..Scenario::default()
                });
                let late = |from: f64, to: f64| {
                    let all = outcome.between(0, from, to).count() as f64;
                    let good = outcome
                        .between(0, from, to)
                        .filter(|packet| packet.queueing < 100_000)
                        .count() as f64;
                    100.0 * good / all
                };
                println!(
                    "{name:16} 85% after {:5.2} s; under 100 ms 0-2 {:5.1}% 2-4 {:5.1}% 2-20 {:5.1}%; used 10-20 {:5.1}%",
                    outcome.reached(0.85 * after, 40.0),
                    late(40.0, 42.0),
                    late(42.0, 44.0),
                    late(42.0, 60.0),
                    100.0 * outcome.rate(0, 50.0, 60.0) / after
                );
            }
        }
    }
}

#[test]
fn others() {
    for queue in [Queue::DropTail(0.3), Queue::DropTail(0.2), Queue::CoDel] {
        for capacity in [1e6, 2e6, 5e6] {
            for rtt in [20.0, 100.0] {
                let two = |seed| {
                    let outcome = run(&Scenario {
                        name: "two",
                        capacity: vec![(0.0, capacity)],
                        queue,
                        rtt,
                        starts: vec![0.0, 10.0],
                        seconds: 120.0,
                        seed,
                        ..Scenario::default()
                    });
                    let rates = [0, 1].map(|flow| outcome.rate(flow, 60.0, 120.0) / capacity);
                    format!(
                        "{:2.0}+{:2.0} {:3.0} |",
                        100.0 * rates[0],
                        100.0 * rates[1],
                        outcome.queueing(0.95, 60.0, 120.0)
                    )
                };
                let tcp = run(&Scenario {
                    name: "tcp",
                    capacity: vec![(0.0, capacity)],
                    queue,
                    rtt,
                    tcp: Some(10.0),
                    seconds: 120.0,
                    ..Scenario::default()
                });
                println!(
                    "{queue:?} {rtt} at {capacity}: two {} {} {}; beside TCP {:5.1}% TCP {:5.1}%",
                    two(1),
                    two(2),
                    two(3),
                    100.0 * tcp.rate(0, 60.0, 120.0) / capacity,
                    100.0 * tcp.rate(TCP, 60.0, 120.0) / capacity,
                );
            }
        }
    }
}

#[test]
fn losses() {
    for (name, loss, feedback_loss, jitter) in [
        ("5 %", 0.05, 0.0, 0.0),
        ("10 %", 0.1, 0.0, 0.0),
        ("20 % feedback", 0.0, 0.2, 0.0),
        ("10 % both", 0.1, 0.1, 0.0),
        ("jitter 15", 0.0, 0.0, 15.0),
        ("jitter 30", 0.0, 0.0, 30.0),
        ("jitter 60", 0.0, 0.0, 60.0),
    ] {
        for capacity in [3e5, 2e6] {
            let scenario = Scenario {
                name,
                capacity: vec![(0.0, capacity)],
                rtt: 80.0,
                loss,
                feedback_loss,
                jitter,
                ..Scenario::default()
            };
            explore(&scenario);
        }
    }
}

#[test]
fn limited() {
    for media in [1.5e5, 5e5, 1e6] {
        let scenario = Scenario {
            name: "app limited",
            capacity: vec![(0.0, 3e6)],
            jitter: 10.0,
            media: vec![(0.0, f64::INFINITY), (20.0, media), (50.0, f64::INFINITY)],
            wanted: 2.5e6,
            ..Scenario::default()
        };
        let outcome = run(&scenario);
        println!(
            "limited to {media}: before {:.0} during {:.0} {:.0} after {:.0}",
            outcome.mean_estimate(15.0, 20.0),
            outcome.mean_estimate(20.0, 25.0),
            outcome.mean_estimate(45.0, 50.0),
            outcome.mean_estimate(51.0, 55.0)
        );
    }
    let gap = Scenario {
        name: "gap",
        capacity: vec![(0.0, 3e6)],
        feedback_gap: (30.0, 35.0),
        ..Scenario::default()
    };
    let outcome = run(&gap);
    for second in 28..42 {
        let from = f64::from(second);
        print!("{:.0} ", outcome.mean_estimate(from, from + 1.0) / 1e3);
    }
    println!();
}
