//! A configuration as text: the one in use, a sample with every key, and its documentation.

use std::fmt::Write as _;

use super::schema::{Effect, SCHEMA};
use super::settings::Config;

/// Width of a comment in the sample, characters.
const COMMENT_WIDTH: usize = 92;

/// The part of a key before its last name, and that name.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('.').unwrap_or(("", path))
}

/// Writes the names of the sections of `above` that `before` is not in, and gives the indentation
/// of keys in it.
fn open_sections(out: &mut String, before: &str, above: &str) -> String {
    let names = |path: &'_ str| path.split('.').filter(|name| !name.is_empty()).count();
    let mut indent = String::new();
    for depth in 1..=names(above) {
        let path: Vec<_> = above.split('.').take(depth).collect();
        let open: Vec<_> = before.split('.').take(depth).collect();
        if path != open
            && let Some(name) = path.last()
        {
            let _ = writeln!(out, "{indent}{name}:");
        }
        indent.push_str("  ");
    }
    indent
}

/// Every key with its value, as YAML; secrets are masked.
pub(super) fn show(config: &Config) -> String {
    let (mut out, mut section) = (String::new(), "");
    for schema in SCHEMA {
        let Effect::Set { get, .. } = &schema.effect else {
            continue;
        };
        if schema.path == "log_level" {
            continue;
        }
        let (above, name) = split(schema.path);
        let indent = open_sections(&mut out, section, above);
        section = above;
        let _ = writeln!(out, "{indent}{name}: {}", get(config));
    }
    out
}

/// Every key with what it is and its default, commented out, ready to be edited.
pub(super) fn sample() -> String {
    let mut out = String::from(
        "# The configuration of moim. Every key has a default, which is the value shown.\n",
    );
    let (defaults, mut section) = (Config::default(), "");
    for schema in SCHEMA {
        let Effect::Set { get, .. } = &schema.effect else {
            continue;
        };
        if schema.path == "log_level" {
            continue;
        }
        let (above, name) = split(schema.path);
        if above.split('.').next() != section.split('.').next() && !above.is_empty() {
            out.push('\n');
        }
        let indent = open_sections(&mut out, section, above);
        section = above;
        for line in wrapped(schema.about, COMMENT_WIDTH - indent.len()) {
            let _ = writeln!(out, "{indent}# {line}");
        }
        let _ = writeln!(out, "{indent}# {name}: {}", get(&defaults));
    }
    out
}

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().map_or(0, |line| line.chars().count());
        if line > 0 && line + 1 + word.chars().count() > width {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Written by `moim config docs`; a test holds that it is. -->

moim reads a YAML file (`--config FILE`), or the text of one (`--config-body`, `LIVEKIT_CONFIG`).
The keys are those of LiveKit's server where they mean the same. A configuration that was written
for LiveKit's server starts this one: its keys that mean nothing here are named once in the log, and
listed below with the reason. Any other key stops the start, with the line and the nearest name.

```
moim config check --config FILE     reads it and says what is wrong
moim config show --config FILE      prints every key as it is in use, secrets masked
moim config sample                  prints a file with every key and its default
```

On SIGHUP the file is read again. Keys that are marked with ⟳ change at once and lose no packet;
of others that have changed the log says that they wait for the next start. A file that cannot be
read changes nothing.
";

/// The documentation, as Markdown.
pub(super) fn documentation() -> String {
    let mut out = String::from(INTRODUCTION);
    out.push_str("\n## Keys\n\n| Key | Default | |\n|---|---|---|\n");
    let defaults = Config::default();
    for schema in SCHEMA {
        if let Effect::Set {
            get,
            expected,
            reload,
            ..
        } = &schema.effect
        {
            let mark = if *reload { " ⟳" } else { "" };
            let value = get(&defaults);
            let _ = writeln!(
                out,
                "| `{}`{mark} | `{value}` | {} Must be {expected}. |",
                schema.path, schema.about
            );
        }
    }
    out.push_str("\n## LiveKit's keys that mean nothing here\n\n");
    out.push_str("The keys below one of these are ignored with it.\n\n| Key | Why |\n|---|---|\n");
    for schema in SCHEMA {
        if let Effect::Ignored(why) = schema.effect {
            let _ = writeln!(out, "| `{}` | {why} |", schema.path);
        }
    }
    out
}
