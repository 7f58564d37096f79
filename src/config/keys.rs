//! Which keys there are, and what to say about the others.

use moim_signaling::token::MIN_SECRET;
use serde_json::Value;

use super::Config;

/// Keys that mean something here; `*` stands for any name.
const KNOWN: &[&str] = &[
    "port",
    "bind_addresses",
    "keys",
    "keys.*",
    "rtc",
    "rtc.udp_port",
    "rtc.node_ip",
    "rtc.shards",
    "room",
    "room.auto_create",
    "room.empty_timeout",
    "room.departure_timeout",
    "room.max_participants",
    "room.max_tracks",
    "room.loudest_speakers",
    "room.resume_timeout",
    "room.enable_remote_unmute",
    "limit",
    "limit.num_rooms",
    "limit.num_connections",
    "limit.num_connections_per_address",
    "limit.joins_per_second",
    "trusted_proxies",
    "webhook",
    "webhook.urls",
    "webhook.api_key",
    "webhook.filter_params",
    "webhook.filter_params.include_events",
    "webhook.filter_params.exclude_events",
    "webhook.resource_url_notifier",
    "webhook.resource_url_notifier.max_age",
    "webhook.resource_url_notifier.max_depth",
    "webhook.allow_private_addresses",
    "webhook.retry",
    "webhook.retry.min",
    "webhook.retry.max",
    "logging",
    "logging.level",
    "logging.json",
];

/// Keys of LiveKit that mean nothing here (yet), by their beginnings.
const IGNORED: &[&str] = &[
    "redis",
    "turn",
    "webhook.url_notifier",
    "audio",
    "video",
    "node_selector",
    "region",
    "limit.num_tracks",
    "limit.bytes_per_sec",
    "limit.subscription_limit_video",
    "limit.subscription_limit_audio",
    "limit.max_metadata_size",
    "limit.max_attributes_size",
    "limit.max_room_name_length",
    "limit.max_participant_identity_length",
    "limit.max_participant_name_length",
    "limit.max_data_blob_key_length",
    "limit.max_data_blobs_size",
    "limit.max_data_track_custom_encoding_length",
    "signal_relay",
    "psrpc",
    "prometheus",
    "prometheus_port",
    "debug_handler",
    "ingress",
    "sip",
    "agents",
    "metric",
    "node_stats",
    "api",
    "key_file",
    "log_level",
    "development",
    "enable_data_tracks",
    "rtc.tcp_port",
    "rtc.port_range_start",
    "rtc.port_range_end",
    "rtc.use_external_ip",
    "rtc.stun_servers",
    "rtc.turn_servers",
    "rtc.use_ice_lite",
    "rtc.congestion_control",
    "rtc.pli_throttle",
    "rtc.packet_buffer_size",
    "rtc.packet_buffer_size_video",
    "rtc.packet_buffer_size_audio",
    "rtc.allow_tcp_fallback",
    "rtc.interfaces",
    "rtc.ips",
    "rtc.enable_loopback_candidate",
    "rtc.batch_io",
    "rtc.strict_acks",
    "rtc.force_tcp",
    "rtc.use_mdns",
    "rtc.reconnect_on_publication_error",
    "rtc.reconnect_on_subscription_error",
    "rtc.reconnect_on_data_channel_error",
    "rtc.enable_warp",
    "room.enabled_codecs",
    "room.playout_delay",
    "room.sync_streams",
    "room.max_metadata_size",
    "room.room_configurations",
    "logging.sample",
    "logging.pion_level",
    "logging.component_levels",
    "room.create_room_enabled",
    "room.create_room_timeout",
    "room.create_room_attempts",
];

