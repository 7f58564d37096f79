//! ICE on one pair, the DTLS client, SRTP's keys, and the data channels where there are any.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use bytes::{Bytes, BytesMut};
use moim_engine::command::IceCredentials;
use moim_engine::srtp::{SrtpKeys, SrtpProfile, SrtpReceiver, SrtpSender};
use rtc::dtls::config::HandshakeConfig;
use rtc::dtls::endpoint::{Endpoint, EndpointEvent};
use rtc::shared::TransportProtocol;

use crate::data_channels::DataChannels;
use crate::identity::Identity;

/// The library keys connections by address; ours has one an endpoint.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 1));
/// Checks before the first answer.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Checks that keep consent (RFC 7675).
const CONSENT_INTERVAL: Duration = Duration::from_millis(2_500);

/// The client's end of one connection. Datagrams and the time go in; what
/// [`Transport::take_outgoing`] gives has to be sent to the server.
pub struct Transport {
    remote: SocketAddr,
    username: String,
    key: hmac::Key,
    own_key: hmac::Key,
    controls: bool,
    next_check: Instant,
    checked: bool,
    dtls: Endpoint,
    config: Arc<HandshakeConfig>,
    /// What encrypts and decrypts media, once the handshake is done.
    pub srtp: Option<(SrtpSender, SrtpReceiver)>,
    data: Option<Box<DataChannels>>,
    outgoing: Vec<BytesMut>,
    transaction: u64,
}

