//! The messages of LiveKit's client protocol, its server API and its webhooks, generated from
//! the public .proto files.
//!
//! Binary frames carry them as protobuf, text frames as protobuf's JSON form; both ignore
//! fields that they do not know, so that newer clients keep working.
#![allow(missing_docs, unreachable_pub, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/livekit.rs"));
include!(concat!(env!("OUT_DIR"), "/livekit.serde.rs"));

/// The descriptors of all messages (a `FileDescriptorSet`), for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
