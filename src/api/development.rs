//! Tokens for anybody, in development mode only: the page gets its own here.

use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use moim_signaling::token::{Claims, TokenIssuer, VideoGrant};
use rand::RngExt;
use rand::distr::Alphanumeric;
use serde::{Deserialize, Serialize};

use crate::room::Now;

/// How long such a token is good: a long day of meetings.
const TTL: Duration = Duration::from_secs(6 * 3_600);
const MAX_BODY: usize = 4 << 10;
const MAX_NAME: usize = 100;

#[derive(Deserialize)]
struct Request {
    room: String,
    name: String,
}

#[derive(Serialize)]
struct Answer {
    token: String,
    identity: String,
}

pub(super) fn router(issuer: TokenIssuer) -> Router {
    Router::new()
        .route("/api/dev/token", post(token))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(issuer)
}

async fn token(
    State(issuer): State<TokenIssuer>,
    Json(request): Json<Request>,
) -> Result<Json<Answer>, (StatusCode, String)> {
    let bad = |text: &str| (StatusCode::BAD_REQUEST, text.to_owned());
    let (room, name) = (request.room.trim(), request.name.trim());
    if room.is_empty() || name.is_empty() {
        return Err(bad("room and name are needed"));
    }
    if room.chars().count() > MAX_NAME || name.chars().count() > MAX_NAME {
        return Err(bad("room and name may have 100 characters"));
    }
    if room.chars().chain(name.chars()).any(char::is_control) {
        return Err(bad("room and name may not have control characters"));
    }
    let suffix: String = rand::rng()
        .sample_iter(Alphanumeric)
        .take(6)
        .map(char::from)
        .collect();
    let now = Now::read().unix_s();
    let identity = format!("{}-{suffix}", slug(name));
    let claims = Claims {
        sub: identity.clone(),
        name: name.to_owned(),
        video: Some(VideoGrant {
            room_join: true,
            room: room.to_owned(),
            can_update_own_metadata: Some(true),
            ..Default::default()
        }),
        ..Default::default()
    };
    let token = issuer
        .issue(None, &claims, now, TTL)
        .map_err(|_| bad("the server has no API key"))?;
    Ok(Json(Answer { token, identity }))
}

/// The letters and digits of a name, for an identity that people recognise in a log.
fn slug(name: &str) -> String {
    let slug: String = name
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric())
        .take(24)
        .collect();
    if slug.is_empty() {
        "guest".into()
    } else {
        slug
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_keeps_what_people_recognise() {
        assert_eq!(slug("Ada Lovelace"), "adalovelace");
        assert_eq!(slug("김민준"), "김민준");
        assert_eq!(slug("<b>!?"), "b");
        assert_eq!(slug("!!"), "guest");
    }
}
