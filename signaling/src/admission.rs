//! From an HTTP request to a [`Join`]: the token verified, the parameters read.

use std::collections::HashMap;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};

use crate::rooms::{Join, Refusal};
use crate::token::ApiKeys;
use crate::wire::{ClientInfo, client_info};

/// Longest identity, name of a room or of a participant, in bytes.
const MAX_NAME: usize = 256;
/// Largest sum of attributes' names and values, bytes.
const MAX_ATTRIBUTES: usize = 64 << 10;
/// What clients of the protocol's newer form are told.
const SINGLE_CONNECTION: &str = "join_request is not supported by this server: connect with two \
    peer connections (single peer connection off)";
/// Largest metadata, bytes.
const MAX_METADATA: usize = 512 << 10;

/// Reads which participant asks to join which room, at a time in unix seconds.
///
/// # Errors
/// When the request may not join, with the status and the text to answer with.
pub(crate) fn read_join(
    keys: &ApiKeys,
    query: &HashMap<String, String>,
    headers: &HeaderMap,
    now: u64,
) -> Result<Join, Refusal> {
    let token = bearer(headers)
        .or_else(|| query.get("access_token").map(String::as_str))
        .filter(|token| !token.is_empty())
        .ok_or_else(|| Refusal::Unauthorized("no access token was given".into()))?;
    let (api_key, claims) = keys
        .verify(token, now)
        .map_err(|error| Refusal::Unauthorized(error.to_string()))?;
    if query.contains_key("join_request") {
        // Such a client expects one peer connection and its offer answered at once.
        return Err(Refusal::Invalid(SINGLE_CONNECTION.into()));
    }
    let grant = claims.video.clone().unwrap_or_default();
    if !grant.room_join {
        let text = "the token does not allow joining a room (grant roomJoin)";
        return Err(Refusal::Unauthorized(text.into()));
    }
    let room = if grant.room.is_empty() {
        query.get("room").cloned().unwrap_or_default()
    } else {
        grant.room.clone()
    };
    check_name("the identity", claims.identity())?;
    check_name("the room's name", &room)?;
    if claims.name.len() > MAX_NAME {
        return Err(too_long("the participant's name", MAX_NAME));
    }
    if claims.metadata.len() > MAX_METADATA {
        return Err(too_long("the metadata", MAX_METADATA));
    }
    let attributes = read_attributes(query.get("attributes").map_or("", String::as_str))?;
    if !attributes.is_empty() && !claims.permissions().update_metadata {
        let text = "the token does not allow changing one's own attributes (grant \
            canUpdateOwnMetadata)";
        return Err(Refusal::Unauthorized(text.into()));
    }
    check_attributes(&claims.attributes, &attributes)?;
    let said = |name: &str| {
        query
            .get(name)
            .map(|value| matches!(value.as_str(), "1" | "true"))
    };
    let flag = |name: &str| said(name).unwrap_or(false);
    let resumes = flag("reconnect");
    Ok(Join {
        identity: claims.identity().to_owned(),
        room,
        api_key,
        client: client_info(query),
        protocol: number(query, "protocol"),
        auto_subscribe: said("auto_subscribe").unwrap_or(true),
        auto_subscribe_data_track: flag("auto_subscribe_data_track"),
        adaptive_stream: flag("adaptive_stream"),
        allow_pause: said("subscriber_allow_pause").unwrap_or(true),
        attributes,
        resume: resumes.then(|| query.get("sid").cloned().unwrap_or_default()),
        claims,
    })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    // Its case does not matter (RFC 9110, section 11.1).
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn check_name(what: &str, name: &str) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(Refusal::Invalid(format!("{what} is empty")));
    }
    if name.len() > MAX_NAME {
        return Err(too_long(what, MAX_NAME));
    }
    if name.chars().any(char::is_control) {
        return Err(Refusal::Invalid(format!("{what} has a control character")));
    }
    Ok(())
}

fn too_long(what: &str, limit: usize) -> Refusal {
    Refusal::Invalid(format!("{what} is longer than {limit} bytes"))
}

