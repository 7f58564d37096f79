//! The messages of LiveKit's client protocol, generated from its public .proto files.
//!
//! Binary frames carry them as protobuf, text frames as protobuf's JSON form; both ignore
//! fields that they do not know, so that newer clients keep working.
#![allow(missing_docs, unreachable_pub, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/livekit.rs"));
include!(concat!(env!("OUT_DIR"), "/livekit.serde.rs"));
