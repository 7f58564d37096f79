//! The configuration: a YAML file with LiveKit's key names, flags and environment over it.
//!
//! `settings` has what can be set; `schema` lists the keys; `document` reads YAML, `value` the types of values, `read` goes by the
//! schema from one to the other, and `write` back.

mod document;
mod read;
mod schema;
mod settings;
mod value;
mod write;

use std::net::IpAddr;

use moim_signaling::token::MIN_SECRET;
pub use read::ConfigError;
use schema::Effect;
pub use settings::{
    ApiKeyTable, Config, LimitConfig, LoggingConfig, NodeIp, Ports, RtcConfig, Secret, StoreConfig,
};

impl Config {
    /// Reads a file's text. `source` names it in errors. The second value lists keys that
    /// LiveKit knows and that mean nothing here.
    ///
    /// # Errors
    /// When the text is not YAML, has a key that nobody knows, or a value that does not fit.
    pub fn parse(text: &str, source: &str) -> Result<(Config, Vec<&'static str>), ConfigError> {
        read::parse(text, source)
    }

    /// Every key with its value, as YAML; secrets are masked.
    pub fn show(&self) -> String {
        write::show(self)
    }

    /// A file with every key, what it is, and its default.
    pub fn sample() -> String {
        write::sample()
    }

    /// The text of `docs/configuration.md`.
    pub fn documentation() -> String {
        write::documentation()
    }

    /// API keys and secrets.
    pub fn key_pairs(&self) -> impl Iterator<Item = (String, String)> {
        let pair = |(key, secret): (&String, &Secret)| (key.clone(), secret.0.clone());
        self.keys.iter().map(pair)
    }

    /// The keys of which the values differ in another configuration, and whether each can be
    /// changed while the server runs.
    pub fn changes(&self, other: &Config) -> Vec<(&'static str, bool)> {
        let differs = |schema: &&schema::Schema| match &schema.effect {
            Effect::Set { get, .. } => get(self) != get(other),
            Effect::Ignored(_) => false,
        };
        let mut changes: Vec<_> = schema::SCHEMA
            .iter()
            .filter(differs)
            .filter(|schema| !matches!(schema.path, "keys" | "log_level"))
            .map(|schema| {
                let reload = matches!(&schema.effect, Effect::Set { reload: true, .. });
                (schema.path, reload)
            })
            .collect();
        // Secrets look alike when they are written.
        if self.keys != other.keys {
            changes.push(("keys", true));
        }
        changes
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

    /// Takes out the keys of which the secret could be found by trying (RFC 7518, section 3.2), and
    /// says which: a token that one of them has signed proves nothing. In development mode, and
    /// where the server listens on loopback only, they stay.
    pub fn set_weak_keys_aside(&mut self) -> Vec<ConfigError> {
        let is_local =
            !self.bind_addresses.is_empty() && self.bind_addresses.iter().all(IpAddr::is_loopback);
        if self.development || is_local {
            return Vec::new();
        }
        let mut weak = Vec::new();
        self.keys.retain(|key, secret| {
            let len = secret.0.len();
            if len < MIN_SECRET {
                let key = key.clone();
                weak.push(ConfigError::ShortSecret { key, len });
            }
            len >= MIN_SECRET
        });
        weak
    }

    /// Adds keys in the form `key: secret`, several on lines of their own.
    ///
    /// # Errors
    /// When a line has no colon; `source` names where the text is from.
    pub fn add_keys(&mut self, text: &str, source: &str) -> Result<(), ConfigError> {
        let is_pair = |line: &&str| !line.is_empty() && !line.starts_with('#');
        for line in text.lines().map(str::trim).filter(is_pair) {
            let (key, secret) = line.split_once(':').ok_or_else(|| ConfigError::Keys {
                source_name: source.to_owned(),
            })?;
            let secret = Secret(secret.trim().to_owned());
            self.keys.insert(key.trim().to_owned(), secret);
        }
        Ok(())
    }
}
