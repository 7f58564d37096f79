//! A job on its way to the worker that took it, with the token by which its agent joins.

use std::time::Duration;

use moim_signaling::token::{Claims, TokenIssuer, VideoGrant};
use moim_signaling::wire::{
    AvailabilityResponse, Job, JobAssignment, ParticipantPermission, RegisterWorkerRequest,
};

/// How long the token of an agent is good. LiveKit's value.
const TOKEN_TTL: Duration = Duration::from_secs(3_600);
/// The attribute that says which agent a participant is.
const NAME_ATTRIBUTE: &str = "lk.agent_name";

/// A job that a worker took.
#[derive(Debug)]
pub(super) struct Assignment {
    /// The key that signed the worker's token signs its agent's.
    pub(super) api_key: String,
    pub(super) registration: RegisterWorkerRequest,
    pub(super) answer: AvailabilityResponse,
    pub(super) job: Job,
}

impl Assignment {
    /// What the worker is sent; `None` when its key was taken out of the configuration.
    pub(super) fn sign(self, issuer: &TokenIssuer, now: u64) -> Option<JobAssignment> {
        let usual = ParticipantPermission {
            can_subscribe: true,
            can_publish: true,
            can_publish_data: true,
            can_update_metadata: true,
            ..Default::default()
        };
        let may = self.registration.allowed_permissions.unwrap_or(usual);
        let room = self.job.room.as_ref().map(|room| room.name.clone());
        let mut attributes = self.answer.participant_attributes;
        attributes.insert(NAME_ATTRIBUTE.to_owned(), self.registration.agent_name);
        let claims = Claims {
            sub: self.answer.participant_identity,
            name: self.answer.participant_name,
            kind: "agent".to_owned(),
            metadata: self.answer.participant_metadata,
            attributes,
            video: Some(VideoGrant {
                room_join: true,
                agent: true,
                room: room.unwrap_or_default(),
                can_subscribe: Some(may.can_subscribe),
                can_publish: Some(may.can_publish),
                can_publish_data: Some(may.can_publish_data),
                can_update_own_metadata: Some(may.can_update_metadata),
                can_subscribe_metrics: may.can_subscribe_metrics,
                hidden: may.hidden,
                ..Default::default()
            }),
            ..Default::default()
        };
        let token = issuer.issue(Some(&self.api_key), &claims, now, TOKEN_TTL);
        Some(JobAssignment {
            job: Some(self.job),
            token: token.ok()?,
            url: None,
        })
    }
}
