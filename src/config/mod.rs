//! The configuration: a YAML file with LiveKit's key names, flags and environment over it.

mod keys;

use std::net::IpAddr;

use serde::Deserialize;

use crate::room::RoomSettings;
pub use keys::ConfigError;

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
