//! The DTLS server side of one connection (RFC 6347, RFC 5764): it yields the SRTP keys and
//! carries the data channels' packets.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use bytes::{Bytes, BytesMut};
use rtc_dtls::config::{ClientAuthType, ConfigBuilder};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;

use super::byte_queue::ByteQueue;
use super::client_hello::{ClientHello, Hello};
use crate::api::command::Fingerprint;
use crate::wire::srtp::SrtpProfile;

/// The library keys connections by address. Ours has one connection an endpoint, and must not
/// notice when the peer's address changes.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 1));
/// First retransmission of a flight; the time doubles with each.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(250);
/// Longest time between retransmissions.
const MAX_FLIGHT_INTERVAL: Duration = Duration::from_secs(2);
/// Datagrams kept until the peer's SDP is there: a ClientHello in pieces.
const MAX_EARLY: usize = 4;
/// Bytes of datagrams that wait to leave, which they do before the next input. What does not
/// fit is as if lost on the network: handshakes and SCTP send it again.
const MAX_OUTGOING: usize = 4 << 20;
/// A handshake that takes longer is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);
/// Label of the SRTP keying material (RFC 5764, section 4.2).
const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";

/// Why a DTLS connection ended.
#[derive(Debug, thiserror::Error)]
pub enum DtlsError {
    /// The certificate could not be made.
    #[error("no certificate: {0}")]
    Certificate(String),
    /// The peer offers none of our SRTP profiles.
    #[error("the peer offers no SRTP profile that is supported here")]
    NoProfile,
    /// The peer's certificate is not the one that its SDP announced.
    #[error("the peer's certificate does not match the fingerprint in its SDP")]
    WrongFingerprint,
    /// It took too long.
    #[error("the DTLS handshake was not finished within {} s", HANDSHAKE_TIMEOUT.as_secs())]
    Timeout,
    /// The library reports something else.
    #[error("DTLS: {0}")]
    Protocol(String),
}

/// The certificate that all connections of this process present.
pub struct ServerCertificate {
    certificate: Certificate,
    fingerprint: Fingerprint,
}

impl ServerCertificate {
    /// A new self-signed certificate with an ECDSA P-256 key.
    ///
    /// # Errors
    /// When the library cannot make one.
    pub fn generate() -> Result<ServerCertificate, DtlsError> {
        let fail = |error: String| DtlsError::Certificate(error);
        let provider = rtc_crypto::default_provider().map_err(|error| fail(error.to_string()))?;
        let certificate =
            Certificate::generate_self_signed(vec!["moim".to_owned()], provider.crypto())
                .map_err(|error| fail(error.to_string()))?;
        let der = certificate
            .certificate
            .first()
            .ok_or_else(|| fail("it is empty".into()))?;
        let fingerprint = fingerprint_of(der);
        Ok(ServerCertificate {
            certificate,
            fingerprint,
        })
    }

    /// What our SDP announces.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

fn sent_by(endpoint: &mut Endpoint) -> impl Iterator<Item = BytesMut> {
    std::iter::from_fn(|| Some(endpoint.poll_transmit()?.message))
}

fn queue_sent(outgoing: &mut ByteQueue<BytesMut>, sent: impl IntoIterator<Item = BytesMut>) {
    for datagram in sent {
        outgoing.push(datagram);
    }
}

fn fingerprint_of(der: &[u8]) -> Fingerprint {
    let digest = digest::digest(&digest::SHA256, der);
    let mut fingerprint = [0; 32];
    fingerprint.copy_from_slice(digest.as_ref());
    Fingerprint(fingerprint)
}

/// What happened in a DTLS connection.
pub(super) enum DtlsEvent {
    /// The handshake is done and the peer is who its SDP says.
    Connected {
        profile: SrtpProfile,
        keying_material: Vec<u8>,
    },
    ApplicationData(Bytes),
    /// The peer has closed it.
    Closed,
}

enum State {
    /// Waiting for a whole ClientHello.
    Listening(ClientHello),
    Handshaking {
        endpoint: Box<Endpoint>,
        profile: SrtpProfile,
        deadline: Instant,
        flight: Flight,
    },
    Connected(Box<Endpoint>),
    Ended,
}

/// The last flight that was sent, to be sent again until an answer comes (RFC 6347, section
/// 4.2.4).
///
/// rtc-dtls 0.21 stops its retransmission timer for good when any handshake message arrives
/// that does not complete the peer's flight, so a peer that repeats its own flight because
/// ours was lost would wait for ever. And as a client it stops likewise when it sees a fresh
/// repetition of ours. So its timer is not used: the datagrams are sent again as they were.
/// A peer that has them takes them for replays and drops them.
struct Flight {
    datagrams: Vec<BytesMut>,
    due: Instant,
    interval: Duration,
}

impl Flight {
    fn new(now: Instant, datagrams: Vec<BytesMut>) -> Flight {
        Flight {
            datagrams,
            due: now + FLIGHT_INTERVAL,
            interval: FLIGHT_INTERVAL,
        }
    }

