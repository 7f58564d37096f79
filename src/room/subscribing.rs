//! Subscribing: who gets which track in which size, and the offers that say so.

use moim_engine::codec::{Codec, MediaKind};
use moim_engine::command::{Command, NewSubscription};
use moim_engine::ids::{TrackId, TransportId};
use moim_signaling::wire::{
    RequestResponse, SessionDescription, SubscriptionPermission, TrackSubscribed,
    UpdateSubscription, UpdateTrackSettings, request_response, signal_response,
};
use rand::RngExt;

use super::audience::Audience;
use super::core::{Room, Side};
use super::id::{ParticipantKey, TrackKey};
use super::journal::Fact;
use super::participant::Participant;
use super::publication::Publication;
use super::subscription::{Agreed, Choice, Progress, Subscription, settings};
use crate::media::connection::SubscriberConnection;
use crate::media::negotiation::{AcceptedTrack, SdpToken, SendTrack};

/// Clients from this protocol on understand streams that group a participant's tracks.
const SYNC_STREAM_PROTOCOL: i32 = 10;

/// What a participant is to get of a track.
struct Right {
    /// It asks for it, by itself or by default.
    wished: bool,
    /// Its token and the publisher allow it.
    permitted: bool,
}

fn right(viewer: &Participant, owner: &Participant, track: &Publication) -> Right {
    let sid = &track.info.sid;
    let wished = viewer
        .demands
        .subscribe(sid)
        .unwrap_or(viewer.client.auto_subscribe);
    // Recorders are the operator's own, and take what there is.
    let seen =
        viewer.permissions.recorder || owner.audience.permits(&viewer.identity, &viewer.sid, sid);
    Right {
        wished,
        permitted: viewer.permissions.subscribe && seen,
    }
}

