//! What must hold in a meeting: at every moment, and when it has calmed down.

use std::collections::{BTreeMap, BTreeSet};

use moim::room::{Answer, Order};
use moim_signaling::wire::ParticipantInfo;

use crate::meeting::{Client, LEARNS_BY_MEDIA, Link, Meeting};

impl Meeting {
    pub(crate) fn truth(&mut self) -> Vec<ParticipantInfo> {
        match self.room.administer(self.now, Order::ListParticipants) {
            Ok(Answer::Participants(participants)) => participants,
            other => panic!("the room lists its participants, not {other:?}"),
        }
    }

    /// What holds at every moment: what is announced as muted is muted in the engine.
    pub(crate) fn check_always(&mut self) {
        self.plane.obey(self.room.media());
        let announced = self.truth();
        let mut said: Vec<bool> = announced
            .iter()
            .flat_map(|info| info.tracks.iter().map(|track| track.muted))
            .collect();
        let mut done: Vec<bool> = self
            .plane
            .tracks
            .values()
            .map(|(_, muted)| *muted)
            .collect();
        said.sort_unstable();
        done.sort_unstable();
        assert_eq!(said, done, "tracks muted as announced, and in the engine");
    }

    /// What holds in the end: everybody who is here knows the room as it is.
    pub(crate) fn check_views(&mut self) {
        let truth = self.check_participants();
        for client in self.clients.iter().filter(|client| client.link == Link::Up) {
            let sid = &client.view.sid;
            let own = truth.iter().find(|info| info.sid == *sid).cloned();
            let own = own.unwrap_or_default();
            for track in &own.tracks {
                assert!(
                    !client.view.unpublished.contains(&track.sid),
                    "{}: {} is there",
                    client.identity,
                    track.sid
                );
            }
            self.check_subscriptions(client, &own, &truth);
        }
    }

    /// Compares everybody's participants and room with the room's own, which it gives.
    pub(crate) fn check_participants(&mut self) -> Vec<ParticipantInfo> {
        let truth = self.truth();
        let room = match self.room.administer(self.now, Order::Describe) {
            Ok(Answer::Room(room)) => *room,
            other => panic!("the room describes itself, not {other:?}"),
        };
        let hidden = |info: &ParticipantInfo| {
            info.permission
                .as_ref()
                .is_some_and(|permission| permission.hidden)
        };
        for client in self.clients.iter().filter(|client| client.link == Link::Up) {
            let who = &client.identity;
            let view = &client.view;
            let seen: BTreeMap<String, ParticipantInfo> = truth
                .iter()
                .filter(|info| info.sid == view.sid || !hidden(info))
                .map(|info| (info.sid.clone(), info.clone()))
                .collect();
            assert_eq!(view.participants, seen, "{who}: the participants");
            assert_eq!(view.room, room, "{who}: the room");
        }
        truth
    }

    pub(crate) fn check_subscriptions(
        &self,
        client: &Client,
        own: &ParticipantInfo,
        truth: &[ParticipantInfo],
    ) {
        let (who, view) = (&client.identity, &client.view);
        let may_subscribe = own.permission.as_ref().is_some_and(|own| own.can_subscribe);
        let mut expected = BTreeSet::new();
        for owner in truth.iter().filter(|owner| owner.sid != view.sid) {
            let hidden = owner.permission.as_ref().is_some_and(|owner| owner.hidden);
            let audience = self.audiences.get(&owner.identity);
            let seen = audience.is_none_or(|named| named.contains(who));
            for track in &owner.tracks {
                let wished = client
                    .wishes
                    .get(&track.sid)
                    .copied()
                    .unwrap_or(client.auto_subscribe);
                let permitted = seen && may_subscribe;
                if wished && !hidden {
                    let told = view.permissions.get(&track.sid);
                    assert_eq!(told, Some(&permitted), "{who}: told of {}", track.sid);
                }
                if wished && !hidden && permitted {
                    expected.insert(track.sid.clone());
                }
            }
        }
        let offered: BTreeSet<String> = view.offered.clone();
        assert_eq!(offered, expected, "{who}: the tracks that it is offered");
        let sent = self.plane.subscriptions.values();
        let sent = sent.filter(|sent| client.transports.contains(&sent.transport));
        let sent: Vec<_> = sent.collect();
        for sent in &sent {
            let by_media = who == LEARNS_BY_MEDIA;
            assert_eq!(
                sent.shown_as.is_some(),
                by_media,
                "{who}: what stands for silence"
            );
        }
        assert_eq!(
            sent.len(),
            expected.len(),
            "{who}: the tracks that it is sent"
        );
        let handles: BTreeSet<&String> = view.handles.values().collect();
        let wished = truth
            .iter()
            .filter(|owner| owner.sid != view.sid)
            .flat_map(|owner| {
                let hidden = owner.permission.as_ref().is_some_and(|owner| owner.hidden);
                let audience = self.audiences.get(&owner.identity);
                let seen = !hidden && audience.is_none_or(|named| named.contains(who));
                owner
                    .data_tracks
                    .iter()
                    .filter(move |_| seen)
                    .map(|track| &track.sid)
            });
        let wished: BTreeSet<&String> = wished
            .filter(|sid| may_subscribe && client.data_wishes.contains(*sid))
            .collect();
        assert_eq!(handles, wished, "{who}: the data tracks that it gets");
    }
}
