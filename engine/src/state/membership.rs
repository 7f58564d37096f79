//! Tracks and subscriptions coming and going.

use std::time::Instant;

use rand::RngExt;

use crate::allocation::policy::Reason;
use crate::api::codec::{Codec, MediaKind};
use crate::api::command::{NewSubscription, NewTrack, SubscriptionSettings, TrackSource};
use crate::api::ids::{RoomId, ShardId, SubscriptionId, TrackId};
use crate::engine::Engine;
use crate::receive::received_streams::StreamOwner;
use crate::state::subscription::Subscription;
use crate::state::table::{PeerIx, TrackIx};
use crate::state::track::{Feed, Track};

impl Engine {
    pub(crate) fn add_track(&mut self, new: &NewTrack) {
        let Some(peer) = self.find_peer(new.transport) else {
            return;
        };
        if self.tracks.contains(new.track) {
            return;
        }
        let room = self.peers[peer].room;
        let index = self.insert_track(new, room, Feed::Peer(peer));
        self.peers[peer].tracks.push(index);
        self.bind_declared(peer, index, &new.source);
    }

    pub(crate) fn mirror_track(&mut self, new: &NewTrack, room: RoomId, home: ShardId) {
        if !self.tracks.contains(new.track) {
            self.insert_track(new, room, Feed::Shard(home));
        }
    }

    fn insert_track(&mut self, new: &NewTrack, room: RoomId, feed: Feed) -> TrackIx {
        let mut track = Track::new(new.track, room, feed, new.kind, new.source.clone());
        track.screen = new.screen;
        self.tracks.insert(new.track, track)
    }

    pub(crate) fn set_track_source(&mut self, track: TrackId, source: TrackSource) {
        let Some(index) = self.tracks.find(track) else {
            return;
        };
        let state = &mut self.tracks[index];
        if state.source == source {
            return;
        }
        state.set_source(source.clone());
        if let Feed::Peer(peer) = state.feed {
            self.bind_declared(peer, index, &source);
        }
    }

    /// Binds the SSRCs that the SDP names.
    fn bind_declared(&mut self, peer: PeerIx, track: TrackIx, source: &TrackSource) {
        let state = &mut self.peers[peer];
        for (layer, &(ssrc, rtx)) in source.ssrcs.iter().take(3).enumerate() {
            let layer = layer as u8;
            let owner = |repair| StreamOwner {
                track,
                layer,
                repair,
            };
            state.streams.bind(ssrc, owner(false));
            if let Some(rtx) = rtx {
                state.streams.bind(rtx, owner(true));
            }
        }
    }

    pub(crate) fn remove_track(&mut self, now: Instant, track: TrackId) {
        let Some(index) = self.tracks.find(track) else {
            return;
        };
        for subscription in self.tracks[index].subscriptions.clone() {
            let id = self.subscriptions[subscription].id;
            self.remove_subscription(now, id);
        }
        let Some((_, removed)) = self.tracks.remove(track) else {
            return;
        };
        if let Feed::Peer(peer) = removed.feed {
            let state = &mut self.peers[peer];
            state.tracks.retain(|&other| other != index);
            state.streams.unbind_track(index);
        }
        if removed.kind == MediaKind::Audio {
            self.forget_speaker(removed.room, index);
        }
    }

    pub(crate) fn set_track_muted(&mut self, now: Instant, track: TrackId, muted: bool) {
        let Some(index) = self.tracks.find(track) else {
            return;
        };
        self.tracks[index].muted = muted;
        self.choose_layers(now, index);
    }

    pub(crate) fn add_subscription(&mut self, now: Instant, new: &NewSubscription) {
        let (Some(peer), Some(track)) =
            (self.find_peer(new.transport), self.tracks.find(new.track))
        else {
            return;
        };
        if self.subscriptions.contains(new.subscription) {
            return;
        }
        let clock_rate = match self.tracks[track].kind {
            MediaKind::Audio => Codec::Opus.clock_rate(),
            MediaKind::Video => Codec::Vp8.clock_rate(),
        };
        let (first, first_rtx) = (self.rng.random(), self.rng.random());
        let subscription = Subscription::new(new, track, peer, clock_rate, first, first_rtx);
        let index = self.subscriptions.insert(new.subscription, subscription);
        self.tracks[track].subscriptions.push(index);
        let state = &mut self.peers[peer];
        state.subscriptions.push(index);
        state.gives_feedback |= new.transport_cc;
        state.set_pace();
        self.update_relay(now, track);
        self.allocate(now, peer, Reason::Settings);
    }

    pub(crate) fn remove_subscription(&mut self, now: Instant, subscription: SubscriptionId) {
        let Some((index, removed)) = self.subscriptions.remove(subscription) else {
            return;
        };
        let of_track = &mut self.tracks[removed.track].subscriptions;
        of_track.retain(|&other| other != index);
        let peer = &mut self.peers[removed.peer];
        peer.subscriptions.retain(|&other| other != index);
        peer.cancel(removed.track);
        self.update_relay(now, removed.track);
    }

    pub(crate) fn set_subscription(
        &mut self,
        now: Instant,
        subscription: SubscriptionId,
        settings: SubscriptionSettings,
    ) {
        let Some(index) = self.subscriptions.find(subscription) else {
            return;
        };
        let state = &mut self.subscriptions[index];
        state.settings = settings;
        if !settings.enabled {
            state.forwarder.pause();
        }
        let peer = state.peer;
        self.allocate(now, peer, Reason::Settings);
    }
}
