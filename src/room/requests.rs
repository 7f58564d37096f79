//! What clients ask for, by message.

use moim_signaling::wire::{
    DisconnectReason, RequestResponse, SignalRequest, UpdateParticipantMetadata, leave_request,
    request_response, signal_request, signal_response, simulate_scenario,
};

use super::participant::ParticipantKey;
use super::state::Room;

/// Bounds of what a participant may say about itself, bytes.
const MAX_METADATA: usize = 512 << 10;
const MAX_ATTRIBUTES: usize = 64 << 10;
const MAX_NAME: usize = 256;

impl Room {
    pub(super) fn handle_request(&mut self, key: ParticipantKey, request: SignalRequest) {
        use signal_request::Message;
        match request.message {
            Some(Message::Offer(offer)) => self.publisher_offer(key, offer),
            Some(Message::Answer(answer)) => self.subscriber_answer(key, &answer),
            Some(Message::AddTrack(request)) => self.add_track(key, request),
            Some(Message::Mute(mute)) => self.mute(key, &mute.sid, mute.muted),
            Some(Message::Subscription(update)) => self.update_subscription(key, &update),
            Some(Message::TrackSetting(settings)) => self.track_settings(key, &settings),
            Some(Message::SubscriptionPermission(permission)) => {
                self.subscription_permission(key, permission);
            }
            Some(Message::SyncState(state)) => {
                if let Some(update) = state.subscription {
                    self.update_subscription(key, &update);
                }
            }
            Some(Message::UpdateMetadata(update)) => self.update_metadata(key, update),
            Some(Message::Leave(_)) => self.remove(key, DisconnectReason::ClientInitiated),
            Some(Message::Simulate(simulate)) => {
                if let Some(scenario) = simulate.scenario {
                    self.simulate(key, &scenario);
                }
            }
            // With ICE-lite the peer's checks show where it is: its candidates are not needed
            // (RFC 8445, section 2.5). The rest is not served yet, or answered by the session.
            _ => {}
        }
    }

    /// Cases that the client SDKs' own tests provoke.
    fn simulate(&mut self, key: ParticipantKey, scenario: &simulate_scenario::Scenario) {
        use simulate_scenario::Scenario;
        match scenario {
            Scenario::ServerLeave(_) => self.dismiss(
                key,
                DisconnectReason::ServerShutdown,
                leave_request::Action::Disconnect,
            ),
            Scenario::LeaveRequestFullReconnect(_) | Scenario::NodeFailure(_) => self.dismiss(
                key,
                DisconnectReason::StateMismatch,
                leave_request::Action::Reconnect,
            ),
            _ => {}
        }
    }

    fn update_metadata(&mut self, key: ParticipantKey, update: UpdateParticipantMetadata) {
        let Some(participant) = self.participants.get_mut(&key) else {
            return;
        };
        let attributes_len: usize = update
            .attributes
            .iter()
            .map(|(k, v)| k.len() + v.len())
            .sum();
        let (reason, message) = if !participant.permissions.update_metadata {
            let text = "the token does not allow changing one's own metadata";
            (request_response::Reason::NotAllowed, text)
        } else if update.metadata.len() > MAX_METADATA
            || update.name.len() > MAX_NAME
            || attributes_len > MAX_ATTRIBUTES
        {
            let text = "metadata may have 512 KiB, attributes 64 KiB, a name 256 bytes";
            (request_response::Reason::LimitExceeded, text)
        } else {
            (request_response::Reason::Ok, "")
        };
        let allowed = reason == request_response::Reason::Ok;
        if allowed {
            participant.metadata.clone_from(&update.metadata);
            participant.name.clone_from(&update.name);
            for (name, value) in &update.attributes {
                // An empty value takes an attribute away.
                if value.is_empty() {
                    participant.attributes.remove(name);
                } else {
                    participant.attributes.insert(name.clone(), value.clone());
                }
            }
        }
        let response = RequestResponse {
            request_id: update.request_id,
            reason: reason as i32,
            message: message.to_owned(),
            request: Some(request_response::Request::UpdateMetadata(update)),
        };
        if allowed {
            self.broadcast_participant(key);
            self.send_token(key);
        }
        self.send(key, signal_response::Message::RequestResponse(response));
    }
}
