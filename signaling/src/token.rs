//! Access tokens: JWTs signed with HMAC-SHA256 by an API key's secret.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

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
