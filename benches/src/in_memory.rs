//! A meeting in memory: an engine and the lean clients around it, without sockets and in
//! virtual time. Every handshake, packet and report is real; only the network is missing.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moim_client_transport::{Identity, Transport};
use moim_engine::codec::{Codec, MediaKind, PayloadTypes};
use moim_engine::command::{
    HeaderExtension, IceCredentials, NewSubscription, NewTrack, NewTransport, Payload,
    ReceiveMapping, SubscriptionSettings, TrackSource,
};
use moim_engine::ids::{RoomId, SubscriptionId, TrackId, TransportId};
use moim_engine::io::{EngineConfig, LocalSocket};
use moim_engine::rtp::{PacketClass, classify, is_rtcp};
use moim_engine::transport::ServerCertificate;
use moim_engine::{Command, Engine, Event};

use crate::client::{Client, sources};
use crate::outcome::Outcome;
use crate::published::PublishedTrack;
use crate::sdp::{self, ReceiveParameters};
use crate::voice::Speech;

const SERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 255, 255, 1)), 7_882);
const ROOM: RoomId = RoomId(1);
/// Id of the transport-wide sequence number towards subscribers, if the engine writes one.
const TRANSPORT_CC: u8 = 3;
/// For how long a recording is played on after its last datagram, so that all of it leaves.
const LINGER: Duration = Duration::from_millis(10);
/// A handshake without a network takes no longer.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// One datagram of a client that the engine has not had yet.
#[derive(Debug, Clone)]
pub struct Datagram {
    /// When it arrives.
    at: Instant,
    from: SocketAddr,
    bytes: Vec<u8>,
}

impl Datagram {
    /// Whether it is RTP.
    pub fn is_media(&self) -> bool {
        let class = self.bytes.first().map(|first| classify(*first));
        class == Some(PacketClass::Rtp) && !is_rtcp(&self.bytes)
    }
}

/// What the engine sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// RTP packets.
    pub packets: u64,
    /// RTCP packets.
    pub reports: u64,
    /// Everything else: ICE, DTLS.
    pub other: u64,
    /// Times that the engine had something to do that was not the sending of packets.
    pub timers: u64,
}

impl Sent {
    fn count(&mut self, datagram: &[u8]) {
        let rtp = classify(datagram[0]) == PacketClass::Rtp;
        match (rtp, is_rtcp(datagram)) {
            (true, false) => self.packets += 1,
            (true, true) => self.reports += 1,
            (false, _) => self.other += 1,
        }
    }
}

/// An engine with one room and its clients.
pub struct Meeting {
    engine: Engine,
    identity: Identity,
    epoch: Instant,
    now: Instant,
    recorded: Instant,
    clients: Vec<(TransportId, SocketAddr, Client)>,
    by_address: HashMap<SocketAddr, usize>,
    last_id: u32,
    outcome: Outcome,
    on_the_way: OnTheWay,
}

/// What the engine sent while a recording was played, as a kernel would keep it.
#[derive(Default)]
struct OnTheWay {
    bytes: Vec<u8>,
    /// Indexes of the clients, and where what is for them ends.
    datagrams: Vec<(usize, usize)>,
}

impl OnTheWay {
    fn push(&mut self, client: usize, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        self.datagrams.push((client, self.bytes.len()));
    }
}

impl Meeting {
    /// An empty room.
    ///
    /// # Errors
    /// When no certificate can be made.
    pub fn new() -> anyhow::Result<Meeting> {
        let now = Instant::now();
        let config = EngineConfig {
            seed: 1,
            certificate: Arc::new(ServerCertificate::generate()?),
            wall_clock: Duration::from_secs(1_700_000_000),
        };
        Ok(Meeting {
            engine: Engine::new(config, now),
            identity: Identity::new()?,
            epoch: now,
            now,
            recorded: now,
            clients: Vec::new(),
            by_address: HashMap::new(),
            last_id: 0,
            outcome: Outcome::default(),
            on_the_way: OnTheWay::default(),
        })
    }

