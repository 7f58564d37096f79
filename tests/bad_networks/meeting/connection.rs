//! A lean client's end of one connection: ICE, DTLS and SRTP, and the time
//! at which something is to be done.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use moim_client_transport::{Identity, Transport};
use moim_engine::command::IceCredentials;
use moim_engine::ids::TransportId;
use moim_engine::rtp::header::RtpHeader;
use moim_engine::srtp::{MAX_OVERHEAD, MAX_RTCP_OVERHEAD};

use super::publication::Plain;
use super::server;

/// One connection.
pub(super) struct Connection {
    pub(super) id: TransportId,
    /// Where the client is now.
    pub(super) address: SocketAddr,
    pub(super) local_ice: IceCredentials,
    pub(super) server_ice: IceCredentials,
    transport: Transport,
    /// Encrypted datagrams that wait to be sent.
    outgoing: Vec<Rc<[u8]>>,
}

impl Connection {
    pub(super) fn new(
        now: Instant,
        identity: &Identity,
        id: TransportId,
        address: SocketAddr,
    ) -> Connection {
        let ice = |side: &str| IceCredentials {
            ufrag: format!("{side}{:08}", id.0),
            pwd: format!("{side}{:024}", id.0),
        };
        let (local_ice, server_ice) = (ice("clnt"), ice("srvr"));
        let transport = Transport::new(
            now,
            identity,
            &local_ice,
            &server_ice,
            server::ADDRESS,
            true,
        );
        Connection {
            id,
            address,
            local_ice,
            server_ice,
            transport,
            outgoing: Vec::new(),
        }
    }

    pub(super) fn is_secure(&self) -> bool {
        self.transport.srtp.is_some()
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.transport.poll_timeout()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.transport.handle_timeout(now);
        self.collect();
    }

    /// Checks the way at once, as a client does whose network has changed.
    pub(super) fn check(&mut self) {
        // The next check, ahead of its time.
        self.transport.handle_timeout(self.transport.poll_timeout());
        self.collect();
    }

    pub(super) fn handle_stun(&mut self, now: Instant, datagram: &[u8]) {
        self.transport.handle_stun(now, datagram);
        self.collect();
    }

    pub(super) fn handle_dtls(&mut self, now: Instant, datagram: &[u8]) {
        self.transport.handle_dtls(now, datagram);
        self.collect();
    }

    fn collect(&mut self) {
        let control = self.transport.take_outgoing();
        self.outgoing
            .extend(control.iter().map(|bytes| Rc::from(&bytes[..])));
    }

    /// Encrypts an RTP packet and puts it behind what is to be sent.
    pub(super) fn send_rtp(&mut self, mut packet: Plain) {
        let Some((sender, _)) = &self.transport.srtp else {
            return;
        };
        let len = packet.bytes.len();
        packet.bytes.resize(len + MAX_OVERHEAD, 0);
        let roc = packet.sequence >> 16;
        let len = sender.protect_rtp(roc, packet.header_len, &mut packet.bytes, len);
        self.outgoing.push(Rc::from(&packet.bytes[..len]));
    }

    pub(super) fn send_rtcp(&mut self, mut compound: Vec<u8>) {
        let Some((sender, _)) = &mut self.transport.srtp else {
            return;
        };
        let len = compound.len();
        compound.resize(len + MAX_RTCP_OVERHEAD, 0);
        let len = sender.protect_rtcp(&mut compound, len);
        self.outgoing.push(Rc::from(&compound[..len]));
    }

    /// Decrypts an RTP packet in place; its length.
    pub(super) fn open_rtp(
        &self,
        roc: u32,
        header: &RtpHeader,
        packet: &mut [u8],
    ) -> Option<usize> {
        let (_, receiver) = self.transport.srtp.as_ref()?;
        receiver.unprotect_rtp(roc, header.header_len, packet)
    }

    pub(super) fn open_rtcp(&mut self, packet: &mut [u8]) -> Option<usize> {
        let (_, receiver) = self.transport.srtp.as_mut()?;
        receiver.unprotect_rtcp(packet)
    }

    pub(super) fn take_outgoing(&mut self) -> Vec<Rc<[u8]>> {
        std::mem::take(&mut self.outgoing)
    }
}