fn read_attributes(encoded: &str) -> Result<HashMap<String, String>, Refusal> {
    if encoded.is_empty() {
        return Ok(HashMap::new());
    }
    if encoded.len() > 2 * MAX_ATTRIBUTES {
        return Err(too_long("attributes", MAX_ATTRIBUTES));
    }
    let invalid = || Refusal::Invalid("attributes is not base64url of a JSON object".into());
    let json = URL_SAFE
        .decode(encoded)
        .or_else(|_| URL_SAFE_NO_PAD.decode(encoded))
        .map_err(|_| invalid())?;
    let mut attributes: HashMap<String, String> =
        serde_json::from_slice(&json).map_err(|_| invalid())?;
    // Those of the token are added to and replaced, and none is taken away.
    attributes.retain(|_, value| !value.is_empty());
    Ok(attributes)
}

/// The sum of what the token says and the client adds is bounded.
fn check_attributes(
    token: &HashMap<String, String>,
    client: &HashMap<String, String>,
) -> Result<(), Refusal> {
    let kept = token.iter().filter(|(name, _)| !client.contains_key(*name));
    let all = kept.chain(client.iter());
    let bytes: usize = all.map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_ATTRIBUTES {
        return Err(too_long("all attributes", MAX_ATTRIBUTES));
    }
    Ok(())
}

fn number(query: &HashMap<String, String>, name: &str) -> i32 {
    query
        .get(name)
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}

