//! The caller of the server API, and what its token grants. Every refusal is `unauthenticated`, for
//! lack of a grant too: that is what the callers of LiveKit's server know.

use axum::http::{HeaderMap, Uri, header};
use moim_signaling::token::{ApiKeys, Claims, VideoGrant};

use super::error::{Code, TwirpError};
use crate::room::Now;

const BEARER: &str = "Bearer ";
const PARAMETER: &str = "access_token=";

/// A caller whose token is good.
#[derive(Debug)]
pub(super) struct Caller {
    api_key: String,
    identity: String,
    grant: VideoGrant,
}

impl Caller {
    /// Verifies the token of a request.
    ///
    /// # Errors
    /// When there is none, or it is not good.
    pub(super) fn of(keys: &ApiKeys, headers: &HeaderMap, uri: &Uri) -> Result<Caller, TwirpError> {
        let token = token(headers, uri)?;
        let now = Now::read().unix_s();
        let (api_key, claims) = keys.verify(token, now)?;
        let identity = claims.identity().to_owned();
        let Claims { video, .. } = claims;
        Ok(Caller {
            api_key,
            identity,
            grant: video.unwrap_or_default(),
        })
    }

    /// Who it is: the identity that its token names, or else its API key.
    pub(super) fn name(&self) -> String {
        match self.identity.as_str() {
            "" => self.api_key.clone(),
            identity => identity.to_owned(),
        }
    }

    /// May create and delete rooms.
    pub(super) fn may_create(&self) -> Result<(), TwirpError> {
        granted(self.grant.room_create)
    }

    /// May list rooms.
    pub(super) fn may_list(&self) -> Result<(), TwirpError> {
        granted(self.grant.room_list)
    }

    /// May administer this room.
    pub(super) fn may_administer(&self, room: &str) -> Result<(), TwirpError> {
        granted(self.grant.room_admin && self.grant.room == room)
    }

    /// May bring participants of one room to another one.
    pub(super) fn may_move(&self, from: &str, to: &str) -> Result<(), TwirpError> {
        self.may_administer(from)?;
        granted(self.grant.destination_room == to)
    }
}

fn granted(granted: bool) -> Result<(), TwirpError> {
    if granted { Ok(()) } else { Err(denied()) }
}

fn denied() -> TwirpError {
    TwirpError::new(Code::Unauthenticated, "permissions denied")
}

fn token<'a>(headers: &'a HeaderMap, uri: &'a Uri) -> Result<&'a str, TwirpError> {
    let Some(value) = headers.get(header::AUTHORIZATION) else {
        let mut parameters = uri.query().unwrap_or_default().split('&');
        let token = parameters.find_map(|parameter| parameter.strip_prefix(PARAMETER));
        return token.ok_or_else(denied);
    };
    let value = value.to_str().unwrap_or_default();
    let scheme = value.get(..BEARER.len()).unwrap_or_default();
    if scheme.eq_ignore_ascii_case(BEARER) {
        return Ok(value.get(BEARER.len()..).unwrap_or_default().trim());
    }
    let text = "invalid authorization header. Must start with Bearer ";
    Err(TwirpError::new(Code::Unauthenticated, text))
}
