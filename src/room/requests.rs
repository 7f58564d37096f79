//! What clients ask for, by message. Every request of the protocol has its line here.

use moim_signaling::wire::{
    DisconnectReason, RequestResponse, SignalRequest, SpeakerInfo, SpeakersChanged, SyncState,
    TrackUnpublishedResponse, UpdateParticipantMetadata, leave_request, request_response,
    signal_request, signal_response, simulate_scenario,
};

use super::core::Room;
use super::id::ParticipantKey;
use super::participant::Participant;

/// Bounds of what a participant may say about itself, bytes: LiveKit's defaults.
const MAX_METADATA: usize = 512 << 10;
const MAX_ATTRIBUTES: usize = 64 << 10;
const MAX_NAME: usize = 256;

impl Room {
    pub(super) fn dispatch_request(&mut self, key: ParticipantKey, request: SignalRequest) {
        use signal_request::Message;
        let Some(message) = request.message else {
            return;
        };
        match message {
            Message::Offer(offer) => self.publisher_offer(key, &offer),
            Message::Answer(answer) => self.subscriber_answer(key, &answer),
            Message::AddTrack(request) => self.add_track(key, request),
            Message::Mute(mute) => self.mute(key, &mute),
            Message::Subscription(update) => self.update_subscription(key, &update),
            Message::TrackSetting(settings) => self.track_settings(key, &settings),
            Message::SubscriptionPermission(permission) => {
                self.subscription_permission(key, permission);
            }
            Message::SyncState(state) => self.sync_state(key, &state),
            Message::UpdateMetadata(update) => self.update_metadata(key, update),
            Message::UpdateAudioTrack(update) => self.update_audio_track(key, &update),
            Message::UpdateVideoTrack(update) => self.update_video_track(key, &update),
            Message::PublishDataTrackRequest(request) => self.publish_data_track(key, request),
            Message::UnpublishDataTrackRequest(request) => self.unpublish_data_track(key, request),
            Message::UpdateDataSubscription(update) => self.update_data_subscription(key, &update),
            Message::StoreDataBlobRequest(request) => self.store_data_blob(key, &request),
            Message::GetDataBlobRequest(request) => self.get_data_blob(key, &request),
            Message::Leave(_) => self.remove(key, DisconnectReason::ClientInitiated),
            Message::Simulate(simulate) => {
                if let Some(scenario) = simulate.scenario {
                    self.simulate(key, &scenario);
                }
            }
            // With ICE-lite the peer's checks show where it is: its candidates are not needed
            // (RFC 8445, section 2.5). Layers are told by dynacast now. Pings are answered by
            // the session.
            #[allow(deprecated)]
            Message::Trickle(_)
            | Message::UpdateLayers(_)
            | Message::Ping(_)
            | Message::PingReq(_) => {}
        }
    }

    /// What a client knows after it resumed.
    fn sync_state(&mut self, key: ParticipantKey, state: &SyncState) {
        if let Some(update) = &state.subscription {
            self.update_subscription(key, update);
        }
        if let Some(update) = &state.data_subscription {
            self.update_data_subscription(key, update);
        }
        // One that is announced only has not ended: its offer may be under way.
        let ended: Vec<String> = state
            .publish_tracks
            .iter()
            .filter_map(|published| Some(&published.track.as_ref()?.sid))
            .filter(|sid| self.track_of(key, sid).is_none() && !self.has_announced(key, sid))
            .cloned()
            .collect();
        for track_sid in ended {
            let response = TrackUnpublishedResponse { track_sid };
            self.send(key, signal_response::Message::TrackUnpublished(response));
        }
    }

    /// Cases that the client SDKs' own tests provoke.
    fn simulate(&mut self, key: ParticipantKey, scenario: &simulate_scenario::Scenario) {
        use simulate_scenario::Scenario;
        match scenario {
            Scenario::SpeakerUpdate(_) => {
                let sid = self
                    .participants
                    .get(&key)
                    .map(|participant| participant.sid.clone());
                let speakers = sid.map(|sid| SpeakerInfo {
                    sid,
                    level: 0.9,
                    active: true,
                });
                let changed = SpeakersChanged {
                    speakers: speakers.into_iter().collect(),
                };
                self.send(key, signal_response::Message::SpeakersChanged(changed));
            }
            Scenario::ServerLeave(_) => self.dismiss(
                key,
                DisconnectReason::ServerShutdown,
                leave_request::Action::Disconnect,
            ),
            Scenario::LeaveRequestFullReconnect(_)
            | Scenario::NodeFailure(_)
            | Scenario::Migration(_) => self.dismiss(
                key,
                DisconnectReason::StateMismatch,
                leave_request::Action::Reconnect,
            ),
            Scenario::DisconnectSignalOnResume(_)
            | Scenario::DisconnectSignalOnResumeNoMessages(_) => {
                if let Some(participant) = self.participants.get_mut(&key) {
                    participant.cuts_next_resume = true;
                }
            }
            Scenario::SwitchCandidateProtocol(_) | Scenario::SubscriberBandwidth(_) => {}
        }
    }

    fn update_metadata(&mut self, key: ParticipantKey, update: UpdateParticipantMetadata) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let outcome = if participant.permissions.update_metadata {
            apply_metadata(participant, &update)
        } else {
            let text = "the token does not allow changing one's own metadata";
            Err((request_response::Reason::NotAllowed, text))
        };
        let changed = outcome == Ok(true);
        let (reason, message) = match outcome {
            Ok(_) => (request_response::Reason::Ok, ""),
            Err(refused) => refused,
        };
        let response = RequestResponse {
            request_id: update.request_id,
            reason: reason as i32,
            message: message.to_owned(),
            request: Some(request_response::Request::UpdateMetadata(update)),
        };
        if changed {
            self.touch(key);
            self.send_token(key);
        }
        self.send(key, signal_response::Message::RequestResponse(response));
    }
}

/// Takes over what a client or an administrator says of a participant. A field that is absent
/// (empty, in this message) changes nothing; an attribute with an empty value is taken away.
/// True when something has changed; nothing changes on an error.
pub(super) fn apply_metadata(
    participant: &mut Participant,
    update: &UpdateParticipantMetadata,
) -> Result<bool, (request_response::Reason, &'static str)> {
    let mut attributes = participant.attributes.clone();
    for (name, value) in &update.attributes {
        if value.is_empty() {
            attributes.remove(name);
        } else {
            attributes.insert(name.clone(), value.clone());
        }
    }
    let bytes: usize = attributes
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if update.metadata.len() > MAX_METADATA
        || update.name.len() > MAX_NAME
        // One that is over the bound already, by its token, may become smaller.
        || (bytes > MAX_ATTRIBUTES && bytes > participant.attribute_bytes())
    {
        let text = "metadata may have 512 KiB, attributes together 64 KiB, a name 256 bytes";
        return Err((request_response::Reason::LimitExceeded, text));
    }
    let mut changed = participant.attributes != attributes;
    participant.attributes = attributes;
    let said = [
        (&update.metadata, &mut participant.metadata),
        (&update.name, &mut participant.name),
    ];
    for (said, known) in said {
        if !said.is_empty() && said != known {
            known.clone_from(said);
            changed = true;
        }
    }
    Ok(changed)
}
