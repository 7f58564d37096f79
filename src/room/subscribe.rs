//! Subscribing: who gets which track, in which size, and the offers that say so.

use std::collections::HashSet;

use moim_signaling::wire::{
    ParticipantTracks, SessionDescription, SubscriptionError, SubscriptionPermission,
    SubscriptionResponse, TrackSubscribed, UpdateSubscription, UpdateTrackSettings, VideoQuality,
    signal_response,
};
use tokio::time::Instant;

use super::participant::{Audience, ParticipantKey, Subscription};
use super::state::Room;
use crate::media::negotiation::SendTrack;
use moim_engine::codec::MediaKind;
use moim_engine::command::{Command, NewSubscription, SubscriptionSettings};
use moim_engine::ids::TrackId;

/// Clients from this protocol on understand streams that group a participant's tracks.
const SYNC_STREAM_PROTOCOL: i32 = 10;

impl Room {
    /// Somebody new gets everything that is there, as far as it wants and may.
    pub(super) fn subscribe_to_all(&mut self, key: ParticipantKey) {
        let tracks: Vec<TrackId> = self.tracks.keys().copied().collect();
        for track in tracks {
            self.reconsider(key, track);
        }
    }

    /// Everybody gets a new track, as far as they want and may.
    pub(super) fn subscribe_all_to(&mut self, track: TrackId) {
        let keys: Vec<ParticipantKey> = self.participants.keys().copied().collect();
        for key in keys {
            self.reconsider(key, track);
        }
    }

    /// Subscribes or unsubscribes one participant to one track, by what it wishes and what it
    /// is permitted.
    fn reconsider(&mut self, key: ParticipantKey, track: TrackId) {
        let (Some(viewer), Some(found)) = (self.participants.get(&key), self.tracks.get(&track))
        else {
            return;
        };
        let Some(owner) = self.participants.get(&found.owner) else {
            return;
        };
        if owner.key == key || viewer.subscriber.is_none() {
            return;
        }
        let permitted = viewer.permissions.subscribe
            && owner
                .audience
                .permits(&viewer.identity, &viewer.sid, &found.info.sid);
        let wished = *viewer.wishes.get(&track).unwrap_or(&viewer.auto_subscribe);
        let subscribed = viewer.subscriptions.contains_key(&track);
        match (permitted && wished, subscribed) {
            (true, false) => self.subscribe(key, track),
            (false, true) => self.unsubscribe(key, track),
            _ => {}
        }
    }

    fn subscribe(&mut self, key: ParticipantKey, id: TrackId) {
        let (Some(viewer), Some(track)) = (self.participants.get_mut(&key), self.tracks.get(&id))
        else {
            return;
        };
        let subscription = Subscription {
            id: self.media.subscription_id(),
            track: id,
            ssrc: rand::random_range(1..u32::MAX),
            rtx_ssrc: (track.kind == MediaKind::Video).then(|| rand::random_range(1..u32::MAX)),
            active: false,
            refused: false,
            wish: SubscriptionSettings {
                // A client that says what it shows starts small and is shown more as it says
                // so.
                max_layer: if viewer.adaptive_stream { 0 } else { 2 },
                allow_pause: viewer.allow_pause,
                ..SubscriptionSettings::default()
            },
        };
        let owner = track.owner;
        let track_sid = track.info.sid.clone();
        let stream = track.info.stream.clone();
        let send = SendTrack {
            key: subscription.id.0,
            kind: track.kind,
            codec: track.codec,
            stream_id: String::new(),
            own_stream_id: String::new(),
            track_id: track_sid.clone(),
            ssrc: subscription.ssrc,
            rtx_ssrc: subscription.rtx_ssrc,
        };
        let groups = viewer.protocol >= SYNC_STREAM_PROTOCOL && !stream.is_empty();
        let Some(owner_sid) = self.participants.get(&owner).map(|owner| owner.sid.clone()) else {
            return;
        };
        let own_stream_id = format!("{owner_sid}|{track_sid}");
        let stream_id = if groups {
            format!("{owner_sid}|{stream}")
        } else {
            own_stream_id.clone()
        };
        self.tell_permission(key, &owner_sid, &track_sid, true);
        let Some(viewer) = self.participants.get_mut(&key) else {
            return;
        };
        let Some(subscriber) = &mut viewer.subscriber else {
            return;
        };
        let send = SendTrack {
            stream_id,
            own_stream_id,
            ..send
        };
        if subscriber.negotiation.add_track(send) {
            viewer.subscriptions.insert(id, subscription);
            self.rewished.insert(id);
            self.shared.metrics.add_subscribed(1);
        }
    }

