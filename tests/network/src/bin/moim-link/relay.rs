//! Media: datagrams between the clients of one home and the server, through one link a direction.
//!
//! The server sees every client at an address of its own, as behind a NAT.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

use mio::net::UdpSocket;
use mio::{Events, Interest, Poll, Token, Waker};
use moim_network::{Link, LinkConfig, Statistics};

/// Clients that are served; datagrams of further ones are dropped.
const MAX_CLIENTS: usize = 256;
/// What IPv4 and UDP add to a datagram on a link.
const HEADERS: usize = 28;
/// The largest datagram that is passed.
const MAX_DATAGRAM: usize = 2_048;

const HOME: Token = Token(MAX_CLIENTS);
const ORDERS: Token = Token(MAX_CLIENTS + 1);

/// What a relay is told.
pub(crate) struct Order {
    /// What the way to the server becomes.
    pub(crate) uplink: Option<LinkConfig>,
    /// What the way from the server becomes.
    pub(crate) downlink: Option<LinkConfig>,
    /// Where the statistics of both go, uplink first.
    pub(crate) answer: Sender<(Statistics, Statistics)>,
}

/// Gives orders to a relay that runs elsewhere.
pub(crate) struct Orders {
    sender: Sender<Order>,
    waker: Waker,
}

impl Orders {
    /// Gives an order. An error means that the relay is gone.
    pub(crate) fn give(&self, order: Order) -> io::Result<()> {
        let gone = |_| io::Error::other("the relay has ended");
        self.sender.send(order).map_err(gone)?;
        self.waker.wake()
    }
}

/// One client and its way to the server.
struct Client {
    address: SocketAddr,
    socket: UdpSocket,
}

/// A datagram of a client, or for it.
#[derive(Clone)]
struct Datagram {
    client: usize,
    bytes: Vec<u8>,
}

/// Both links and the sockets at their ends.
pub(crate) struct Relay {
    poll: Poll,
    home: UdpSocket,
    address: SocketAddrV4,
    server: SocketAddrV4,
    clients: Vec<Client>,
    by_address: HashMap<SocketAddr, usize>,
    uplink: Link<Datagram>,
    downlink: Link<Datagram>,
    orders: Receiver<Order>,
}

impl Relay {
    /// A relay at `address` before `server`, and what gives it orders.
    pub(crate) fn new(address: SocketAddrV4, server: SocketAddrV4) -> io::Result<(Relay, Orders)> {
        let poll = Poll::new()?;
        let mut home = UdpSocket::bind(address.into())?;
        poll.registry()
            .register(&mut home, HOME, Interest::READABLE)?;
        let waker = Waker::new(poll.registry(), ORDERS)?;
        let (sender, orders) = mpsc::channel();
        let seed = u64::from(address.ip().to_bits());
        let relay = Relay {
            poll,
            home,
            address,
            server,
            clients: Vec::new(),
            by_address: HashMap::new(),
            uplink: Link::new(LinkConfig::default(), seed),
            downlink: Link::new(LinkConfig::default(), seed.wrapping_add(1)),
            orders,
        };
        Ok((relay, Orders { sender, waker }))
    }

    /// Passes datagrams for as long as the process runs.
    pub(crate) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(64);
        loop {
            let next = [self.uplink.poll_timeout(), self.downlink.poll_timeout()];
            let timeout = next
                .into_iter()
                .flatten()
                .min()
                .map(|at| at.saturating_duration_since(Instant::now()));
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(error);
            }
            let now = Instant::now();
            for event in &events {
                match event.token() {
                    HOME => self.receive_from_home(now)?,
                    ORDERS => self.obey(now),
                    Token(client) => self.receive_from_server(client, now),
                }
            }
            self.deliver(now);
        }
    }

    fn obey(&mut self, now: Instant) {
        for order in self.orders.try_iter() {
            if let Some(config) = order.uplink {
                self.uplink.set_config(now, config);
            }
            if let Some(config) = order.downlink {
                self.downlink.set_config(now, config);
            }
            // Who has stopped waiting does not want to know.
            let _ = order
                .answer
                .send((self.uplink.statistics(), self.downlink.statistics()));
        }
    }

    fn receive_from_home(&mut self, now: Instant) -> io::Result<()> {
        let mut buffer = [0; MAX_DATAGRAM];
        loop {
            let (length, address) = match self.home.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // ICMP's word that a client is gone.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Err(error),
            };
            let Some(client) = self.client(address)? else {
                continue;
            };
            let bytes = buffer[..length].to_vec();
            self.uplink
                .send(now, length + HEADERS, Datagram { client, bytes });
        }
    }

    /// The client at an address; a new one gets a socket, while there is room.
    fn client(&mut self, address: SocketAddr) -> io::Result<Option<usize>> {
        if let Some(&client) = self.by_address.get(&address) {
            return Ok(Some(client));
        }
        let client = self.clients.len();
        if client == MAX_CLIENTS {
            return Ok(None);
        }
        let mut socket = UdpSocket::bind(SocketAddrV4::new(*self.address.ip(), 0).into())?;
        socket.connect(self.server.into())?;
        self.poll
            .registry()
            .register(&mut socket, Token(client), Interest::READABLE)?;
        self.clients.push(Client { address, socket });
        self.by_address.insert(address, client);
        Ok(Some(client))
    }

    fn receive_from_server(&mut self, client: usize, now: Instant) {
        let mut buffer = [0; MAX_DATAGRAM];
        let Some(Client { socket, .. }) = self.clients.get(client) else {
            return;
        };
        loop {
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    let bytes = buffer[..length].to_vec();
                    self.downlink
                        .send(now, length + HEADERS, Datagram { client, bytes });
                }
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(_) => return,
            }
        }
    }

    /// Sends what has come out of the links. What a socket refuses is lost, as on a network.
    fn deliver(&mut self, now: Instant) {
        while let Some(datagram) = self.uplink.poll(now) {
            let _ = self.clients[datagram.client].socket.send(&datagram.bytes);
        }
        while let Some(datagram) = self.downlink.poll(now) {
            let to = self.clients[datagram.client].address;
            let _ = self.home.send_to(&datagram.bytes, to);
        }
    }
}
