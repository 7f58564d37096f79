//! `/metrics` in Prometheus' text format, with LiveKit's names where the meaning is the same.

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::prometheus_text::{CONTENT_TYPE, encode};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry as MetricsRegistry;

use crate::media::shell::{ShardCounters, ShardStatistics};
use crate::room::Registry;
use crate::store::Store;
use crate::webhook::Webhooks;
use moim_engine::io::EngineStatistics;

pub(super) fn router(
    rooms: Registry,
    webhooks: Webhooks,
    store: Option<Store>,
    shards: Vec<Arc<ShardStatistics>>,
) -> Router {
    let mut metrics = MetricsRegistry::default();
    metrics.register_collector(Box::new(Sources {
        rooms,
        webhooks,
        store,
        shards,
    }));
    Router::new()
        .route("/metrics", get(answer))
        .with_state(Arc::new(metrics))
}

async fn answer(State(metrics): State<Arc<MetricsRegistry>>) -> Response {
    let mut text = String::new();
    match encode(&mut text, &metrics) {
        Ok(()) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// What is read at each scrape.
struct Sources {
    rooms: Registry,
    webhooks: Webhooks,
    store: Option<Store>,
    shards: Vec<Arc<ShardStatistics>>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// A counter whose name does not end in `_total`, as the format wants it of a counter: it has
/// LiveKit's name all the same, and so has no type.
struct Untyped(u64);

impl EncodeMetric for Untyped {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        ConstGauge::new(self.0).encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Unknown
    }
}

/// Writes one family after the other.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn one(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        let descriptor = self
            .0
            .encode_descriptor(name, help, None, metric.metric_type())?;
        metric.encode(descriptor)
    }

    fn gauge(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        self.one(name, help, &ConstGauge::new(value))
    }

    /// The name gets `_total` at its end.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.one(name, help, &ConstCounter::new(value))
    }

    fn by_label<M: EncodeMetric>(
        &mut self,
        (name, help): (&str, &str),
        label: &'static str,
        values: [(&'static str, M); 2],
    ) -> fmt::Result {
        let kind = values[0].1.metric_type();
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (value, metric) in values {
            metric.encode(family.encode_family(&[(label, value)])?)?;
        }
        Ok(())
    }

    fn by_direction(
        &mut self,
        name: &str,
        help: &str,
        [incoming, outgoing]: [u64; 2],
    ) -> fmt::Result {
        let values = [
            ("incoming", ConstCounter::new(incoming)),
            ("outgoing", ConstCounter::new(outgoing)),
        ];
        self.by_label((name, help), "direction", values)
    }
}

impl Collector for Sources {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        self.write_rooms(&mut writer)?;
        self.write_webhooks(&mut writer)?;
        self.write_store(&mut writer)?;
        let shards = self.shards.iter().map(|shard| shard.counters());
        let shards = Shards(shards.collect());
        shards.write_media(&mut writer)?;
        shards.write_losses(&mut writer)
    }
}

impl Sources {
    fn write_rooms(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let counts = self.rooms.metrics().counts();
        writer.gauge("livekit_room_total", "Rooms", counts.rooms)?;
        writer.gauge(
            "livekit_participant_total",
            "Participants",
            counts.participants,
        )?;
        let joins = [
            ("joined", ConstCounter::new(counts.joins)),
            ("refused", ConstCounter::new(counts.refusals)),
        ];
        writer.by_label(("livekit_participant_join", "Joins"), "state", joins)?;
        let (published, subscribed) = (counts.published, counts.subscribed);
        writer.gauge(
            "livekit_track_published_total",
            "Tracks published",
            published,
        )?;
        writer.gauge(
            "livekit_track_subscribed_total",
            "Tracks subscribed to",
            subscribed,
        )?;
        let runtime = tokio::runtime::Handle::try_current();
        let tasks = runtime.map_or(0, |runtime| runtime.metrics().num_alive_tasks());
        writer.gauge("moim_tasks", "Tasks of the control plane", tasks as i64)
    }
}

impl Sources {
    fn write_store(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let Some(store) = &self.store else {
            return Ok(());
        };
        let help = "Entries of audit log and usage that could not be kept";
        writer.counter("moim_store_lost", help, store.lost())
    }

