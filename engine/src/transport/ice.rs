//! ICE in its lite role (RFC 8445, section 2.5): we have one address, answer checks, and take
//! the pair that the peer nominates. Checks are STUN binding requests (RFC 8489).

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use aws_lc_rs::hmac;

use crate::api::command::IceCredentials;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;
const MAGIC_COOKIE: u32 = 0x2112_a442;
const HEADER_LEN: usize = 20;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;

/// Longest username that a check can carry: two fragments of 256 and a colon.
const MAX_USERNAME: usize = 513;

/// One set of our credentials.
struct Local {
    ufrag: String,
    key: hmac::Key,
}

impl Local {
    fn new(credentials: &IceCredentials) -> Local {
        Local {
            ufrag: credentials.ufrag.clone(),
            key: hmac::Key::new(
                hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
                credentials.pwd.as_bytes(),
            ),
        }
    }
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StunOutcome {
    /// Not a check for us; nothing is answered.
    Ignored,
    /// An authenticated request that was answered with an error.
    Refused,
    /// A check that passed and was answered.
    Passed {
        /// The peer wants this pair used.
        nominated: bool,
    },
}

/// The lite agent of one connection.
pub(crate) struct IceLite {
    local: Local,
    /// Credentials from before a restart, valid until a check with the new ones passes.
    former: Option<Local>,
    remote_ufrag: Option<String>,
    last_check: Option<Instant>,
}

impl IceLite {
    pub(crate) fn new(local: &IceCredentials) -> IceLite {
        IceLite {
            local: Local::new(local),
            former: None,
            remote_ufrag: None,
            last_check: None,
        }
    }

    pub(crate) fn set_remote(&mut self, remote: &IceCredentials) {
        self.remote_ufrag = Some(remote.ufrag.clone());
    }

    /// New local credentials (RFC 8445, section 2.4). The remote's follow by `set_remote`.
    pub(crate) fn restart(&mut self, local: &IceCredentials) {
        self.former = Some(std::mem::replace(&mut self.local, Local::new(local)));
    }

    /// When the last check passed.
    pub(crate) fn last_check(&self) -> Option<Instant> {
        self.last_check
    }

    /// Handles one STUN datagram; the answer, if there is one, is appended to `answer`.
    pub(crate) fn handle(
        &mut self,
        now: Instant,
        source: SocketAddr,
        datagram: &[u8],
        answer: &mut Vec<u8>,
    ) -> StunOutcome {
        let Some(request) = Request::parse(datagram) else {
            return StunOutcome::Ignored;
        };
        let Some((ours, theirs)) = request.usernames() else {
            return StunOutcome::Ignored;
        };
        let is_former = self
            .former
            .as_ref()
            .is_some_and(|former| former.ufrag.as_bytes() == ours);
        let local = match &self.former {
            Some(former) if is_former => former,
            _ => &self.local,
        };
        // Nothing is answered before the request has authenticated (so that nobody can use us
        // to amplify), and nothing tells which part was wrong.
        if local.ufrag.as_bytes() != ours || !request.authentic(&local.key) {
            return StunOutcome::Ignored;
        }
        if let Some(remote) = &self.remote_ufrag
            && !is_former
            && remote.as_bytes() != theirs
        {
            return StunOutcome::Ignored;
        }
        if request.unknown > 0 {
            refuse(answer, &request, &local.key, 420);
            return StunOutcome::Refused;
        }
        if request.controlled {
            // RFC 8445, section 7.3.1.1: a lite agent is always the controlled one.
            refuse(answer, &request, &local.key, 487);
            return StunOutcome::Refused;
        }
        accept(answer, &request, &local.key, source);
        if !is_former {
            self.former = None;
        }
        self.last_check = Some(now);
        StunOutcome::Passed {
            nominated: request.use_candidate,
        }
    }
}

/// Our part of the username of a binding request, by which its connection is found.
pub(crate) fn username_fragment(datagram: &[u8]) -> Option<&[u8]> {
    let request = Request::parse(datagram)?;
    Some(request.usernames()?.0)
}

/// A binding request, its attributes located and its fingerprint checked.
struct Request<'a> {
    bytes: &'a [u8],
    username: &'a [u8],
    /// Where the MESSAGE-INTEGRITY attribute begins.
    integrity_at: usize,
    use_candidate: bool,
    controlled: bool,
    /// The first comprehension-required attribute that we do not know, or 0.
    unknown: u16,
}