impl Room {
    /// Makes the server's half of a connection on which a participant receives.
    pub(super) fn open_subscriber(&mut self, key: ParticipantKey) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        if participant.subscriber.is_some() {
            return;
        }
        let subscriber =
            SubscriberConnection::open(&mut self.media, &mut self.rng, self.now.instant);
        self.transports
            .insert(subscriber.transport(), (key, Side::Subscriber));
        participant.subscriber = Some(subscriber);
        self.flush_waiting_data(key);
    }

    /// Looks at every track for one participant.
    pub(super) fn reconsider_viewer(&mut self, key: ParticipantKey) {
        let tracks: Vec<TrackKey> = self.publications.keys().copied().collect();
        for track in tracks {
            self.reconsider(key, track);
        }
    }

    /// Looks at one track for every participant.
    pub(super) fn reconsider_track(&mut self, track: TrackKey) {
        let keys: Vec<ParticipantKey> = self.participants.keys().copied().collect();
        for key in keys {
            self.reconsider(key, track);
        }
    }

    /// Subscribes or unsubscribes one participant to one track, by what it wishes and what it
    /// is permitted, and has it told what it may not see.
    pub(super) fn reconsider(&mut self, key: ParticipantKey, track: TrackKey) {
        let (Some(viewer), Some(found)) =
            (self.participants.get(&key), self.publications.get(&track))
        else {
            return;
        };
        let Some(owner) = self.participants.get(&found.owner) else {
            return;
        };
        // Nobody is offered a track of somebody of whom it is not told.
        if owner.key == key || owner.permissions.hidden {
            return;
        }
        let Right { wished, permitted } = right(viewer, owner, found);
        let subscribed = viewer.subscriptions.contains_key(&track);
        match (permitted && wished, subscribed) {
            (true, false) => self.subscribe(key, track),
            (false, true) => self.unsubscribe(key, track),
            _ => {}
        }
        if wished {
            self.news.permissions.insert((key, track));
        }
    }

    fn subscribe(&mut self, key: ParticipantKey, track: TrackKey) {
        let (Some(viewer), Some(found)) =
            (self.participants.get(&key), self.publications.get(&track))
        else {
            return;
        };
        let Some(owner) = self.participants.get(&found.owner) else {
            return;
        };
        let mut ssrc = || self.rng.random_range(1..u32::MAX);
        let video = found.kind == MediaKind::Video;
        let (ssrc, rtx_ssrc) = (ssrc(), video.then(&mut ssrc));
        let subscription = Subscription {
            id: self.media.subscription_id(),
            ssrc,
            rtx_ssrc,
            progress: Progress::Offered,
            settings: settings(
                viewer.demands.settings(&found.info.sid),
                found,
                viewer.client.adaptive_stream,
                viewer.client.allow_pause,
            ),
            paused: false,
            paused_told: Some(false),
        };
        let send = send_track(viewer, owner, found, &subscription);
        let Some(viewer) = self.participants.get_mut(&key) else {
            return;
        };
        let Some(subscriber) = &mut viewer.subscriber else {
            return;
        };
        if subscriber.add_track(send) {
            viewer.subscriptions.insert(track, subscription);
            self.news.demand.insert(track);
            self.news.viewers.insert(key);
            self.journal.write(Fact::Subscribed);
        }
    }

    fn unsubscribe(&mut self, key: ParticipantKey, track: TrackKey) {
        let Some(viewer) = self.participants.get_mut(&key) else {
            return;
        };
        let Some(subscription) = viewer.subscriptions.remove(&track) else {
            return;
        };
        if let Some(subscriber) = &mut viewer.subscriber {
            subscriber.remove_track(subscription.id.0);
        }
        if matches!(subscription.progress, Progress::Forwarded { .. }) {
            self.media
                .command(Command::RemoveSubscription(subscription.id));
        }
        self.news.demand.insert(track);
        self.news.viewers.insert(key);
        self.journal.write(Fact::Unsubscribed);
    }

    /// Has those looked at whose next offer waited for the last one to be a while ago.
    pub(super) fn make_due_offers(&mut self) {
        let now = self.now.instant;
        let due = self.participants.values().filter(|participant| {
            let subscriber = participant.subscriber.as_ref();
            subscriber
                .and_then(SubscriberConnection::offer_due)
                .is_some_and(|due| due <= now)
        });
        self.news
            .viewers
            .extend(due.map(|participant| participant.key));
    }

    /// Sends an offer when something has changed and none is under way.
    pub(super) fn offer_if_needed(&mut self, key: ParticipantKey) {
        let now = self.now.instant;
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        // Without a session nobody would hear it.
        if !participant.session.is_up() {
            return;
        }
        let Some(subscriber) = &mut participant.subscriber else {
            return;
        };
        if let Some(offer) = subscriber.next_offer(now) {
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
        let now = self.now.instant;
        let outcome = match subscriber.answer(&mut self.media, answer.id, &answer.sdp, now) {
            Ok(outcome) => outcome,
            Err(error) => {
                // A late answer to an offer that was replaced; a stuck client is noticed by
                // the offer that stays unanswered.
                tracing::debug!(participant = %participant.identity, %error, "answer refused");
                return;
            }
        };
        let answered: Vec<(TrackKey, Option<Agreed>)> = participant
            .subscriptions
            .iter()
            .filter_map(|(track, subscription)| {
                let id = subscription.id.0;
                if outcome.rejected.contains(&id) {
                    return Some((*track, None));
                }
                let accepted = outcome.accepted.iter().find(|track| track.key == id)?;
                Some((*track, Some(agreed(accepted))))
            })
            .collect();
        for (track, agreed) in answered {
            self.settle_subscription(key, track, agreed);
        }
        // There may be more to offer.
        self.news.viewers.insert(key);
    }

    /// Forwards what a client agreed to; `None` when it took nothing.
    fn settle_subscription(
        &mut self,
        key: ParticipantKey,
        track: TrackKey,
        agreed: Option<Agreed>,
    ) {
        let (Some(participant), Some(publication)) = (
            self.participants.get_mut(&key),
            self.publications.get(&track),
        ) else {
            return;
        };
        let transport = participant
            .subscriber
            .as_ref()
            .map(SubscriberConnection::transport);
        let (Some(subscription), Some(transport)) =
            (participant.subscriptions.get_mut(&track), transport)
        else {
            return;
        };
        let choice = match &agreed {
            Some(agreed) => agreed.choose(publication),
            None => Choice::Nothing,
        };
        let told = matches!(subscription.progress, Progress::Refused { told: true });
        let former = match &subscription.progress {
            Progress::Forwarded { encoding, .. } => Some(*encoding),
            _ => None,
        };
        let goes_on = former
            .and_then(|id| publication.encoding(id))
            .is_some_and(|sent| {
                agreed
                    .as_ref()
                    .is_some_and(|agreed| agreed.takes(sent.codec))
            });
        if former.is_some() && !goes_on {
            // Whatever comes next has SSRCs of its own: the receiver's replay window and the
            // packet index go with the SSRC (RFC 3711, section 3.3).
            self.unsubscribe(key, track);
            self.reconsider(key, track);
            return;
        }
        let next = match (former, choice, agreed) {
            (Some(encoding), _, Some(agreed)) => {
                let next = Progress::Forwarded { agreed, encoding };
                if subscription.progress != next
                    && let Progress::Forwarded { agreed, .. } = &next
                {
                    self.media.command(Command::SetPayloadTypes {
                        subscription: subscription.id,
                        payload_types: agreed.payload_types,
                    });
                }
                next
            }
            (None, Choice::Encoding(encoding), Some(agreed)) => {
                let shown_as = publication
                    .encoding(encoding)
                    .map(|sent| sent.codec)
                    .filter(|_| participant.client.learns_by_media);
                let added = added(subscription, transport, encoding, &agreed, shown_as);
                self.media.command(Command::AddSubscription(added));
                Progress::Forwarded { agreed, encoding }
            }
            (None, Choice::Backup, Some(agreed)) => Progress::WaitsForBackup { agreed },
            _ => Progress::Refused { told },
        };
        let forwarded = matches!(next, Progress::Forwarded { .. });
        if subscription.progress != next {
            subscription.progress = next;
            self.news.demand.insert(track);
            self.news.viewers.insert(key);
        }
        if forwarded {
            self.tell_subscribed(track);
        }
    }

    /// The encodings of a track, or their codecs, are others: what is forwarded is looked at
    /// for everybody who agreed to something.
    pub(super) fn encodings_changed(&mut self, track: TrackKey) {
        let Some(codecs) = self.publications.get(&track).map(Publication::codecs) else {
            return;
        };
        for viewer in self.participants.values_mut() {
            let subscription = viewer.subscriptions.get(&track);
            if let (Some(subscription), Some(subscriber)) = (subscription, &mut viewer.subscriber) {
                subscriber.set_codecs(subscription.id.0, &codecs);
                self.news.viewers.insert(viewer.key);
            }
        }
        let agreed: Vec<(ParticipantKey, Agreed)> = self
            .participants
            .values()
            .filter_map(|viewer| match &viewer.subscriptions.get(&track)?.progress {
                Progress::Forwarded { agreed, .. } | Progress::WaitsForBackup { agreed } => {
                    Some((viewer.key, agreed.clone()))
                }
                Progress::Offered | Progress::Refused { .. } => None,
            })
            .collect();
        for (key, agreed) in agreed {
            self.settle_subscription(key, track, Some(agreed));
        }
    }

    /// Tells a publisher that somebody gets its track, the first time.
    fn tell_subscribed(&mut self, track: TrackKey) {
        let Some(publication) = self.publications.get_mut(&track) else {
            return;
        };
        if std::mem::replace(&mut publication.subscribed_told, true) {
            return;
        }
        let owner = publication.owner;
        let track_sid = publication.info.sid.clone();
        let message = signal_response::Message::TrackSubscribed(TrackSubscribed { track_sid });
        self.send(owner, message);
    }

    /// A client wants tracks, or does not want them any more; they need not exist yet.
    pub(super) fn update_subscription(&mut self, key: ParticipantKey, update: &UpdateSubscription) {
        let named = update
            .participant_tracks
            .iter()
            .flat_map(|tracks| &tracks.track_sids);
        let sids: std::collections::BTreeSet<&String> =
            update.track_sids.iter().chain(named).collect();
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        for sid in &sids {
            participant.demands.set_subscribe(sid, update.subscribe);
        }
        let tracks: Vec<TrackKey> = self
            .publications
            .values()
            .filter(|track| sids.contains(&track.info.sid))
            .map(|track| track.key)
            .collect();
        for track in tracks {
            self.reconsider(key, track);
        }
    }

    /// A client says in which size it shows tracks; they need not exist yet.
    pub(super) fn track_settings(&mut self, key: ParticipantKey, said: &UpdateTrackSettings) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        for sid in &said.track_sids {
            participant.demands.set_settings(sid, said);
        }
        let tracks: Vec<TrackKey> = participant.subscriptions.keys().copied().collect();
        for track in tracks {
            self.apply_settings(key, track);
        }
    }

    /// Brings the engine up to date with the size in which a participant wants a track.
    pub(super) fn apply_settings(&mut self, key: ParticipantKey, track: TrackKey) {
        let (Some(participant), Some(publication)) = (
            self.participants.get_mut(&key),
            self.publications.get(&track),
        ) else {
            return;
        };
        let said = participant.demands.settings(&publication.info.sid);
        let wanted = settings(
            said,
            publication,
            participant.client.adaptive_stream,
            participant.client.allow_pause,
        );
        let Some(subscription) = participant.subscriptions.get_mut(&track) else {
            return;
        };
        if subscription.settings == wanted {
            return;
        }
        subscription.settings = wanted;
        self.news.demand.insert(track);
        if matches!(subscription.progress, Progress::Forwarded { .. }) {
            self.media.command(Command::SetSubscription {
                subscription: subscription.id,
                settings: wanted,
            });
        }
    }

    /// A publisher says who may see its tracks.
    pub(super) fn subscription_permission(
        &mut self,
        key: ParticipantKey,
        permission: SubscriptionPermission,
    ) {
        let audience = match Audience::read(permission) {
            Ok(audience) => audience,
            Err(error) => {
                let response = RequestResponse {
                    reason: request_response::Reason::LimitExceeded as i32,
                    message: error.to_string(),
                    ..Default::default()
                };
                self.send(key, signal_response::Message::RequestResponse(response));
                return;
            }
        };
        let Some(owner) = self.participants.get_mut(&key) else {
            return;
        };
        owner.audience = audience;
        let tracks: Vec<TrackKey> = self.tracks_of(key).map(|track| track.key).collect();
        for track in tracks {
            self.reconsider_track(track);
        }
        self.reconsider_data_tracks(key);
    }

    /// Whether a participant may see a track, as its client is told.
    pub(super) fn may_see(&self, key: ParticipantKey, track: TrackKey) -> Option<bool> {
        let viewer = self.participants.get(&key)?;
        let publication = self.publications.get(&track)?;
        let owner = self.participants.get(&publication.owner)?;
        Some(right(viewer, owner, publication).permitted)
    }

    /// The track that an encoding belongs to.
    pub(super) fn track_of_encoding(&self, id: TrackId) -> Option<&Publication> {
        self.publications.get(self.media_tracks.get(&id)?)
    }
}

