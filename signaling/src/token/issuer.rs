//! The one place where tokens are made.

use std::collections::HashMap;
use std::time::Duration;

use super::{ApiKeys, Claims, MAX_TOKEN, TokenError};
use crate::permission::Permissions;

/// Makes access tokens with a server's API keys. It reads no clock: the time is an argument.
#[derive(Debug, Clone)]
pub struct TokenIssuer {
    keys: ApiKeys,
}

/// A participant whose token is renewed, as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Renewal<'a> {
    /// API key that signed the token with which it joined.
    pub api_key: &'a str,
    /// What that token said.
    pub claims: &'a Claims,
    /// The room that it is in.
    pub room: &'a str,
    /// Its identity.
    pub identity: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its metadata.
    pub metadata: &'a str,
    /// Its attributes.
    pub attributes: &'a HashMap<String, String>,
    /// What it may do.
    pub permissions: &'a Permissions,
}

impl TokenIssuer {
    /// An issuer with these keys.
    pub fn new(keys: ApiKeys) -> TokenIssuer {
        TokenIssuer { keys }
    }

    /// A token that says `claims` and is valid from `now` (unix seconds) for `ttl`. Without an
    /// `api_key` the first one signs.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn issue(
        &self,
        api_key: Option<&str>,
        claims: &Claims,
        now: u64,
        ttl: Duration,
    ) -> Result<String, TokenError> {
        let api_key = api_key
            .map(str::to_owned)
            .or_else(|| self.keys.first())
            .ok_or(TokenError::UnknownKey)?;
        let mut claims = claims.clone();
        claims.nbf = Some(now);
        claims.exp = Some(now.saturating_add(ttl.as_secs()));
        self.keys.sign(&api_key, &claims)
    }

    /// A token with which a participant comes back as what it is now. One that would be longer
    /// than a server reads ([`MAX_TOKEN`]) leaves out the metadata and the attributes: a
    /// resumed session has them still.
    ///
    /// # Errors
    /// When the key was taken out of the configuration.
    pub fn renew(
        &self,
        renewal: &Renewal<'_>,
        now: u64,
        ttl: Duration,
    ) -> Result<String, TokenError> {
        let mut grant = renewal.claims.video.clone().unwrap_or_default();
        grant.room_join = true;
        renewal.room.clone_into(&mut grant.room);
        renewal.permissions.write_to(&mut grant);
        let mut claims = Claims {
            sub: renewal.identity.to_owned(),
            name: renewal.name.to_owned(),
            metadata: renewal.metadata.to_owned(),
            attributes: renewal.attributes.clone(),
            video: Some(grant),
            ..renewal.claims.clone()
        };
        let token = self.issue(Some(renewal.api_key), &claims, now, ttl)?;
        if token.len() <= MAX_TOKEN {
            return Ok(token);
        }
        claims.metadata.clear();
        claims.attributes.clear();
        self.issue(Some(renewal.api_key), &claims, now, ttl)
    }
}
