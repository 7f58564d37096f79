//! From the text of a configuration to its values, by the schema.

use moim_signaling::token::MIN_SECRET;

use super::document::{Node, Value};
use super::schema::{Effect, SCHEMA, Schema};
use super::settings::Config;

/// Longest value that an error repeats, characters.
const MAX_SHOWN: usize = 80;

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
        line: u64,
        /// The key with those above it.
        key: String,
        /// The nearest known one.
        nearest: String,
    },
    /// A secret that could be found by trying.
    #[error(
        "API key `{key}` is not used: its secret has {len} bytes and must have at least {MIN_SECRET}; \
         `moim keys generate` makes a good one"
    )]
    ShortSecret {
        /// The API key.
        key: String,
        /// Bytes of its secret.
        len: usize,
    },
    /// A value that does not fit.
    #[error("{source_name}:{line}: `{key}` is `{value}`; it must be {expected}")]
    Value {
        /// File or flag.
        source_name: String,
        /// Line of the value, from 1.
        line: u64,
        /// The key with those above it.
        key: String,
        /// Its value.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// API keys that were not given as a configuration.
    #[error("the API keys of {source_name} must be lines of `API_KEY: SECRET`")]
    Keys {
        /// File, flag or variable.
        source_name: String,
    },
}

/// What has been read of a document so far.
#[derive(Debug)]
pub(super) struct Reading<'a> {
    source: &'a str,
    config: Config,
    /// LiveKit's keys that were given and mean nothing here.
    ignored: Vec<&'static str>,
}

pub(super) fn parse(text: &str, source: &str) -> Result<(Config, Vec<&'static str>), ConfigError> {
    let syntax = |reason: String| ConfigError::Syntax {
        source_name: source.to_owned(),
        reason,
    };
    let document = Node::parse(text).map_err(syntax)?;
    if !matches!(document.value, Value::Map(_) | Value::Null) {
        return Err(syntax("it must be a list of `key: value`".into()));
    }
    let mut reading = Reading {
        source,
        config: Config::default(),
        ignored: Vec::new(),
    };
    reading.section("", &document)?;
    Ok((reading.config, reading.ignored))
}

impl Reading<'_> {
    /// Reads the keys below `above`.
    fn section(&mut self, above: &str, section: &Node) -> Result<(), ConfigError> {
        let entries = match &section.value {
            Value::Map(entries) => entries,
            Value::Null => return Ok(()),
            _ => return Err(self.wrong(above, section, "a list of `key: value`")),
        };
        for (name, node) in entries {
            let key = match above {
                "" => name.name.clone(),
                above => format!("{above}.{}", name.name),
            };
            match SCHEMA.iter().find(|schema| schema.path == key) {
                _ if node.value == Value::Null && is_known(&key) => {}
                Some(schema) => self.value(schema, node)?,
                None if is_section(&key) => self.section(&key, node)?,
                None => {
                    return Err(ConfigError::UnknownKey {
                        source_name: self.source.to_owned(),
                        line: name.line,
                        nearest: nearest(&key).to_owned(),
                        key,
                    });
                }
            }
        }
        Ok(())
    }

    fn value(&mut self, schema: &'static Schema, node: &Node) -> Result<(), ConfigError> {
        match &schema.effect {
            Effect::Ignored(_) => {
                if !self.ignored.contains(&schema.path) {
                    self.ignored.push(schema.path);
                }
                Ok(())
            }
            Effect::Set { set, expected, .. } => match set(&mut self.config, node) {
                Some(()) => Ok(()),
                None => Err(self.wrong(schema.path, node, expected)),
            },
        }
    }

    fn wrong(&self, key: &str, node: &Node, expected: &str) -> ConfigError {
        // Nothing of a value that may hold a secret is repeated.
        let secret = SCHEMA
            .iter()
            .any(|schema| schema.path == key && schema.secret);
        let value = match &node.value {
            _ if secret => "…".into(),
            Value::Null => "empty".into(),
            Value::Scalar(text) => text.chars().take(MAX_SHOWN).collect(),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a list of keys".into(),
        };
        ConfigError::Value {
            source_name: self.source.to_owned(),
            line: node.line,
            key: key.to_owned(),
            value,
            expected: expected.to_owned(),
        }
    }
}

/// Whether there are keys below this one.
fn is_section(key: &str) -> bool {
    let below = |schema: &Schema| {
        schema
            .path
            .strip_prefix(key)
            .is_some_and(|rest| rest.starts_with('.'))
    };
    SCHEMA.iter().any(below)
}

fn is_known(key: &str) -> bool {
    is_section(key) || SCHEMA.iter().any(|schema| schema.path == key)
}

fn nearest(key: &str) -> &'static str {
    let distance = |schema: &&Schema| strsim::levenshtein(key, schema.path);
    SCHEMA
        .iter()
        .min_by_key(distance)
        .map_or("", |schema| schema.path)
}

#[cfg(test)]
mod tests;
