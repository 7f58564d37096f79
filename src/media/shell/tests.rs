//! A shard on real sockets.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use super::*;
use moim_engine::Event;
use moim_engine::command::{Command, IceCredentials, NewTransport};
use moim_engine::ids::RoomId;

fn shard() -> (RunningShard, u16) {
    let certificate = Arc::new(ServerCertificate::generate().unwrap());
    let config = ShardConfig {
        index: 0,
        bind: vec![Ipv4Addr::LOCALHOST.into()],
        port: 0,
        announce: Vec::new(),
    };
    let shard = RunningShard::start(&config, certificate.clone()).unwrap();
    let media =
        crate::media::handle::Media::new(vec![shard.handle.clone()], certificate.fingerprint());
    let (mut room, _events) = media.place_room();
    let transport = room.place_publisher();
    let port = room.addresses(transport)[0].port;
    (shard, port)
}

#[test]
fn a_bound_port_that_is_taken_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = ShardConfig {
        index: 0,
        bind: vec![Ipv4Addr::LOCALHOST.into()],
        port,
        announce: Vec::new(),
    };
    let certificate = Arc::new(ServerCertificate::generate().unwrap());
    let error = RunningShard::start(&config, certificate).err().unwrap();
    let text = error.to_string();
    assert!(
        text.contains(&port.to_string()) && text.contains("rtc.udp_port"),
        "{text}"
    );
}

#[test]
fn a_shard_stops_when_it_is_dropped() {
    let (shard, _) = shard();
    drop(shard);
}

#[test]
fn random_datagrams_are_answered_with_nothing() {
    let (shard, port) = shard();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    for first in 0..=255u8 {
        socket.send_to(&[first; 64], ("127.0.0.1", port)).unwrap();
    }
    let mut buffer = [0; 64];
    assert!(socket.recv_from(&mut buffer).is_err());
    drop(shard);
}

#[tokio::test]
async fn events_reach_the_room_that_was_opened() {
    let (shard, _port) = shard();
    let certificate = ServerCertificate::generate().unwrap();
    let media =
        crate::media::handle::Media::new(vec![shard.handle.clone()], certificate.fingerprint());
    let (mut room, mut events) = media.place_room();
    let transport = room.place_publisher();
    let id = room.room_id();
    room.command(Command::AddTransport(Box::new(NewTransport {
        transport,
        room: id,
        local_ice: IceCredentials {
            ufrag: "abcd".into(),
            pwd: "a-password-that-is-long-enough".into(),
        },
        opens_data_channels: false,
    })));
    // Reliable data to somebody who never opens a channel is kept up to a bound; past it the
    // connection counts as stalled, of which the room hears.
    for _ in 0..200 {
        room.command(Command::SendData {
            transports: vec![transport],
            channel: moim_engine::command::DataChannel::Reliable,
            payload: bytes::Bytes::from(vec![0; 60_000]),
            from: None,
        });
    }
    room.flush().await;
    let event = tokio::time::timeout(Duration::from_secs(10), events.recv()).await;
    let Ok(Some(Event::DataStalled {
        transport: stalled,
        stalled: true,
    })) = event
    else {
        panic!("{event:?}");
    };
    assert_eq!(stalled, transport);
    assert_ne!(room.room_id(), RoomId(0));
}
