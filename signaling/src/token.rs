//! Access tokens: JWTs signed with HMAC-SHA256 by an API key's secret.

use std::collections::HashMap;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

/// Longest token that is looked at, bytes.
const MAX_TOKEN: usize = 64 << 10;
/// Clocks may differ by this much, seconds.
const LEEWAY: u64 = 60;

/// Why a token is not good. The text never contains the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not a JWT, or too long, or a grant has the wrong type.
    #[error("invalid token: {0}")]
    Malformed(String),
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

/// The API keys of a server, each with its secret.
#[derive(Clone, Default)]
pub struct ApiKeys(HashMap<String, String>);

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl FromIterator<(String, String)> for ApiKeys {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        ApiKeys(pairs.into_iter().collect())
    }
}

impl ApiKeys {
    /// Any one of the keys, to sign tokens with.
    pub fn any(&self) -> Option<&str> {
        self.0.keys().min().map(String::as_str)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
        let malformed = |error: jsonwebtoken::errors::Error| match error.kind() {
            jsonwebtoken::errors::ErrorKind::InvalidSignature => TokenError::Signature,
            _ => TokenError::Malformed(error.to_string()),
        };
        let header = jsonwebtoken::decode_header(token).map_err(malformed)?;
        if header.alg != Algorithm::HS256 {
            let text = "it must be signed with HS256".into();
            return Err(TokenError::Malformed(text));
        }
        // The issuer says which secret to verify with; nothing else of it is believed yet.
        let issuer = jsonwebtoken::dangerous::insecure_decode::<Issuer>(token)
            .map_err(malformed)?
            .claims
            .iss;
        let secret = self.0.get(&issuer).ok_or(TokenError::UnknownKey)?;
        let mut validation = Validation::new(Algorithm::HS256);
        // Times are checked below against the caller's clock.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        let key = DecodingKey::from_secret(secret.as_bytes());
        let claims = jsonwebtoken::decode::<Claims>(token, &key, &validation)
            .map_err(malformed)?
            .claims;
        if claims.exp == 0 {
            return Err(TokenError::Malformed("it has no expiry (exp)".into()));
        }
        if now > claims.exp.saturating_add(LEEWAY) {
            return Err(TokenError::Expired);
        }
        if now.saturating_add(LEEWAY) < claims.nbf {
            return Err(TokenError::NotYetValid);
        }
        Ok((issuer, claims))
    }

    /// Signs a token with the secret of `api_key`; `iss` is set to it.
    ///
    /// # Errors
    /// When there is no such key.
    pub fn sign(&self, api_key: &str, claims: &Claims) -> Result<String, TokenError> {
        let secret = self.0.get(api_key).ok_or(TokenError::UnknownKey)?;
        let mut claims = claims.clone();
        claims.iss = api_key.to_owned();
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)
            .map_err(|error| TokenError::Malformed(error.to_string()))
    }
}

/// The issuer of a token that is not verified yet.
#[derive(Deserialize)]
struct Issuer {
    iss: String,
}

/// What a token says about its bearer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Claims {
    /// API key (issuer).
    pub iss: String,
    /// Identity of the participant (subject).
    pub sub: String,
    /// Expiry, unix seconds.
    pub exp: u64,
    /// Not valid before, unix seconds.
    pub nbf: u64,
    /// Identifier of this token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// Display name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// standard, ingress, egress, sip, agent.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Participant metadata.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// Participant attributes.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub attributes: HashMap<String, String>,
    /// What the bearer may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoGrant>,
}

/// The grants of a token. A permission that is absent has the protocol's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VideoGrant {
    /// May create and delete rooms.
    pub room_create: bool,
    /// May list rooms.
    pub room_list: bool,
    /// May start recordings.
    pub room_record: bool,
    /// May administer [`VideoGrant::room`].
    pub room_admin: bool,
    /// May join [`VideoGrant::room`].
    pub room_join: bool,
    /// The room that the grants are for.
    pub room: String,
    /// The room that participants may be moved or forwarded to.
    pub destination_room: String,
    /// May publish; absent means yes.
    pub can_publish: Option<bool>,
    /// May subscribe; absent means yes.
    pub can_subscribe: Option<bool>,
    /// May send data; absent means yes.
    pub can_publish_data: Option<bool>,
    /// Sources that may be published; empty means all. Takes precedence over `can_publish`.
    pub can_publish_sources: Vec<String>,
    /// May change its own metadata, name and attributes.
    pub can_update_own_metadata: Option<bool>,
    /// May administer ingress.
    pub ingress_admin: bool,
    /// Not seen by the others.
    pub hidden: bool,
    /// Is a recorder.
    pub recorder: bool,
    /// Is an agent.
    pub agent: bool,
    /// May subscribe to the others' metrics.
    pub can_subscribe_metrics: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn keys() -> ApiKeys {
        let pairs = [("one", "first-secret"), ("two", "second-secret")];
        pairs
            .into_iter()
            .map(|(key, secret)| (key.to_owned(), secret.to_owned()))
            .collect()
    }

    fn claims() -> Claims {
        Claims {
            sub: "alice".into(),
            exp: NOW + 600,
            video: Some(VideoGrant {
                room_join: true,
                room: "r".into(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    #[test]
    fn a_token_comes_back_with_its_key() {
        for key in ["one", "two"] {
            let token = keys().sign(key, &claims()).unwrap();
            let (by, read) = keys().verify(&token, NOW).unwrap();
            assert_eq!((by.as_str(), read.sub.as_str()), (key, "alice"));
            assert_eq!(read.video, claims().video);
        }
    }

    #[test]
    fn time_is_checked_with_leeway() {
        let mut expired = claims();
        expired.exp = NOW;
        let token = keys().sign("one", &expired).unwrap();
        assert!(keys().verify(&token, NOW + 59).is_ok());
        assert_eq!(keys().verify(&token, NOW + 61), Err(TokenError::Expired));
        let mut early = claims();
        early.nbf = NOW + 100;
        let token = keys().sign("one", &early).unwrap();
        assert_eq!(keys().verify(&token, NOW), Err(TokenError::NotYetValid));
        assert!(keys().verify(&token, NOW + 41).is_ok());
    }

    #[test]
    fn forged_tokens_are_refused() {
        let others: ApiKeys = [("one".to_owned(), "guessed".to_owned())]
            .into_iter()
            .collect();
        let token = others.sign("one", &claims()).unwrap();
        assert_eq!(keys().verify(&token, NOW), Err(TokenError::Signature));
        let others: ApiKeys = [("three".to_owned(), "x".to_owned())].into_iter().collect();
        let token = others.sign("three", &claims()).unwrap();
        assert_eq!(keys().verify(&token, NOW), Err(TokenError::UnknownKey));
        let good = keys().sign("one", &claims()).unwrap();
        let (_, rest) = good.split_once('.').unwrap();
        // {"alg":"none","typ":"JWT"}
        let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{rest}");
        for token in [none.as_str(), "", "a.b.c", "not a token"] {
            assert!(matches!(
                keys().verify(token, NOW),
                Err(TokenError::Malformed(_))
            ));
        }
        let long = "a".repeat(1 << 20);
        assert!(keys().verify(&long, NOW).is_err());
    }

    #[test]
    fn a_token_without_expiry_is_refused() {
        let mut endless = claims();
        endless.exp = 0;
        let token = keys().sign("one", &endless).unwrap();
        assert!(keys().verify(&token, NOW).is_err());
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", keys()).contains("secret"));
    }
}
