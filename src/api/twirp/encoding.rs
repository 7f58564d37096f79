//! The two forms of a call's messages: protobuf, and protobuf's JSON form
//! (<https://protobuf.dev/programming-guides/json/>).
//!
//! The JSON form is made and read by reflection: it differs from that of the client protocol, as
//! Twirp's servers write fields under the names of the .proto files, and those that have their
//! default too.

use std::sync::LazyLock;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use moim_signaling::wire::DESCRIPTORS;
use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};

use super::error::{Code, TwirpError};

const PROTOBUF: &str = "application/protobuf";
const JSON: &str = "application/json";

pub(super) static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).unwrap_or_default());

/// Which form a caller speaks, and is answered in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

impl Encoding {
    /// The form that a content type names.
    ///
    /// # Errors
    /// With the content type, when it names neither.
    pub(super) fn of(headers: &HeaderMap) -> Result<Encoding, String> {
        let value = headers.get(header::CONTENT_TYPE);
        let named = value.map_or(&[][..], HeaderValue::as_bytes);
        let named = String::from_utf8_lossy(named);
        let kind = named.split(';').next().unwrap_or_default().trim();
        if kind.eq_ignore_ascii_case(PROTOBUF) {
            Ok(Encoding::Protobuf)
        } else if kind.eq_ignore_ascii_case(JSON) {
            Ok(Encoding::Json)
        } else {
            Err(kind.chars().take(128).collect())
        }
    }

    /// Reads a message. Fields that are not known are ignored.
    ///
    /// # Errors
    /// When it is malformed.
    pub(super) fn decode<M: Message + Name + Default>(self, body: Bytes) -> Result<M, TwirpError> {
        match self {
            Encoding::Protobuf => M::decode(body).map_err(|_| {
                let text = "the protobuf request could not be decoded";
                TwirpError::new(Code::Malformed, text)
            }),
            Encoding::Json => from_json(&body).map_err(|reason| {
                let text = "the json request could not be decoded";
                TwirpError::new(Code::Malformed, text).with_meta("reason", reason)
            }),
        }
    }

    /// Reads a message of a type that is known by its description alone. `None` when it is
    /// malformed.
    pub(super) fn decode_as(self, kind: MessageDescriptor, body: Bytes) -> Option<DynamicMessage> {
        match self {
            Encoding::Protobuf => DynamicMessage::decode(kind, body).ok(),
            Encoding::Json => described_json(kind, &body).ok(),
        }
    }

    /// Writes an answer.
    pub(super) fn encode<M: Message + Name>(self, message: &M) -> Response {
        let (kind, body) = match self {
            Encoding::Protobuf => (PROTOBUF, message.encode_to_vec()),
            Encoding::Json => match to_json(message) {
                Some(body) => (JSON, body),
                None => return TwirpError::internal().into_response(),
            },
        };
        ([(header::CONTENT_TYPE, kind)], body).into_response()
    }
}

fn from_json<M: Message + Name + Default>(body: &[u8]) -> Result<M, String> {
    let kind = POOL
        .get_message_by_name(&M::full_name())
        .ok_or("the message is not described")?;
    let message = described_json(kind, body).map_err(|error| error.to_string())?;
    message.transcode_to().map_err(|error| error.to_string())
}

fn described_json(
    kind: MessageDescriptor,
    body: &[u8],
) -> Result<DynamicMessage, serde_json::Error> {
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let mut json = serde_json::Deserializer::from_slice(body);
    let message = DynamicMessage::deserialize_with_options(kind, &mut json, &options)?;
    json.end()?;
    Ok(message)
}

/// The type of the message that a method takes.
pub(super) fn input_of(service: &str, method: &str) -> Option<MessageDescriptor> {
    let service = POOL.get_service_by_name(service)?;
    let method = service.methods().find(|known| known.name() == method)?;
    Some(method.input())
}

fn to_json<M: Message + Name>(message: &M) -> Option<Vec<u8>> {
    let kind = POOL.get_message_by_name(&M::full_name())?;
    let mut described = DynamicMessage::new(kind);
    described.transcode_from(message).ok()?;
    let options = SerializeOptions::new()
        .use_proto_field_name(true)
        .skip_default_fields(false);
    let mut json = Vec::new();
    let mut writer = serde_json::Serializer::new(&mut json);
    described
        .serialize_with_options(&mut writer, &options)
        .ok()?;
    Some(json)
}

#[cfg(test)]
mod tests {
    use moim_signaling::wire::{CreateRoomRequest, Room, SendDataRequest, data_packet};

    use super::*;

    fn json<M: Message + Name + Default>(text: &str) -> Result<M, TwirpError> {
        Encoding::Json.decode(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn the_content_type_says_the_form() {
        for (kind, expected) in [
            ("application/json", Ok(Encoding::Json)),
            ("Application/JSON; charset=utf-8", Ok(Encoding::Json)),
            ("application/protobuf", Ok(Encoding::Protobuf)),
            ("text/plain", Err("text/plain".to_owned())),
            ("", Err(String::new())),
        ] {
            let value = HeaderValue::from_str(kind).unwrap();
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, value)]);
            assert_eq!(Encoding::of(&headers), expected, "{kind}");
        }
        assert_eq!(Encoding::of(&HeaderMap::new()), Err(String::new()));
    }

    #[test]
    fn json_is_read_by_either_name_and_with_numbers_as_text() {
        for text in [
            r#"{"name": "a", "empty_timeout": 7, "metadata": null}"#,
            r#"{"name": "a", "emptyTimeout": "7", "unknown": {"x": [1]}}"#,
        ] {
            let request: CreateRoomRequest = json(text).unwrap();
            assert_eq!((request.name.as_str(), request.empty_timeout), ("a", 7));
        }
        for kind in [r#""LOSSY""#, "1"] {
            let request: SendDataRequest = json(&format!(r#"{{"kind": {kind}}}"#)).unwrap();
            assert_eq!(request.kind(), data_packet::Kind::Lossy);
        }
        for text in [
            "",
            "{",
            "[]",
            "{} {}",
            r#"{"name": 3}"#,
            r#"{"empty_timeout": -1}"#,
        ] {
            assert!(json::<CreateRoomRequest>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn json_is_written_with_the_names_of_the_files_and_with_defaults() {
        let room = Room {
            name: "a".into(),
            creation_time_ms: 1 << 53,
            ..Default::default()
        };
        let text = String::from_utf8(to_json(&room).unwrap()).unwrap();
        for part in [
            r#""name":"a""#,
            r#""creation_time_ms":"9007199254740992""#,
            r#""num_participants":0"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