    /// A client joins that sends a microphone, and a camera with as many simulcast layers as
    /// are given (at most 3; none for no camera). Returns its tracks.
    pub fn publish(&mut self, audio: bool, layers: usize) -> Vec<TrackId> {
        let first_ssrc = 1_000 * (self.clients.len() as u32 + 1);
        let mut published = Vec::new();
        if audio {
            published.push(PublishedTrack {
                video: false,
                ssrc: first_ssrc,
                layers: 1,
                qualities: [true; 3],
                speech: Speech::Constant,
                clip: None,
            });
        }
        if layers > 0 {
            published.push(PublishedTrack {
                video: true,
                ssrc: first_ssrc + 4,
                layers,
                qualities: [true; 3],
                speech: Speech::Constant,
                clip: None,
            });
        }
        let transport = self.connect(&published);
        self.command(Command::SetReceive {
            transport,
            mapping: Arc::new(ReceiveMapping {
                payload_types: vec![
                    (sdp::OPUS, Payload::Media(Codec::Opus)),
                    (sdp::VP8, Payload::Media(Codec::Vp8)),
                ],
                extensions: vec![
                    (sdp::MID_EXTENSION, HeaderExtension::Mid),
                    (sdp::RID_EXTENSION, HeaderExtension::Rid),
                ],
            }),
        });
        let tracks = published.iter().enumerate();
        let ids = tracks.map(|(mid, track)| self.add_track(transport, mid, track));
        ids.collect()
    }

    fn add_track(&mut self, transport: TransportId, mid: usize, track: &PublishedTrack) -> TrackId {
        let id = TrackId(self.next_id().into());
        let simulcast = track.layers > 1;
        let rids = sdp::RIDS.iter().take(track.layers).filter(|_| simulcast);
        self.command(Command::AddTrack(Box::new(NewTrack {
            track: id,
            transport,
            kind: if track.video {
                MediaKind::Video
            } else {
                MediaKind::Audio
            },
            screen: false,
            encrypted: false,
            source: TrackSource {
                mid: mid.to_string(),
                rids: rids.map(|rid| (*rid).to_owned()).collect(),
                ssrcs: if simulcast {
                    Vec::new()
                } else {
                    vec![(track.ssrc, None)]
                },
            },
        })));
        id
    }

    /// A client joins that receives tracks.
    pub fn subscribe(&mut self, tracks: &[TrackId]) {
        let transport = self.connect(&[]);
        for track in tracks {
            let number = self.next_id();
            self.command(Command::AddSubscription(NewSubscription {
                shown_as: None,
                subscription: SubscriptionId(number.into()),
                track: *track,
                transport,
                ssrc: 0x1000_0000 + 2 * number,
                rtx_ssrc: Some(0x1000_0001 + 2 * number),
                transport_cc: true,
                payload_types: PayloadTypes::as_offered(),
                settings: SubscriptionSettings::default(),
            }));
        }
    }

    /// A client connects by ICE and DTLS, both ends of it, and is gone again at once.
    pub fn connect_and_leave(&mut self) {
        let transport = self.connect(&[]);
        self.command(Command::RemoveTransport(transport));
        if let Some((_, address, _)) = self.clients.pop() {
            self.by_address.remove(&address);
        }
        self.exchange();
    }

