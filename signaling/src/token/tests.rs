//! Tokens as back ends of the public make them, and as attackers do.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::*;
use crate::permission::Permissions;
use crate::wire::participant_info;

const NOW: u64 = 1_800_000_000;
const TTL: Duration = Duration::from_secs(600);

fn keys() -> ApiKeys {
    let pairs = [("one", "first-secret"), ("two", "second-secret")];
    pairs
        .into_iter()
        .map(|(key, secret)| (key.to_owned(), secret.to_owned()))
        .collect()
}

fn issuer() -> TokenIssuer {
    TokenIssuer::new(keys())
}

fn claims() -> Claims {
    Claims {
        sub: "alice".into(),
        video: Some(VideoGrant {
            room_join: true,
            room: "r".into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A token of exactly this text, signed with the secret of `one`.
fn signed(header: &str, payload: &str) -> String {
    let message = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let key = EncodingKey::from_secret(b"first-secret");
    let signature = crypto::sign(message.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{message}.{signature}")
}

/// Verifies claims of `one` with these members added or replaced.
fn read(changes: &Value) -> Result<Claims, TokenError> {
    let mut payload = json!({
        "iss": "one", "sub": "alice", "exp": NOW + 600, "video": {"roomJoin": true, "room": "r"},
    });
    for (name, value) in changes.as_object().unwrap() {
        payload[name] = value.clone();
    }
    let token = signed(HEADER, &payload.to_string());
    keys().verify(&token, NOW).map(|(_, claims)| claims)
}

#[test]
fn a_token_comes_back_with_its_key() {
    for key in ["one", "two"] {
        let token = issuer().issue(Some(key), &claims(), NOW, TTL).unwrap();
        let (by, read) = keys().verify(&token, NOW).unwrap();
        assert_eq!((by.as_str(), read.sub.as_str()), (key, "alice"));
        assert_eq!(read.video, claims().video);
        assert_eq!((read.nbf, read.exp), (Some(NOW), Some(NOW + 600)));
    }
    let token = issuer().issue(None, &claims(), NOW, TTL).unwrap();
    assert_eq!(keys().verify(&token, NOW).unwrap().0, "one");
    let unknown = issuer().issue(Some("three"), &claims(), NOW, TTL);
    assert_eq!(unknown, Err(TokenError::UnknownKey));
}

#[test]
fn time_is_checked_with_leeway() {
    let at = |now| keys().verify(&issuer().issue(None, &claims(), NOW, TTL).unwrap(), now);
    assert_eq!(at(NOW - 61), Err(TokenError::NotYetValid));
    assert!(at(NOW - 60).is_ok());
    assert!(at(NOW + 660).is_ok());
    assert_eq!(at(NOW + 661), Err(TokenError::Expired));
    assert!(at(0).is_err() && at(u64::MAX).is_err());
}

#[test]
fn times_are_numbers_of_any_form_or_absent() {
    let soon = NOW as f64 + 600.5;
    for time in [
        json!(soon),
        json!(1.9e9),
        json!(NOW * 1_000),
        json!(1e300),
        json!(null),
    ] {
        assert!(read(&json!({"exp": time})).is_ok(), "exp {time}");
    }
    for time in [json!(1.5), json!(0), json!(-1), json!(-1e300), json!(null)] {
        assert!(read(&json!({"nbf": time})).is_ok(), "nbf {time}");
    }
    for time in [json!(0), json!(-1), json!(NOW as f64 - 3_600.5)] {
        assert_eq!(
            read(&json!({"exp": time})),
            Err(TokenError::Expired),
            "{time}"
        );
    }
    for time in [json!("1900000000"), json!([1]), json!(true), json!({})] {
        for name in ["exp", "nbf"] {
            let read = read(&json!({name: time}));
            assert!(
                matches!(read, Err(TokenError::Malformed(_))),
                "{name} {time}"
            );
        }
    }
}

/// Values that a claim or a grant of each type may have, and some that it may not.
fn values(kind: &str) -> (Vec<Value>, Vec<Value>) {
    let object = json!({"x": 1});
    match kind {
        "text" => (
            vec![json!(null), json!(""), json!("김 a/b%2F?&#\"'👩‍🚀")],
            vec![json!(5), json!(true), json!(["a"]), object],
        ),
        "flag" => (
            vec![json!(null), json!(true), json!(false)],
            vec![json!("true"), json!(1), json!([]), object],
        ),
        "names" => (
            vec![json!(null), json!([]), json!(["camera", "x"])],
            vec![json!("camera"), json!([1]), json!(true), object],
        ),
        "map" => (
            vec![json!(null), json!({}), json!({"a": "b", "c": null})],
            vec![json!("a"), json!({"a": 1}), json!(["a"]), json!(true)],
        ),
        "configuration" => (
            vec![
                json!(null),
                json!({}),
                json!({"agents": [{"agentName": "a"}], "maxParticipants": 3, "newField": {"x": 1}}),
            ],
            vec![json!("x"), json!(5), json!({"agents": "a"})],
        ),
        _ => (
            vec![json!(null), json!({"a": [1]}), json!("x"), json!(1.5)],
            Vec::new(),
        ),
    }
}

#[test]
fn claims_of_every_form_are_read_or_refused_and_never_misread() {
    let claims = [
        ("name", "text"),
        ("metadata", "text"),
        ("kind", "text"),
        ("jti", "text"),
        ("attributes", "map"),
        ("aud", "any"),
        ("iat", "any"),
        ("roomConfig", "configuration"),
        ("kindDetails", "any"),
        ("sip", "any"),
        ("newClaim", "any"),
    ];
    let grants = [
        ("roomCreate", "flag"),
        ("roomList", "flag"),
        ("roomAdmin", "flag"),
        ("destinationRoom", "text"),
        ("canPublish", "flag"),
        ("canSubscribe", "flag"),
        ("canPublishData", "flag"),
        ("canPublishSources", "names"),
        ("canUpdateOwnMetadata", "flag"),
        ("canSubscribeMetrics", "flag"),
        ("hidden", "flag"),
        ("recorder", "flag"),
        ("agent", "flag"),
        ("newGrant", "any"),
    ];
    let seed = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..2_000 {
        let mut good = true;
        let mut pick = |kind| {
            let (right, wrong) = values(kind);
            if rng.random_ratio(1, 12) && !wrong.is_empty() {
                good = false;
                return wrong.choose(&mut rng).cloned().unwrap();
            }
            right.choose(&mut rng).cloned().unwrap()
        };
        let mut video = json!({"roomJoin": true, "room": "r"});
        for (name, kind) in grants {
            video[name] = pick(kind);
        }
        let mut changes = json!({"video": video});
        for (name, kind) in claims {
            changes[name] = pick(kind);
        }
        match read(&changes) {
            Ok(read) => {
                assert!(good, "seed {seed}: {changes}");
                let grant = read.video.as_ref().unwrap();
                assert_eq!(grant.hidden, changes["video"]["hidden"] == json!(true));
                assert_eq!(read.name, changes["name"].as_str().unwrap_or(""));
                let permissions = read.permissions();
                let refused = changes["video"]["canPublish"] == json!(false);
                assert!(!(refused && permissions.publish), "seed {seed}: {changes}");
            }
            Err(TokenError::Malformed(text)) => {
                assert!(!good, "seed {seed}: {changes}: {text}");
                assert!(text.len() < 1_000, "seed {seed}: {text}");
            }
            Err(error) => panic!("seed {seed}: {changes}: {error}"),
        }
    }
}

#[test]
fn a_grant_that_is_no_object_is_refused() {
    for video in [json!("yes"), json!([1, 2]), json!(true), json!(7)] {
        let read = read(&json!({"video": video}));
        assert!(
            matches!(read, Err(TokenError::Malformed(_))),
            "{video}: {read:?}"
        );
    }
    assert_eq!(read(&json!({"video": null})).unwrap().video, None);
}

#[test]
fn forged_tokens_are_refused() {
    let others: ApiKeys = [("one".to_owned(), "guessed".to_owned())]
        .into_iter()
        .collect();
    let token = TokenIssuer::new(others)
        .issue(None, &claims(), NOW, TTL)
        .unwrap();
    assert_eq!(keys().verify(&token, NOW), Err(TokenError::Signature));
    let others: ApiKeys = [("three".to_owned(), "x".to_owned())].into_iter().collect();
    let token = TokenIssuer::new(others)
        .issue(None, &claims(), NOW, TTL)
        .unwrap();
    assert_eq!(keys().verify(&token, NOW), Err(TokenError::UnknownKey));
    let payload = json!({"iss": "one", "exp": NOW + 600}).to_string();
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"RS256","typ":"JWT"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"hs256"}"#,
        r#"{"alg":""}"#,
        r#"{"alg":"HS256","crit":["exp"]}"#,
    ] {
        let token = signed(header, &payload);
        assert_eq!(
            keys().verify(&token, NOW),
            Err(TokenError::Algorithm),
            "{header}"
        );
        let unsigned = token.rsplit_once('.').unwrap().0.to_owned() + ".";
        assert!(keys().verify(&unsigned, NOW).is_err());
    }
    for header in [
        r#"{"alg":"HS256","kid":7}"#,
        r#"{"typ":null,"alg":"HS256"}"#,
    ] {
        assert!(
            keys().verify(&signed(header, &payload), NOW).is_ok(),
            "{header}"
        );
    }
}

#[test]
fn claims_that_occur_twice_are_refused() {
    let twice = [
        r#"{"iss":"one","iss":"one"}"#,
        r#"{"iss":"one","sub":"a","sub":"b"}"#,
        r#"{"iss":"one","exp":1,"exp":null}"#,
        r#"{"iss":"one","video":{"roomJoin":true,"room":"a","room":"b"}}"#,
        r#"{"iss":"one","video":{},"video":{"roomJoin":true}}"#,
    ];
    for payload in twice {
        let outcome = keys().verify(&signed(HEADER, payload), NOW);
        assert!(
            matches!(outcome, Err(TokenError::Malformed(_))),
            "{payload}: {outcome:?}"
        );
    }
    let header = r#"{"alg":"none","alg":"HS256"}"#;
    let outcome = keys().verify(&signed(header, r#"{"iss":"one"}"#), NOW);
    assert!(
        matches!(outcome, Err(TokenError::Malformed(_))),
        "{outcome:?}"
    );
}

#[test]
fn damaged_tokens_are_refused_and_never_shown() {
    let good = issuer().issue(None, &claims(), NOW, TTL).unwrap();
    let seed = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..5_000 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..3) {
                0 => bytes[at] = rng.random_range(b' '..=b'~'),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, rng.random_range(b' '..=b'~')),
            }
        }
        let damaged = String::from_utf8(bytes).unwrap();
        if damaged == good {
            continue;
        }
        let error = keys()
            .verify(&damaged, NOW)
            .expect_err(&format!("seed {seed}: {damaged}"));
        assert!(!error.to_string().contains(&damaged));
    }
    for token in ["", ".", "..", "a.b.c", "not a token", "a.b.c.d", "ÿ.ÿ.ÿ"] {
        assert!(
            matches!(keys().verify(token, NOW), Err(TokenError::Malformed(_))),
            "{token}"
        );
    }
    for long in ["a".repeat(MAX_TOKEN + 1), good + &"A".repeat(MAX_TOKEN)] {
        assert!(matches!(
            keys().verify(&long, NOW),
            Err(TokenError::Malformed(_))
        ));
    }
}

#[test]
fn a_renewed_token_says_what_its_bearer_is_now() {
    let before = Claims {
        kind: "agent".into(),
        name: "before".into(),
        ..claims()
    };
    let mut permissions = before.permissions();
    assert!(permissions.agent && permissions.publish);
    permissions.publish = false;
    let attributes = [("k".to_owned(), "v".to_owned())].into();
    let renewal = Renewal {
        api_key: "two",
        claims: &before,
        room: "r",
        identity: "alice",
        name: "now",
        metadata: "m",
        attributes: &attributes,
        permissions: &permissions,
    };
    let token = issuer().renew(&renewal, NOW, TTL).unwrap();
    let (key, renewed) = keys().verify(&token, NOW).unwrap();
    assert_eq!((key.as_str(), renewed.name.as_str()), ("two", "now"));
    assert_eq!(
        (renewed.metadata.as_str(), &renewed.attributes),
        ("m", &attributes)
    );
    assert_eq!(renewed.kind(), participant_info::Kind::Agent);
    assert_eq!(renewed.permissions(), permissions);
    assert!(
        !renewed.video.unwrap().agent,
        "its kind makes it one, not a grant"
    );
}

#[test]
fn a_renewed_token_is_never_longer_than_what_is_read() {
    let base = claims();
    let permissions = Permissions::of(&VideoGrant::default());
    // JSON writes a control character as six.
    for (metadata, kept) in [
        ("m".repeat(512 << 10), true),
        ("\u{1}".repeat(512 << 10), false),
    ] {
        let renewal = Renewal {
            api_key: "one",
            claims: &base,
            room: "r",
            identity: "alice",
            name: "Alice",
            metadata: &metadata,
            attributes: &HashMap::new(),
            permissions: &permissions,
        };
        let token = issuer().renew(&renewal, NOW, TTL).unwrap();
        let (_, renewed) = keys().verify(&token, NOW).unwrap();
        assert_eq!(renewed.metadata == metadata, kept);
        assert_eq!(renewed.name, "Alice");
    }
}

#[test]
fn an_agent_by_kind_is_one_and_unknown_kinds_are_standard() {
    for (kind, agent, expected) in [
        ("agent", true, participant_info::Kind::Agent),
        ("", false, participant_info::Kind::Standard),
        ("standard", false, participant_info::Kind::Standard),
        ("Agent", true, participant_info::Kind::Agent),
        ("robot", false, participant_info::Kind::Standard),
        ("sip", false, participant_info::Kind::Sip),
    ] {
        let read = read(&json!({"kind": kind})).unwrap();
        assert_eq!(
            (read.kind(), read.permissions().agent),
            (expected, agent),
            "{kind}"
        );
    }
    let granted = read(&json!({"video": {"agent": true}})).unwrap();
    assert!(granted.permissions().agent);
}

#[test]
fn secrets_are_not_shown() {
    assert!(!format!("{:?} {:?}", keys(), issuer()).contains("secret"));
}