    fn write_webhooks(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let counts = self.webhooks.counts();
        let waiting = i64::try_from(counts.waiting).unwrap_or(i64::MAX);
        writer.gauge("moim_webhooks_waiting", "Webhooks that wait", waiting)?;
        let help = "Webhooks dropped for lack of space or for their age";
        writer.counter("moim_webhooks_dropped", help, counts.dropped)
    }
}

/// The counters of all shards at one moment.
struct Shards(Vec<ShardCounters>);

impl Shards {
    /// A counter of the shards, added up.
    fn sum(&self, of: impl Fn(&ShardCounters) -> u64) -> u64 {
        self.0.iter().map(of).sum()
    }

    /// A counter of their engines, added up.
    fn engines(&self, of: impl Fn(&EngineStatistics) -> u64) -> u64 {
        self.sum(|shard| of(&shard.engine))
    }

    fn write_media(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let packets = [
            self.engines(|s| s.packets_in),
            self.engines(|s| s.packets_out),
        ];
        writer.by_direction("livekit_packet", "RTP packets", packets)?;
        let bytes = [
            ("incoming", Untyped(self.engines(|s| s.bytes_in))),
            ("outgoing", Untyped(self.engines(|s| s.bytes_out))),
        ];
        writer.by_label(("livekit_packet_bytes", "RTP bytes"), "direction", bytes)?;
        let nacks = [self.engines(|s| s.nacks_in), self.engines(|s| s.nacks_out)];
        let help = "Packets reported lost, by subscribers and by the server";
        writer.by_direction("livekit_nack", help, nacks)?;
        let keyframes = [
            self.engines(|s| s.keyframe_requests_in),
            self.engines(|s| s.keyframe_requests_out),
        ];
        let help = "Keyframe requests, by subscribers and by the server";
        writer.by_direction("livekit_pli", help, keyframes)?;
        let messages = [
            self.engines(|s| s.messages_in),
            self.engines(|s| s.messages_out),
        ];
        writer.by_direction("moim_data_messages", "Messages on data channels", messages)?;
        for (name, help, value) in [
            (
                "moim_transports",
                "Peer connections",
                self.engines(|s| s.transports),
            ),
            (
                "moim_tracks",
                "Tracks in the engines",
                self.engines(|s| s.tracks),
            ),
            (
                "moim_subscriptions",
                "Subscriptions in the engines",
                self.engines(|s| s.subscriptions),
            ),
            (
                "moim_packet_buffers",
                "Bytes in packet caches and send batches",
                self.engines(|s| s.buffer_bytes),
            ),
        ] {
            writer.gauge(name, help, i64::try_from(value).unwrap_or(i64::MAX))?;
        }
        Ok(())
    }

    fn write_losses(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let relayed = self.engines(|s| s.packets_relayed);
        writer.counter(
            "moim_packets_relayed",
            "RTP packets given to other shards",
            relayed,
        )?;
        let dropped = self.engines(|s| s.relays_dropped);
        let help = "RTP packets that another shard did not take in time";
        writer.counter("moim_relays_dropped", help, dropped)?;
        let retransmitted = self.engines(|s| s.retransmissions);
        writer.counter(
            "moim_retransmissions",
            "Packets retransmitted",
            retransmitted,
        )?;
        let dropped = self.engines(|s| s.datagrams_dropped);
        let help = "Datagrams that belong to no peer or do not authenticate";
        writer.counter("moim_datagrams_dropped", help, dropped)?;
        let dropped = self.engines(|s| s.packets_dropped);
        let help = "Packets for which a subscriber's queue had no room";
        writer.counter("moim_packets_dropped", help, dropped)?;
        let dropped = self.sum(|s| s.sends_dropped);
        writer.counter(
            "moim_sends_dropped",
            "Sends that the kernel had no room for",
            dropped,
        )?;
        let dropped = self.sum(|s| s.events_dropped);
        writer.counter("moim_events_dropped", "Events that no room took", dropped)?;
        let restarts = self.sum(|s| s.restarts);
        writer.counter(
            "moim_shard_restarts",
            "Engines restarted after a panic",
            restarts,
        )
    }
}