impl<'a> Request<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Request<'a>> {
        let header: &[u8; HEADER_LEN] = bytes.first_chunk()?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let cookie = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        if kind != BINDING_REQUEST || cookie != MAGIC_COOKIE || len + HEADER_LEN != bytes.len() {
            return None;
        }
        let mut request = Request {
            bytes,
            username: &[],
            integrity_at: 0,
            use_candidate: false,
            controlled: false,
            unknown: 0,
        };
        let mut at = HEADER_LEN;
        while at < bytes.len() {
            let [k0, k1, l0, l1] = *bytes.get(at..)?.first_chunk::<4>()?;
            let kind = u16::from_be_bytes([k0, k1]);
            let len = usize::from(u16::from_be_bytes([l0, l1]));
            let value = bytes.get(at + 4..at + 4 + len)?;
            if request.integrity_at > 0 {
                // RFC 8489, section 14.5: only the fingerprint may follow, and it ends the message.
                let ends = at + 8 == bytes.len();
                if kind == FINGERPRINT && ends && value == fingerprint(&bytes[..at]) {
                    return Some(request);
                }
                return None;
            }
            match kind {
                USERNAME if len <= MAX_USERNAME => request.username = value,
                MESSAGE_INTEGRITY if len == 20 => request.integrity_at = at,
                USE_CANDIDATE => request.use_candidate = true,
                ICE_CONTROLLED => request.controlled = true,
                PRIORITY => {}
                unknown if unknown < 0x8000 && request.unknown == 0 => request.unknown = unknown,
                _ => {}
            }
            at += 4 + len.next_multiple_of(4);
        }
        None
    }

    /// Our and the peer's username fragment.
    fn usernames(&self) -> Option<(&'a [u8], &'a [u8])> {
        let colon = self.username.iter().position(|byte| *byte == b':')?;
        Some((&self.username[..colon], &self.username[colon + 1..]))
    }

    /// RFC 8489, section 14.5: the HMAC covers the message up to its attribute, with the length
    /// that it has with that attribute as the last.
    fn authentic(&self, key: &hmac::Key) -> bool {
        let mut header = [0; HEADER_LEN];
        header.copy_from_slice(&self.bytes[..HEADER_LEN]);
        let len = (self.integrity_at + 24 - HEADER_LEN) as u16;
        header[2..4].copy_from_slice(&len.to_be_bytes());
        let mut context = hmac::Context::with_key(key);
        context.update(&header);
        context.update(&self.bytes[HEADER_LEN..self.integrity_at]);
        let expected = context.sign();
        let received = &self.bytes[self.integrity_at + 4..self.integrity_at + 24];
        aws_lc_rs::constant_time::verify_slices_are_equal(expected.as_ref(), received).is_ok()
    }
}

fn fingerprint(before: &[u8]) -> [u8; 4] {
    (crc32fast::hash(before) ^ FINGERPRINT_XOR).to_be_bytes()
}

/// Writes an answer: header, attributes, MESSAGE-INTEGRITY, FINGERPRINT.
struct Answer<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Answer<'a> {
    fn new(out: &'a mut Vec<u8>, kind: u16, request: &Request<'_>) -> Answer<'a> {
        let start = out.len();
        out.extend_from_slice(&kind.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&request.bytes[4..HEADER_LEN]);
        Answer { out, start }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out
            .extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.out.extend_from_slice(value);
        let padding = value.len().next_multiple_of(4) - value.len();
        self.out.extend_from_slice(&[0; 3][..padding]);
    }

    fn set_len(&mut self, more: usize) {
        let len = (self.out.len() - self.start - HEADER_LEN + more) as u16;
        self.out[self.start + 2..self.start + 4].copy_from_slice(&len.to_be_bytes());
    }

    fn finish(mut self, key: &hmac::Key) {
        self.set_len(24);
        let tag = hmac::sign(key, &self.out[self.start..]);
        self.attribute(MESSAGE_INTEGRITY, tag.as_ref());
        self.set_len(8);
        let crc = fingerprint(&self.out[self.start..]);
        self.attribute(FINGERPRINT, &crc);
    }
}

