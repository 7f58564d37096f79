//! What the values of keys are: how each type of value is read and written.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::document::{Node, Value};
use super::settings::{ApiKeyTable, NodeIp, Ports, Secret};

/// A type of value.
pub(super) trait Setting: Sized {
    /// What is right, as it goes on after "it must be".
    const EXPECTED: &'static str;

    /// Reads it; `None` when it is something else.
    fn read(node: &Node) -> Option<Self>;

    /// As YAML on one line, secrets masked.
    fn write(&self) -> String;
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(node: &Node) -> Option<bool> {
        // YAML 1.1 has all of these, which LiveKit's server reads too.
        match node.scalar()?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "y" => Some(true),
            "false" | "no" | "off" | "n" => Some(false),
            _ => None,
        }
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

/// A whole number; digits may be grouped with `_`.
fn whole(node: &Node) -> Option<u64> {
    let digits = node.scalar()?.replace('_', "");
    digits.parse().ok()
}

macro_rules! whole_number {
    ($type:ty, $expected:literal) => {
        impl Setting for $type {
            const EXPECTED: &'static str = $expected;

            fn read(node: &Node) -> Option<$type> {
                whole(node)?.try_into().ok()
            }

            fn write(&self) -> String {
                self.to_string()
            }
        }
    };
}

whole_number!(u8, "a number, 0 to 255");
whole_number!(u16, "a port, 0 to 65535");
whole_number!(u32, "a number, 0 to 4294967295");
whole_number!(usize, "a number, 0 or more");

impl Setting for String {
    const EXPECTED: &'static str = "a text";

    fn read(node: &Node) -> Option<String> {
        node.scalar().map(str::to_owned)
    }

    fn write(&self) -> String {
        quoted(self)
    }
}

/// A text in a form that YAML reads as this text.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Setting for Vec<IpAddr> {
    const EXPECTED: &'static str = "a list of IP addresses, such as [\"192.0.2.1\", \"::\"]";

    fn read(node: &Node) -> Option<Vec<IpAddr>> {
        let Value::List(items) = &node.value else {
            return None;
        };
        let mut addresses = Vec::with_capacity(items.len());
        for item in items {
            match item.scalar()? {
                // LiveKit's generated configuration says "all" so.
                "" => addresses.extend([
                    IpAddr::from(Ipv4Addr::UNSPECIFIED),
                    IpAddr::from(Ipv6Addr::UNSPECIFIED),
                ]),
                text => addresses.push(text.parse().ok()?),
            }
        }
        Some(addresses)
    }

    fn write(&self) -> String {
        let texts: Vec<_> = self.iter().map(|ip| quoted(&ip.to_string())).collect();
        format!("[{}]", texts.join(", "))
    }
}

impl Setting for Vec<String> {
    const EXPECTED: &'static str = "a list of texts";

    fn read(node: &Node) -> Option<Vec<String>> {
        let Value::List(items) = &node.value else {
            return None;
        };
        items.iter().map(String::read).collect()
    }

    fn write(&self) -> String {
        let texts: Vec<_> = self.iter().map(|text| quoted(text)).collect();
        format!("[{}]", texts.join(", "))
    }
}

impl Setting for Duration {
    const EXPECTED: &'static str = "a duration, such as 30s, 1m30s or 250ms";

    fn read(node: &Node) -> Option<Duration> {
        let text = node.scalar()?;
        match text.parse::<f64>() {
            Ok(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            Err(_) => parse_duration(text),
        }
    }

    fn write(&self) -> String {
        match (self.as_secs(), self.subsec_nanos()) {
            (seconds, 0) => format!("{seconds}s"),
            _ => format!("{}ms", self.as_millis()),
        }
    }
}

/// Reads a duration as Go writes it.
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

impl Setting for NodeIp {
    const EXPECTED: &'static str = "an IP address, or {ipv4: ADDRESS, ipv6: ADDRESS}";

    fn read(node: &Node) -> Option<NodeIp> {
        match &node.value {
            Value::Scalar(text) if text.is_empty() => Some(NodeIp::default()),
            Value::Scalar(text) => Some(text.parse::<IpAddr>().ok()?.into()),
            Value::Map(entries) => {
                let mut read = NodeIp::default();
                for (key, node) in entries {
                    let text = match &node.value {
                        Value::Null => "",
                        _ => node.scalar()?,
                    };
                    match key.name.as_str() {
                        "ipv4" | "ipv6" if text.is_empty() => {}
                        "ipv4" => read.ipv4 = Some(text.parse().ok()?),
                        "ipv6" => read.ipv6 = Some(text.parse().ok()?),
                        _ => return None,
                    }
                }
                Some(read)
            }
            _ => None,
        }
    }

