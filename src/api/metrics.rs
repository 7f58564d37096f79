//! `/metrics` for Prometheus, with LiveKit's names where the meaning is the same.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use crate::media::shell::ShardStatistics;
use crate::room::Registry;
use moim_engine::io::EngineStatistics;

#[derive(Clone)]
struct Sources {
    rooms: Registry,
    shards: Arc<[Arc<ShardStatistics>]>,
}

pub(super) fn router(rooms: Registry, shards: Vec<Arc<ShardStatistics>>) -> Router {
    let shards = shards.into();
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(Sources { rooms, shards })
}

async fn metrics(State(sources): State<Sources>) -> impl IntoResponse {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (content_type, write(&sources))
}

/// Adds up the shards.
fn total(shards: &[Arc<ShardStatistics>], of: impl Fn(&EngineStatistics) -> u64) -> u64 {
    shards.iter().map(|shard| of(&shard.engine())).sum()
}

fn write(sources: &Sources) -> String {
    let counts = sources.rooms.metrics().counts();
    let shards = &sources.shards;
    let sum = |of: fn(&EngineStatistics) -> u64| total(shards, of) as f64;
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    let mut out = String::new();
    let mut put = |name: &str, kind: &str, help: &str, values: &[(&str, f64)]| {
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for (labels, value) in values {
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    put(
        "livekit_room_total",
        "gauge",
        "Rooms",
        &[("", counts.rooms as f64)],
    );
    put(
        "livekit_participant_total",
        "gauge",
        "Participants",
        &[("", counts.participants as f64)],
    );
    put(
        "livekit_participant_join_total",
        "counter",
        "Joins",
        &[
            ("{state=\"joined\"}", counts.joins as f64),
            ("{state=\"refused\"}", counts.refusals as f64),
        ],
    );
    put(
        "livekit_track_published_total",
        "gauge",
        "Tracks published",
        &[("", counts.published as f64)],
    );
    put(
        "livekit_track_subscribed_total",
        "gauge",
        "Tracks subscribed to",
        &[("", counts.subscribed as f64)],
    );
    let both = |incoming, outgoing| {
        [
            ("{direction=\"incoming\"}", sum(incoming)),
            ("{direction=\"outgoing\"}", sum(outgoing)),
        ]
    };
    put(
        "livekit_packet_total",
        "counter",
        "RTP packets",
        &both(|s| s.packets_in, |s| s.packets_out),
    );
    put(
        "livekit_packet_bytes",
        "counter",
        "RTP bytes",
        &both(|s| s.bytes_in, |s| s.bytes_out),
    );
    put(
        "livekit_nack_total",
        "counter",
        "Packets asked for again, by subscribers and by us",
        &both(|s| s.nacks_in, |s| s.nacks_out),
    );
    put(
        "livekit_pli_total",
        "counter",
        "Keyframes asked for, by subscribers and by us",
        &both(|s| s.keyframe_requests_in, |s| s.keyframe_requests_out),
    );
    put(
        "moim_data_messages_total",
        "counter",
        "Messages on data channels",
        &both(|s| s.messages_in, |s| s.messages_out),
    );
    let gauges: [(&str, &str, f64); 5] = [
        ("moim_transports", "Peer connections", sum(|s| s.transports)),
        ("moim_tracks", "Tracks in the engines", sum(|s| s.tracks)),
        (
            "moim_subscriptions",
            "Subscriptions in the engines",
            sum(|s| s.subscriptions),
        ),
        (
            "moim_packet_buffers",
            "Bytes in packet caches and send batches",
            sum(|s| s.buffer_bytes),
        ),
        ("moim_tasks", "Tasks of the control plane", tasks as f64),
    ];
    for (name, help, value) in gauges {
        put(name, "gauge", help, &[("", value)]);
    }
    let of_shards =
        |of: fn(&ShardStatistics) -> u64| shards.iter().map(|shard| of(shard)).sum::<u64>() as f64;
    let counters: [(&str, &str, f64); 8] = [
        (
            "moim_packets_relayed_total",
            "RTP packets given to other shards",
            sum(|s| s.packets_relayed),
        ),
        (
            "moim_relays_dropped_total",
            "RTP packets that another shard did not take in time",
            sum(|s| s.relays_dropped),
        ),
        (
            "moim_retransmissions_total",
            "Packets sent again",
            sum(|s| s.retransmissions),
        ),
        (
            "moim_datagrams_dropped_total",
            "Datagrams that are nobody's or do not authenticate",
            sum(|s| s.datagrams_dropped),
        ),
        (
            "moim_packets_dropped_total",
            "Packets for which a subscriber's queue had no room",
            sum(|s| s.packets_dropped),
        ),
        (
            "moim_sends_dropped_total",
            "Sends that the kernel had no room for",
            of_shards(ShardStatistics::sends_dropped),
        ),
        (
            "moim_events_dropped_total",
            "Events that no room took",
            of_shards(ShardStatistics::events_dropped),
        ),
        (
            "moim_shard_restarts_total",
            "Engines started anew after a panic",
            of_shards(ShardStatistics::restarts),
        ),
    ];
    for (name, help, value) in counters {
        put(name, "counter", help, &[("", value)]);
    }
    out
}