/// What is wrong with a configuration. The text names the key, the value and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not YAML.
    #[error("{source_name}: not readable as YAML: {reason}")]
    Syntax {
        /// File or flag.
        source_name: String,
        /// What the parser says.
        reason: String,
    },
    /// A key that nobody knows.
    #[error("{source_name}:{line}: unknown key `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// File or flag.
        source_name: String,
        /// Line of the key, from 1.
        line: usize,
        /// The key with those above it.
        key: String,
        /// The nearest known one.
        nearest: String,
    },
    /// A secret that could be found by trying.
    #[error(
        "the secret of API key `{key}` has {len} bytes; it must have at least {MIN_SECRET}: \
         `moim keys generate` makes a good one"
    )]
    ShortSecret {
        /// The API key.
        key: String,
        /// Bytes of its secret.
        len: usize,
    },
    /// A value that does not fit.
    #[error("`{key}` is `{value}`; it must be {expected}")]
    Value {
        /// The key with those above it.
        key: String,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
}

pub(super) fn parse(text: &str, source: &str) -> Result<(Config, Vec<String>), ConfigError> {
    let syntax = |reason: String| ConfigError::Syntax {
        source_name: source.to_owned(),
        reason,
    };
    if text.trim().is_empty() {
        return Ok((Config::default(), Vec::new()));
    }
    let value: Value = serde_saphyr::from_str(text).map_err(|error| syntax(error.to_string()))?;
    let Value::Object(_) = &value else {
        return Err(syntax("it must be a list of `key: value`".into()));
    };
    let mut ignored = Vec::new();
    check(&value, "", text, source, &mut ignored)?;
    let config = typed(&value)?;
    Ok((config, ignored))
}

fn check(
    value: &Value,
    above: &str,
    text: &str,
    source: &str,
    ignored: &mut Vec<String>,
) -> Result<(), ConfigError> {
    let Value::Object(map) = value else {
        return Ok(());
    };
    for (name, value) in map {
        let key = if above.is_empty() {
            name.clone()
        } else {
            format!("{above}.{name}")
        };
        let any = format!("{above}.*");
        if KNOWN.contains(&key.as_str()) || KNOWN.contains(&any.as_str()) {
            check(value, &key, text, source, ignored)?;
        } else if IGNORED.contains(&key.as_str()) {
            ignored.push(key);
        } else {
            return Err(ConfigError::UnknownKey {
                source_name: source.to_owned(),
                line: line_of(text, name),
                nearest: nearest(&key),
                key,
            });
        }
    }
    Ok(())
}

fn line_of(text: &str, name: &str) -> usize {
    let is_key = |line: &str| {
        let line = line.trim_start().trim_start_matches(['"', '\'']);
        line.strip_prefix(name).is_some_and(|rest| {
            rest.trim_start_matches(['"', '\''])
                .trim_start()
                .starts_with(':')
        })
    };
    text.lines().position(is_key).map_or(1, |index| index + 1)
}

fn nearest(key: &str) -> String {
    let candidates = KNOWN
        .iter()
        .chain(IGNORED)
        .filter(|known| !known.ends_with('*'));
    candidates
        .min_by_key(|known| strsim::levenshtein(key, known))
        .map_or(String::new(), |known| (*known).to_owned())
}

/// Reads the sections one key at a time, so that an error can name its key.
fn typed(value: &Value) -> Result<Config, ConfigError> {
    for key in KNOWN.iter().filter(|key| !key.contains('*')) {
        let Some(found) = key
            .split('.')
            .try_fold(value, |value, part| value.get(part))
        else {
            continue;
        };
        let single = key.rsplit('.').fold(found.clone(), |value, part| {
            Value::Object([(part.to_owned(), value)].into_iter().collect())
        });
        if let (false, Err(error)) = (found.is_object(), serde_json::from_value::<Config>(single)) {
            let secret = key.starts_with("keys");
            return Err(ConfigError::Value {
                key: (*key).to_owned(),
                value: if secret {
                    "…".into()
                } else {
                    found.to_string()
                },
                expected: expected(key, &error.to_string()),
            });
        }
    }
    serde_json::from_value(value.clone()).map_err(|error| ConfigError::Value {
        key: "the configuration".into(),
        value: "…".into(),
        expected: error.to_string(),
    })
}