/// A track as the subscriber's negotiation takes it.
fn send_track(
    viewer: &Participant,
    owner: &Participant,
    track: &Publication,
    subscription: &Subscription,
) -> SendTrack {
    let (owner_sid, track_sid) = (&owner.sid, &track.info.sid);
    let own_stream_id = SdpToken::track_stream(owner_sid, track_sid);
    let stream = &track.info.stream;
    let groups = viewer.client.protocol >= SYNC_STREAM_PROTOCOL && !stream.is_empty();
    SendTrack {
        key: subscription.id.0,
        kind: track.kind,
        codecs: track.codecs(),
        stereo: track.is_stereo(),
        stream_id: if groups {
            SdpToken::group_stream(owner_sid, stream)
        } else {
            own_stream_id.clone()
        },
        own_stream_id,
        track_id: SdpToken::track(track_sid),
        ssrc: subscription.ssrc,
        rtx_ssrc: subscription.rtx_ssrc,
    }
}

fn agreed(accepted: &AcceptedTrack) -> Agreed {
    Agreed {
        payload_types: accepted.payload_types,
        transport_cc: accepted.takes_transport_cc,
    }
}

/// The engine's parameters of a new subscription.
fn added(
    subscription: &Subscription,
    transport: TransportId,
    track: TrackId,
    agreed: &Agreed,
    shown_as: Option<Codec>,
) -> NewSubscription {
    NewSubscription {
        subscription: subscription.id,
        track,
        transport,
        ssrc: subscription.ssrc,
        rtx_ssrc: subscription
            .rtx_ssrc
            .filter(|_| agreed.payload_types.has_rtx()),
        transport_cc: agreed.transport_cc,
        payload_types: agreed.payload_types,
        settings: subscription.settings,
        shown_as,
    }
}