    /// What has to be sent again now.
    fn repeat(&mut self, now: Instant) -> &[BytesMut] {
        if now < self.due {
            return &[];
        }
        self.interval = (2 * self.interval).min(MAX_FLIGHT_INTERVAL);
        self.due = now + self.interval;
        &self.datagrams
    }
}

/// One connection.
pub(super) struct DtlsServer {
    certificate: Arc<ServerCertificate>,
    expected: Option<Fingerprint>,
    state: State,
    /// What came before the peer's SDP: signaling may be slower than the network.
    early: Vec<BytesMut>,
    outgoing: ByteQueue<BytesMut>,
}

impl DtlsServer {
    pub(super) fn new(certificate: Arc<ServerCertificate>) -> DtlsServer {
        DtlsServer {
            certificate,
            expected: None,
            state: State::Listening(ClientHello::default()),
            early: Vec::new(),
            outgoing: ByteQueue::new(MAX_OUTGOING),
        }
    }

    /// The fingerprint that the peer's SDP announces. The first one counts. Gives back the
    /// datagrams that came before, to be handled now.
    pub(super) fn expect(&mut self, fingerprint: Fingerprint) -> Vec<BytesMut> {
        self.expected.get_or_insert(fingerprint);
        std::mem::take(&mut self.early)
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected(_))
    }

    /// Handles one datagram; what comes of it is appended to `events`.
    pub(super) fn handle(
        &mut self,
        now: Instant,
        datagram: &[u8],
        events: &mut Vec<DtlsEvent>,
    ) -> Result<(), DtlsError> {
        match &mut self.state {
            State::Listening(hello) => {
                // Whom to expect is known when the SDP is; before that nobody is let in.
                if self.expected.is_none() {
                    if self.early.len() < MAX_EARLY {
                        self.early.push(BytesMut::from(datagram));
                    }
                    return Ok(());
                }
                let Hello::Whole(profile, datagrams) = hello.add(datagram) else {
                    return Ok(());
                };
                let profile = profile.ok_or(DtlsError::NoProfile)?;
                self.state = State::Handshaking {
                    endpoint: Box::new(self.endpoint(profile)?),
                    profile,
                    deadline: now + HANDSHAKE_TIMEOUT,
                    flight: Flight::new(now, Vec::new()),
                };
                datagrams
                    .iter()
                    .try_for_each(|datagram| self.read(now, datagram, events))
            }
            State::Handshaking { .. } | State::Connected(_) => self.read(now, datagram, events),
            State::Ended => Ok(()),
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        if let State::Handshaking {
            deadline, flight, ..
        } = &mut self.state
        {
            if now >= *deadline {
                self.state = State::Ended;
                return Err(DtlsError::Timeout);
            }
            for datagram in flight.repeat(now) {
                self.outgoing.push(datagram.clone());
            }
        }
        Ok(())
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Handshaking {
                deadline, flight, ..
            } => Some(flight.due.min(*deadline)),
            _ => None,
        }
    }

