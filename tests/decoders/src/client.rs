//! A client's end of one connection, with SRTP between plain packets and the wire.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use moim_client_transport::{Identity, Transport};
use moim_engine::command::IceCredentials;
use moim_engine::ids::TransportId;
use moim_engine::rtp::header::RtpHeader;
use moim_engine::srtp::{MAX_OVERHEAD, MAX_RTCP_OVERHEAD};

/// Whether a datagram is RTP or RTCP (RFC 7983), and whether it is RTCP (RFC 5761).
fn is_media(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, ..])
}

fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [128..=191, 192..=223, ..])
}

/// Extended sequence numbers, by SSRC.
#[derive(Default)]
struct Sequences(HashMap<u32, u64>);

impl Sequences {
    /// The number nearest to the highest so far, which it may become.
    fn extend(&mut self, ssrc: u32, sequence: u16) -> u64 {
        let highest = self.0.entry(ssrc).or_insert(u64::from(sequence));
        let ahead = sequence.wrapping_sub(*highest as u16) as i16;
        let extended = highest.saturating_add_signed(i64::from(ahead));
        *highest = extended.max(*highest);
        extended
    }
}

/// One connection.
pub(crate) struct Client {
    pub(crate) id: TransportId,
    pub(crate) address: SocketAddr,
    pub(crate) local_ice: IceCredentials,
    pub(crate) server_ice: IceCredentials,
    transport: Transport,
    sent: Sequences,
    received: Sequences,
    /// Datagrams for the server.
    outgoing: Vec<Vec<u8>>,
    /// Plain RTP and RTCP that came from the server.
    pub(crate) arrived: Vec<Vec<u8>>,
}

impl Client {
    pub(crate) fn new(
        now: Instant,
        identity: &Identity,
        id: TransportId,
        address: SocketAddr,
        server: SocketAddr,
    ) -> Client {
        let ice = |side: &str| IceCredentials {
            ufrag: format!("{side}{:08}", id.0),
            pwd: format!("{side}{:024}", id.0),
        };
        let (local_ice, server_ice) = (ice("clnt"), ice("srvr"));
        let transport = Transport::new(now, identity, &local_ice, &server_ice, server, true);
        Client {
            id,
            address,
            local_ice,
            server_ice,
            transport,
            sent: Sequences::default(),
            received: Sequences::default(),
            outgoing: Vec::new(),
            arrived: Vec::new(),
        }
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.transport.srtp.is_some()
    }

    pub(crate) fn poll_timeout(&self) -> Instant {
        self.transport.poll_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.transport.handle_timeout(now);
    }

    /// Encrypts a plain packet for the server. What is no packet is left out.
    pub(crate) fn send(&mut self, mut packet: Vec<u8>) {
        let Some((sender, _)) = &mut self.transport.srtp else {
            return;
        };
        let len = packet.len();
        let protected = if is_rtcp(&packet) {
            packet.resize(len + MAX_RTCP_OVERHEAD, 0);
            sender.protect_rtcp(&mut packet, len)
        } else if let Some(header) = RtpHeader::parse(&packet) {
            let sequence = self.sent.extend(header.ssrc, header.sequence);
            packet.resize(len + MAX_OVERHEAD, 0);
            sender.protect_rtp((sequence >> 16) as u32, header.header_len, &mut packet, len)
        } else {
            return;
        };
        packet.truncate(protected);
        self.outgoing.push(packet);
    }

    /// A datagram from the server.
    pub(crate) fn receive(&mut self, now: Instant, datagram: &[u8]) {
        match datagram {
            [0..=3, ..] => self.transport.handle_stun(now, datagram),
            [20..=63, ..] => {
                self.transport.handle_dtls(now, datagram);
            }
            _ if is_media(datagram) => self.open(datagram.to_vec()),
            _ => {}
        }
    }

    fn open(&mut self, mut packet: Vec<u8>) {
        let Some((_, receiver)) = &mut self.transport.srtp else {
            return;
        };
        let len = if is_rtcp(&packet) {
            receiver.unprotect_rtcp(&mut packet)
        } else {
            RtpHeader::parse(&packet).and_then(|header| {
                let sequence = self.received.extend(header.ssrc, header.sequence);
                receiver.unprotect_rtp((sequence >> 16) as u32, header.header_len, &mut packet)
            })
        };
        packet.truncate(len.expect("what the engine sends authenticates"));
        self.arrived.push(packet);
    }

    /// What it has for the server.
    pub(crate) fn take_outgoing(&mut self) -> Vec<Vec<u8>> {
        let control = self.transport.take_outgoing();
        let mut out: Vec<Vec<u8>> = control.iter().map(|bytes| bytes.to_vec()).collect();
        out.append(&mut self.outgoing);
        out
    }
}
