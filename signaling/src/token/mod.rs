//! Access tokens: JWTs (RFC 7519) signed with HMAC-SHA256 by an API key's secret.

mod claims;
mod issuer;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use claims::{Claims, VideoGrant};
pub use issuer::{Renewal, TokenIssuer};

/// Longest token that is read or issued, bytes. A token may carry 512 KiB of metadata, which
/// base64 makes a third longer; LiveKit's server reads headers up to 1 MiB as well.
pub const MAX_TOKEN: usize = 1 << 20;
/// Shortest secret that is worth its HMAC, bytes: as long as the hash (RFC 7518, section 3.2).
pub const MIN_SECRET: usize = 32;
/// Clocks of servers may differ by this much, seconds; JWT libraries have the same leeway.
const LEEWAY: u64 = 60;
/// Longest part of a parser's message that an error repeats, characters.
const MAX_REASON: usize = 160;
/// The header of every token that is issued.
const HEADER: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

/// Why a token is not good. The text never contains the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a JWT, or too long, or a claim has the wrong type.
    #[error("invalid token: {0}")]
    Malformed(String),
    /// It is signed by another algorithm than the only one that is allowed, or not at all.
    #[error("invalid token: it must be signed with HS256")]
    Algorithm,
    /// It names a key that this server does not have.
    #[error("invalid API key: the token's issuer is not known here")]
    UnknownKey,
    /// It is not signed with the secret of the key that it names.
    #[error("invalid token: the signature does not match")]
    Signature,
    /// Its time is over.
    #[error("invalid token: it has expired")]
    Expired,
    /// Its time has not come.
    #[error("invalid token: it is not valid yet")]
    NotYetValid,
}

impl TokenError {
    fn malformed(what: &str, reason: &dyn Display) -> TokenError {
        let reason: String = reason.to_string().chars().take(MAX_REASON).collect();
        TokenError::Malformed(format!("{what}: {reason}"))
    }
}

/// The API keys of a server, each with its secret. A copy shares them, and sees them replaced.
#[derive(Clone, Default)]
pub struct ApiKeys(Arc<RwLock<Arc<HashMap<String, String>>>>);

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.current().keys()).finish()
    }
}

impl FromIterator<(String, String)> for ApiKeys {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        ApiKeys(Arc::new(RwLock::new(Arc::new(pairs.into_iter().collect()))))
    }
}

/// The parts of a JWS header (RFC 7515, section 4.1) that decide whether it is understood.
#[derive(Deserialize)]
struct JwsHeader {
    alg: String,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// The issuer of a token that is not verified yet.
#[derive(Deserialize)]
struct Issuer {
    #[serde(default)]
    iss: Option<String>,
}

impl ApiKeys {
    fn current(&self) -> Arc<HashMap<String, String>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts other keys in the place of these, in all copies. Tokens that the former ones have
    /// signed are no longer good; whoever has joined with one stays.
    pub fn replace(&self, pairs: impl IntoIterator<Item = (String, String)>) {
        let keys = Arc::new(pairs.into_iter().collect());
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    /// The first key in alphabetical order: the one that the server's own tokens are signed with.
    pub fn first(&self) -> Option<String> {
        self.current().keys().min().cloned()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.current().is_empty()
    }

    /// Verifies a token at a time in unix seconds. Gives the API key that signed it and what
    /// it says.
    ///
    /// # Errors
    /// When the token is not to be trusted.
    pub fn verify(&self, token: &str, now: u64) -> Result<(String, Claims), TokenError> {
        if token.len() > MAX_TOKEN {
            let text = format!("it has {} bytes, more than {MAX_TOKEN}", token.len());
            return Err(TokenError::Malformed(text));
        }
        let no_jwt = || TokenError::Malformed("it is not a JWT".into());
        let (message, signature) = token.rsplit_once('.').ok_or_else(no_jwt)?;
        let (header, payload) = message.split_once('.').ok_or_else(no_jwt)?;
        let header: JwsHeader = from_part("its header", &decode(header)?)?;
        // An extension that must be understood is not (RFC 7515, section 4.1.11).
        if header.alg != "HS256" || header.crit.is_some() {
            return Err(TokenError::Algorithm);
        }
        let payload = decode(payload)?;
        // The issuer says which secret to verify with; nothing else is read before that.
        let issuer: Issuer = from_part("its claims", &payload)?;
        let issuer = issuer.iss.unwrap_or_default();
        let keys = self.current();
        let secret = keys.get(&issuer).ok_or(TokenError::UnknownKey)?;
        let key = DecodingKey::from_secret(secret.as_bytes());
        // The comparison takes the same time wherever the signatures differ.
        let matches = crypto::verify(signature, message.as_bytes(), &key, Algorithm::HS256);
        if !matches.unwrap_or(false) {
            return Err(TokenError::Signature);
        }
        let claims: Claims = from_part("its claims", &payload)?;
        if claims
            .exp
            .is_some_and(|exp| now > exp.saturating_add(LEEWAY))
        {
            return Err(TokenError::Expired);
        }
        if claims
            .nbf
            .is_some_and(|nbf| now.saturating_add(LEEWAY) < nbf)
        {
            return Err(TokenError::NotYetValid);
        }
        Ok((issuer, claims))
    }

    /// Signs claims as they are with the secret of `api_key`; only `iss` is set to it.
    fn sign(&self, api_key: &str, claims: &Claims) -> Result<String, TokenError> {
        let keys = self.current();
        let secret = keys.get(api_key).ok_or(TokenError::UnknownKey)?;
        let mut claims = claims.clone();
        claims.iss = api_key.to_owned();
        let failed = |error: &dyn Display| TokenError::malformed("it cannot be written", error);
        let payload = serde_json::to_vec(&claims).map_err(|error| failed(&error))?;
        let mut token = URL_SAFE_NO_PAD.encode(HEADER);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut token);
        let key = EncodingKey::from_secret(secret.as_bytes());
        let signature = crypto::sign(token.as_bytes(), &key, Algorithm::HS256)
            .map_err(|error| failed(&error))?;
        token.push('.');
        token.push_str(&signature);
        Ok(token)
    }
}

fn decode(part: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|error| TokenError::malformed("it is not base64url", &error))
}

/// Reads a part's JSON. A claim that occurs twice is refused, so that nobody else reads the
/// other one (RFC 7519, section 4).
fn from_part<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, TokenError> {
    serde_json::from_slice(json).map_err(|error| TokenError::malformed(what, &error))
}
