//! The server put together: shards, rooms, signaling, HTTP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use moim_signaling::session::Limits;
use moim_signaling::token::{ApiKeys, TokenIssuer};
use moim_signaling::{Connections, http as signaling};
use tokio::net::TcpListener;

use crate::agents::Agents;
use crate::api;
use crate::config::Config;
use crate::http::HttpServer;
use crate::media::handle::Media;
use crate::media::shell::{RunningShard, ShardConfig};
use crate::reload::{Hangups, Reload};
use crate::room::{FactReader, Registry, RoomChanges, RoomSettings};
use crate::store::meetings::Meetings;
use crate::store::{self, Store};
use crate::webhook::Webhooks;
use moim_engine::transport::ServerCertificate;

/// How long webhooks are waited for when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until the process is told to stop.
///
/// # Errors
/// When the configuration does not allow a start, or an address cannot be had.
pub async fn run(mut config: Config, reload: Reload) -> anyhow::Result<()> {
    if config.keys.is_empty() {
        bail!("`keys` is empty: give at least one `API_KEY: SECRET`, or start with --dev");
    }
    for weak in config.set_weak_keys_aside() {
        tracing::error!("{weak}");
    }
    let keys: ApiKeys = config.key_pairs().collect();
    let issuer = TokenIssuer::new(keys.clone());
    let listeners = listen(&config).await?;
    let shards = start_shards(&config)?;
    let statistics = shards
        .iter()
        .map(|shard| shard.statistics.clone())
        .collect();
    let handles = shards.iter().map(|shard| shard.handle.clone()).collect();
    let fingerprint = shards_fingerprint(&shards)?;
    let webhooks = Webhooks::start(&config.webhook, &issuer)?;
    let agents = Agents::start(issuer.clone());
    let store = open_store(&config)?;
    let meetings = store.clone().map(Meetings::new);
    let mut readers: Vec<Arc<dyn FactReader>> =
        vec![Arc::new(webhooks.clone()), Arc::new(agents.clone())];
    if let Some(meetings) = &meetings {
        readers.push(Arc::new(meetings.clone()));
    }
    let rooms = Registry::new(
        RoomSettings {
            max_rooms: config.limit.num_rooms,
            data_blobs: config.enable_participant_data_blob,
            ..config.room.clone()
        },
        issuer.clone(),
        Media::new(handles, fingerprint),
        readers,
    );
    if store.is_some() {
        restore_rooms(&config, &rooms).await?;
    }
    let connections = Connections::new(config.limit.connections());
    let router = signaling::router(
        rooms.clone(),
        keys.clone(),
        Limits::default(),
        connections.clone(),
    );
    let parts = api::Parts {
        rooms: rooms.clone(),
        agents,
        webhooks: webhooks.clone(),
        shards: statistics,
        keys: keys.clone(),
        issuer,
        store: store.clone(),
    };
    let router = router.merge(api::router(parts, config.development));
    let hangups = Hangups::new();
    announce(&config, &listeners)?;
    let mut http = HttpServer::start(listeners, router, config.trusted_proxies.clone());
    tokio::select! {
        () = told_to_stop() => tracing::info!("stopping"),
        failed = http.failed() => failed.context("a listener failed")?,
        () = reload.run(hangups, config, &keys, &connections) => {}
    }
    if let Some(meetings) = &meetings {
        meetings.stop();
    }
    rooms.close().await;
    if let Some(store) = &store {
        store.flush().await;
    }
    tokio::join!(http.stop(), webhooks.drain(DRAIN_TIMEOUT));
    drop(shards);
    Ok(())
}

fn open_store(config: &Config) -> anyhow::Result<Option<Store>> {
    if config.store.path.is_empty() {
        return Ok(None);
    }
    let path = Path::new(&config.store.path);
    let text = || format!("cannot keep anything in {} (`store.path`)", path.display());
    let store = Store::start(path).with_context(text)?;
    if config.store.usage_days > 0 {
        store.keep_usage_for(Duration::from_secs(86_400) * config.store.usage_days);
    }
    Ok(Some(store))
}