impl Transport {
    /// A connection to the server at `address`, whose first check is due at `now`. `controls`
    /// says that the client nominates (RFC 8445, section 6.1.1), as it does towards a server
    /// that is lite.
    pub fn new(
        now: Instant,
        identity: &Identity,
        local: &IceCredentials,
        remote: &IceCredentials,
        address: SocketAddr,
        controls: bool,
    ) -> Transport {
        let key = |pwd: &str| hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, pwd.as_bytes());
        Transport {
            remote: address,
            username: format!("{}:{}", remote.ufrag, local.ufrag),
            key: key(&remote.pwd),
            own_key: key(&local.pwd),
            controls,
            next_check: now,
            checked: false,
            dtls: Endpoint::new(PEER, TransportProtocol::UDP, None),
            config: identity.handshake().clone(),
            srtp: None,
            data: None,
            outgoing: Vec::new(),
            transaction: 0,
        }
    }

    /// The same, on which the server opens data channels.
    pub fn with_data_channels(self) -> Transport {
        Transport {
            data: Some(Box::new(DataChannels::new(PEER))),
            ..self
        }
    }

    /// Where the server is.
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// A STUN answer: the way is open. A request of a server that is not lite is answered.
    pub fn handle_stun(&mut self, now: Instant, datagram: &[u8]) {
        const REQUEST: [u8; 2] = [0x00, 0x01];
        const SUCCESS: [u8; 2] = [0x01, 0x01];
        if datagram.starts_with(&REQUEST) && datagram.len() >= 20 {
            let answer = self.answer(&datagram[8..20]);
            self.outgoing.push(answer);
            // It may take the nomination only now that its own check will succeed.
            if self.srtp.is_none() {
                self.next_check = now + CHECK_INTERVAL / 4;
            }
            return;
        }
        if self.checked || !datagram.starts_with(&SUCCESS) {
            return;
        }
        self.checked = true;
        self.next_check = now + CONSENT_INTERVAL;
        let connected = self.dtls.connect(now, PEER, self.config.clone(), None);
        debug_assert!(connected.is_ok(), "a client's configuration is whole");
        self.collect();
    }

    /// A DTLS record; true when the handshake has come to its end with it.
    pub fn handle_dtls(&mut self, now: Instant, datagram: &[u8]) -> bool {
        let events = self.dtls.read(now, PEER, None, BytesMut::from(datagram));
        let mut complete = false;
        for event in events.unwrap_or_default() {
            match (event, &mut self.data) {
                (EndpointEvent::HandshakeComplete, data) => {
                    complete = true;
                    if let Some(data) = data {
                        data.connect(now);
                    }
                }
                (EndpointEvent::ApplicationData(packet), Some(data)) => {
                    data.handle(now, packet.freeze());
                }
                _ => {}
            }
        }
        if complete {
            self.srtp = self.keys();
        }
        self.collect_data(now);
        self.collect();
        complete && self.srtp.is_some()
    }

    /// How many data channels the server has opened.
    pub fn channels(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.opened())
    }

    /// Opens the reliable data channel when the connection stands.
    pub fn open_reliable(&mut self) {
        if let Some(data) = &mut self.data {
            data.open_reliable();
        }
    }

    /// Sends a message on the reliable data channel. False when that is not open, or too much
    /// waits to be acknowledged.
    pub fn send_reliable(&mut self, now: Instant, message: &Bytes) -> bool {
        let data = self.data.as_mut();
        let sent = data.is_some_and(|data| data.send(now, message));
        if sent {
            self.collect_data(now);
            self.collect();
        }
        sent
    }

    /// What has come on the reliable data channel since this was last asked; it is kept from
    /// the first time on.
    pub fn take_messages(&mut self) -> Vec<Bytes> {
        let data = self.data.as_mut();
        data.map(|data| data.take_messages()).unwrap_or_default()
    }

    /// Whether the server is expected to open data channels.
    pub fn has_data(&self) -> bool {
        self.data.is_some()
    }

    fn keys(&self) -> Option<(SrtpSender, SrtpReceiver)> {
        let profile = SrtpProfile::AeadAes128Gcm;
        let state = self.dtls.get_connection_state(PEER)?;
        let len = profile.keying_material_len();
        let material = state
            .export_keying_material("EXTRACTOR-dtls_srtp", &[], len)
            .ok()?;
        let keys = SrtpKeys::from_exporter(profile, material.as_ref())?.swapped();
        Some((
            SrtpSender::new(profile, keys.local_key, keys.local_salt),
            SrtpReceiver::new(profile, keys.remote_key, keys.remote_salt),
        ))
    }

    /// Does what is due: checks, and what DTLS and data channels send again.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.next_check {
            let interval = if self.checked {
                CONSENT_INTERVAL
            } else {
                CHECK_INTERVAL
            };
            self.next_check = now + interval;
            let check = self.check();
            self.outgoing.push(check);
        }
        if self.srtp.is_none() {
            // Fails when the budget of repetitions is spent: the connection then never opens,
            // which the summary shows.
            let _ = self.dtls.handle_timeout(PEER, now);
            self.collect();
        } else if let Some(data) = &mut self.data
            && data.poll_timeout().is_some_and(|due| due <= now)
        {
            data.handle_timeout(now);
            self.collect_data(now);
            self.collect();
        }
    }

    /// When to call [`Transport::handle_timeout`] next.
    pub fn poll_timeout(&self) -> Instant {
        let other = match (&self.srtp, &self.data) {
            (None, _) => self.dtls.poll_timeout(&PEER),
            (Some(_), Some(data)) => data.poll_timeout(),
            (Some(_), None) => None,
        };
        other.map_or(self.next_check, |when| when.min(self.next_check))
    }

    /// Datagrams that have to be sent, in order.
    pub fn take_outgoing(&mut self) -> Vec<BytesMut> {
        std::mem::take(&mut self.outgoing)
    }

    fn collect_data(&mut self, now: Instant) {
        let data = self.data.as_mut().map(|data| data.take_outgoing(now));
        for packet in data.unwrap_or_default() {
            // Fails only after the end of the connection.
            let _ = self.dtls.write(now, PEER, &packet);
        }
    }

    fn collect(&mut self) {
        while let Some(transmit) = self.dtls.poll_transmit() {
            self.outgoing.push(transmit.message);
        }
    }

    /// A binding request as it would be sent now, which nominates when that is ours to do (RFC 8445, section 7.2.2).
    pub fn check(&mut self) -> BytesMut {
        self.transaction += 1;
        let mut out = BytesMut::with_capacity(160);
        out.extend_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.transaction.to_be_bytes());
        let username = self.username.clone();
        attribute(&mut out, 0x0006, username.as_bytes());
        attribute(&mut out, 0x0024, &0x6e00_01ffu32.to_be_bytes());
        if self.controls {
            attribute(&mut out, 0x802a, &1u64.to_be_bytes());
            attribute(&mut out, 0x0025, &[]);
        } else {
            attribute(&mut out, 0x8029, &1u64.to_be_bytes());
        }
        sign(&mut out, &self.key);
        out
    }

    fn answer(&self, transaction: &[u8]) -> BytesMut {
        let mut out = BytesMut::with_capacity(80);
        out.extend_from_slice(&[1, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        out.extend_from_slice(transaction);
        // XOR-MAPPED-ADDRESS (RFC 8489, section 14.2).
        if let SocketAddr::V4(address) = self.remote {
            let port = address.port() ^ 0x2112;
            let ip = u32::from(*address.ip()) ^ 0x2112_a442;
            let mut value = [0, 1, 0, 0, 0, 0, 0, 0];
            value[2..4].copy_from_slice(&port.to_be_bytes());
            value[4..].copy_from_slice(&ip.to_be_bytes());
            attribute(&mut out, 0x0020, &value);
        }
        sign(&mut out, &self.own_key);
        out
    }
}

/// MESSAGE-INTEGRITY and FINGERPRINT (RFC 8489, sections 14.5 and 14.7).
fn sign(out: &mut BytesMut, key: &hmac::Key) {
    set_length(out, 24);
    let tag = hmac::sign(key, out);
    attribute(out, 0x0008, tag.as_ref());
    set_length(out, 8);
    let crc = crc32fast::hash(out) ^ 0x5354_554e;
    attribute(out, 0x8028, &crc.to_be_bytes());
}

fn attribute(out: &mut BytesMut, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    set_length(out, 0);
}

/// Sets the length field as if `more` bytes of attributes followed.
fn set_length(out: &mut BytesMut, more: usize) {
    let length = (out.len() - 20 + more) as u16;
    out[2..4].copy_from_slice(&length.to_be_bytes());
}
