//! What each subscriber got, so that nobody's meeting hides in the sum of all.

use std::time::Duration;

use serde::Serialize;

use crate::receive::{Counts, Histogram, Times};

/// By what name a participant joins.
pub(crate) fn identity(index: usize) -> String {
    format!("load-{index}")
}

/// One subscriber connection at the end of a run.
pub(crate) struct Subscriber {
    pub(crate) participant: usize,
    pub(crate) counts: Counts,
    pub(crate) latency: Histogram,
    /// From the beginning of the join to the open connection, and to the first media packet.
    pub(crate) connected: Option<Duration>,
    pub(crate) first_media: Option<Duration>,
}

/// The same in a report.
#[derive(Debug, Serialize)]
pub(crate) struct SubscriberRow {
    pub(crate) identity: String,
    expected: u64,
    #[serde(flatten)]
    pub(crate) counts: Counts,
    pub(crate) bits_per_second: f64,
    pub(crate) latency_ms: Times,
    connected_ms: Option<f64>,
    first_media_ms: Option<f64>,
}

impl SubscriberRow {
    /// What a subscriber received in `seconds`.
    pub(crate) fn new(subscriber: &Subscriber, seconds: f64) -> SubscriberRow {
        let millis = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1_000.0);
        SubscriberRow {
            identity: identity(subscriber.participant),
            expected: subscriber.counts.expected(),
            counts: subscriber.counts,
            bits_per_second: 8.0 * subscriber.counts.bytes as f64 / seconds,
            latency_ms: Times::of(&subscriber.latency),
            connected_ms: millis(subscriber.connected),
            first_media_ms: millis(subscriber.first_media),
        }
    }
}

/// The subscriber with the most loss and the one with the longest delay (p99), in words; `None`
/// when nobody received anything.
pub(crate) fn worst(rows: &[SubscriberRow]) -> Option<String> {
    let received = || rows.iter().filter(|row| row.counts.received > 0);
    let misses = received().max_by_key(|row| row.counts.lost)?;
    let waits =
        received().max_by(|one, other| one.latency_ms.p99.total_cmp(&other.latency_ms.p99))?;
    Some(format!(
        "{} lost ({}); p99 {:.2} ms ({})",
        misses.counts.lost, misses.identity, waits.latency_ms.p99, waits.identity
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(participant: usize, received: u64, lost: u64, micros: u64) -> Subscriber {
        let mut latency = Histogram::default();
        latency.record(micros);
        Subscriber {
            participant,
            counts: Counts {
                received,
                lost,
                bytes: 1_000 * received,
                ..Counts::default()
            },
            latency,
            connected: Some(Duration::from_millis(20)),
            first_media: None,
        }
    }

    #[test]
    fn the_worst_are_named() {
        let all = [
            subscriber(1, 10, 3, 2_000),
            subscriber(2, 13, 0, 9_000),
            subscriber(3, 0, 0, 0),
        ];
        let rows: Vec<_> = all.iter().map(|one| SubscriberRow::new(one, 2.0)).collect();
        let text = worst(&rows).expect("somebody received something");
        assert!(text.starts_with("3 lost (load-1); p99 "), "{text}");
        assert!(text.ends_with("ms (load-2)"), "{text}");
        assert!(worst(&rows[2..]).is_none());

        let json = serde_json::to_value(&rows[0]).expect("JSON");
        assert_eq!((&json["expected"], &json["lost"]), (&13.into(), &3.into()));
        assert_eq!(json["bits_per_second"], 40_000.0);
        assert_eq!(
            (&json["connected_ms"], json["first_media_ms"].is_null()),
            (&20.0.into(), true)
        );
    }
}
