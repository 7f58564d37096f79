//! Every message of the protocol in both of its forms, compared to how protobuf's own
//! reflection reads and writes them.

use moim_signaling::wire::{DESCRIPTORS, SignalRequest, SignalResponse};
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, Value,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How deep messages are nested.
const DEPTH: usize = 4;
/// Random messages of each form.
const ROUNDS: usize = 40;

fn random_text(rng: &mut StdRng) -> String {
    const TEXTS: [&str; 6] = ["", "a", "김 민준", "\"\\\n\u{1}</script>", "👩‍🚀", "1e9"];
    (*TEXTS.choose(rng).unwrap()).to_owned()
}

fn random_scalar(kind: &Kind, rng: &mut StdRng, depth: usize) -> Value {
    match kind {
        Kind::Double => Value::F64(rng.random_range(-1e12..1e12)),
        Kind::Float => Value::F32(rng.random_range(-1e6..1e6)),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(rng.random()),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(rng.random()),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(rng.random()),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(rng.random()),
        Kind::Bool => Value::Bool(rng.random()),
        Kind::String => Value::String(random_text(rng)),
        Kind::Bytes => {
            let len = rng.random_range(0..20);
            let bytes: Vec<u8> = (0..len).map(|_| rng.random()).collect();
            Value::Bytes(bytes.into())
        }
        Kind::Enum(names) => {
            let values: Vec<i32> = names.values().map(|value| value.number()).collect();
            Value::EnumNumber(*values.choose(rng).unwrap())
        }
        Kind::Message(message) => Value::Message(random_message(message, rng, depth)),
    }
}

fn random_key(kind: &Kind, rng: &mut StdRng) -> MapKey {
    match kind {
        Kind::String => MapKey::String(random_text(rng)),
        Kind::Uint32 => MapKey::U32(rng.random()),
        Kind::Uint64 => MapKey::U64(rng.random()),
        Kind::Int32 => MapKey::I32(rng.random()),
        Kind::Int64 => MapKey::I64(rng.random()),
        other => panic!("no map of the protocol has keys of {other:?}"),
    }
}

fn random_value(field: &FieldDescriptor, rng: &mut StdRng, depth: usize) -> Value {
    let count = rng.random_range(0..3);
    if field.is_map() {
        let Kind::Message(entry) = field.kind() else {
            panic!("a map is a list of messages");
        };
        let (key, value) = (entry.map_entry_key_field(), entry.map_entry_value_field());
        let entries = (0..count).map(|_| {
            let key = random_key(&key.kind(), rng);
            (key, random_scalar(&value.kind(), rng, depth))
        });
        return Value::Map(entries.collect());
    }
    if field.is_list() {
        let values = (0..count).map(|_| random_scalar(&field.kind(), rng, depth));
        return Value::List(values.collect());
    }
    random_scalar(&field.kind(), rng, depth)
}

fn random_message(message: &MessageDescriptor, rng: &mut StdRng, depth: usize) -> DynamicMessage {
    let mut made = DynamicMessage::new(message.clone());
    if message.full_name() == "google.protobuf.Timestamp" {
        // Not every number is a date.
        made.set_field_by_name("seconds", Value::I64(rng.random_range(0..4_000_000_000)));
        made.set_field_by_name("nanos", Value::I32(rng.random_range(0..1_000_000_000)));
        return made;
    }
    for field in message.fields() {
        let nests = matches!(field.kind(), Kind::Message(_));
        if rng.random() && (depth > 0 || !nests) {
            // Of a oneof, the last one that is set is the one that stays.
            made.set_field(&field, random_value(&field, rng, depth.saturating_sub(1)));
        }
    }
    made
}

/// As it is after a way over the wire: fields at their default are absent.
fn settled(message: &DynamicMessage) -> DynamicMessage {
    DynamicMessage::decode(message.descriptor(), message.encode_to_vec().as_slice()).unwrap()
}

/// Checks one message against its type `T`: both forms read both ways.
fn check<T>(message: &DynamicMessage, context: &str)
where
    T: Message + Default + PartialEq + Serialize + DeserializeOwned,
{
    let message = settled(message);
    let typed = T::decode(message.encode_to_vec().as_slice()).unwrap();
    // What we write, protobuf reads.
    let text = serde_json::to_string(&typed).unwrap();
    let mut read = serde_json::Deserializer::from_str(&text);
    let read = DynamicMessage::deserialize(message.descriptor(), &mut read)
        .unwrap_or_else(|error| panic!("{context}: {error}: {text}"));
    assert_eq!(settled(&read), message, "{context}: {text}");
    // What protobuf writes, we read.
    let text = serde_json::to_string(&message).unwrap();
    let read: T =
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{context}: {error}: {text}"));
    assert!(read == typed, "{context}: {text}");
}

/// Checks random messages of each of a oneof's forms.
fn check_all<T>(name: &str)
where
    T: Message + Default + PartialEq + Serialize + DeserializeOwned,
{
    let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let descriptor = pool.get_message_by_name(name).unwrap();
    let forms = descriptor.oneofs().next().unwrap();
    assert!(forms.fields().len() > 20, "{name} has all its forms");
    let seed = rand::random();
    let mut rng = StdRng::seed_from_u64(seed);
    for form in forms.fields() {
        for _ in 0..ROUNDS {
            let mut message = DynamicMessage::new(descriptor.clone());
            message.set_field(&form, random_value(&form, &mut rng, DEPTH));
            check::<T>(&message, &format!("seed {seed}, {}", form.name()));
        }
    }
}

#[test]
fn every_request_is_read_in_both_forms() {
    check_all::<SignalRequest>("livekit.SignalRequest");
}

#[test]
fn every_response_is_written_in_both_forms() {
    check_all::<SignalResponse>("livekit.SignalResponse");
}

#[test]
fn fields_of_a_newer_protocol_are_passed_over() {
    let text = r#"{"mute":{"sid":"TR_x","muted":true,"newField":[{"a":1}]},"another":{}}"#;
    let read: SignalRequest = serde_json::from_str(text).unwrap();
    assert!(read.message.is_some());
    let text = r#"{"newRequest":{"a":1}}"#;
    let read: SignalRequest = serde_json::from_str(text).unwrap();
    assert!(read.message.is_none());
}
