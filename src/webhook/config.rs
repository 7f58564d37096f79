//! The section `webhook` of the configuration, under LiveKit's names.

use std::time::Duration;

/// The receivers of webhooks, and how they are sent to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// An event that could not be delivered for this long is dropped.
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retry {
    /// After the first attempt.
    pub min: Duration,
    /// At most.
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
    /// How long to wait after failed attempt number `attempts`, counted from 0.
    pub(super) fn after(&self, attempts: u32) -> Duration {
        let factor = 1_u32.checked_shl(attempts).unwrap_or(u32::MAX);
        self.min.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
