//! `livekit.AgentDispatchService`: agents wanted in rooms.

use axum::response::Response;
use moim_signaling::wire::{
    AgentDispatch, CreateAgentDispatchRequest, DeleteAgentDispatchRequest,
    ListAgentDispatchRequest, ListAgentDispatchResponse, RoomAgentDispatch,
};

use super::Api;
use super::call::Call;
use super::error::{Code, TwirpError};
use super::limits::check_dispatch;
use crate::room::RoomChanges;

pub(super) const NAME: &str = "livekit.AgentDispatchService";

/// The methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    Create,
    Delete,
    List,
}

impl Method {
    /// The method that a path names.
    pub(super) fn named(name: &str) -> Option<Method> {
        match name {
            "CreateDispatch" => Some(Method::Create),
            "DeleteDispatch" => Some(Method::Delete),
            "ListDispatch" => Some(Method::List),
            _ => None,
        }
    }

    /// Answers a call of the method.
    pub(super) async fn answer(self, api: &Api, call: Call) -> Result<Response, TwirpError> {
        let encoding = call.encoding;
        Ok(match self {
            Method::Create => encoding.encode(&create(api, &call).await?),
            Method::Delete => encoding.encode(&delete(api, &call)?),
            Method::List => encoding.encode(&list(api, &call)?),
        })
    }
}

/// The room is made when there is none, if rooms are made by joins.
async fn create(api: &Api, call: &Call) -> Result<AgentDispatch, TwirpError> {
    let request: CreateAgentDispatchRequest = call.message()?;
    call.caller.may_administer(&request.room)?;
    let dispatch = RoomAgentDispatch {
        agent_name: request.agent_name,
        metadata: request.metadata,
        restart_policy: request.restart_policy,
        deployment: request.deployment,
        attributes: request.attributes,
    };
    check_dispatch(&dispatch)?;
    if api.rooms.creates_on_join() {
        api.rooms
            .create(&request.room, RoomChanges::default())
            .await?;
    }
    let dispatch = AgentDispatch {
        agent_name: dispatch.agent_name,
        metadata: dispatch.metadata,
        restart_policy: dispatch.restart_policy,
        deployment: dispatch.deployment,
        attributes: dispatch.attributes,
        ..Default::default()
    };
    let made = api.agents.dispatch(&request.room, dispatch);
    made.ok_or_else(TwirpError::no_room)
}

fn delete(api: &Api, call: &Call) -> Result<AgentDispatch, TwirpError> {
    let request: DeleteAgentDispatchRequest = call.message()?;
    call.caller.may_administer(&request.room)?;
    let deleted = api.agents.undispatch(&request.room, &request.dispatch_id);
    deleted.ok_or_else(|| TwirpError::new(Code::NotFound, "requested dispatch does not exist"))
}

fn list(api: &Api, call: &Call) -> Result<ListAgentDispatchResponse, TwirpError> {
    let request: ListAgentDispatchRequest = call.message()?;
    call.caller.may_administer(&request.room)?;
    let dispatches = api.agents.dispatches(&request.room, &request.dispatch_id);
    let agent_dispatches = dispatches.ok_or_else(TwirpError::no_room)?;
    Ok(ListAgentDispatchResponse { agent_dispatches })
}
