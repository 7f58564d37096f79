//! The configuration: a YAML file with LiveKit's key names, flags and environment over it.

mod keys;

use std::net::IpAddr;

use serde::Deserialize;

use crate::room::RoomSettings;
use crate::webhook::WebhookConfig;
pub use keys::ConfigError;
use moim_signaling::token::MIN_SECRET;
use moim_signaling::{ConnectionLimits, Rate};

/// Everything that can be set. Every key has a default.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    /// TCP port of HTTP and WebSocket.
    pub port: u16,
    /// Addresses to listen on; empty means all.
    pub bind_addresses: Vec<IpAddr>,
    /// API key → secret.
    pub keys: std::collections::BTreeMap<String, Secret>,
    /// Media.
    pub rtc: RtcConfig,
    /// Rooms.
    pub room: RoomSettings,
    /// Bounds over all rooms.
    pub limit: LimitConfig,
    /// Proxies whose `X-Forwarded-For` names the client; those on this machine always do.
    pub trusted_proxies: Vec<IpAddr>,
    /// Who is told what happens in rooms.
    pub webhook: WebhookConfig,
    /// Logs.
    pub logging: LoggingConfig,
    /// Development mode: anybody gets a token from the page.
    #[serde(skip)]
    pub development: bool,
}

/// Media.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct RtcConfig {
    /// UDP port of the first shard; the next ones take the following ports.
    pub udp_port: u16,
    /// Address to announce to clients instead of the bound ones.
    pub node_ip: Option<IpAddr>,
    /// Media shards; 0 means one a core.
    pub shards: usize,
}

/// Bounds over all rooms.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct LimitConfig {
    /// Rooms at a time.
    pub num_rooms: usize,
    /// WebSockets at a time.
    pub num_connections: usize,
    /// WebSockets at a time from one IPv4 address or one IPv6 network of 64 bits.
    pub num_connections_per_address: usize,
    /// Joins a second from one of these; ten times as many at once.
    pub joins_per_second: u32,
}

impl LimitConfig {
    /// Those that the signaling service keeps to.
    pub fn connections(&self) -> ConnectionLimits {
        let joins = f64::from(self.joins_per_second);
        ConnectionLimits {
            total: self.num_connections,
            per_address: self.num_connections_per_address,
            joins: Rate {
                per_second: joins,
                burst: 10.0 * joins,
            },
        }
    }
}

impl Default for LimitConfig {
    fn default() -> Self {
        LimitConfig {
            num_rooms: 10_000,
            num_connections: 10_000,
            num_connections_per_address: 2_000,
            joins_per_second: 100,
        }
    }
}

/// Logs.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct LoggingConfig {
    /// error, warn, info, debug or trace, or a filter of `tracing`.
    pub level: String,
    /// One JSON object a line.
    pub json: bool,
}

/// A secret: it is never printed.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            port: 7880,
            bind_addresses: Vec::new(),
            keys: Default::default(),
            rtc: RtcConfig::default(),
            room: RoomSettings::default(),
            limit: LimitConfig::default(),
            trusted_proxies: Vec::new(),
            webhook: WebhookConfig::default(),
            logging: LoggingConfig::default(),
            development: false,
        }
    }
}

impl Default for RtcConfig {
    fn default() -> Self {
        RtcConfig {
            udp_port: 7882,
            node_ip: None,
            shards: 0,
        }
    }
}

impl Default for LoggingConfig {
    fn default() -> Self {
        LoggingConfig {
            level: "info".into(),
            json: false,
        }
    }
}

impl Config {
    /// Reads a file's text. `source` names it in errors. The second value lists keys that
    /// LiveKit knows and that mean nothing here.
    ///
    /// # Errors
    /// When the text is not YAML, has a key that nobody knows, or a value that does not fit.
    pub fn parse(text: &str, source: &str) -> Result<(Config, Vec<String>), ConfigError> {
        keys::parse(text, source)
    }

    /// Development mode: loopback only, a well-known key, tokens for anybody.
    pub fn into_development(mut self) -> Config {
        self.development = true;
        if self.bind_addresses.is_empty() {
            self.bind_addresses = vec![
                std::net::Ipv4Addr::LOCALHOST.into(),
                std::net::Ipv6Addr::LOCALHOST.into(),
            ];
        }
        if self.keys.is_empty() {
            self.keys.insert("devkey".into(), Secret("secret".into()));
        }
        self
    }

    /// Whether every secret is long enough to be one. A server that listens on loopback only, or
    /// is in development mode, may have short ones; the log names them.
    ///
    /// # Errors
    /// When a secret could be found by trying (RFC 7518, section 3.2).
    pub fn check_secrets(&self) -> Result<(), ConfigError> {
        if self.development {
            return Ok(());
        }
        let is_local =
            !self.bind_addresses.is_empty() && self.bind_addresses.iter().all(IpAddr::is_loopback);
        for (key, secret) in &self.keys {
            if secret.0.len() >= MIN_SECRET {
                continue;
            }
            let error = ConfigError::ShortSecret {
                key: key.clone(),
                len: secret.0.len(),
            };
            if !is_local {
                return Err(error);
            }
            tracing::warn!("{error}");
        }
        Ok(())
    }

    /// Adds keys in the form `key: secret`, several on lines of their own.
    ///
    /// # Errors
    /// When a line has no colon.
    pub fn add_keys(&mut self, text: &str) -> Result<(), ConfigError> {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (key, secret) = line.split_once(':').ok_or_else(|| ConfigError::Value {
                key: "keys".into(),
                value: "…".into(),
                expected: "`API_KEY: SECRET`".into(),
            })?;
            let secret = Secret(secret.trim().to_owned());
            self.keys.insert(key.trim().to_owned(), secret);
        }
        Ok(())
    }
}
