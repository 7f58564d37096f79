use super::*;

fn input(now: Micros, usage: Usage, acknowledged: f64) -> Input {
    Input {
        now,
        usage,
        acknowledged: Some(acknowledged),
        acknowledged_short: Some(acknowledged),
        queueing: if usage == Usage::Over { 100_000 } else { 0 },
        least_queueing: 0,
        rtt: 50_000,
        unusual_loss: false,
        probed: false,
    }
}

#[test]
fn it_grows_only_as_far_as_was_tried_and_keeps_what_it_knew() {
    let mut control = RateControl::new(300_000.0);
    for step in 0..1_000 {
        control.update(input(step * 100_000, Usage::Normal, 400_000.0));
    }
    assert_eq!(control.rate(), 610_000.0);
    for step in 1_000..2_000 {
        control.update(input(step * 100_000, Usage::Normal, 50_000.0));
    }
    assert_eq!(control.rate(), 610_000.0);
}

#[test]
fn overuse_takes_it_below_what_arrives_and_drains() {
    let mut control = RateControl::new(2_000_000.0);
    control.update(input(0, Usage::Over, 1_000_000.0));
    assert!(control.is_draining());
    assert!(control.rate() <= 900_000.0, "{}", control.rate());
    let mut long = input(100_000, Usage::Normal, 1_000_000.0);
    (long.queueing, long.least_queueing) = (300_000, 250_000);
    control.update(long);
    assert!(control.rate() <= 500_000.0, "{}", control.rate());
    control.update(input(200_000, Usage::Normal, 1_000_000.0));
    assert!(!control.is_draining());
    assert!(control.rate() >= 850_000.0, "{}", control.rate());
}

/// What the rate gains in a second after an overuse of 1 Mbit/s, from `rate` on.
fn gained(rate: f64, sharers: u32) -> f64 {
    let mut control = RateControl::new(rate);
    control.share(1_000_000.0, sharers);
    control.rate = rate;
    for step in 0..=10 {
        control.update(input(step * 100_000, Usage::Normal, 900_000.0));
    }
    control.rate() - rate
}

#[test]
fn it_grows_quickly_up_to_what_is_known_and_then_as_slowly_as_all_who_share_it() {
    assert!(gained(800_000.0, 1) > 60_000.0);
    let alone = gained(960_000.0, 1);
    assert!((30_000.0..36_000.0).contains(&alone), "{alone}");
    let shared = gained(960_000.0, 4);
    assert!((12_000.0..18_000.0).contains(&shared), "{shared}");
}

#[test]
fn what_arrives_without_a_queue_is_carried() {
    let mut control = RateControl::new(300_000.0);
    let arrives = input(0, Usage::Normal, 1_000_000.0);
    control.update(Input {
        probed: true,
        ..arrives
    });
    control.update(Input {
        queueing: SHORT_QUEUE + 1,
        ..arrives
    });
    assert!(control.rate() < 310_000.0, "{}", control.rate());
    control.update(arrives);
    assert_eq!(control.rate(), 900_000.0);
    // A share of a link is not exceeded so.
    control.share(300_000.0, 2);
    control.update(Input {
        now: 1_000_000,
        acknowledged: Some(340_000.0),
        ..arrives
    });
    assert!(control.rate() < 315_000.0, "{}", control.rate());
}

#[test]
fn a_long_queue_that_grows_is_answered_before_the_trend_shows_it() {
    for (growth, is_answered) in [(GROWN + 1, true), (0, false)] {
        let mut control = RateControl::new(1_000_000.0);
        for (now, longer) in [(0, 0), (STANDS_AFTER, growth)] {
            assert!(!control.is_draining());
            let long = STANDING_QUEUE + 1 + longer;
            control.update(Input {
                queueing: long,
                least_queueing: long,
                ..input(now, Usage::Normal, 900_000.0)
            });
        }
        assert_eq!(control.is_draining(), is_answered);
    }
}

#[test]
fn what_a_probe_finds_replaces_what_was_assumed() {
    let mut control = RateControl::new(300_000.0);
    control.found(250_000.0);
    assert_eq!(control.rate(), 250_000.0);
    control.found(2_000_000.0);
    assert_eq!(control.rate(), 2_000_000.0);
}

#[test]
fn a_link_that_falls_while_it_is_drained_is_measured_again() {
    let mut control = RateControl::new(2_000_000.0);
    control.update(input(0, Usage::Over, 2_000_000.0));
    let before = control.rate();
    let mut growing = |now, carried| {
        let queue = input(now, Usage::Over, carried);
        control.update(Input {
            least_queueing: 90_000,
            ..queue
        });
        control.rate()
    };
    let after = growing(1_000_000, 1_200_000.0);
    assert!(after < before * 0.7, "{before} {after}");
    // Not all of it is given to who takes it.
    growing(1_100_000, 100_000.0);
    assert!(control.shared() >= 850_000.0, "{}", control.shared());
}

