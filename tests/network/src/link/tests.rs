//! One property of a link a test.

use super::*;
use crate::config::{Loss, Queue};

const MS: Duration = Duration::from_millis(1);

/// Sends `count` datagrams of 1,250 bytes, one every `interval`; gives who arrived after how long.
fn carry(config: LinkConfig, count: u32, interval: Duration) -> (Vec<(u32, Duration)>, Statistics) {
    carry_seeded(config, 7, count, interval)
}

fn carry_seeded(
    config: LinkConfig,
    seed: u64,
    count: u32,
    interval: Duration,
) -> (Vec<(u32, Duration)>, Statistics) {
    let start = Instant::now();
    let mut link = Link::new(config, seed);
    let mut arrived = Vec::new();
    for number in 0..count {
        let now = start + number * interval;
        drain(&mut link, start, Some(now), &mut arrived);
        link.send(now, 1_250, number);
    }
    drain(&mut link, start, None, &mut arrived);
    (arrived, link.statistics())
}

fn drain(
    link: &mut Link<u32>,
    start: Instant,
    until: Option<Instant>,
    arrived: &mut Vec<(u32, Duration)>,
) {
    while let Some(next) = link.poll_timeout() {
        if until.is_some_and(|until| next > until) {
            return;
        }
        while let Some(number) = link.poll(next) {
            arrived.push((number, next - start));
        }
    }
}

#[test]
fn a_perfect_link_only_delays() {
    let config = LinkConfig {
        delay: 30 * MS,
        ..Default::default()
    };
    let (arrived, statistics) = carry(config, 3, 10 * MS);
    assert_eq!(arrived, [(0, 30 * MS), (1, 40 * MS), (2, 50 * MS)]);
    assert_eq!((statistics.sent, statistics.delivered), (3, 3));
    assert_eq!(statistics.delivered_bytes, 3_750);
}

#[test]
fn the_rate_spaces_datagrams() {
    let config = LinkConfig {
        rate: Some(1_000_000),
        delay: 5 * MS,
        ..Default::default()
    };
    let (arrived, _) = carry(config, 3, Duration::ZERO);
    assert_eq!(arrived, [(0, 15 * MS), (1, 25 * MS), (2, 35 * MS)]);
}

#[test]
fn drop_tail_holds_its_limit_and_then_drops() {
    let config = LinkConfig {
        rate: Some(1_000_000),
        queue: Queue::DropTail { limit: 100 * MS },
        ..Default::default()
    };
    // Twice the capacity.
    let (arrived, statistics) = carry(config, 200, 5 * MS);
    let longest = arrived
        .iter()
        .map(|(number, at)| *at - *number * 5 * MS)
        .max()
        .unwrap();
    assert!((95 * MS..=110 * MS).contains(&longest), "{longest:?}");
    assert_eq!(statistics.dropped + statistics.delivered, 200);
    assert!((85..=95).contains(&statistics.dropped), "{statistics:?}");
}

#[test]
fn controlled_delay_drops_before_the_queue_is_full() {
    let config = LinkConfig {
        rate: Some(10_000_000),
        queue: Queue::CoDel { limit: 500 * MS },
        ..Default::default()
    };
    // One in twenty too many, for 20 seconds. What drop-tail does with it is a full queue.
    let interval = Duration::from_micros(950);
    let wait_at_end = |config| {
        let (arrived, statistics) = carry(config, 20_000, interval);
        let (number, at) = *arrived.last().unwrap();
        (at - number * interval, statistics.dropped)
    };
    let (wait, dropped) = wait_at_end(config);
    assert!(wait < 100 * MS, "{wait:?}");
    assert!(dropped > 500, "{dropped}");
    let drop_tail = LinkConfig {
        queue: Queue::DropTail { limit: 500 * MS },
        ..config
    };
    assert!(wait_at_end(drop_tail).0 > 450 * MS);
}

#[test]
fn controlled_delay_leaves_a_short_burst_alone() {
    let config = LinkConfig {
        rate: Some(10_000_000),
        queue: Queue::CoDel { limit: 500 * MS },
        ..Default::default()
    };
    let (_, statistics) = carry(config, 60, Duration::ZERO);
    assert_eq!(statistics.dropped, 0);
}

