use super::*;

#[test]
fn a_file_of_livekit_is_read_and_what_means_nothing_is_named_once() {
    let text = "port: 7000\nkeys:\n  a: b\nrtc:\n  udp_port: 9000-9003\n  tcp_port: 1\n  \
                node_ip: {ipv4: 192.0.2.1, ipv6: ''}\n\
                room:\n  max_participants: 3\nredis:\n  address: x\n  db: 1\n\
                rtc_: \n";
    assert!(parse(text, "f.yaml").is_err(), "rtc_ is no key");
    let text = text.replace("rtc_: \n", "webhook:\nturn: {}\n");
    let (config, ignored) = parse(&text, "f.yaml").unwrap();
    assert_eq!(config.port, 7000);
    assert_eq!(
        (config.rtc.ports().first, config.rtc.ports().last),
        (9000, 9003)
    );
    assert_eq!(
        (config.rtc.shard_count(2), config.rtc.shard_count(64)),
        (2, 4)
    );
    assert_eq!(
        config.rtc.node_ip,
        std::net::IpAddr::from([192, 0, 2, 1]).into()
    );
    assert_eq!(config.room.max_participants, 3);
    assert_eq!(config.room.departure_timeout, 20);
    assert_eq!(config.keys["a"].0, "b");
    assert_eq!(ignored, ["rtc.tcp_port", "redis", "turn"]);
}

#[test]
fn the_shards_take_the_range_of_ports_when_no_port_is_given() {
    let ports = |text: &str| {
        let (config, _) = parse(&format!("rtc: {{{text}}}"), "f").unwrap();
        let ports = config.rtc.ports();
        (ports.first, ports.last, config.rtc.shard_count(8))
    };
    assert_eq!(
        ports("port_range_start: 50000, port_range_end: 60000"),
        (50_000, 60_000, 8)
    );
    assert_eq!(
        ports("port_range_start: 50000, port_range_end: 50001"),
        (50_000, 50_001, 2)
    );
    assert_eq!(
        ports("port_range_start: 5, port_range_end: 9, udp_port: 3"),
        (3, 3, 8)
    );
    assert_eq!(
        ports("port_range_start: 0, port_range_end: 0"),
        (7_882, 7_882, 8)
    );
    assert_eq!(ports("shards: 3"), (7_882, 7_882, 3));
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
    for (text, line, nearest) in [
        (
            "port: 1\nroom:\n  max_participant: 4\n",
            3,
            "room.max_participants",
        ),
        (
            "port: 1\nroom: {auto_create: true,\n\n  departure_timout: 4}\n",
            4,
            "room.departure_timeout",
        ),
        // The same name stands before it, in another section and in a value.
        (
            "limit:\n  num_rooms: 3\nlogging: {level: num_rooms}\nroom:\n  num_rooms: 3\n",
            5,
            "limit.num_rooms",
        ),
        ("'ports': 3\n", 1, "port"),
    ] {
        let error = parse(text, "f.yaml").unwrap_err().to_string();
        assert!(error.starts_with(&format!("f.yaml:{line}: ")), "{error}");
        assert!(error.contains(&format!("`{nearest}`")), "{error}");
    }
}

#[test]
fn a_wrong_value_is_named_with_its_line_and_what_would_be_right() {
    for (text, line, key, right) in [
        ("port: many\n", 1, "port", "65535"),
        ("rtc:\n  udp_port: 70000\n", 2, "rtc.udp_port", "a port"),
        (
            "\nbind_addresses: ['nowhere']\n",
            2,
            "bind_addresses",
            "IP addresses",
        ),
        (
            "room:\n  empty_timeout: soon\n",
            2,
            "room.empty_timeout",
            "number",
        ),
        ("room: [1]\n", 1, "room", "key: value"),
        (
            "logging: {json: perhaps}\n",
            1,
            "logging.json",
            "true or false",
        ),
        ("keys: [geheim]\n", 1, "keys", "API_KEY"),
    ] {
        let error = parse(text, "f").unwrap_err().to_string();
        assert!(error.starts_with(&format!("f:{line}: `{key}`")), "{error}");
        assert!(
            error.contains(right) && !error.contains("geheim"),
            "{error}"
        );
    }
    assert!(parse("a: [", "f").is_err());
    assert!(parse("- a\n", "f").is_err());
    let long = "x".repeat(100_000);
    assert!(
        parse(&format!("port: {long}"), "f")
            .unwrap_err()
            .to_string()
            .len()
            < 300
    );
}

#[test]
fn an_empty_section_or_value_keeps_the_defaults() {
    let (config, ignored) = parse("port:\nroom:\nrtc: ~\nkeys:\nredis:\n", "f").unwrap();
    assert_eq!(config.port, 7_880);
    assert_eq!(config.room, Config::default().room);
    assert!(config.keys.is_empty() && ignored.is_empty());
}

