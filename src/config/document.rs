//! A YAML document as a tree of text, each key and value with the line on which it stands.
//!
//! Scalars keep the text of the source: what a value means is for the schema to say, so that a
//! secret of digits stays what was written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Deepest nesting that is read; LiveKit's own configuration has seven levels.
const MAX_DEPTH: usize = 32;

/// A value and the line on which it begins, from 1.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    pub(super) line: u64,
    pub(super) value: Value,
}

/// The value of a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Nothing, `~` or `null`: the key keeps its default.
    Null,
    /// A scalar as it is written, without quotes.
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<(Key, Node)>),
}

/// The key of a map.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) line: u64,
}

impl Node {
    /// Reads a document.
    ///
    /// # Errors
    /// With the parser's text when it is not YAML, or nested too deeply.
    pub(super) fn parse(text: &str) -> Result<Node, String> {
        let empty = Node {
            line: 1,
            value: Value::Null,
        };
        let has_content = |line: &str| {
            let line = line.trim();
            !(line.is_empty() || line.starts_with('#') || line == "---")
        };
        if !text.lines().any(has_content) {
            return Ok(empty);
        }
        let read: Spanned<Raw> = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        Node::from_raw(read, text, 0)
    }

    fn from_raw(read: Spanned<Raw>, text: &str, depth: usize) -> Result<Node, String> {
        if depth > MAX_DEPTH {
            return Err(format!("it is nested deeper than {MAX_DEPTH} levels"));
        }
        let value = match read.value {
            Raw::Null => Value::Null,
            Raw::Text(text) => Value::Scalar(text),
            Raw::Typed(typed) => {
                let span = read.defined.span();
                let written = span
                    .byte_offset()
                    .zip(span.byte_len())
                    .and_then(|(at, len)| {
                        let at = usize::try_from(at).ok()?;
                        text.get(at..at.checked_add(usize::try_from(len).ok()?)?)
                    });
                Value::Scalar(written.map_or(typed, |written| written.trim().to_owned()))
            }
            Raw::List(items) => Value::List(
                items
                    .into_iter()
                    .map(|item| Node::from_raw(item, text, depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
            Raw::Map(entries) => Value::Map(
                entries
                    .into_iter()
                    .map(|(name, value)| {
                        let key = Key {
                            line: name.referenced.line(),
                            name: name.value,
                        };
                        Ok((key, Node::from_raw(value, text, depth + 1)?))
                    })
                    .collect::<Result<_, String>>()?,
            ),
        };
        Ok(Node {
            line: read.referenced.line(),
            value,
        })
    }

    /// The text of a scalar.
    pub(super) fn scalar(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The value under a name of a map.
    pub(super) fn get(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(entries) => entries
                .iter()
                .find(|(key, _)| key.name == name)
                .map(|(_, node)| node),
            _ => None,
        }
    }
}

/// A value as the YAML parser gives it.
enum Raw {
    Null,
    Text(String),
    /// A plain scalar that the parser has taken for a number or a boolean.
    Typed(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_know_their_lines_in_both_styles() {
        let text =
            "port: 1\nroom:\n  auto_create: yes\n  a: { b: 1,\n    c: 2 }\nlist:\n- x\n- 'y'\n";
        let document = Node::parse(text).unwrap();
        let Value::Map(entries) = &document.value else {
            panic!("a map");
        };
        let lines: Vec<_> = entries.iter().map(|(key, _)| key.line).collect();
        assert_eq!(lines, [1, 2, 6]);
        let flow = document.get("room").unwrap().get("a").unwrap();
        let Value::Map(entries) = &flow.value else {
            panic!("a map");
        };
        assert_eq!(entries[1].0.line, 5);
        assert_eq!(entries[1].1.scalar(), Some("2"));
    }

    #[test]
    fn scalars_stay_as_they_are_written() {
        for (written, read) in [
            ("0123", "0123"),
            ("1_000", "1_000"),
            ("'5'", "5"),
            ("yes", "yes"),
            ("True", "True"),
            ("1e9", "1e9"),
            ("한국", "한국"),
            ("\"a\\nb\"", "a\nb"),
        ] {
            let text = format!("# 한국어\nkey: {written}\n");
            let document = Node::parse(&text).unwrap();
            assert_eq!(document.get("key").unwrap().scalar(), Some(read));
        }
        let document = Node::parse("a: &x 07\nb: *x\nc:\nd: ~\n").unwrap();
        assert_eq!(document.get("b").unwrap().scalar(), Some("07"));
        assert_eq!(document.get("c").unwrap().value, Value::Null);
        assert_eq!(document.get("d").unwrap().value, Value::Null);
    }

    #[test]
    fn nothing_and_comments_alone_are_an_empty_document() {
        for text in ["", "  \n", "# only this\n", "---\n# and that\n"] {
            assert_eq!(Node::parse(text).unwrap().value, Value::Null);
        }
        assert!(Node::parse("a: [").is_err());
        assert!(Node::parse("a: 1\na: 2\n").is_err(), "a key twice");
        let deep = format!("a: {}{}", "[".repeat(200), "]".repeat(200));
        assert!(Node::parse(&deep).is_err());
    }
}