#[test]
fn jitter_stays_in_its_bounds_and_keeps_the_order() {
    let config = LinkConfig {
        delay: 10 * MS,
        jitter: 30 * MS,
        ..Default::default()
    };
    let (arrived, _) = carry(config, 1_000, 5 * MS);
    assert!(arrived.is_sorted());
    assert_eq!(arrived.len(), 1_000);
    let took = || arrived.iter().map(|(number, at)| *at - *number * 5 * MS);
    assert!(took().all(|took| (10 * MS..=40 * MS).contains(&took)));
    assert!(took().min().unwrap() < 15 * MS && took().max().unwrap() > 35 * MS);
}

#[test]
fn loss_takes_its_share_but_uses_the_capacity() {
    let config = LinkConfig {
        rate: Some(1_000_000),
        queue: Queue::DropTail {
            limit: Duration::from_secs(60),
        },
        loss: Loss::Random(0.1),
        ..Default::default()
    };
    let (arrived, statistics) = carry(config, 5_000, Duration::ZERO);
    assert!((400..=600).contains(&statistics.lost), "{statistics:?}");
    assert_eq!(statistics.lost + statistics.delivered, 5_000);
    let end = arrived.last().unwrap().1;
    assert!(end > 49_900 * MS, "{end:?}");
}

#[test]
fn reordered_datagrams_come_behind_later_ones() {
    let config = LinkConfig {
        delay: 10 * MS,
        reorder: 0.05,
        ..Default::default()
    };
    let (arrived, statistics) = carry(config, 2_000, 5 * MS);
    assert_eq!(arrived.len(), 2_000);
    let late = arrived
        .iter()
        .filter(|(number, at)| *at - *number * 5 * MS == 10 * MS + LinkConfig::LATE)
        .count();
    assert_eq!(late as u64, statistics.reordered);
    assert!((60..=140).contains(&late), "{late}");
    assert!(!arrived.iter().map(|(number, _)| number).is_sorted());
}

#[test]
fn duplicated_datagrams_arrive_twice() {
    let config = LinkConfig {
        duplicate: 0.1,
        ..Default::default()
    };
    let (arrived, statistics) = carry(config, 2_000, MS);
    assert!((150..=250).contains(&statistics.duplicated));
    assert_eq!(arrived.len() as u64, 2_000 + statistics.duplicated);
}

#[test]
fn what_waits_goes_on_at_a_new_rate() {
    let start = Instant::now();
    let config = LinkConfig {
        rate: Some(1_000_000),
        ..Default::default()
    };
    let mut link = Link::new(config, 1);
    link.send(start, 1_250, 0);
    link.send(start, 1_250, 1);
    assert_eq!(link.queueing_delay(start), 20 * MS);
    // Half of the first is sent when the rate falls to a half.
    let slower = LinkConfig {
        rate: Some(500_000),
        ..config
    };
    link.set_config(start + 5 * MS, slower);
    assert_eq!(link.queueing_delay(start + 5 * MS), 30 * MS);
    let mut arrived = Vec::new();
    drain(&mut link, start, None, &mut arrived);
    assert_eq!(arrived, [(0, 15 * MS), (1, 35 * MS)]);
}

#[test]
fn a_rate_of_nothing_holds_all_until_it_changes() {
    let start = Instant::now();
    let config = LinkConfig {
        rate: Some(0),
        ..Default::default()
    };
    let mut link = Link::new(config, 1);
    link.send(start, 100, 0);
    assert_eq!(link.poll(start + 1_000 * MS), None);
    assert_eq!(link.poll_timeout(), None);
    link.set_config(start + 1_000 * MS, LinkConfig::default());
    assert_eq!(link.poll(start + 1_000 * MS), Some(0));
}

#[test]
fn the_same_seed_gives_the_same_fates() {
    let config = LinkConfig {
        rate: Some(2_000_000),
        jitter: 20 * MS,
        loss: Loss::Burst {
            share: 0.1,
            mean_length: 3.0,
        },
        reorder: 0.1,
        duplicate: 0.1,
        ..Default::default()
    };
    let run = |seed| carry_seeded(config, seed, 2_000, 5 * MS);
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
