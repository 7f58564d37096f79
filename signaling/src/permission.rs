//! What a participant may do, from the grants of its token.

use crate::token::VideoGrant;
use crate::wire::{ParticipantPermission, TrackSource};

/// What a participant may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// May publish tracks.
    pub publish: bool,
    /// Sources that may be published; empty means all.
    pub sources: Vec<TrackSource>,
    /// May subscribe to tracks.
    pub subscribe: bool,
    /// May send data.
    pub publish_data: bool,
    /// Is not seen by the others.
    pub hidden: bool,
    /// May change its own metadata, name and attributes.
    pub update_metadata: bool,
    /// Is a recorder.
    pub recorder: bool,
    /// Is an agent.
    pub agent: bool,
}

impl Permissions {
    /// From a grant; permissions that it does not name have the protocol's defaults.
    pub fn of(grant: &VideoGrant) -> Permissions {
        let sources: Vec<TrackSource> = grant
            .can_publish_sources
            .iter()
            .filter_map(|name| source_by_name(name))
            .collect();
        Permissions {
            publish: grant.can_publish.unwrap_or(true) || !sources.is_empty(),
            sources,
            subscribe: grant.can_subscribe.unwrap_or(true),
            publish_data: grant.can_publish_data.unwrap_or(true),
            hidden: grant.hidden,
            update_metadata: grant.can_update_own_metadata.unwrap_or(false),
            recorder: grant.recorder,
            agent: grant.agent,
        }
    }

    /// Whether a track of this source may be published.
    pub fn may_publish(&self, source: TrackSource) -> bool {
        self.publish && (self.sources.is_empty() || self.sources.contains(&source))
    }

    /// As the protocol tells it.
    pub fn to_wire(&self) -> ParticipantPermission {
        #[allow(deprecated)]
        ParticipantPermission {
            can_subscribe: self.subscribe,
            can_publish: self.publish,
            can_publish_data: self.publish_data,
            can_publish_sources: self.sources.iter().map(|source| *source as i32).collect(),
            hidden: self.hidden,
            recorder: self.recorder,
            can_update_metadata: self.update_metadata,
            agent: self.agent,
            ..Default::default()
        }
    }
}

fn source_by_name(name: &str) -> Option<TrackSource> {
    match name.to_ascii_lowercase().as_str() {
        "camera" => Some(TrackSource::Camera),
        "microphone" => Some(TrackSource::Microphone),
        "screen_share" => Some(TrackSource::ScreenShare),
        "screen_share_audio" => Some(TrackSource::ScreenShareAudio),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_said_is_allowed() {
        let permissions = Permissions::of(&VideoGrant::default());
        assert!(permissions.publish && permissions.subscribe && permissions.publish_data);
        assert!(!permissions.hidden && !permissions.update_metadata);
        assert!(permissions.may_publish(TrackSource::ScreenShare));
    }

    #[test]
    fn named_sources_are_all_that_may_be_published() {
        let permissions = Permissions::of(&VideoGrant {
            can_publish: Some(false),
            can_publish_sources: vec!["microphone".into(), "nonsense".into()],
            ..Default::default()
        });
        assert!(permissions.may_publish(TrackSource::Microphone));
        assert!(!permissions.may_publish(TrackSource::Camera));
    }
}
