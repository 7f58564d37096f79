//! The server under test, as its own process on free ports.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};

/// A running server; ended when dropped.
pub(crate) struct Server {
    /// Address of HTTP and WebSocket.
    pub(crate) http: String,
    process: Child,
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
            process,
        }
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
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