    pub(super) fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.outgoing.pop()
    }

    /// Sends application data.
    pub(super) fn write(&mut self, now: Instant, data: &[u8]) {
        if let State::Connected(endpoint) = &mut self.state {
            // Fails only before the handshake and after the end, which the state excludes.
            let _ = endpoint.write(now, PEER, data);
            queue_sent(&mut self.outgoing, sent_by(endpoint));
        }
    }

    /// Says goodbye (RFC 5246, section 7.2.1).
    pub(super) fn close(&mut self, now: Instant) {
        if let State::Connected(endpoint) = &mut self.state {
            endpoint.stop(now, PEER);
            queue_sent(&mut self.outgoing, sent_by(endpoint));
        }
    }

    fn endpoint(&self, profile: SrtpProfile) -> Result<Endpoint, DtlsError> {
        let profile = match profile {
            SrtpProfile::AeadAes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProfile::AeadAes256Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
            SrtpProfile::Aes128CmSha1_80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        };
        let provider = rtc_crypto::default_provider()
            .map_err(|error| DtlsError::Protocol(error.to_string()))?;
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![self.certificate.certificate.clone()])
            .with_srtp_protection_profiles(vec![profile])
            // Peers sign for themselves: the fingerprint is what is checked, below.
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .with_flight_interval(2 * HANDSHAKE_TIMEOUT)
            .build(false, None)
            .map_err(|error| DtlsError::Protocol(error.to_string()))?;
        Ok(Endpoint::new(
            PEER,
            TransportProtocol::UDP,
            Some(Arc::new(config)),
        ))
    }

    fn read(
        &mut self,
        now: Instant,
        datagram: &[u8],
        events: &mut Vec<DtlsEvent>,
    ) -> Result<(), DtlsError> {
        let (endpoint, flight) = match &mut self.state {
            State::Handshaking {
                endpoint, flight, ..
            } => (endpoint, Some(flight)),
            State::Connected(endpoint) => (endpoint, None),
            State::Listening(_) | State::Ended => return Ok(()),
        };
        let happened = match endpoint.read(now, PEER, None, BytesMut::from(datagram)) {
            Ok(happened) => happened,
            // A record that does not decode is dropped (RFC 6347, section 4.1.2.7): it may be
            // anybody's. What is fatal shows by the handshake's end or the connection's.
            Err(error) => {
                tracing::trace!(%error, "DTLS record dropped");
                Vec::new()
            }
        };
        let sent: Vec<BytesMut> = sent_by(endpoint).collect();
        if let Some(flight) = flight.filter(|_| !sent.is_empty()) {
            *flight = Flight::new(now, sent.clone());
        }
        queue_sent(&mut self.outgoing, sent);
        for event in happened {
            match event {
                EndpointEvent::HandshakeComplete => events.push(self.connected()?),
                EndpointEvent::ApplicationData(data) if self.is_connected() => {
                    events.push(DtlsEvent::ApplicationData(data.freeze()));
                }
                EndpointEvent::PeerClosed => {
                    events.push(DtlsEvent::Closed);
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The handshake is complete: checks who the peer is and takes the keys.
    fn connected(&mut self) -> Result<DtlsEvent, DtlsError> {
        let State::Handshaking {
            endpoint, profile, ..
        } = std::mem::replace(&mut self.state, State::Ended)
        else {
            return Err(DtlsError::Protocol("a second handshake".into()));
        };
        let state = endpoint
            .get_connection_state(PEER)
            .ok_or_else(|| DtlsError::Protocol("no connection".into()))?;
        let presented = state
            .peer_certificates
            .first()
            .map(|der| fingerprint_of(der));
        let matches = presented
            .zip(self.expected)
            .is_some_and(|(presented, expected)| {
                aws_lc_rs::constant_time::verify_slices_are_equal(&presented.0, &expected.0).is_ok()
            });
        if !matches {
            return Err(DtlsError::WrongFingerprint);
        }
        let keying_material = state
            .export_keying_material(EXPORTER_LABEL, &[], profile.keying_material_len())
            .map_err(|error| DtlsError::Protocol(error.to_string()))?
            .as_ref()
            .to_vec();
        self.state = State::Connected(endpoint);
        Ok(DtlsEvent::Connected {
            profile,
            keying_material,
        })
    }
}