    fn unsubscribe(&mut self, key: ParticipantKey, track: TrackId) {
        let Some(viewer) = self.participants.get_mut(&key) else {
            return;
        };
        let Some(subscription) = viewer.subscriptions.remove(&track) else {
            return;
        };
        self.rewished.insert(track);
        self.shared.metrics.add_subscribed(-1);
        if let Some(subscriber) = &mut viewer.subscriber {
            subscriber.negotiation.remove_track(subscription.id.0);
        }
        self.media
            .command(Command::RemoveSubscription(subscription.id));
    }

    /// Sends an offer when something has changed and none is under way.
    pub(super) fn offer_if_needed(&mut self, key: ParticipantKey, now: Instant) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        // Without a session nobody would hear it.
        if participant.outbox.is_none() {
            return;
        }
        let Some(subscriber) = &mut participant.subscriber else {
            return;
        };
        if !subscriber.negotiation.needs_offer() {
            return;
        }
        if let Some(offer) = subscriber.negotiation.offer() {
            subscriber.offered_at = Some(now);
            let message = SessionDescription {
                r#type: "offer".to_owned(),
                sdp: offer.sdp,
                id: offer.id,
                mid_to_track_id: offer.mid_to_track_id,
            };
            participant.send(signal_response::Message::Offer(message));
        }
    }

    /// A client's answer on its subscriber connection.
    pub(super) fn subscriber_answer(&mut self, key: ParticipantKey, answer: &SessionDescription) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let Some(subscriber) = &mut participant.subscriber else {
            return;
        };
        let outcome = match subscriber.negotiation.answer(answer.id, &answer.sdp) {
            Ok(outcome) => outcome,
            Err(error) => {
                // A late answer to an offer that was replaced; a stuck client is noticed by
                // the offer that stays unanswered.
                tracing::info!(participant = %participant.identity, %error, "answer refused");
                return;
            }
        };
        subscriber.offered_at = None;
        let transport = subscriber.transport;
        self.media.command(Command::SetRemote {
            transport,
            ice: outcome.remote.ice,
            fingerprint: outcome.remote.fingerprint,
        });
        let mut first = Vec::new();
        for subscription in participant.subscriptions.values_mut() {
            if let Some(accepted) = outcome
                .accepted
                .iter()
                .find(|accepted| accepted.key == subscription.id.0)
                && !subscription.active
            {
                subscription.active = true;
                if !accepted.takes_rtx {
                    subscription.rtx_ssrc = None;
                }
                self.media
                    .command(Command::AddSubscription(NewSubscription {
                        subscription: subscription.id,
                        track: subscription.track,
                        transport,
                        ssrc: subscription.ssrc,
                        rtx_ssrc: subscription.rtx_ssrc,
                        transport_cc: accepted.takes_transport_cc,
                        takes_red: accepted.takes_red,
                        settings: subscription.wish,
                    }));
                first.push(subscription.track);
            }
        }
        let mut rejected = Vec::new();
        for subscription in participant.subscriptions.values_mut() {
            subscription.refused = outcome.rejected.contains(&subscription.id.0);
            if subscription.refused {
                rejected.push(subscription.track);
            }
        }
        self.rewished.extend(&rejected);
        for track in first {
            self.tell_subscribed(track);
        }
        for track in rejected {
            self.tell_rejected(key, track);
        }
    }

    /// Tells a publisher that somebody gets its track, the first time.
    fn tell_subscribed(&mut self, track: TrackId) {
        let Some(track) = self.tracks.get_mut(&track) else {
            return;
        };
        if std::mem::replace(&mut track.subscribed, true) {
            return;
        }
        let (owner, track_sid) = (track.owner, track.info.sid.clone());
        let message = signal_response::Message::TrackSubscribed(TrackSubscribed { track_sid });
        self.send(owner, message);
    }

    fn tell_rejected(&mut self, key: ParticipantKey, track: TrackId) {
        let Some(track_sid) = self.tracks.get(&track).map(|t| t.info.sid.clone()) else {
            return;
        };
        let response = SubscriptionResponse {
            track_sid,
            err: SubscriptionError::SeCodecUnsupported as i32,
        };
        let message = signal_response::Message::SubscriptionResponse(response);
        self.send(key, message);
    }

    /// A client wants tracks, or does not want them any more.
    pub(super) fn update_subscription(&mut self, key: ParticipantKey, update: &UpdateSubscription) {
        let named = |tracks: &ParticipantTracks| tracks.track_sids.clone();
        let sids: HashSet<String> = update
            .track_sids
            .iter()
            .cloned()
            .chain(update.participant_tracks.iter().flat_map(named))
            .collect();
        let tracks: Vec<TrackId> = self
            .tracks
            .values()
            .filter(|track| sids.contains(&track.info.sid))
            .map(|track| track.id)
            .collect();
        for track in tracks {
            if let Some(participant) = self.participants.get_mut(&key) {
                participant.wishes.insert(track, update.subscribe);
            }
            self.reconsider(key, track);
        }
    }

    /// A client says in which size it shows tracks.
    pub(super) fn track_settings(&mut self, key: ParticipantKey, settings: &UpdateTrackSettings) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        for subscription in participant.subscriptions.values_mut() {
            let Some(track) = self.tracks.get(&subscription.track) else {
                continue;
            };
            if !settings.track_sids.contains(&track.info.sid) {
                continue;
            }
            let off = settings.quality == VideoQuality::Off as i32;
            let enabled = !settings.disabled && !off;
            let max_layer = if settings.width > 0 {
                track.layer_of_height(settings.height)
            } else {
                track.layer_of_quality(settings.quality)
            };
            let wish = SubscriptionSettings {
                enabled,
                max_layer,
                max_frame_rate: settings.fps.min(u32::from(u8::MAX)) as u8,
                priority: settings.priority.min(u32::from(u8::MAX)) as u8,
                allow_pause: subscription.wish.allow_pause,
            };
            if subscription.wish == wish {
                continue;
            }
            subscription.wish = wish;
            self.rewished.insert(subscription.track);
            if subscription.active {
                self.media.command(Command::SetSubscription {
                    subscription: subscription.id,
                    settings: wish,
                });
            }
        }
    }

    /// A publisher says who may see its tracks.
    pub(super) fn subscription_permission(
        &mut self,
        key: ParticipantKey,
        permission: SubscriptionPermission,
    ) {
        let Some(owner) = self.participants.get_mut(&key) else {
            return;
        };
        let (sid, former) = (owner.sid.clone(), owner.audience.clone());
        owner.audience = if permission.all_participants {
            Audience::Everybody
        } else {
            let named = permission.track_permissions.into_iter().map(|named| {
                let who = if named.participant_identity.is_empty() {
                    named.participant_sid
                } else {
                    named.participant_identity
                };
                let tracks = (!named.all_tracks).then(|| named.track_sids.into_iter().collect());
                (who, tracks)
            });
            Audience::Named(named.collect())
        };
        let now = owner.audience.clone();
        let tracks: Vec<(TrackId, String)> = self
            .tracks
            .values()
            .filter(|track| track.owner == key)
            .map(|track| (track.id, track.info.sid.clone()))
            .collect();
        let viewers: Vec<(ParticipantKey, String, String)> = self
            .participants
            .values()
            .filter(|viewer| viewer.key != key)
            .map(|viewer| (viewer.key, viewer.identity.clone(), viewer.sid.clone()))
            .collect();
        for (track, track_sid) in tracks {
            for (viewer, identity, viewer_sid) in &viewers {
                let before = former.permits(identity, viewer_sid, &track_sid);
                let after = now.permits(identity, viewer_sid, &track_sid);
                if before != after {
                    self.reconsider(*viewer, track);
                    if !after {
                        self.tell_permission(*viewer, &sid, &track_sid, false);
                    }
                }
            }
        }
    }
}