#[test]
fn a_great_fall_is_known_for_a_while() {
    for (carried, is_great) in [(1_000_000.0, true), (1_900_000.0, false)] {
        let mut control = RateControl::new(2_000_000.0);
        assert!(!control.has_fallen(0));
        control.update(input(0, Usage::Over, carried));
        assert_eq!(control.has_fallen(FALL_TIME - 1), is_great);
        assert!(!control.has_fallen(FALL_TIME));
        // A further fall belongs to the first one.
        control.update(input(1_000_000, Usage::Over, carried));
        assert!(!control.has_fallen(FALL_TIME));
        control.share(carried, 2);
        assert!(!control.has_fallen(0));
    }
}

#[test]
fn a_queue_that_stands_is_answered_though_it_does_not_grow() {
    // As it does that grew during a probe, when growth counts for nothing.
    let mut control = RateControl::new(1_400_000.0);
    for step in 0..100 {
        control.update(input(step * 50_000, Usage::Normal, 1_300_000.0));
    }
    let standing = |step: i64| Input {
        queueing: 290_000,
        least_queueing: 280_000,
        ..input(step * 50_000, Usage::Normal, 400_000.0)
    };
    let answered = (100..200).find(|&step| {
        control.update(standing(step));
        control.rate() < 400_000.0
    });
    assert!(answered.is_some_and(|step| step <= 106), "{answered:?}");
    // A way that is longer by as much carries all that is sent.
    let mut control = RateControl::new(1_400_000.0);
    for step in 0..100 {
        let longer = Input {
            acknowledged: Some(1_300_000.0),
            acknowledged_short: Some(1_300_000.0),
            ..standing(step)
        };
        control.update(longer);
    }
    assert!(control.rate() >= 1_400_000.0);
}

/// A drain of a queue that stays, with the least delay that `least` gives for each step.
fn drain(least: impl Fn(i64) -> Micros) -> RateControl {
    let mut control = RateControl::new(2_000_000.0);
    control.update(input(0, Usage::Over, 1_000_000.0));
    for step in 1..=30 {
        let mut full = input(step * 100_000, Usage::Normal, 1_000_000.0);
        (full.queueing, full.least_queueing) = (200_000, least(step));
        control.update(full);
    }
    assert!(!control.is_draining());
    assert!(control.rate() >= 850_000.0);
    control
}

#[test]
fn beside_a_flow_that_fills_the_queue_loss_counts_and_delay_does_not() {
    let mut control = drain(|step| 180_000 + step * 2_000);
    assert!(!control.take_base_delay_rose());
    let mut full = input(3_200_000, Usage::Over, 1_000_000.0);
    (full.queueing, full.least_queueing) = (200_000, 190_000);
    let before = control.rate();
    control.update(full);
    assert!(control.rate() > before);
    (full.now, full.unusual_loss) = (4_500_000, true);
    control.update(full);
    assert!(control.rate() < before);
    (full.now, full.least_queueing) = (4_600_000, 0);
    control.update(full);
    control.update(input(4_700_000, Usage::Over, 1_000_000.0));
    assert!(control.is_draining());
}

#[test]
fn a_link_that_gets_worse_while_a_short_queue_is_drained_is_noticed() {
    let mut control = RateControl::new(1_400_000.0);
    let mut short = input(0, Usage::Over, 1_400_000.0);
    short.queueing = 25_000;
    control.update(short);
    assert!(control.is_draining());
    for step in 1..=12 {
        let mut full = input(step * 50_000, Usage::Over, 1_400_000.0);
        full.queueing = 25_000 * (step + 1);
        full.least_queueing = full.queueing;
        // The rates lag behind.
        full.acknowledged_short = Some(if step < 7 { 1_400_000.0 } else { 400_000.0 });
        control.update(full);
    }
    assert!(control.rate() < 250_000.0, "{}", control.rate());
}

#[test]
fn what_a_trial_shows_to_be_ours_is_believed() {
    let mut control = RateControl::new(2_000_000.0);
    control.update(input(0, Usage::Over, 1_500_000.0));
    let mut waits = input(0, Usage::Normal, 400_000.0);
    (waits.queueing, waits.least_queueing) = (200_000, 200_000);
    for step in 4..=20 {
        waits.now = step * 100_000;
        waits.least_queueing += 10_000 * (step % 2);
        control.update(waits);
    }
    assert!(control.is_draining());
    let before = control.shared();
    assert!(before > 1_200_000.0);
    (waits.now, waits.queueing, waits.least_queueing) = (2_100_000, 0, 0);
    control.update(waits);
    assert!(!control.is_draining());
    assert!(control.rate() < 0.5 * before, "{}", control.rate());
}

#[test]
fn a_packet_on_a_slow_link_is_no_queue() {
    let mut control = RateControl::new(1_000_000.0);
    control.update(input(0, Usage::Over, 210_000.0));
    assert!(control.is_draining());
    let mut slow = input(400_000, Usage::Normal, 80_000.0);
    (slow.queueing, slow.least_queueing) = (32_000, 25_000);
    control.update(slow);
    assert!(!control.is_draining());
}

#[test]
fn a_delay_that_does_not_change_is_a_longer_way() {
    let mut control = drain(|_| 180_000);
    assert!(control.take_base_delay_rose());
    assert!(!control.take_base_delay_rose());
}