/// Makes the rooms again that were made by request before the last stop.
async fn restore_rooms(config: &Config, rooms: &Registry) -> anyhow::Result<()> {
    let kept = store::rooms::all(&store::read_file(Path::new(&config.store.path))?)?;
    for room in kept {
        let changes = RoomChanges {
            empty_timeout: room.empty_timeout,
            departure_timeout: room.departure_timeout,
            max_participants: room.max_participants,
            metadata: room.metadata,
            ..RoomChanges::default()
        };
        if let Err(error) = rooms.create(&room.name, changes).await {
            tracing::warn!(room = %room.name, %error, "a room cannot be made again");
        }
    }
    Ok(())
}

struct Shards {
    running: Vec<RunningShard>,
    certificate: Arc<ServerCertificate>,
}

impl std::ops::Deref for Shards {
    type Target = [RunningShard];

    fn deref(&self) -> &[RunningShard] {
        &self.running
    }
}

fn shards_fingerprint(shards: &Shards) -> anyhow::Result<moim_engine::command::Fingerprint> {
    if shards.is_empty() {
        bail!("`rtc.shards` leaves no media shard");
    }
    Ok(shards.certificate.fingerprint())
}

fn bind_addresses(config: &Config) -> Vec<IpAddr> {
    if config.bind_addresses.is_empty() {
        return vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    }
    config.bind_addresses.clone()
}

/// Which of the addresses this machine has. A machine without IPv6 is nothing to stop for when
/// IPv6 was not asked for by itself.
fn usable(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let has_v4 = addresses.iter().any(IpAddr::is_ipv4);
    addresses
        .into_iter()
        .filter(|ip| {
            ip.is_ipv4() || !has_v4 || std::net::UdpSocket::bind(SocketAddr::new(*ip, 0)).is_ok()
        })
        .collect()
}

async fn listen(config: &Config) -> anyhow::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for ip in usable(bind_addresses(config)) {
        let address = SocketAddr::new(ip, config.port);
        let socket = socket2::Socket::new(
            socket2::Domain::for_address(address),
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        )?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        let text = || format!("cannot listen on {address} (`port`, `bind_addresses`)");
        socket.bind(&address.into()).with_context(text)?;
        socket.listen(1_024).with_context(text)?;
        listeners.push(TcpListener::from_std(socket.into())?);
    }
    Ok(listeners)
}

fn start_shards(config: &Config) -> anyhow::Result<Shards> {
    let certificate = Arc::new(ServerCertificate::generate()?);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let count = config.rtc.shard_count(cores);
    let first = usize::from(config.rtc.ports().first);
    let mut configs = Vec::new();
    for index in 0..count {
        let port = u16::try_from(first + index)
            .context("`rtc.udp_port` and `rtc.shards` reach past port 65535")?;
        configs.push(ShardConfig {
            index,
            bind: usable(bind_addresses(config)),
            port,
            announce: config.rtc.node_ip.addresses().collect(),
        });
    }
    Ok(Shards {
        running: RunningShard::start_all(&configs, &certificate)?,
        certificate,
    })
}

/// Says where the meeting is, on standard output: it is for the person who started the server.
#[allow(clippy::print_stdout)]
fn announce(config: &Config, listeners: &[TcpListener]) -> anyhow::Result<()> {
    let port = match listeners.first() {
        Some(listener) => listener.local_addr()?.port(),
        None => bail!("`bind_addresses` has no address that this machine has"),
    };
    if config.development {
        println!("moim is running in development mode: API key `devkey`, secret `secret`");
    }
    println!("Open http://localhost:{port}/ to meet");
    Ok(())
}

async fn told_to_stop() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            }
            return;
        }
    }
    let _ = interrupt.await;
}
