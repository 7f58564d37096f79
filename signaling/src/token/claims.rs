//! What a token says about its bearer.

use std::collections::HashMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::permission::Permissions;
use crate::wire::{RoomConfiguration, participant_info};

/// What a token says about its bearer. Back ends write `null` for what they do not set, and
/// times with fractions (NumericDate, RFC 7519, section 2): both are read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Claims {
    /// API key (issuer).
    #[serde(deserialize_with = "nullable")]
    pub iss: String,
    /// Identity of the participant (subject).
    #[serde(deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sub: String,
    /// Expiry, unix seconds; without it the token is valid for ever.
    #[serde(deserialize_with = "numeric_date")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exp: Option<u64>,
    /// Not valid before, unix seconds.
    #[serde(deserialize_with = "numeric_date")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// Identifier of this token.
    #[serde(deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jti: String,
    /// Display name.
    #[serde(deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// standard, ingress, egress, sip, agent, connector or bridge.
    #[serde(deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// Participant metadata.
    #[serde(deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metadata: String,
    /// Participant attributes.
    #[serde(deserialize_with = "attributes")]
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub attributes: HashMap<String, String>,
    /// The SHA-256 of the body that the token vouches for, in base64.
    #[serde(deserialize_with = "nullable")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// How the room is made if the bearer is the first to join it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_config: Option<RoomConfiguration>,
    /// What the bearer may do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoGrant>,
}

/// The grants of a token. A permission that is absent has the protocol's default.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VideoGrant {
    /// May create and delete rooms.
    #[serde(deserialize_with = "nullable")]
    pub room_create: bool,
    /// May list rooms.
    #[serde(deserialize_with = "nullable")]
    pub room_list: bool,
    /// May start recordings.
    #[serde(deserialize_with = "nullable")]
    pub room_record: bool,
    /// May administer [`VideoGrant::room`].
    #[serde(deserialize_with = "nullable")]
    pub room_admin: bool,
    /// May join [`VideoGrant::room`].
    #[serde(deserialize_with = "nullable")]
    pub room_join: bool,
    /// The room that the grants are for.
    #[serde(deserialize_with = "nullable")]
    pub room: String,
    /// The room that participants may be moved or forwarded to.
    #[serde(deserialize_with = "nullable")]
    pub destination_room: String,
    /// May publish; absent means yes.
    pub can_publish: Option<bool>,
    /// May subscribe; absent means yes.
    pub can_subscribe: Option<bool>,
    /// May send data; absent means as [`VideoGrant::can_publish`].
    pub can_publish_data: Option<bool>,
    /// The only sources that may be published; empty means all.
    #[serde(deserialize_with = "nullable")]
    pub can_publish_sources: Vec<String>,
    /// May change its own metadata, name and attributes; absent means no.
    pub can_update_own_metadata: Option<bool>,
    /// May administer ingress.
    #[serde(deserialize_with = "nullable")]
    pub ingress_admin: bool,
    /// Not seen by the others.
    #[serde(deserialize_with = "nullable")]
    pub hidden: bool,
    /// Is a recorder.
    #[serde(deserialize_with = "nullable")]
    pub recorder: bool,
    /// Is an agent.
    #[serde(deserialize_with = "nullable")]
    pub agent: bool,
    /// May subscribe to the others' metrics.
    #[serde(deserialize_with = "nullable")]
    pub can_subscribe_metrics: bool,
}

impl Claims {
    /// Identity of the participant: the subject or, where a back end sets only that, the
    /// token's identifier.
    pub fn identity(&self) -> &str {
        if self.sub.is_empty() {
            &self.jti
        } else {
            &self.sub
        }
    }

    /// What kind of participant the bearer is; names that are not known mean standard.
    pub fn kind(&self) -> participant_info::Kind {
        participant_info::Kind::from_str_name(&self.kind.to_ascii_uppercase())
            .unwrap_or(participant_info::Kind::Standard)
    }

    /// What the bearer may do: its grant, and what its kind brings with it (an agent may speak
    /// in another's name, a recorder is one without being granted it).
    pub fn permissions(&self) -> Permissions {
        let mut permissions = self
            .video
            .as_ref()
            .map_or_else(|| Permissions::of(&VideoGrant::default()), Permissions::of);
        permissions.agent |= self.kind() == participant_info::Kind::Agent;
        permissions.recorder |= self.kind() == participant_info::Kind::Egress;
        permissions
    }
}

/// `null` is what is not set.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// Whole seconds of a number; before 1970 is 0, and what no clock will reach is the largest.
fn numeric_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    // The cast saturates.
    Ok(Option::<f64>::deserialize(deserializer)?.map(|seconds| seconds as u64))
}

fn attributes<'de, D>(deserializer: D) -> Result<HashMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    let values: HashMap<String, Option<String>> = nullable(deserializer)?;
    let given = |(name, value): (String, Option<String>)| Some((name, value?));
    Ok(values.into_iter().filter_map(given).collect())
}
