//! Twirp's errors (<https://twitchtv.github.io/twirp/docs/spec_v7.html#error-codes>): a code, a
//! text for people and a status for what stands between.

use std::collections::BTreeMap;

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::room::{CallError, CreateError, OrderError};
use moim_signaling::Refusal;
use moim_signaling::token::TokenError;

/// The codes that this server gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Code {
    Canceled,
    BadRoute,
    Malformed,
    InvalidArgument,
    Unauthenticated,
    NotFound,
    ResourceExhausted,
    FailedPrecondition,
    Unimplemented,
    Internal,
    Unavailable,
}

impl Code {
    fn status(self) -> StatusCode {
        match self {
            Code::Canceled => StatusCode::REQUEST_TIMEOUT,
            Code::BadRoute | Code::NotFound => StatusCode::NOT_FOUND,
            Code::Malformed | Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
            Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Why a call is not answered with what it asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{msg}")]
pub(super) struct TwirpError {
    code: Code,
    msg: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    meta: BTreeMap<&'static str, String>,
}

impl TwirpError {
    pub(super) fn new(code: Code, msg: impl Into<String>) -> TwirpError {
        TwirpError {
            code,
            msg: msg.into(),
            meta: BTreeMap::new(),
        }
    }

    /// The code as it stands in the body.
    pub(super) fn code_name(&self) -> String {
        let name = serde_json::to_value(self.code).ok();
        name.and_then(|name| name.as_str().map(str::to_owned))
            .unwrap_or_default()
    }

    pub(super) fn with_meta(mut self, name: &'static str, value: impl Into<String>) -> TwirpError {
        self.meta.insert(name, value.into());
        self
    }

    /// An argument is not one; `why` is empty where its name says it all.
    pub(super) fn argument(argument: &str, why: &str) -> TwirpError {
        let text = format!("{argument} {why}");
        TwirpError::new(Code::InvalidArgument, text).with_meta("argument", argument)
    }

    /// There is no such method, or it is not called so.
    pub(super) fn route(msg: impl Into<String>, method: &str, path: &str) -> TwirpError {
        TwirpError::new(Code::BadRoute, msg)
            .with_meta("twirp_invalid_route", format!("{method} {path}"))
    }

    pub(super) fn no_room() -> TwirpError {
        TwirpError::new(Code::NotFound, "requested room does not exist")
    }

    pub(super) fn internal() -> TwirpError {
        TwirpError::new(Code::Internal, "the answer could not be made")
    }
}

impl IntoResponse for TwirpError {
    fn into_response(self) -> Response {
        (self.code.status(), Json(self)).into_response()
    }
}

impl From<OrderError> for TwirpError {
    fn from(error: OrderError) -> TwirpError {
        let code = match &error {
            OrderError::NoParticipant(_) => {
                return TwirpError::new(Code::NotFound, "participant does not exist");
            }
            OrderError::NoTrack(_) => {
                return TwirpError::new(Code::NotFound, "track is not found");
            }
            OrderError::Call(error) => code_of(error),
            OrderError::RemoteUnmute => Code::FailedPrecondition,
            OrderError::TooLarge(_) => Code::InvalidArgument,
            OrderError::Ending => Code::Unavailable,
        };
        TwirpError::new(code, error.to_string())
    }
}

/// The code of a call that has failed, as LiveKit's server gives it.
fn code_of(error: &CallError) -> Code {
    match error {
        CallError::NotAcknowledged | CallError::NotAnswered => Code::Canceled,
        CallError::Disconnected => Code::Unavailable,
        CallError::TooLarge => Code::Malformed,
        CallError::NoMethod => Code::InvalidArgument,
        CallError::TooMany => Code::ResourceExhausted,
        CallError::Answered { .. } => Code::Internal,
    }
}

impl From<CreateError> for TwirpError {
    fn from(error: CreateError) -> TwirpError {
        match error {
            CreateError::Order(error) => error.into(),
            CreateError::Refused(refusal) => refusal.into(),
        }
    }
}

impl From<Refusal> for TwirpError {
    fn from(refusal: Refusal) -> TwirpError {
        let code = match refusal {
            Refusal::Invalid(_) => Code::InvalidArgument,
            Refusal::Unauthorized(_) => Code::Unauthenticated,
            Refusal::Forbidden(_) => Code::FailedPrecondition,
            Refusal::NotFound(_) => Code::NotFound,
            Refusal::TooMany(_) => Code::ResourceExhausted,
            Refusal::Unavailable(_) => Code::Unavailable,
        };
        TwirpError::new(code, refusal.to_string())
    }
}

impl From<TokenError> for TwirpError {
    fn from(error: TokenError) -> TwirpError {
        TwirpError::new(Code::Unauthenticated, error.to_string())
    }
}