    fn write(&self) -> String {
        match (self.ipv4, self.ipv6) {
            (None, None) => "\"\"".into(),
            (Some(ip), None) => quoted(&ip.to_string()),
            (None, Some(ip)) => quoted(&ip.to_string()),
            (Some(v4), Some(v6)) => format!("{{ipv4: \"{v4}\", ipv6: \"{v6}\"}}"),
        }
    }
}

impl Setting for Ports {
    const EXPECTED: &'static str = "a port (7882), or a range of ports (7882-7892)";

    fn read(node: &Node) -> Option<Ports> {
        let end = |name: &str| match node.get(name) {
            Some(node) => u16::read(node),
            None => Some(0),
        };
        let (first, last) = match &node.value {
            Value::Map(entries) => {
                let known = |name: &str| matches!(name, "start" | "end");
                if !entries.iter().all(|(key, _)| known(&key.name)) {
                    return None;
                }
                (end("start")?, end("end")?)
            }
            Value::Scalar(text) => match text.split_once('-') {
                Some((first, last)) => (first.trim().parse().ok()?, last.trim().parse().ok()?),
                None => (u16::read(node)?, 0),
            },
            _ => return None,
        };
        (last == 0 || last >= first).then_some(Ports {
            first,
            last: last.max(first),
        })
    }

    fn write(&self) -> String {
        match self.last == self.first {
            true => self.first.to_string(),
            false => format!("\"{}-{}\"", self.first, self.last),
        }
    }
}

impl Setting for ApiKeyTable {
    const EXPECTED: &'static str = "a list of `API_KEY: SECRET`";

    fn read(node: &Node) -> Option<ApiKeyTable> {
        let Value::Map(entries) = &node.value else {
            return None;
        };
        let pair = |(key, node): &(super::document::Key, Node)| {
            Some((key.name.clone(), Secret(node.scalar()?.to_owned())))
        };
        entries.iter().map(pair).collect()
    }

    fn write(&self) -> String {
        let pairs: Vec<_> = self
            .keys()
            .map(|key| format!("{}: \"…\"", quoted(key)))
            .collect();
        format!("{{{}}}", pairs.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Setting>(text: &str) -> Option<T> {
        let document = Node::parse(&format!("key: {text}\n")).unwrap();
        T::read(document.get("key").unwrap())
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        let addresses: Vec<IpAddr> = vec!["192.0.2.1".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(read(&addresses.write()), Some(addresses));
        for text in ["", "a: b # c", "a\"b\\", "한국\n", "yes", "07"] {
            assert_eq!(read(&text.to_owned().write()), Some(text.to_owned()));
        }
        for ports in [(7882, 7882), (1, 65_535)] {
            let (first, last) = ports;
            let ports = Ports { first, last };
            assert_eq!(read(&ports.write()), Some(ports));
        }
        let both = NodeIp {
            ipv4: Some("192.0.2.1".parse().unwrap()),
            ipv6: Some("2001:db8::1".parse().unwrap()),
        };
        for ip in [both, NodeIp { ipv6: None, ..both }, NodeIp::default()] {
            assert_eq!(read(&ip.write()), Some(ip));
        }
        assert_eq!(read(&true.write()), Some(true));
    }

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
    fn the_forms_that_livekit_takes_are_read() {
        let ports = |first, last| Some(Ports { first, last });
        assert_eq!(read("7882-7892"), ports(7882, 7892));
        assert_eq!(read("{start: 1, end: 3}"), ports(1, 3));
        assert_eq!(read("{start: 5, end: 0}"), ports(5, 5));
        assert_eq!(read::<Ports>("9-3"), None);
        assert_eq!(read::<Ports>("{first: 3}"), None);
        assert_eq!(read("1_000"), Some(1_000u32));
        assert_eq!(read("'80'"), Some(80u16));
        assert_eq!(read("On"), Some(true));
        assert_eq!(read::<u16>("-1"), None);
        assert_eq!(read::<u16>("65536"), None);
        assert_eq!(read::<bool>("1"), None);
        let all = [
            IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Ipv6Addr::UNSPECIFIED.into(),
        ];
        assert_eq!(read("['']"), Some(all.to_vec()));
        assert_eq!(read("''"), Some(NodeIp::default()));
        assert_eq!(read::<NodeIp>("{ipv4: ::1}"), None);
        let keys: ApiKeyTable = read("{a: 0123, b: 'x y'}").unwrap();
        assert_eq!(
            (keys["a"].0.as_str(), keys["b"].0.as_str()),
            ("0123", "x y")
        );
        assert!(!keys.write().contains("0123"));
    }
}