fn client_info(query: &HashMap<String, String>) -> ClientInfo {
    let text = |name: &str| {
        let value = query.get(name).map_or("", String::as_str);
        value.chars().take(MAX_NAME).collect::<String>()
    };
    let sdk = client_info::Sdk::from_str_name(&text("sdk").to_ascii_uppercase().replace('-', "_"))
        .unwrap_or(client_info::Sdk::Unknown);
    let capabilities = query.get("capabilities").map_or("", String::as_str);
    ClientInfo {
        sdk: sdk as i32,
        version: text("version"),
        protocol: number(query, "protocol"),
        os: text("os"),
        os_version: text("os_version"),
        device_model: text("device_model"),
        browser: text("browser"),
        browser_version: text("browser_version"),
        client_protocol: number(query, "client_protocol"),
        capabilities: capabilities
            .split(',')
            .filter_map(client_info::Capability::from_str_name)
            .map(|capability| capability as i32)
            .collect(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::token::{Claims, TokenIssuer, VideoGrant};

    const NOW: u64 = 1_800_000_000;

    fn keys() -> ApiKeys {
        [("k".to_owned(), "s".to_owned())].into_iter().collect()
    }

    fn join(change: impl FnOnce(&mut Claims), extra: &[(&str, &str)]) -> Result<Join, Refusal> {
        let mut claims = Claims {
            sub: "alice".into(),
            video: Some(VideoGrant {
                room_join: true,
                room: "room".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        change(&mut claims);
        let mut query: HashMap<String, String> = extra
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let token = TokenIssuer::new(keys()).issue(None, &claims, NOW, Duration::MAX);
        query.entry("access_token".into()).or_insert(token.unwrap());
        read_join(&keys(), &query, &HeaderMap::new(), NOW)
    }

    #[test]
    fn parameters_are_read_and_nonsense_falls_back() {
        let query = [
            ("auto_subscribe", "0"),
            ("protocol", "many"),
            ("sdk", "python"),
            ("reconnect", "1"),
            ("sid", "PA_x"),
            ("capabilities", "CAP_PACKET_TRAILER,CAP_NONE"),
        ];
        let join = join(|_| {}, &query).unwrap();
        assert!(!join.auto_subscribe && !join.auto_subscribe_data_track);
        assert!(join.allow_pause, "unless the client says otherwise");
        assert_eq!(join.protocol, 0);
        assert_eq!(join.client.sdk, client_info::Sdk::Python as i32);
        assert_eq!(join.resume.as_deref(), Some("PA_x"));
        assert_eq!(join.client.capabilities.len(), 1);
    }

    #[test]
    fn data_tracks_are_subscribed_to_by_default_only_for_those_who_say_so() {
        for (said, expected) in [("0", false), ("1", true), ("true", true), ("x", false)] {
            let join = join(|_| {}, &[("auto_subscribe_data_track", said)]).unwrap();
            assert_eq!(join.auto_subscribe_data_track, expected, "{said}");
        }
    }

    #[test]
    fn a_client_may_forbid_that_its_pictures_are_paused() {
        for (said, allowed) in [("0", false), ("false", false), ("1", true), ("true", true)] {
            let join = join(|_| {}, &[("subscriber_allow_pause", said)]).unwrap();
            assert_eq!(join.allow_pause, allowed, "{said}");
        }
    }

    #[test]
    fn each_refusal_has_its_status() {
        let status = |outcome: Result<Join, Refusal>| outcome.unwrap_err().status();
        assert_eq!(status(join(|_| {}, &[("access_token", "x.y.z")])), 401);
        assert_eq!(status(join(|_| {}, &[("access_token", "")])), 401);
        assert_eq!(status(join(|claims| claims.video = None, &[])), 401);
        assert_eq!(status(join(|claims| claims.sub.clear(), &[])), 400);
        let long = |claims: &mut Claims| claims.sub = "x".repeat(10_000);
        assert_eq!(status(join(long, &[])), 400);
        let control = |claims: &mut Claims| claims.sub = "a\u{7}b".into();
        assert_eq!(status(join(control, &[])), 400);
        assert_eq!(status(join(|_| {}, &[("attributes", "%%%")])), 400);
        assert_eq!(status(join(|_| {}, &[("join_request", "x")])), 400);
        let stranger = [("join_request", "x"), ("access_token", "x.y.z")];
        assert_eq!(status(join(|_| {}, &stranger)), 401);
    }

    fn may_update(claims: &mut Claims) {
        claims.video.as_mut().unwrap().can_update_own_metadata = Some(true);
    }

    #[test]
    fn attributes_at_connect_need_the_right() {
        let given = URL_SAFE.encode(r#"{"role":"moderator","gone":""}"#);
        let query = [("attributes", given.as_str())];
        assert_eq!(join(|_| {}, &query).unwrap_err().status(), 401);
        let allowed = join(may_update, &query).unwrap();
        let expected = [("role".to_owned(), "moderator".to_owned())].into();
        assert_eq!(allowed.attributes, expected);
        let nothing = URL_SAFE_NO_PAD.encode("{}");
        assert!(join(|_| {}, &[("attributes", nothing.as_str())]).is_ok());
    }

    #[test]
    fn the_sum_of_all_attributes_is_bounded() {
        let of = |name: &str, len: usize| -> HashMap<String, String> {
            [(name.to_owned(), "x".repeat(len))].into()
        };
        let sum = |in_token: usize, name: &str, given: usize| {
            let given = URL_SAFE.encode(serde_json::to_vec(&of(name, given)).unwrap());
            let change = |claims: &mut Claims| {
                may_update(claims);
                claims.attributes = of("a", in_token);
            };
            join(change, &[("attributes", given.as_str())]).is_ok()
        };
        assert!(sum(MAX_ATTRIBUTES - 12, "b", 10));
        assert!(!sum(MAX_ATTRIBUTES - 11, "b", 10));
        assert!(!sum(10, "b", MAX_ATTRIBUTES - 11));
        assert!(
            sum(MAX_ATTRIBUTES - 1, "a", 10),
            "it takes the other's place"
        );
        assert!(!sum(MAX_ATTRIBUTES, "b", 1));
    }

    #[test]
    fn a_token_is_taken_from_the_header_whatever_its_case() {
        let claims = Claims {
            sub: "alice".into(),
            video: Some(VideoGrant {
                room_join: true,
                room: "room".into(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let issuer = TokenIssuer::new(keys());
        let token = issuer.issue(None, &claims, NOW, Duration::MAX).unwrap();
        let status = |header: &str, query: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, header.parse().unwrap());
            let query = [("access_token".to_owned(), query.to_owned())].into();
            let joined = read_join(&keys(), &query, &headers, NOW);
            joined.map_or_else(|refusal| refusal.status(), |_| 200)
        };
        for scheme in ["Bearer ", "bearer ", "BEARER ", "Bearer  "] {
            assert_eq!(status(&format!("{scheme}{token}"), ""), 200, "{scheme}");
        }
        assert_eq!(status("Basic eDp5", &token), 200, "it is for a proxy");
        assert_eq!(status("Basic eDp5", ""), 401);
        assert_eq!(status("Bearer", ""), 401);
        assert_eq!(status("Bearer x.y.z", &token), 401);
    }
}
