//! Tracks and subscriptions coming and going.

use std::time::Instant;

use rand::RngExt;

use crate::allocation::allocator::Allocator;
use crate::allocation::policy::Reason;
use crate::api::codec::{Codec, MediaKind, PayloadTypes};
use crate::api::command::{
    NewSubscription, NewTrack, ReceiveMapping, SubscriptionSettings, TrackSource,
};
use crate::api::ids::{RoomId, ShardId, SubscriptionId, TrackId, TransportId};
use crate::forward::relay::update_relay;
use crate::receive::received_streams::StreamOwner;
use crate::state::Media;
use crate::state::silence::Silence;
use crate::state::subscription::Subscription;
use crate::state::table::{PeerIx, TrackIx};
use crate::state::track::{Feed, Track};
use rand::rngs::SmallRng;

/// How what a connection publishes is read.
pub(crate) fn set_mapping(media: &mut Media, transport: TransportId, mapping: &ReceiveMapping) {
    if let Some(peer) = media.peers.find(transport) {
        media.peers[peer].set_mapping(mapping);
    }
}

pub(crate) fn add_track(media: &mut Media, now: Instant, new: &NewTrack) {
    let Some(peer) = media.peers.find(new.transport) else {
        return;
    };
    if media.tracks.contains(new.track) {
        return;
    }
    let room = media.peers[peer].room;
    let index = insert_track(media, new, room, Feed::Peer(peer));
    media.peers[peer].tracks.push(index);
    bind_declared(media, now, peer, index, &new.source);
}

pub(crate) fn mirror_track(media: &mut Media, new: &NewTrack, room: RoomId, home: ShardId) {
    if !media.tracks.contains(new.track) {
        insert_track(media, new, room, Feed::Shard(home));
    }
}

fn insert_track(media: &mut Media, new: &NewTrack, room: RoomId, feed: Feed) -> TrackIx {
    let mut track = Track::new(new.track, room, feed, new.kind, new.source.clone());
    track.screen = new.screen;
    track.encrypted = new.encrypted;
    media.tracks.insert(new.track, track)
}

pub(crate) fn set_track_source(
    media: &mut Media,
    now: Instant,
    track: TrackId,
    source: TrackSource,
) {
    let Some(index) = media.tracks.find(track) else {
        return;
    };
    let state = &mut media.tracks[index];
    if state.source == source {
        return;
    }
    state.set_source(source.clone());
    if let Feed::Peer(peer) = state.feed {
        bind_declared(media, now, peer, index, &source);
    }
}

/// Binds the SSRCs that the SDP names.
fn bind_declared(
    media: &mut Media,
    now: Instant,
    peer: PeerIx,
    track: TrackIx,
    source: &TrackSource,
) {
    let state = &mut media.peers[peer];
    for (layer, &(ssrc, rtx)) in source.ssrcs.iter().take(3).enumerate() {
        let layer = layer as u8;
        let owner = |repair| StreamOwner {
            track,
            layer,
            repair,
        };
        state.streams.bind(now, ssrc, owner(false));
        if let Some(rtx) = rtx {
            state.streams.bind(now, rtx, owner(true));
        }
    }
}

/// Ends a track with its subscriptions. Gives its room and the index that it had.
pub(crate) fn remove_track(
    media: &mut Media,
    now: Instant,
    track: TrackId,
) -> Option<(RoomId, TrackIx)> {
    let index = media.tracks.find(track)?;
    for subscription in media.tracks[index].subscriptions.clone() {
        let id = media.subscriptions[subscription].id;
        remove_subscription(media, now, id);
    }
    let (_, removed) = media.tracks.remove(track)?;
    if let Feed::Peer(peer) = removed.feed {
        let state = &mut media.peers[peer];
        state.tracks.retain(|&other| other != index);
        state.streams.unbind_track(index);
    }
    Some((removed.room, index))
}

pub(crate) fn set_track_muted(
    media: &mut Media,
    allocator: &mut Allocator,
    now: Instant,
    track: TrackId,
    muted: bool,
) {
    let Some(index) = media.tracks.find(track) else {
        return;
    };
    media.tracks[index].muted = muted;
    allocator.choose_layers(media, now, index);
}

pub(crate) fn add_subscription(
    media: &mut Media,
    allocator: &mut Allocator,
    rng: &mut SmallRng,
    now: Instant,
    new: &NewSubscription,
) {
    let (Some(peer), Some(track)) = (
        media.peers.find(new.transport),
        media.tracks.find(new.track),
    ) else {
        return;
    };
    if media.subscriptions.contains(new.subscription) {
        return;
    }
    let kind = media.tracks[track].kind;
    let shown_as = new.shown_as.filter(|codec| codec.kind() == kind);
    let clock_rate = match (shown_as, kind) {
        (Some(codec), _) => codec.clock_rate(),
        (None, MediaKind::Audio) => Codec::Opus.clock_rate(),
        (None, MediaKind::Video) => Codec::Vp8.clock_rate(),
    };
    let (first, first_rtx) = (rng.random(), rng.random());
    let mut subscription = Subscription::new(new, track, peer, clock_rate, first, first_rtx);
    let silence = shown_as.map(|codec| Silence::new(codec, now));
    let silence_due = silence.as_ref().map(|silence| silence.due);
    subscription.silence = silence.map(Box::new);
    let index = media.subscriptions.insert(new.subscription, subscription);
    media.tracks[track].subscriptions.push(index);
    let state = &mut media.peers[peer];
    state.subscriptions.push(index);
    state.gives_feedback |= new.transport_cc;
    state.silence_due = [state.silence_due, silence_due].into_iter().flatten().min();
    state.set_pace();
    media.arm_media_timers(peer);
    update_relay(media, now, track);
    allocator.allocate(media, now, peer, Reason::Settings);
}

/// Ends a subscription. Gives the peer that had it.
pub(crate) fn remove_subscription(
    media: &mut Media,
    now: Instant,
    subscription: SubscriptionId,
) -> Option<PeerIx> {
    let (index, removed) = media.subscriptions.remove(subscription)?;
    let track = &mut media.tracks[removed.track];
    track.subscriptions.retain(|&other| other != index);
    track.always_heard -= u32::from(removed.always_heard);
    let peer = &mut media.peers[removed.peer];
    peer.subscriptions.retain(|&other| other != index);
    peer.cancel(removed.track);
    update_relay(media, now, removed.track);
    Some(removed.peer)
}

pub(crate) fn set_payload_types(
    media: &mut Media,
    subscription: SubscriptionId,
    answered: PayloadTypes,
) {
    if let Some(index) = media.subscriptions.find(subscription) {
        media.subscriptions[index].renegotiate(answered);
    }
}

/// Changes a subscription. Gives the peer that has it.
pub(crate) fn set_subscription(
    media: &mut Media,
    allocator: &mut Allocator,
    now: Instant,
    subscription: SubscriptionId,
    settings: SubscriptionSettings,
) -> Option<PeerIx> {
    let index = media.subscriptions.find(subscription)?;
    let state = &mut media.subscriptions[index];
    state.settings = settings;
    if !settings.enabled {
        state.forwarder.pause();
    }
    let peer = state.peer;
    allocator.allocate(media, now, peer, Reason::Settings);
    Some(peer)
}
