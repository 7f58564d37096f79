//! What can be set, section by section, with its defaults.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use moim_signaling::{ConnectionLimits, Rate};

use crate::room::RoomSettings;
use crate::webhook::WebhookConfig;

/// Everything that can be set. Every key has a default.
#[derive(Debug, Clone)]
pub struct Config {
    /// TCP port of HTTP and WebSocket.
    pub port: u16,
    /// Addresses to listen on; empty means all.
    pub bind_addresses: Vec<IpAddr>,
    /// API key → secret.
    pub keys: ApiKeyTable,
    /// A file of more of them; empty means none.
    pub key_file: String,
    /// Media.
    pub rtc: RtcConfig,
    /// Rooms.
    pub room: RoomSettings,
    /// Bounds over all rooms.
    pub limit: LimitConfig,
    /// Proxies whose `X-Forwarded-For` names the client; those on this machine always do.
    pub trusted_proxies: Vec<IpAddr>,
    /// Participants may store small named values in their rooms for others.
    pub enable_participant_data_blob: bool,
    /// Webhooks.
    pub webhook: WebhookConfig,
    /// What is kept.
    pub store: StoreConfig,
    /// Logs.
    pub logging: LoggingConfig,
    /// Development mode: anybody gets a token from the page.
    pub development: bool,
}

/// Media.
#[derive(Debug, Clone)]
pub struct RtcConfig {
    /// UDP ports of the shards: the first one's, and the following ones.
    pub udp_port: Ports,
    /// First of the ports that shards take when `udp_port` is not given.
    pub port_range_start: u16,
    /// Last of these.
    pub port_range_end: u16,
    /// Addresses to announce to clients instead of the bound ones.
    pub node_ip: NodeIp,
    /// Media shards; 0 means one a core.
    pub shards: usize,
}

/// LiveKit's default is a range of ports for each participant; 7882 is what its documentation
/// proposes for all participants on one port.
const DEFAULT_UDP_PORTS: Ports = Ports {
    first: 7882,
    last: 7882,
};

/// Bounds over all rooms.
#[derive(Debug, Clone)]
pub struct LimitConfig {
    /// Rooms at a time.
    pub num_rooms: usize,
    /// WebSockets at a time.
    pub num_connections: usize,
    /// WebSockets at a time from one IPv4 address or one IPv6 network of 64 bits.
    pub num_connections_per_address: usize,
    /// Joins a second from one of these; ten times as many at once.
    pub joins_per_second: u32,
}

impl LimitConfig {
    /// Those that the signaling service keeps to.
    pub fn connections(&self) -> ConnectionLimits {
        let joins = f64::from(self.joins_per_second);
        ConnectionLimits {
            total: self.num_connections,
            per_address: self.num_connections_per_address,
            joins: Rate {
                per_second: joins,
                burst: 10.0 * joins,
            },
        }
    }
}

impl Default for LimitConfig {
    fn default() -> Self {
        LimitConfig {
            num_rooms: 10_000,
            num_connections: 10_000,
            num_connections_per_address: 2_000,
            joins_per_second: 100,
        }
    }
}

/// What outlives the process.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The file; empty: nothing is kept.
    pub path: String,
    /// Days for which the usage of a meeting is kept; 0 means for ever.
    pub usage_days: u32,
}

impl Default for StoreConfig {
    fn default() -> Self {
        StoreConfig {
            path: String::new(),
            // A year and a month: each month can be held against that of the year before.
            usage_days: 396,
        }
    }
}

/// Logs.
#[derive(Debug, Clone)]
pub struct LoggingConfig {
    /// error, warn, info, debug or trace, or a filter of `tracing`.
    pub level: String,
    /// One JSON object a line.
    pub json: bool,
}

/// API keys with their secrets.
pub type ApiKeyTable = BTreeMap<String, Secret>;

/// UDP ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// The first one.
    pub first: u16,
    /// The last one; the same as the first where the number of ports is not bounded.
    pub last: u16,
}

impl From<u16> for Ports {
    fn from(port: u16) -> Ports {
        Ports {
            first: port,
            last: port,
        }
    }
}

/// The addresses of this machine that clients are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeIp {
    /// The IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}

impl NodeIp {
    /// Those that are there.
    pub fn addresses(self) -> impl Iterator<Item = IpAddr> {
        let ipv4 = self.ipv4.map(IpAddr::from);
        ipv4.into_iter().chain(self.ipv6.map(IpAddr::from))
    }
}

impl From<IpAddr> for NodeIp {
    fn from(ip: IpAddr) -> NodeIp {
        match ip {
            IpAddr::V4(ip) => NodeIp {
                ipv4: Some(ip),
                ipv6: None,
            },
            IpAddr::V6(ip) => NodeIp {
                ipv4: None,
                ipv6: Some(ip),
            },
        }
    }
}

/// A secret: it is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            port: 7880,
            bind_addresses: Vec::new(),
            keys: ApiKeyTable::new(),
            key_file: String::new(),
            rtc: RtcConfig::default(),
            room: RoomSettings::default(),
            limit: LimitConfig::default(),
            trusted_proxies: Vec::new(),
            enable_participant_data_blob: true,
            webhook: WebhookConfig::default(),
            store: StoreConfig::default(),
            logging: LoggingConfig::default(),
            development: false,
        }
    }
}

impl Default for RtcConfig {
    fn default() -> Self {
        RtcConfig {
            udp_port: DEFAULT_UDP_PORTS,
            port_range_start: 0,
            port_range_end: 0,
            node_ip: NodeIp::default(),
            shards: 0,
        }
    }
}

impl RtcConfig {
    /// The ports of the shards: `udp_port`, or where that is not given the range.
    pub fn ports(&self) -> Ports {
        let range = Ports {
            first: self.port_range_start,
            last: self.port_range_end.max(self.port_range_start),
        };
        match self.udp_port == DEFAULT_UDP_PORTS && self.port_range_start > 0 {
            true => range,
            false => self.udp_port,
        }
    }

    /// How many shards there are on a machine with this number of cores.
    pub fn shard_count(&self, cores: usize) -> usize {
        let wanted = if self.shards == 0 { cores } else { self.shards };
        let ports = self.ports();
        match ports.last > ports.first {
            true => wanted.min(usize::from(ports.last - ports.first) + 1),
            false => wanted,
        }
    }
}

impl Default for LoggingConfig {
    fn default() -> Self {
        LoggingConfig {
            level: "info".into(),
            json: false,
        }
    }
}
