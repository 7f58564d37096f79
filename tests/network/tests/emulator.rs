//! The emulator between a client and an echoing server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(10);

/// The emulator, ended with the test; the server's sockets, for the test to play the server.
struct Emulator {
    process: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
    http: TcpListener,
    media: UdpSocket,
    address: &'static str,
}

impl Emulator {
    fn start(address: &'static str) -> Emulator {
        let http = TcpListener::bind("127.0.0.1:0").unwrap();
        let media = UdpSocket::bind("127.0.0.1:0").unwrap();
        media.set_read_timeout(Some(PATIENCE)).unwrap();
        let ports = [http.local_addr(), media.local_addr()].map(|at| at.unwrap().port());
        let mut process = Command::new(env!("CARGO_BIN_EXE_moim-link"))
            .arg(address)
            .args(ports.map(|port| port.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let mut emulator = Emulator {
            process,
            orders,
            answers,
            http,
            media,
            address,
        };
        emulator.order(&json!({}));
        emulator
    }

    fn order(&mut self, line: &Value) -> Value {
        writeln!(self.orders, "{line}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }

    fn client(&self) -> UdpSocket {
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let port = self.media.local_addr().unwrap().port();
        client.connect((self.address, port)).unwrap();
        client
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn clients_of_one_home_have_ways_of_their_own_and_one_link() {
    let mut emulator = Emulator::start("127.0.0.2");
    let clients = [emulator.client(), emulator.client()];
    let mut seen = Vec::new();
    let mut buffer = [0; 100];
    for (number, client) in clients.iter().enumerate() {
        client.send(&[number as u8; 50]).unwrap();
        let (length, from) = emulator.media.recv_from(&mut buffer).unwrap();
        assert_eq!(buffer[..length], [number as u8; 50]);
        assert_eq!(from.ip().to_string(), "127.0.0.2");
        seen.push(from);
    }
    assert_ne!(seen[0], seen[1]);
    for (number, (client, from)) in clients.iter().zip(&seen).enumerate().rev() {
        emulator.media.send_to(&[number as u8; 60], from).unwrap();
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..length], [number as u8; 60]);
    }
    let statistics = emulator.order(&json!({}));
    // With 28 bytes of IP and UDP headers each.
    assert_eq!(statistics["uplink"]["delivered_bytes"], 2 * 78);
    assert_eq!(statistics["downlink"]["delivered_bytes"], 2 * 88);
}

#[test]
fn a_link_that_is_dead_one_way_carries_the_other_until_it_recovers() {
    let mut emulator = Emulator::start("127.0.0.3");
    let client = emulator.client();
    let mut buffer = [0; 100];
    emulator.order(&json!({ "downlink": { "loss": 1.0 } }));
    client.send(b"up").unwrap();
    let (_, from) = emulator.media.recv_from(&mut buffer).unwrap();
    emulator.media.send_to(b"lost", from).unwrap();
    while emulator.order(&json!({}))["downlink"]["lost"] == 0 {}
    emulator.order(&json!({ "downlink": {} }));
    emulator.media.send_to(b"kept", from).unwrap();
    let length = client.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"kept");
}

#[test]
fn signaling_passes_with_the_address_of_the_emulator_in_it() {
    let emulator = Emulator::start("127.0.0.4");
    let port = emulator.http.local_addr().unwrap().port();
    let mut client = TcpStream::connect((emulator.address, port)).unwrap();
    let (mut server, _) = emulator.http.accept().unwrap();
    client.write_all(b"I am 127.0.0.1").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let mut heard = String::new();
    server.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "I am 127.0.0.1");
    server.write_all(b"candidate 127.0.0.1 7882").unwrap();
    drop(server);
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "candidate 127.0.0.4 7882");
}

#[test]
fn an_order_that_is_not_understood_is_refused_and_changes_nothing() {
    let mut emulator = Emulator::start("127.0.0.5");
    let answer = emulator.order(&json!({ "downlink": { "rat": 800_000 } }));
    assert!(
        answer["error"].as_str().unwrap().contains("rat"),
        "{answer}"
    );
    assert!(emulator.order(&json!({}))["downlink"].is_object());
}
