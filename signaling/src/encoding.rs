//! The two forms of a message on a WebSocket: protobuf in binary frames, protobuf's JSON form in
//! text frames. A client gets the form in which it spoke last.

use axum::extract::ws::Message;
use prost::Message as _;

use crate::wire::{SignalRequest, SignalResponse};

/// Which form a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Binary,
    Json,
}

/// What a frame of a client holds.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// A request, and its form.
    Request(Box<SignalRequest>, Encoding),
    /// A ping, which the library answers, or a pong.
    Control,
    /// The client closes its WebSocket.
    Close,
}

/// Reads a frame.
///
/// # Errors
/// With the parser's text, when it is malformed.
pub(crate) fn decode(message: Message) -> Result<Incoming, String> {
    match message {
        Message::Binary(bytes) => SignalRequest::decode(bytes)
            .map(|request| Incoming::Request(Box::new(request), Encoding::Binary))
            .map_err(|error| error.to_string()),
        Message::Text(text) => serde_json::from_str(&text)
            .map(|request| Incoming::Request(Box::new(request), Encoding::Json))
            .map_err(|error| error.to_string()),
        Message::Ping(_) | Message::Pong(_) => Ok(Incoming::Control),
        Message::Close(_) => Ok(Incoming::Close),
    }
}

/// Writes a frame; `None` for what JSON cannot say, which no response of the protocol is.
pub(crate) fn encode(response: &SignalResponse, encoding: Encoding) -> Option<Message> {
    match encoding {
        Encoding::Binary => Some(Message::Binary(response.encode_to_vec().into())),
        Encoding::Json => {
            let text = serde_json::to_string(response).ok()?;
            Some(Message::Text(text.into()))
        }
    }
}

/// Bytes of a frame's payload.
pub(crate) fn len_of(message: &Message) -> usize {
    match message {
        Message::Binary(bytes) | Message::Ping(bytes) | Message::Pong(bytes) => bytes.len(),
        Message::Text(text) => text.len(),
        Message::Close(_) => 0,
    }
}