#[test]
fn keys_with_short_secrets_are_not_used_where_strangers_can_try_them() {
    let used = |rest: &str| {
        let (mut config, _) = parse(&format!("keys:\n  a: {rest}\n"), "f").unwrap();
        let weak: Vec<_> = config
            .set_weak_keys_aside()
            .iter()
            .map(ToString::to_string)
            .collect();
        (
            config.keys.into_keys().collect::<Vec<_>>().join(" "),
            weak.join("\n"),
        )
    };
    let good = "x".repeat(32);
    assert_eq!(used(&good), ("a".into(), String::new()));
    let (keys, weak) = used("geheim");
    assert!(keys.is_empty() && weak.contains("`a`") && weak.contains("6 bytes"));
    assert!(!weak.contains("geheim"));
    assert_eq!(used(&format!("{good}\n  b: q")).0, "a");
    assert_eq!(used("q\nbind_addresses: ['127.0.0.1', '192.0.2.1']").0, "");
    assert_eq!(used("q\nbind_addresses: ['127.0.0.1', '::1']").0, "a");
    let mut development = Config::default().into_development();
    assert!(development.set_weak_keys_aside().is_empty());
}

#[test]
fn limits_of_livekit_are_read_beside_ours() {
    let text = "limit:\n  num_tracks: -1\n  bytes_per_sec: 1_000_000\n  num_rooms: 7\n  joins_per_second: 2\n";
    let (config, ignored) = parse(text, "f").unwrap();
    assert_eq!(config.limit.num_rooms, 7);
    assert_eq!(ignored, ["limit.num_tracks", "limit.bytes_per_sec"]);
    let connections = config.limit.connections();
    assert_eq!((connections.total, connections.joins.burst), (10_000, 20.0));
    assert!(parse("limit:\n  num_room: 7\n", "f").is_err());
}

#[test]
fn secrets_are_not_shown() {
    let (config, _) = parse("keys:\n  a: geheim\n", "f").unwrap();
    assert!(!format!("{config:?}").contains("geheim"));
    assert!(!config.show().contains("geheim"));
}

#[test]
fn what_is_shown_and_the_sample_are_configurations_that_say_the_same() {
    let (given, _) = parse(
        "port: 5\nbind_addresses: ['::1']\nrtc: {udp_port: 7-9, node_ip: 192.0.2.7, shards: 2}\n\
         room: {auto_create: no}\nlogging: {level: 'a: b'}\n",
        "f",
    )
    .unwrap();
    let (read, _) = parse(&given.show(), "shown").unwrap();
    assert_eq!(read.changes(&given), []);
    // The sample with its comments taken off is the default.
    let sample = Config::sample();
    assert!(
        parse(&sample, "sample")
            .unwrap()
            .0
            .changes(&Config::default())
            .is_empty()
    );
    let is_key = |line: &str| {
        SCHEMA.iter().any(|schema| {
            let name = schema.path.rsplit('.').next().unwrap_or("");
            line.trim_start()
                .trim_start_matches("# ")
                .starts_with(&format!("{name}: "))
        })
    };
    let bare: String = sample
        .lines()
        .map(|line| if is_key(line) { line.replacen("# ", "", 1) } else { line.to_owned() } + "\n")
        .collect();
    let (read, ignored) = parse(&bare, "sample").unwrap();
    assert!(
        read.changes(&Config::default()).is_empty() && ignored.is_empty(),
        "{bare}"
    );
    assert!(
        bare.lines()
            .filter(|line| !line.trim().starts_with('#'))
            .count()
            > 20
    );
}

#[test]
fn changes_are_told_by_key_secrets_too() {
    let read = |text: &str| parse(text, "f").unwrap().0;
    let before = read("port: 1\nkeys: {a: b}\nlogging: {level: info}\n");
    let after = read("port: 2\nkeys: {a: c}\nlogging: {level: debug}\n");
    let mut changes = before.changes(&after);
    changes.sort_unstable();
    assert_eq!(
        changes,
        [("keys", true), ("logging.level", true), ("port", false)]
    );
    assert_eq!(before.changes(&before), []);
}

#[test]
fn no_two_keys_are_the_same_and_none_hides_another() {
    for (index, schema) in SCHEMA.iter().enumerate() {
        for other in &SCHEMA[index + 1..] {
            let below = other.path.strip_prefix(schema.path);
            assert!(
                below.is_none_or(|rest| !rest.is_empty() && !rest.starts_with('.')),
                "{schema:?}"
            );
            let above = schema.path.strip_prefix(other.path);
            assert!(above.is_none_or(|rest| !rest.starts_with('.')), "{other:?}");
        }
    }
}

#[test]
fn the_documentation_and_the_sample_are_those_of_this_schema() {
    for (name, text, command) in [
        ("docs/configuration.md", Config::documentation(), "docs"),
        ("deploy/config-sample.yaml", Config::sample(), "sample"),
    ] {
        let path = format!("{}/{name}", env!("CARGO_MANIFEST_DIR"));
        let written = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == text,
            "write it again: moim config {command} > {name}"
        );
    }
}
