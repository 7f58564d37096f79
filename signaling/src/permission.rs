//! What a participant may do, from the grants of its token.

use crate::token::VideoGrant;
use crate::wire::{ParticipantPermission, TrackSource};

/// What a participant may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// May publish tracks.
    pub publish: bool,
    /// The only sources that may be published; empty means all.
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
    /// May subscribe to the others' metrics.
    pub subscribe_metrics: bool,
}

impl Permissions {
    /// From a grant; permissions that it does not name have the protocol's defaults. Sources
    /// restrict what may be published and never add to it: a grant whose sources are all
    /// unknown here lets nothing be published.
    pub fn of(grant: &VideoGrant) -> Permissions {
        let publish = grant.can_publish.unwrap_or(true);
        let named = &grant.can_publish_sources;
        let sources: Vec<TrackSource> = named
            .iter()
            .filter_map(|name| source_by_name(name))
            .collect();
        Permissions {
            publish: publish && (named.is_empty() || !sources.is_empty()),
            sources,
            subscribe: grant.can_subscribe.unwrap_or(true),
            publish_data: grant.can_publish_data.unwrap_or(publish),
            hidden: grant.hidden,
            update_metadata: grant.can_update_own_metadata.unwrap_or(false),
            recorder: grant.recorder,
            agent: grant.agent,
            subscribe_metrics: grant.can_subscribe_metrics,
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
            can_subscribe_metrics: self.subscribe_metrics,
            ..Default::default()
        }
    }

    /// From the protocol's form, in which an administrator sets them. Sources that are unknown
    /// here restrict as in [`Permissions::of`].
    pub fn from_wire(wire: &ParticipantPermission) -> Permissions {
        let named = &wire.can_publish_sources;
        let sources: Vec<TrackSource> = named
            .iter()
            .filter_map(|source| TrackSource::try_from(*source).ok())
            .collect();
        #[allow(deprecated)]
        Permissions {
            publish: wire.can_publish && (named.is_empty() || !sources.is_empty()),
            sources,
            subscribe: wire.can_subscribe,
            publish_data: wire.can_publish_data,
            hidden: wire.hidden,
            update_metadata: wire.can_update_metadata,
            recorder: wire.recorder,
            agent: wire.agent,
            subscribe_metrics: wire.can_subscribe_metrics,
        }
    }

    /// Writes them into a grant. Whether its bearer is a recorder or an agent stays as the
    /// grant says: a participant may be either by its kind alone.
    pub(crate) fn write_to(&self, grant: &mut VideoGrant) {
        grant.can_publish = Some(self.publish);
        grant.can_publish_sources = self.sources.iter().map(|source| name_of(*source)).collect();
        grant.can_subscribe = Some(self.subscribe);
        grant.can_publish_data = Some(self.publish_data);
        grant.can_update_own_metadata = Some(self.update_metadata);
        grant.hidden = self.hidden;
        grant.can_subscribe_metrics = self.subscribe_metrics;
    }
}

fn source_by_name(name: &str) -> Option<TrackSource> {
    TrackSource::from_str_name(&name.to_ascii_uppercase())
}

fn name_of(source: TrackSource) -> String {
    source.as_str_name().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCES: [TrackSource; 5] = [
        TrackSource::Unknown,
        TrackSource::Camera,
        TrackSource::Microphone,
        TrackSource::ScreenShare,
        TrackSource::ScreenShareAudio,
    ];

    fn with_sources(can_publish: Option<bool>, names: &[&str]) -> Permissions {
        Permissions::of(&VideoGrant {
            can_publish,
            can_publish_sources: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Default::default()
        })
    }

    fn may_publish(permissions: &Permissions) -> Vec<TrackSource> {
        let allowed = |source: &TrackSource| permissions.may_publish(*source);
        SOURCES.into_iter().filter(allowed).collect()
    }

    #[test]
    fn what_is_not_said_is_allowed() {
        let permissions = Permissions::of(&VideoGrant::default());
        assert!(permissions.publish && permissions.subscribe && permissions.publish_data);
        assert!(!permissions.hidden && !permissions.update_metadata);
        assert_eq!(may_publish(&permissions), SOURCES);
    }

    #[test]
    fn named_sources_are_all_that_may_be_published() {
        for names in [["microphone", "nonsense"], ["MICROPHONE", ""]] {
            let permissions = with_sources(None, &names);
            assert_eq!(may_publish(&permissions), [TrackSource::Microphone]);
        }
        assert_eq!(may_publish(&with_sources(Some(true), &[])), SOURCES);
    }

    #[test]
    fn sources_never_add_to_what_may_be_published() {
        for names in [&["nonsense"][..], &[""], &["cam era", "microphone\n"]] {
            for can_publish in [None, Some(true), Some(false)] {
                let permissions = with_sources(can_publish, names);
                assert!(may_publish(&permissions).is_empty(), "{names:?}");
                assert!(!permissions.to_wire().can_publish, "{names:?}");
            }
        }
        assert!(may_publish(&with_sources(Some(false), &["camera"])).is_empty());
        assert!(may_publish(&with_sources(Some(false), &[])).is_empty());
    }

    #[test]
    fn who_may_not_publish_may_not_send_data_unless_told_so() {
        for (publish, data, expected) in [
            (None, None, true),
            (Some(false), None, false),
            (Some(false), Some(true), true),
            (Some(true), Some(false), false),
        ] {
            let permissions = Permissions::of(&VideoGrant {
                can_publish: publish,
                can_publish_data: data,
                ..Default::default()
            });
            assert_eq!(permissions.publish_data, expected);
        }
    }

    #[test]
    fn permissions_survive_the_wire_and_a_grant() {
        for bits in 0u32..1 << 9 {
            let bit = |index: u32| bits >> index & 1 == 1;
            let sources = if bit(0) {
                vec![TrackSource::Camera]
            } else {
                Vec::new()
            };
            let permissions = Permissions {
                publish: bit(1),
                sources,
                subscribe: bit(2),
                publish_data: bit(3),
                hidden: bit(4),
                update_metadata: bit(5),
                recorder: bit(6),
                agent: bit(7),
                subscribe_metrics: bit(8),
            };
            assert_eq!(Permissions::from_wire(&permissions.to_wire()), permissions);
            let mut grant = VideoGrant {
                recorder: bit(6),
                agent: bit(7),
                ..Default::default()
            };
            permissions.write_to(&mut grant);
            assert_eq!(Permissions::of(&grant), permissions);
        }
    }
}