fn accept(out: &mut Vec<u8>, request: &Request<'_>, key: &hmac::Key, source: SocketAddr) {
    let mut answer = Answer::new(out, BINDING_SUCCESS, request);
    let mut address = vec![0];
    let port = source.port() ^ (MAGIC_COOKIE >> 16) as u16;
    // The cookie and transaction id that follow it mask the address.
    let mask = &request.bytes[4..HEADER_LEN];
    let (family, octets): (u8, Vec<u8>) = match source.ip().to_canonical() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    address.push(family);
    address.extend_from_slice(&port.to_be_bytes());
    address.extend(octets.iter().zip(mask).map(|(octet, mask)| octet ^ mask));
    answer.attribute(XOR_MAPPED_ADDRESS, &address);
    answer.finish(key);
}

fn refuse(out: &mut Vec<u8>, request: &Request<'_>, key: &hmac::Key, code: u16) {
    let mut answer = Answer::new(out, BINDING_ERROR, request);
    answer.attribute(ERROR_CODE, &[0, 0, (code / 100) as u8, (code % 100) as u8]);
    if code == 420 {
        answer.attribute(UNKNOWN_ATTRIBUTES, &request.unknown.to_be_bytes());
    }
    answer.finish(key);
}

#[cfg(test)]
pub(super) mod tests {
    use rtc_stun::attributes::AttrType;
    use rtc_stun::message::{Getter, Message, Setter};
    use rtc_stun::xoraddr::XorMappedAddress;

    use super::*;
    use crate::test_clock;

    pub(crate) fn credentials(name: &str) -> IceCredentials {
        IceCredentials {
            ufrag: format!("{name}-ufrag-local"),
            pwd: format!("{name}-password-of-enough-length"),
        }
    }

    /// A check as a full agent sends it, written by another implementation's attribute types.
    pub(crate) fn check(
        local: &IceCredentials,
        remote: &str,
        attributes: &[(u16, &[u8])],
    ) -> Vec<u8> {
        let mut message = Message::new();
        message.typ = rtc_stun::message::BINDING_REQUEST;
        message.new_transaction_id().unwrap();
        message.write_header();
        let username = format!("{}:{remote}", local.ufrag);
        message.add(AttrType(USERNAME), username.as_bytes());
        message.add(AttrType(PRIORITY), &[0, 0, 1, 1]);
        for (kind, value) in attributes {
            message.add(AttrType(*kind), value);
        }
        let provider = rtc_crypto::default_provider().unwrap();
        rtc_stun::integrity::MessageIntegrity::new_short_term_integrity_with_provider(
            local.pwd.clone(),
            provider.crypto(),
        )
        .add_to(&mut message)
        .unwrap();
        rtc_stun::fingerprint::FINGERPRINT
            .add_to(&mut message)
            .unwrap();
        message.raw
    }

    fn source() -> SocketAddr {
        "192.0.2.7:4321".parse().unwrap()
    }

    fn handle(ice: &mut IceLite, datagram: &[u8]) -> (StunOutcome, Vec<u8>) {
        let mut answer = Vec::new();
        let outcome = ice.handle(test_clock::start(), source(), datagram, &mut answer);
        (outcome, answer)
    }

    fn read(bytes: &[u8]) -> Message {
        let mut message = Message::new();
        message.unmarshal_binary(bytes).unwrap();
        message
    }

