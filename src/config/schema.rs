//! Every key that a configuration may have. The parser, its hints, `moim config` and
//! `docs/configuration.md` all come from this list.

use std::net::IpAddr;
use std::time::Duration;

use super::document::Node;
use super::settings::{ApiKeyTable, Config, NodeIp, Ports};
use super::value::Setting;

/// A key.
pub(super) struct Schema {
    /// The key with those above it, joined by dots.
    pub(super) path: &'static str,
    /// What it is, in whole sentences of Markdown.
    pub(super) about: &'static str,
    /// Its value may hold a secret, of which no error repeats anything.
    pub(super) secret: bool,
    pub(super) effect: Effect,
}

/// What a key does.
pub(super) enum Effect {
    /// It sets something.
    Set {
        set: fn(&mut Config, &Node) -> Option<()>,
        /// As YAML on one line, secrets masked.
        get: fn(&Config) -> String,
        /// What its value must be.
        expected: &'static str,
        /// It can be changed while the server runs.
        reload: bool,
    },
    /// LiveKit's server knows it, and here it, and all keys below it, mean nothing: why.
    Ignored(&'static str),
}

impl std::fmt::Debug for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.path)
    }
}

macro_rules! set {
    ($path:literal, $($field:ident).+ as $type:ty, $reload:literal, $about:literal) => {
        Schema {
            path: $path,
            about: $about,
            secret: false,
            effect: Effect::Set {
                set: |config, node| {
                    config.$($field).+ = <$type as Setting>::read(node)?;
                    Some(())
                },
                get: |config| config.$($field).+.write(),
                expected: <$type as Setting>::EXPECTED,
                reload: $reload,
            },
        }
    };
}

/// A key that is read when the server starts.
macro_rules! start {
    ($path:literal, $($field:ident).+ as $type:ty, $about:literal) => {
        set!($path, $($field).+ as $type, false, $about)
    };
}

/// A key that is read at the start and on SIGHUP.
macro_rules! reload {
    ($path:literal, $($field:ident).+ as $type:ty, $about:literal) => {
        set!($path, $($field).+ as $type, true, $about)
    };
}

const fn ignored(path: &'static str, why: &'static str) -> Schema {
    Schema {
        path,
        about: "",
        secret: false,
        effect: Effect::Ignored(why),
    }
}

const fn secret(schema: Schema) -> Schema {
    Schema {
        secret: true,
        ..schema
    }
}

const NO_OTHER_SERVER: &str = "one server needs no other service to keep its rooms";
const OWN_ADDRESS: &str = "the announced addresses are those that the media sockets are bound to, \
    or `rtc.node_ip`";
const NO_TURN: &str = "there is no TURN and no ICE over TCP yet";
const OWN_ESTIMATION: &str = "bandwidth is estimated and shared out by the server's own engine, \
    which needs no setting";
const OWN_BUFFERS: &str = "packets are kept for as long as a repair can be asked for";
const OWN_SPEAKERS: &str = "voices are measured as libwebrtc does";
const OWN_BOUNDS: &str = "the server's own bound, LiveKit's default, holds";
const NOT_HERE: &str = "the service does not exist here";
const OWN_ENGINE: &str = "it tunes a part of LiveKit's server that does not exist here";

