//! Bounds of the values in requests, and the errors for values beyond them.

use std::collections::HashMap;

use moim_signaling::wire::RoomAgentDispatch;

use super::error::{Code, TwirpError};
use crate::room::MAX_METADATA;

/// Longest name of a room, a participant, an agent or a deployment, bytes.
const MAX_NAME: usize = 256;
/// Bytes of a participant's or a job's attributes, names included.
const MAX_ATTRIBUTES: usize = 64 << 10;

pub(super) fn check_room_name(name: &str) -> Result<(), TwirpError> {
    let text = if name.is_empty() {
        "no room name"
    } else if name.len() > MAX_NAME {
        "room name length exceeds limits: max length 256"
    } else if name.chars().any(char::is_control) {
        "the room name has a control character"
    } else {
        return Ok(());
    };
    Err(TwirpError::new(Code::InvalidArgument, text))
}

pub(super) fn check_destination(from: &str, to: &str) -> Result<(), TwirpError> {
    if from == to {
        let text = "destination room cannot be the same as source room";
        return Err(TwirpError::argument(text, ""));
    }
    check_room_name(to)
}

pub(super) fn check_metadata(metadata: &str) -> Result<(), TwirpError> {
    if metadata.len() > MAX_METADATA {
        let limit = MAX_METADATA.to_string();
        return Err(TwirpError::argument("metadata size exceeds limits", &limit));
    }
    Ok(())
}

pub(super) fn check_name(name: &str) -> Result<(), TwirpError> {
    if name.len() > MAX_NAME {
        let limit = MAX_NAME.to_string();
        return Err(TwirpError::argument("name length exceeds limits", &limit));
    }
    Ok(())
}

pub(super) fn check_attributes(attributes: &HashMap<String, String>) -> Result<(), TwirpError> {
    let each = attributes
        .iter()
        .map(|(name, value)| name.len() + value.len());
    if each.sum::<usize>() > MAX_ATTRIBUTES {
        let limit = MAX_ATTRIBUTES.to_string();
        return Err(TwirpError::argument(
            "attribute size exceeds limits",
            &limit,
        ));
    }
    Ok(())
}

pub(super) fn check_dispatch(dispatch: &RoomAgentDispatch) -> Result<(), TwirpError> {
    check_metadata(&dispatch.metadata)?;
    check_attributes(&dispatch.attributes)?;
    check_name(&dispatch.agent_name)?;
    check_name(&dispatch.deployment)
}
