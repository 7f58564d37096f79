//! Whom a publisher lets see its tracks.

use std::collections::{HashMap, HashSet};

use moim_signaling::wire::{SubscriptionPermission, TrackPermission};

/// Participants that one publisher may name, and tracks in all: far more than a room holds.
const MAX_NAMED: usize = 2_048;
const MAX_TRACK_SIDS: usize = 16_384;

/// Who may see a publisher's tracks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Audience {
    /// Everybody who may subscribe at all.
    #[default]
    Everybody,
    /// Those that are named, each with the tracks that it may see.
    Named {
        /// By identity.
        identities: HashMap<String, Tracks>,
        /// By participant sid.
        sids: HashMap<String, Tracks>,
    },
}

/// Which of a publisher's tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tracks {
    /// All, those to come included.
    All,
    /// Those with these sids.
    Sids(HashSet<String>),
}

/// More was named than is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a permission may name {MAX_NAMED} participants and {MAX_TRACK_SIDS} tracks")]
pub(super) struct TooManyNamed;

impl Audience {
    /// Reads what a publisher asks for.
    ///
    /// # Errors
    /// When it names too many.
    pub(super) fn read(permission: SubscriptionPermission) -> Result<Audience, TooManyNamed> {
        if permission.all_participants {
            return Ok(Audience::Everybody);
        }
        let named = permission.track_permissions;
        let tracks: usize = named.iter().map(|named| named.track_sids.len()).sum();
        if named.len() > MAX_NAMED || tracks > MAX_TRACK_SIDS {
            return Err(TooManyNamed);
        }
        let (mut identities, mut sids) = (HashMap::new(), HashMap::new());
        for permission in named {
            let TrackPermission {
                participant_sid,
                all_tracks,
                track_sids,
                participant_identity,
            } = permission;
            let tracks = if all_tracks {
                Tracks::All
            } else {
                Tracks::Sids(track_sids.into_iter().collect())
            };
            if participant_identity.is_empty() {
                sids.insert(participant_sid, tracks);
            } else {
                identities.insert(participant_identity, tracks);
            }
        }
        Ok(Audience::Named { identities, sids })
    }

    /// Whether a viewer may see a track.
    pub(super) fn permits(&self, identity: &str, sid: &str, track_sid: &str) -> bool {
        let Audience::Named { identities, sids } = self else {
            return true;
        };
        [identities.get(identity), sids.get(sid)]
            .into_iter()
            .flatten()
            .any(|tracks| match tracks {
                Tracks::All => true,
                Tracks::Sids(sids) => sids.contains(track_sid),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(identity: &str, sid: &str, tracks: &[&str]) -> TrackPermission {
        TrackPermission {
            participant_identity: identity.into(),
            participant_sid: sid.into(),
            all_tracks: tracks.is_empty(),
            track_sids: tracks.iter().map(|sid| (*sid).to_owned()).collect(),
        }
    }

    #[test]
    fn a_viewer_is_found_by_identity_or_sid_and_by_track() {
        let audience = Audience::read(SubscriptionPermission {
            all_participants: false,
            track_permissions: vec![
                named("ada", "", &[]),
                named("", "PA_bob", &["TR_1"]),
                named("cho", "", &["TR_2"]),
            ],
        })
        .expect("few are named");
        assert!(audience.permits("ada", "PA_ada", "TR_1"));
        assert!(audience.permits("bob", "PA_bob", "TR_1"));
        assert!(!audience.permits("bob", "PA_bob", "TR_2"));
        assert!(audience.permits("cho", "PA_cho", "TR_2"));
        assert!(!audience.permits("dan", "PA_dan", "TR_1"));
    }

    #[test]
    fn naming_too_many_is_refused() {
        let permission = SubscriptionPermission {
            all_participants: false,
            track_permissions: (0..=MAX_NAMED)
                .map(|number| named(&number.to_string(), "", &[]))
                .collect(),
        };
        assert_eq!(Audience::read(permission), Err(TooManyNamed));
    }
}