fn expected(key: &str, reason: &str) -> String {
    let text = match key {
        "port" | "rtc.udp_port" => "a port, 1 to 65535",
        "bind_addresses" | "trusted_proxies" => "a list of IP addresses, such as ['0.0.0.0']",
        "rtc.node_ip" => "an IP address",
        "keys" => "a list of `API_KEY: SECRET`",
        "room.auto_create" | "room.enable_remote_unmute" | "logging.json" => "true or false",
        key if key.ends_with("_timeout") => "a number of seconds",
        key if key.starts_with("limit.") => "a number, 0 or more",
        _ => return reason.to_owned(),
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_livekit_is_read_and_what_means_nothing_is_named() {
        let text = "port: 7000\nkeys:\n  a: b\nrtc:\n  udp_port: 9000\n  tcp_port: 1\n\
                    room:\n  max_participants: 3\nredis:\n  address: x\n";
        let (config, ignored) = parse(text, "f.yaml").unwrap();
        assert_eq!((config.port, config.rtc.udp_port), (7000, 9000));
        assert_eq!(config.room.max_participants, 3);
        assert_eq!(config.room.departure_timeout, 20);
        assert_eq!(config.keys["a"].0, "b");
        assert_eq!(ignored, ["redis", "rtc.tcp_port"]);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
        let error = parse("port: 1\nroom:\n  max_participant: 4\n", "f.yaml").unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("f.yaml:3:"), "{text}");
        assert!(text.contains("`room.max_participants`"), "{text}");
    }

    #[test]
    fn a_wrong_value_is_named_with_what_would_be_right() {
        for (text, key, right) in [
            ("port: many\n", "port", "65535"),
            ("rtc:\n  udp_port: 70000\n", "rtc.udp_port", "65535"),
            (
                "bind_addresses: ['nowhere']\n",
                "bind_addresses",
                "IP addresses",
            ),
            (
                "room:\n  empty_timeout: soon\n",
                "room.empty_timeout",
                "seconds",
            ),
        ] {
            let error = parse(text, "f").unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(right), "{error}");
        }
        assert!(parse("a: [", "f").is_err());
        assert!(parse("- a\n", "f").is_err());
    }

    #[test]
    fn short_secrets_are_refused_where_strangers_can_try_them() {
        let check = |rest: &str| {
            let (config, _) = parse(&format!("keys:\n  a: {rest}\n"), "f").unwrap();
            config.check_secrets().map_err(|error| error.to_string())
        };
        let good = "x".repeat(32);
        assert_eq!(check(&good), Ok(()));
        let error = check("geheim").unwrap_err();
        assert!(error.contains("`a` has 6 bytes") && !error.contains("geheim"));
        assert!(
            check(&format!("{good}\n  b: q"))
                .unwrap_err()
                .contains("`b`")
        );
        assert!(check("q\nbind_addresses: ['127.0.0.1', '192.0.2.1']").is_err());
        assert_eq!(check("q\nbind_addresses: ['127.0.0.1', '::1']"), Ok(()));
        let development = Config::default().into_development();
        assert!(development.check_secrets().is_ok());
    }

    #[test]
    fn limits_of_livekit_are_read_beside_ours() {
        let text = "limit:\n  num_tracks: 3\n  num_rooms: 7\n  joins_per_second: 2\n";
        let (config, ignored) = parse(text, "f").unwrap();
        assert_eq!(config.limit.num_rooms, 7);
        assert_eq!(ignored, ["limit.num_tracks"]);
        let connections = config.limit.connections();
        assert_eq!((connections.total, connections.joins.burst), (10_000, 20.0));
        assert!(parse("limit:\n  num_room: 7\n", "f").is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        let (config, _) = parse("keys:\n  a: geheim\n", "f").unwrap();
        assert!(!format!("{config:?}").contains("geheim"));
    }
}
