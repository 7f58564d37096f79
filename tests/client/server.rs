//! The server under test on free ports: as its own process, or with two shards in this one.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use moim::media::handle::Media;
use moim::media::placement::Spreading;
use moim::media::shell::{RunningShard, ShardConfig};
use moim::room::{Registry, RoomSettings};
use moim_engine::io::EngineStatistics;
use moim_engine::transport::ServerCertificate;
use moim_signaling::session::Limits;
use moim_signaling::token::{ApiKeys, TokenIssuer};
use moim_signaling::{ConnectionLimits, Connections, http};

/// Every subscriber goes to another shard than the publishers.
const ALWAYS: Spreading = Spreading {
    busy: 0,
    connections: 0,
    margin: i32::MIN,
};

/// A running server; ended when dropped.
pub(crate) struct Server {
    /// Address of HTTP and WebSocket.
    pub(crate) http: String,
    process: Option<Child>,
    shards: Vec<RunningShard>,
}

impl Server {
    /// Starts one and waits until it answers.
    pub(crate) fn start() -> Server {
        let http = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let media = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let (http_port, media_port) = (
            http.local_addr().expect("an address").port(),
            media.local_addr().expect("an address").port(),
        );
        drop((http, media));
        let config = format!(
            "port: {http_port}\nbind_addresses: ['127.0.0.1']\nkeys:\n  devkey: secret\n\
             rtc:\n  udp_port: {media_port}\nlogging:\n  level: warn\n"
        );
        let mut process = Command::new(env!("CARGO_BIN_EXE_moim"))
            .args(["--config-body", &config, "--shards", "1"])
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("a started server");
        let stdout = process.stdout.take().expect("its output");
        let mut lines = BufReader::new(stdout).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line.contains("http://")));
        assert!(ready, "the server said no address");
        std::thread::spawn(move || lines.for_each(drop));
        Server {
            http: format!("127.0.0.1:{http_port}"),
            process: Some(process),
            shards: Vec::new(),
        }
    }

    /// Starts one in this process, whose rooms have their publishers on one shard and their
    /// subscribers on another.
    pub(crate) async fn start_spread() -> Server {
        let certificate = Arc::new(ServerCertificate::generate().expect("a certificate"));
        let configs = [0, 1].map(|index| ShardConfig {
            index,
            bind: vec![std::net::Ipv4Addr::LOCALHOST.into()],
            port: 0,
            announce: Vec::new(),
        });
        let shards = RunningShard::start_all(&configs, &certificate).expect("two shards");
        let handles = shards.iter().map(|shard| shard.handle.clone()).collect();
        let media = Media::with_spreading(handles, certificate.fingerprint(), ALWAYS);
        let pair = ("devkey".to_owned(), "secret".to_owned());
        let keys: ApiKeys = [pair].into_iter().collect();
        let rooms = Registry::new(
            RoomSettings::default(),
            TokenIssuer::new(keys.clone()),
            media,
            Vec::new(),
        );
        let router = http::router(
            rooms,
            keys,
            Limits::default(),
            Connections::new(ConnectionLimits::default()),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let http = listener.local_addr().expect("an address").to_string();
        // It ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, router).await });
        Server {
            http,
            process: None,
            shards,
        }
    }

    /// The last published counters of the shards in this process.
    pub(crate) fn statistics(&self) -> Vec<EngineStatistics> {
        let shards = self.shards.iter();
        shards.map(|shard| shard.statistics.engine()).collect()
    }

    /// A token that may do everything a participant may.
    pub(crate) fn token(&self, room: &str, identity: &str) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_moim"))
            .args(["token", "create", "--room", room, "--identity", identity])
            .args(["--keys", "devkey: secret"])
            .output()
            .expect("a token");
        let text = String::from_utf8(output.stdout).expect("text");
        text.trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