    #[test]
    fn a_check_is_answered_with_the_address_it_came_from() {
        let local = credentials("a");
        for address in [
            "192.0.2.7:4321",
            "[2001:db8::9]:77",
            "[::ffff:192.0.2.7]:4321",
        ] {
            let source: SocketAddr = address.parse().unwrap();
            let mut ice = IceLite::new(&local);
            let mut answer = Vec::new();
            let datagram = check(&local, "peer", &[]);
            let outcome = ice.handle(test_clock::start(), source, &datagram, &mut answer);
            assert_eq!(outcome, StunOutcome::Passed { nominated: false });
            let mut mapped = XorMappedAddress::default();
            mapped.get_from(&read(&answer)).unwrap();
            assert_eq!(mapped.ip, source.ip().to_canonical());
            assert_eq!(mapped.port, source.port());
        }
    }

    #[test]
    fn use_candidate_nominates() {
        let local = credentials("a");
        let mut ice = IceLite::new(&local);
        let datagram = check(&local, "peer", &[(USE_CANDIDATE, &[])]);
        let (outcome, _) = handle(&mut ice, &datagram);
        assert_eq!(outcome, StunOutcome::Passed { nominated: true });
        assert_eq!(username_fragment(&datagram), Some(local.ufrag.as_bytes()));
    }

    #[test]
    fn what_does_not_authenticate_is_not_answered() {
        let local = credentials("a");
        let mut ice = IceLite::new(&local);
        ice.set_remote(&IceCredentials {
            ufrag: "peer".into(),
            pwd: String::new(),
        });
        let mut wrong = local.clone();
        wrong.pwd.push('x');
        let good = check(&local, "peer", &[]);
        let mut flipped = good.clone();
        flipped[30] ^= 1;
        let unfinished = good[..good.len() - 8].to_vec();
        let stranger = check(&local, "stranger", &[]);
        for datagram in [check(&wrong, "peer", &[]), flipped, unfinished, stranger] {
            let (outcome, answer) = handle(&mut ice, &datagram);
            assert_eq!(outcome, StunOutcome::Ignored);
            assert!(answer.is_empty());
        }
        assert!(ice.last_check().is_none());
        assert!(matches!(
            handle(&mut ice, &good).0,
            StunOutcome::Passed { .. }
        ));
    }

    #[test]
    fn an_unknown_required_attribute_and_the_wrong_role_are_refused() {
        let local = credentials("a");
        let mut ice = IceLite::new(&local);
        let unknown = check(&local, "peer", &[(0x7abc, &[1, 2, 3])]);
        let (outcome, answer) = handle(&mut ice, &unknown);
        assert_eq!(outcome, StunOutcome::Refused);
        assert_eq!(&answer[..2], &BINDING_ERROR.to_be_bytes());
        let role = check(&local, "peer", &[(ICE_CONTROLLED, &[0; 8])]);
        assert_eq!(handle(&mut ice, &role).0, StunOutcome::Refused);
    }

    #[test]
    fn a_restart_keeps_the_old_credentials_until_the_new_ones_are_used() {
        let (old, new) = (credentials("old"), credentials("new"));
        let mut ice = IceLite::new(&old);
        ice.restart(&new);
        let passes = |ice: &mut IceLite, local| {
            matches!(
                handle(ice, &check(local, "peer", &[])).0,
                StunOutcome::Passed { .. }
            )
        };
        assert!(passes(&mut ice, &old));
        assert!(passes(&mut ice, &new));
        assert!(!passes(&mut ice, &old));
    }

    #[test]
    fn truncated_and_random_datagrams_never_panic_or_pass() {
        use rand::{RngExt, SeedableRng, rngs::SmallRng};
        let local = credentials("a");
        let mut ice = IceLite::new(&local);
        let good = check(&local, "peer", &[]);
        let mut rng = SmallRng::seed_from_u64(1);
        for round in 0..50_000 {
            let mut datagram = good.clone();
            if round % 2 == 0 {
                datagram.truncate(rng.random_range(0..good.len()));
            } else {
                for _ in 0..rng.random_range(1..6u8) {
                    let at = rng.random_range(0..datagram.len());
                    datagram[at] ^= rng.random_range(1..=255u8);
                }
            }
            if datagram == good {
                continue;
            }
            let (outcome, answer) = handle(&mut ice, &datagram);
            assert_eq!((outcome, answer.len()), (StunOutcome::Ignored, 0));
        }
    }
}