pub(super) const SCHEMA: &[Schema] = &[
    start!(
        "port",
        port as u16,
        "TCP port of the meeting page, the signaling WebSocket and the metrics."
    ),
    start!(
        "bind_addresses",
        bind_addresses as Vec<IpAddr>,
        "Addresses to listen on, for HTTP and for media. Empty: all that the machine has."
    ),
    secret(reload!(
        "keys",
        keys as ApiKeyTable,
        "API keys with their secrets, which sign access tokens. `moim keys generate` makes a pair. A key whose secret has less than 32 bytes is not used, unless the server listens on loopback only."
    )),
    reload!(
        "key_file",
        key_file as String,
        "A file of more API keys, a line `API_KEY: SECRET` each."
    ),
    start!(
        "rtc.udp_port",
        rtc.udp_port as Ports,
        "UDP port of the first media shard; the next shards take the ports that follow. Of a range there are at most as many shards as ports."
    ),
    start!(
        "rtc.port_range_start",
        rtc.port_range_start as u16,
        "With `rtc.port_range_end` and without `rtc.udp_port`: the range whose first ports the shards take. LiveKit's server takes two ports for each participant, this one takes one for each shard."
    ),
    start!(
        "rtc.port_range_end",
        rtc.port_range_end as u16,
        "The last port of that range."
    ),
    start!(
        "rtc.node_ip",
        rtc.node_ip as NodeIp,
        "The address that clients are told, where it is not one of the machine's own: the public address of a NAT."
    ),
    start!(
        "rtc.shards",
        rtc.shards as usize,
        "Media shards, each a thread with a UDP port of its own. 0: one for each core."
    ),
    start!(
        "room.auto_create",
        room.auto_create as bool,
        "Whether the first participant's join makes the room."
    ),
    start!(
        "room.empty_timeout",
        room.empty_timeout as u32,
        "Seconds after which a room ends that nobody has joined."
    ),
    start!(
        "room.departure_timeout",
        room.departure_timeout as u32,
        "Seconds after which a room ends that the last participant has left."
    ),
    start!(
        "room.max_participants",
        room.max_participants as u32,
        "Participants that a room takes. 0: no bound."
    ),
    start!(
        "room.max_tracks",
        room.max_tracks as usize,
        "Tracks that one participant may publish."
    ),
    start!(
        "room.loudest_speakers",
        room.loudest_speakers as u8,
        "In a room of ten or more each participant gets this many voices, the loudest. 0: all."
    ),
    start!(
        "room.resume_timeout",
        room.resume_timeout as u32,
        "Seconds for which the place of a participant whose connection broke is kept."
    ),
    start!(
        "room.enable_remote_unmute",
        room.enable_remote_unmute as bool,
        "Whether the server API may unmute tracks, and not only mute them."
    ),
    start!(
        "limit.num_rooms",
        limit.num_rooms as usize,
        "Rooms at a time."
    ),
    reload!(
        "limit.num_connections",
        limit.num_connections as usize,
        "WebSockets at a time."
    ),
    reload!(
        "limit.num_connections_per_address",
        limit.num_connections_per_address as usize,
        "WebSockets at a time from one IPv4 address or one IPv6 network of 64 bits."
    ),
    reload!(
        "limit.joins_per_second",
        limit.joins_per_second as u32,
        "Joins a second from one of these; ten times as many may come at once."
    ),
    start!(
        "trusted_proxies",
        trusted_proxies as Vec<IpAddr>,
        "Proxies whose `X-Forwarded-For` names the client. Those on this machine always may."
    ),
    start!(
        "enable_participant_data_blob",
        enable_participant_data_blob as bool,
        "Whether participants may store small named values in their rooms for others."
    ),
    start!(
        "webhook.urls",
        webhook.urls as Vec<String>,
        "Receivers of what happens in rooms, `http://` or `https://`; see [server-api.md](server-api.md)."
    ),
    start!(
        "webhook.api_key",
        webhook.api_key as String,
        "The API key that signs what they are sent."
    ),
    start!(
        "webhook.filter_params.include_events",
        webhook.filter_params.include_events as Vec<String>,
        "The only events that are sent. Empty: all."
    ),
    start!(
        "webhook.filter_params.exclude_events",
        webhook.filter_params.exclude_events as Vec<String>,
        "Events that are not sent. It counts only when `include_events` is empty."
    ),
    start!(
        "webhook.resource_url_notifier.max_age",
        webhook.resource_url_notifier.max_age as Duration,
        "An event that could not be delivered for this long is dropped."
    ),
    start!(
        "webhook.resource_url_notifier.max_depth",
        webhook.resource_url_notifier.max_depth as usize,
        "Events of one room that wait at a time."
    ),
    start!(
        "webhook.allow_private_addresses",
        webhook.allow_private_addresses as bool,
        "Whether names of receivers may resolve to addresses that are not public. Receivers that are given by address, and `localhost`, may be private anyway."
    ),
    start!(
        "webhook.retry.min",
        webhook.retry.min as Duration,
        "How long after the first attempt an event is sent again; twice as long after each further one."
    ),
    start!(
        "webhook.retry.max",
        webhook.retry.max as Duration,
        "The longest of these waits."
    ),
    start!(
        "store.path",
        store.path as String,
        "The file that keeps the audit log, the rooms that were made by request, and the usage of meetings. Empty: nothing outlives the process."
    ),
    start!(
        "store.usage_days",
        store.usage_days as u32,
        "Days for which the usage of a meeting is kept. 0: for ever. The audit log is kept until somebody takes it away."
    ),
    reload!(
        "logging.level",
        logging.level as String,
        "`error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,moim=debug`."
    ),
    reload!(
        "log_level",
        logging.level as String,
        "An older name of `logging.level`."
    ),
    start!(
        "logging.json",
        logging.json as bool,
        "Whether each line of the log is a JSON object."
    ),
    ignored("rtc.tcp_port", NO_TURN),
    ignored("rtc.allow_tcp_fallback", NO_TURN),
    ignored("rtc.tcp_fallback_rtt_threshold", NO_TURN),
    ignored("rtc.allow_udp_unstable_fallback", NO_TURN),
    ignored("rtc.force_tcp", NO_TURN),
    ignored("rtc.turn_servers", NO_TURN),
    ignored("turn", NO_TURN),
    ignored(
        "rtc.stun_servers",
        "clients need none: they reach the server at its announced address",
    ),
    ignored("rtc.use_stun_port_as_ice", OWN_ADDRESS),
    ignored("rtc.use_external_ip", OWN_ADDRESS),
    ignored("rtc.skip_external_ip_validation", OWN_ADDRESS),
    ignored("rtc.advertise_internal_ip", OWN_ADDRESS),
    ignored("rtc.external_ip_only", OWN_ADDRESS),
    ignored("rtc.interfaces", OWN_ADDRESS),
    ignored("rtc.ips", OWN_ADDRESS),
    ignored("rtc.enable_loopback_candidate", OWN_ADDRESS),
    ignored("rtc.use_mdns", OWN_ADDRESS),
    ignored(
        "rtc.use_ice_lite",
        "the server is always ICE-lite (RFC 8445, section 2.5)",
    ),
    ignored("rtc.batch_io", "packets are always sent in batches"),
    ignored("rtc.sctp_min_cwnd", OWN_ENGINE),
    ignored("rtc.sctp_fast_rtx_wnd", OWN_ENGINE),
    ignored("rtc.sctp_cwnd_ca_step", OWN_ENGINE),
    ignored("rtc.host_acceptance_min_wait", OWN_ENGINE),
    ignored("rtc.srflx_acceptance_min_wait", OWN_ENGINE),
    ignored("rtc.prflx_acceptance_min_wait", OWN_ENGINE),
    ignored("rtc.relay_acceptance_min_wait", OWN_ENGINE),
    ignored("rtc.strict_acks", OWN_ENGINE),
    ignored("rtc.packet_buffer_size", OWN_BUFFERS),
    ignored("rtc.packet_buffer_size_video", OWN_BUFFERS),
    ignored("rtc.packet_buffer_size_audio", OWN_BUFFERS),
    ignored(
        "rtc.pli_throttle",
        "keyframes are asked for as often as they are needed, at most twice a second of a layer",
    ),
    ignored("rtc.congestion_control", OWN_ESTIMATION),
    ignored("rtc.reconnect_on_publication_error", OWN_ENGINE),
    ignored("rtc.reconnect_on_subscription_error", OWN_ENGINE),
    ignored("rtc.reconnect_on_data_channel_error", OWN_ENGINE),
    ignored(
        "rtc.data_channel_max_buffered_amount",
        "senders of reliable data are slowed by their SCTP window instead",
    ),
    ignored(
        "rtc.datachannel_slow_threshold",
        "senders of reliable data are slowed by their SCTP window instead",
    ),
    ignored("rtc.datachannel_lossy_target_latency", OWN_ENGINE),
    ignored("rtc.forward_stats", OWN_ENGINE),
    ignored(
        "rtc.enable_rtp_stream_restart_detection",
        "a restarted encoder is always followed",
    ),
    ignored("redis", NO_OTHER_SERVER),
    ignored("signal_relay", NO_OTHER_SERVER),
    ignored("psrpc", NO_OTHER_SERVER),
    ignored("node_selector", NO_OTHER_SERVER),
    ignored("node_stats", NO_OTHER_SERVER),
    ignored("region", NO_OTHER_SERVER),
    ignored("api", NO_OTHER_SERVER),
    ignored("audio", OWN_SPEAKERS),
    ignored("video", OWN_ESTIMATION),
    ignored("metric", OWN_ENGINE),
    ignored("trace", NOT_HERE),
    ignored("prometheus", "the metrics are at `/metrics` of `port`"),
    ignored("prometheus_port", "the metrics are at `/metrics` of `port`"),
    ignored("debug_handler", NOT_HERE),
    ignored("ingress", NOT_HERE),
    ignored("sip", NOT_HERE),
    ignored("agents", NOT_HERE),
    ignored("webhook.url_notifier", OWN_ENGINE),
    ignored("development", "`moim --dev` starts in development mode"),
    ignored("enable_data_tracks", "data tracks are always there"),
    ignored(
        "room.enabled_codecs",
        "all codecs that the server knows may be published",
    ),
    ignored("room.playout_delay", OWN_ENGINE),
    ignored("room.sync_streams", OWN_ENGINE),
    ignored("room.create_room_enabled", NO_OTHER_SERVER),
    ignored("room.create_room_timeout", NO_OTHER_SERVER),
    ignored("room.create_room_attempts", NO_OTHER_SERVER),
    ignored("room.update_batch_target_size", OWN_ENGINE),
    ignored("room.room_configurations", NOT_HERE),
    ignored("room.max_metadata_size", OWN_BOUNDS),
    ignored("room.max_room_name_length", OWN_BOUNDS),
    ignored("room.max_participant_identity_length", OWN_BOUNDS),
    ignored("limit.max_metadata_size", OWN_BOUNDS),
    ignored("limit.max_attributes_size", OWN_BOUNDS),
    ignored("limit.max_room_name_length", OWN_BOUNDS),
    ignored("limit.max_participant_identity_length", OWN_BOUNDS),
    ignored("limit.max_participant_name_length", OWN_BOUNDS),
    ignored("limit.max_data_blob_key_length", OWN_BOUNDS),
    ignored("limit.max_data_blobs_size", OWN_BOUNDS),
    ignored("limit.max_data_track_custom_encoding_length", OWN_BOUNDS),
    ignored(
        "limit.num_tracks",
        "tracks are bounded for each participant, by `room.max_tracks`",
    ),
    ignored("limit.bytes_per_sec", OWN_ESTIMATION),
    ignored("limit.subscription_limit_video", OWN_ESTIMATION),
    ignored(
        "limit.subscription_limit_audio",
        "voices are bounded by `room.loudest_speakers`",
    ),
    ignored("logging.sample", "every line is written"),
    ignored("logging.sample_initial", "every line is written"),
    ignored("logging.sample_interval", "every line is written"),
    ignored("logging.item_sample_seconds", "every line is written"),
    ignored("logging.item_sample_initial", "every line is written"),
    ignored("logging.item_sample_interval", "every line is written"),
    ignored(
        "logging.pion_level",
        "`logging.level` takes a filter by part",
    ),
    ignored(
        "logging.component_levels",
        "`logging.level` takes a filter by part",
    ),
];
