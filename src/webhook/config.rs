//! The section `webhook` of the configuration, under LiveKit's names.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

/// Who is told what happens in rooms, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct WebhookConfig {
    /// Receivers, `http://` or `https://`.
    pub urls: Vec<String>,
    /// The API key that signs what is sent.
    pub api_key: String,
    /// Which events are sent.
    pub filter_params: Filter,
    /// What waits for a receiver.
    pub resource_url_notifier: Waiting,
    /// Names of receivers may resolve to addresses that are not public. Those that the
    /// configuration names by address, and `localhost`, may be private anyway.
    pub allow_private_addresses: bool,
    /// When a receiver is tried again.
    pub retry: Retry,
}

/// Which events are sent: those that are named, or else all but those that are not wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Filter {
    /// The only events that are sent; empty for all.
    pub include_events: Vec<String>,
    /// Events that are not sent; counts only when `include_events` is empty.
    pub exclude_events: Vec<String>,
}

impl Filter {
    /// Whether an event is sent.
    pub fn allows(&self, event: &str) -> bool {
        let names = |list: &[String]| list.iter().any(|name| name == event);
        if self.include_events.is_empty() {
            !names(&self.exclude_events)
        } else {
            names(&self.include_events)
        }
    }
}

/// What may wait for a receiver.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Waiting {
    /// An event that could not be delivered for this long is dropped.
    #[serde(deserialize_with = "duration")]
    pub max_age: Duration,
    /// Events of one room that wait at once.
    pub max_depth: usize,
}

impl Default for Waiting {
    fn default() -> Self {
        Waiting {
            max_age: Duration::from_secs(15 * 60),
            max_depth: 1_000,
        }
    }
}

/// When an event that was not taken is sent again: after `min`, and twice as long after each
/// further attempt, up to `max`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Retry {
    /// After the first attempt.
    #[serde(deserialize_with = "duration")]
    pub min: Duration,
    /// At most.
    #[serde(deserialize_with = "duration")]
    pub max: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            min: Duration::from_secs(1),
            max: Duration::from_secs(30),
        }
    }
}

impl Retry {
    /// How long to wait after so many failed attempts, the first counted as 0.
    pub(super) fn after(&self, attempts: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempts).unwrap_or(u32::MAX);
        self.min.saturating_mul(factor).min(self.max)
    }
}

/// A duration as Go writes it, such as `1m30s` or `250ms`, or a number of seconds.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Seconds(f64),
        Text(String),
    }
    let read = match Written::deserialize(deserializer)? {
        Written::Seconds(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        Written::Text(text) => parse_duration(&text),
    };
    read.ok_or_else(|| serde::de::Error::custom("a duration, such as 30s, 1m30s or 250ms"))
}

fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut sum = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, after) = rest.split_at(number);
        let unit = after
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let unit = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            _ => return None,
        };
        sum += value.parse::<f64>().ok()? * unit;
        rest = after;
    }
    Duration::try_from_secs_f64(sum).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [
            ("30s", Some(30.0)),
            ("1m30s", Some(90.0)),
            ("1h", Some(3_600.0)),
            ("250ms", Some(0.25)),
            ("1.5s", Some(1.5)),
            ("", None),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1d", None),
        ] {
            let read = parse_duration(text).map(|duration| duration.as_secs_f64());
            assert_eq!(read, seconds, "{text}");
        }
    }

    #[test]
    fn what_is_included_counts_before_what_is_excluded() {
        let filter = |include: &[&str], exclude: &[&str]| Filter {
            include_events: include.iter().map(ToString::to_string).collect(),
            exclude_events: exclude.iter().map(ToString::to_string).collect(),
        };
        assert!(filter(&[], &[]).allows("a"));
        assert!(!filter(&[], &["a"]).allows("a") && filter(&[], &["a"]).allows("b"));
        assert!(filter(&["a"], &["a"]).allows("a") && !filter(&["a"], &[]).allows("b"));
    }

    #[test]
    fn waits_grow_up_to_the_longest() {
        let retry = Retry::default();
        let waits: Vec<u64> = (0..7).map(|n| retry.after(n).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(retry.after(u32::MAX), retry.max);
    }
}
