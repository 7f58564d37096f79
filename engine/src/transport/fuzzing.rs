//! The fuzz targets of what arrives below RTP.

use std::sync::{Arc, LazyLock};
use std::time::Instant;

use bytes::Bytes;

use super::client_hello::{ClientHello, Hello};
use super::data_channels::DataChannels;
use super::dtls::{DtlsServer, ServerCertificate};
use super::ice::{IceLite, StunOutcome, username_fragment};
use crate::api::command::{Fingerprint, IceCredentials};
use crate::fuzzing::pieces::pieces;

/// Bytes of a STUN header (RFC 8489, section 5).
const STUN_HEADER: usize = 20;
/// Bytes of the attribute FINGERPRINT.
const STUN_FINGERPRINT: usize = 8;

/// A STUN message: as it is, and with the length and the FINGERPRINT that let its attributes be
/// read. A sender that does not know the password is refused.
pub fn stun(now: Instant, input: &[u8]) {
    let _ = username_fragment(input);
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    message.extend_from_slice(&[7; 12]);
    message.extend_from_slice(input);
    message.truncate(STUN_HEADER + input.len() / 4 * 4);
    let len = (message.len() - STUN_HEADER + STUN_FINGERPRINT) as u16;
    message[2..4].copy_from_slice(&len.to_be_bytes());
    let crc = crc32fast::hash(&message) ^ 0x5354_554e;
    message.extend_from_slice(&[0x80, 0x28, 0, 4]);
    message.extend_from_slice(&crc.to_be_bytes());
    let mut ice = IceLite::new(&IceCredentials {
        ufrag: "serverufrag".into(),
        pwd: "a password that no input knows".into(),
    });
    for datagram in [input, &message] {
        let mut answer = Vec::new();
        let outcome = ice.handle(now, ([192, 0, 2, 1], 9).into(), datagram, &mut answer);
        assert_eq!(outcome, StunOutcome::Ignored);
        assert!(answer.is_empty());
    }
}

/// The datagrams of a ClientHello in fragments.
pub fn client_hello(input: &[u8]) {
    let mut hello = ClientHello::default();
    for datagram in pieces(input) {
        if let Hello::Whole(_, datagrams) = hello.add(datagram) {
            assert!(datagrams.len() <= 16);
        }
    }
}

static CERTIFICATE: LazyLock<Arc<ServerCertificate>> =
    LazyLock::new(|| Arc::new(ServerCertificate::generate().expect("a certificate")));

/// The datagrams of a DTLS client.
pub fn dtls(now: Instant, input: &[u8]) {
    let mut server = DtlsServer::new(CERTIFICATE.clone());
    server.expect(Fingerprint([7; 32]));
    let mut events = Vec::new();
    for datagram in pieces(input) {
        if server.handle(now, datagram, &mut events).is_err() {
            break;
        }
        while server.poll_transmit().is_some() {}
    }
    assert!(!server.is_connected());
}

/// Ports and verification tag of an INIT, and the checksum that is still to be written.
const SCTP_HEADER: [u8; 12] = [0x13, 0x88, 0x13, 0x88, 0, 0, 0, 0, 0, 0, 0, 0];
/// An INIT with 65,535 streams from TSN 1 on.
const SCTP_INIT: [u8; 20] = [
    1, 0, 0, 20, 0, 0, 0, 7, 0, 16, 0, 0, 255, 255, 255, 255, 0, 0, 0, 1,
];

/// The SCTP packets of a peer, each with the checksum that it should have. The first byte says
/// whether we open the channels, and whether there is an association: then the packets have the
/// header that belongs to it as well.
pub fn data_channels(now: Instant, input: &[u8]) {
    let first = input.first().copied().unwrap_or_default();
    let mut channels = DataChannels::new(first & 1 == 1);
    let header = (first & 2 == 2).then(|| associate(&mut channels, now));
    let mut now = now;
    for piece in pieces(input.get(1..).unwrap_or_default()) {
        let packet = match header {
            Some(header) => [&header[..], piece].concat(),
            None => piece.to_vec(),
        };
        channels.handle(now, with_checksum(packet));
        while channels.poll_transmit().is_some() {}
        while channels.poll_lossy(now).is_some() || channels.poll_reliable(now).is_some() {}
        if let Some(due) = channels.poll_timeout().filter(|_| first & 4 == 4) {
            now = due.max(now);
            channels.handle_timeout(now);
            while channels.poll_transmit().is_some() {}
        }
    }
}

/// Shakes hands as a peer; gives the header of the association's packets.
fn associate(channels: &mut DataChannels, now: Instant) -> [u8; 12] {
    let packet = [&SCTP_HEADER[..], &SCTP_INIT].concat();
    channels.handle(now, with_checksum(packet));
    let answer = channels.poll_transmit().expect("an INIT ACK");
    let mut header = SCTP_HEADER;
    header[4..8].copy_from_slice(&answer[16..20]);
    // The state cookie is the first parameter, behind the fixed fields (RFC 9260, section 3.3.3).
    let cookie = &answer[32..];
    assert_eq!(cookie[..2], [0, 7]);
    let len = usize::from(u16::from_be_bytes([cookie[2], cookie[3]]));
    let mut packet = [&header[..], &[10, 0, cookie[2], cookie[3]], &cookie[4..len]].concat();
    packet.resize(packet.len().next_multiple_of(4), 0);
    channels.handle(now, with_checksum(packet));
    header
}

fn with_checksum(mut packet: Vec<u8>) -> Bytes {
    if let Some(checksum) = packet.get_mut(8..12) {
        checksum.fill(0);
        let crc = crc32c(&packet);
        packet[8..12].copy_from_slice(&crc.to_le_bytes());
    }
    packet.into()
}

/// CRC32c (RFC 9260, appendix A), a bit at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::sctp_packet::has_data;
    use super::*;

    #[test]
    fn the_fuzzers_peer_is_associated() {
        let mut channels = DataChannels::new(true);
        associate(&mut channels, crate::test_clock::start());
        // It opens its channels, each by a message.
        let mut sent = std::iter::from_fn(|| channels.poll_transmit());
        assert!(sent.any(|packet| has_data(&packet)));
    }
}