    /// Lets time pass with everything that happens in it.
    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let clients = self
                .clients
                .iter()
                .map(|(.., client)| client.poll_timeout());
            let next = clients.chain(self.engine.poll_timeout()).min();
            self.now = next.unwrap_or(end).clamp(self.now, end);
            self.turn();
            if self.now == end {
                self.recorded = end;
                return;
            }
        }
    }

    /// What all clients send in the time that comes next, held back from the engine.
    pub fn record(&mut self, time: Duration) -> Vec<Datagram> {
        let end = self.recorded + time;
        let mut datagrams = Vec::new();
        for (_, from, client) in &mut self.clients {
            while client.poll_timeout() <= end {
                let at = client.poll_timeout().max(self.recorded);
                let outcome = &mut self.outcome;
                for bytes in sent_by(client, at, self.epoch, outcome) {
                    let from = *from;
                    datagrams.push(Datagram { at, from, bytes });
                }
            }
        }
        datagrams.sort_by_key(|datagram| datagram.at);
        self.recorded = end;
        datagrams
    }

    /// The next connectivity check of the client that joined last, held back from the engine.
    ///
    /// # Panics
    /// When nobody has joined.
    pub fn check(&mut self) -> Datagram {
        let last = self.clients.last_mut();
        let (_, from, client) = last.expect("a client that has joined");
        Datagram {
            at: self.now,
            from: *from,
            bytes: client.transport.check().to_vec(),
        }
    }

    /// Gives a recording to the engine and keeps what it sends for [`Meeting::deliver`]. Allocates
    /// nothing itself but the memory for that, once.
    pub fn play(&mut self, recording: &mut [Datagram]) -> Sent {
        let mut sent = Sent::default();
        for datagram in recording {
            self.elapse(datagram.at, &mut sent);
            self.engine.handle_datagram(
                self.now,
                datagram.from,
                LocalSocket::default(),
                &mut datagram.bytes,
            );
        }
        self.elapse(self.now + LINGER, &mut sent);
        sent
    }

    /// The clients receive what was sent while recordings were played. To hear nothing of it, the
    /// engine would take their network for broken, and send no more.
    pub fn deliver(&mut self) {
        let mut start = 0;
        for (index, end) in self.on_the_way.datagrams.drain(..) {
            let datagram = &mut self.on_the_way.bytes[start..end];
            let (.., client) = &mut self.clients[index];
            client.receive(self.now, self.epoch, datagram, &mut self.outcome);
            start = end;
        }
        self.on_the_way.bytes.clear();
        self.answer();
    }

    /// What the clients have to say to what they received.
    fn answer(&mut self) {
        for (_, from, client) in &mut self.clients {
            for mut bytes in client.transport.take_outgoing() {
                let local = LocalSocket::default();
                self.engine
                    .handle_datagram(self.now, *from, local, &mut bytes);
            }
        }
        self.exchange();
    }

    /// Lets the engine have its time up to `until`.
    fn elapse(&mut self, until: Instant, sent: &mut Sent) {
        loop {
            let due = self.engine.poll_timeout().filter(|due| *due <= until);
            let is_timer = due.is_some() && due != self.engine.flush_deadline();
            sent.timers += u64::from(is_timer);
            self.now = due.unwrap_or(until).max(self.now);
            self.engine.handle_timeout(self.now);
            while let Some(transmits) = self.engine.poll_transmits(self.now) {
                for transmit in transmits {
                    let client = self.by_address.get(&transmit.destination);
                    for datagram in transmit.datagrams() {
                        sent.count(datagram);
                        if let Some(client) = client {
                            self.on_the_way.push(*client, datagram);
                        }
                    }
                }
            }
            while self.engine.poll_event().is_some() {}
            if due.is_none() {
                return;
            }
        }
    }

    /// Adds a connection and lets it connect.
    fn connect(&mut self, tracks: &[PublishedTrack]) -> TransportId {
        let number = self.next_id();
        let transport = TransportId(number.into());
        let ice = |kind: &str| IceCredentials {
            ufrag: format!("{kind}{number:06}"),
            pwd: format!("{kind}{number:024}"),
        };
        let (server, local) = (ice("se"), ice("cl"));
        self.command(Command::AddTransport(Box::new(NewTransport {
            transport,
            room: ROOM,
            local_ice: server.clone(),
            opens_data_channels: false,
        })));
        self.command(Command::SetRemote {
            transport,
            ice: local.clone(),
            fingerprint: self.identity.fingerprint(),
        });
        let [_, a, b, c] = number.to_be_bytes();
        let address = SocketAddr::from(([10, a, b, c], 5_000));
        let lean = Transport::new(self.now, &self.identity, &local, &server, SERVER, true);
        let repair = Codec::Vp8.rtx_payload_type().unwrap_or(0);
        let receive = ReceiveParameters {
            transport_cc: Some(TRANSPORT_CC),
            repair_types: 1 << repair,
        };
        let client = Client::new(self.now, lean, sources(self.now, tracks), receive);
        self.by_address.insert(address, self.clients.len());
        self.clients.push((transport, address, client));
        let limit = self.now + CONNECT_LIMIT;
        while !self.is_connected() {
            assert!(self.now < limit, "a client does not connect");
            let (.., client) = &self.clients[self.clients.len() - 1];
            let due = client.poll_timeout();
            self.now = due.clamp(self.now, limit);
            self.turn();
        }
        self.recorded = self.recorded.max(self.now);
        transport
    }

    fn is_connected(&self) -> bool {
        self.clients.last().is_some_and(|(.., c)| c.is_open())
    }

    fn command(&mut self, command: Command) {
        self.engine.handle_command(self.now, command);
    }

    fn next_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    /// Whatever is due now.
    fn turn(&mut self) {
        for index in 0..self.clients.len() {
            let (_, from, client) = &mut self.clients[index];
            if client.poll_timeout() <= self.now {
                let from = *from;
                let datagrams = sent_by(client, self.now, self.epoch, &mut self.outcome);
                for mut bytes in datagrams {
                    let local = LocalSocket::default();
                    self.engine
                        .handle_datagram(self.now, from, local, &mut bytes);
                }
            }
        }
        self.engine.handle_timeout(self.now);
        self.exchange();
    }

    /// Passes datagrams on until neither side has any.
    fn exchange(&mut self) {
        let mut answers: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
        loop {
            while let Some(transmits) = self.engine.poll_transmits(self.now) {
                for transmit in transmits {
                    let Some(index) = self.by_address.get(&transmit.destination) else {
                        continue;
                    };
                    let (_, from, client) = &mut self.clients[*index];
                    for datagram in transmit.datagrams() {
                        let mut datagram = datagram.to_vec();
                        client.receive(self.now, self.epoch, &mut datagram, &mut self.outcome);
                    }
                    let outgoing = client.transport.take_outgoing();
                    answers.extend(outgoing.into_iter().map(|bytes| (*from, bytes.to_vec())));
                }
            }
            while let Some(event) = self.engine.poll_event() {
                if let Event::TransportFailed { reason, .. } = event.event {
                    panic!("a connection failed: {reason}");
                }
            }
            if answers.is_empty() {
                return;
            }
            for (from, mut bytes) in answers.drain(..) {
                let local = LocalSocket::default();
                self.engine
                    .handle_datagram(self.now, from, local, &mut bytes);
            }
        }
    }
}

/// What a client sends at a time that it has asked for.
fn sent_by(
    client: &mut Client,
    now: Instant,
    epoch: Instant,
    outcome: &mut Outcome,
) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    client.handle_timeout(now, epoch, outcome, |run, segment| {
        datagrams.extend(run.chunks(segment.max(1)).map(<[u8]>::to_vec));
    });
    let outgoing = client.transport.take_outgoing();
    datagrams.extend(outgoing.into_iter().map(|bytes| bytes.to_vec()));
    datagrams
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_receives_what_is_published() {
        let mut meeting = Meeting::new().expect("a meeting");
        let tracks = meeting.publish(true, 1);
        (0..3).for_each(|_| meeting.subscribe(&tracks));
        meeting.run(Duration::from_secs(3));
        let (.., subscriber) = &meeting.clients[1];
        let counts = subscriber.streams.counts();
        assert!(counts.received > 400, "{counts:?}");
        assert_eq!((counts.lost, counts.duplicated), (0, 0), "{counts:?}");
        assert!(meeting.outcome.feedback >= 6, "reports of three clients");

        // What still waits in the engine leaves first.
        meeting.play(&mut []);
        let mut recording = meeting.record(Duration::from_secs(1));
        let media = recording.iter().filter(|d| d.is_media()).count() as u64;
        assert_eq!(meeting.play(&mut recording).packets, 3 * media);
    }

    #[test]
    fn clients_come_and_go() {
        let mut meeting = Meeting::new().expect("a meeting");
        (0..3).for_each(|_| meeting.connect_and_leave());
        assert_eq!(meeting.engine.statistics().transports, 0);
    }
}
