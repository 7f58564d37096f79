//! The ClientHello, gathered from its fragments and looked into before DTLS starts.
//!
//! Which SRTP profile a DTLS server takes is decided by its configuration, and `rtc`'s follows
//! the client's order, in which browsers put the dear one first. So the configuration is made
//! after a look at what the client offers.

use crate::wire::srtp::SrtpProfile;

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const RECORD_HEADER: usize = 13;
const HANDSHAKE_HEADER: usize = 12;
const USE_SRTP: u16 = 14;
/// Codes of RFC 5764, section 4.1.2, and RFC 7714, section 14.2.
const AES128_CM_SHA1_80: u16 = 0x0001;
const AEAD_AES_128_GCM: u16 = 0x0007;
const AEAD_AES_256_GCM: u16 = 0x0008;
/// Largest ClientHello; a post-quantum key share makes it some 1,700 bytes.
const MAX_HELLO: usize = 16 << 10;
/// Datagrams kept until the ClientHello is whole.
const MAX_DATAGRAMS: usize = 16;

/// The datagrams of a ClientHello that is not whole yet.
#[derive(Debug, Default)]
pub(super) struct ClientHello {
    datagrams: Vec<Vec<u8>>,
    body: Vec<u8>,
    /// Which bytes of `body` are there: fragments as start and end.
    fragments: Vec<(usize, usize)>,
}

/// What a ClientHello came to.
#[derive(Debug)]
pub(super) enum Hello {
    /// More fragments have to come.
    Incomplete,
    /// It is whole: the best profile that the client offers, if any, and the datagrams in the
    /// order in which they came.
    Whole(Option<SrtpProfile>, Vec<Vec<u8>>),
}

impl ClientHello {
    /// Takes one datagram in.
    pub(super) fn add(&mut self, datagram: &[u8]) -> Hello {
        if self.datagrams.len() == MAX_DATAGRAMS {
            *self = ClientHello::default();
        }
        let mut records = datagram;
        while let Some((record, rest)) = split_record(records) {
            records = rest;
            if let Some(fragment) = hello_fragment(record) {
                self.put(&fragment);
            }
        }
        if self.body.is_empty() {
            return Hello::Incomplete;
        }
        if !self.datagrams.iter().any(|known| known == datagram) {
            self.datagrams.push(datagram.to_vec());
        }
        if !self.is_whole() {
            return Hello::Incomplete;
        }
        let profile = best_profile(&self.body);
        Hello::Whole(profile, std::mem::take(&mut self.datagrams))
    }

    fn put(&mut self, fragment: &Fragment<'_>) {
        if fragment.total != self.body.len() {
            self.body = vec![0; fragment.total];
            self.fragments.clear();
        }
        let end = fragment.offset + fragment.bytes.len();
        if let Some(place) = self.body.get_mut(fragment.offset..end) {
            place.copy_from_slice(fragment.bytes);
            self.fragments.push((fragment.offset, end));
        }
    }

    fn is_whole(&mut self) -> bool {
        self.fragments.sort_unstable();
        self.fragments.dedup();
        let reached = self.fragments.iter().fold(0, |reached, &(start, end)| {
            if start <= reached {
                reached.max(end)
            } else {
                reached
            }
        });
        reached == self.body.len()
    }
}

/// A piece of a handshake message (RFC 6347, section 4.2.2).
struct Fragment<'a> {
    total: usize,
    offset: usize,
    bytes: &'a [u8],
}

fn split_record(datagram: &[u8]) -> Option<(&[u8], &[u8])> {
    let header: &[u8; RECORD_HEADER] = datagram.first_chunk()?;
    let len = usize::from(u16::from_be_bytes([header[11], header[12]]));
    datagram.split_at_checked(RECORD_HEADER + len)
}

/// The piece of a ClientHello in a plaintext record of the first epoch.
fn hello_fragment(record: &[u8]) -> Option<Fragment<'_>> {
    if record[0] != HANDSHAKE || record[3..5] != [0, 0] {
        return None;
    }
    let message = &record[RECORD_HEADER..];
    let header: &[u8; HANDSHAKE_HEADER] = message.first_chunk()?;
    let word = |at: usize| {
        usize::from(header[at]) << 16
            | usize::from(header[at + 1]) << 8
            | usize::from(header[at + 2])
    };
    let (total, offset, len) = (word(1), word(6), word(9));
    if header[0] != CLIENT_HELLO || total > MAX_HELLO || total == 0 {
        return None;
    }
    let bytes = message.get(HANDSHAKE_HEADER..HANDSHAKE_HEADER + len)?;
    Some(Fragment {
        total,
        offset,
        bytes,
    })
}

/// The best profile in the use_srtp extension of a ClientHello's body.
fn best_profile(body: &[u8]) -> Option<SrtpProfile> {
    // Version and random.
    let rest = body.get(34..)?;
    let rest = skip(rest, 1)?; // session id
    let rest = skip(rest, 1)?; // cookie
    let rest = skip(rest, 2)?; // cipher suites
    let rest = skip(rest, 1)?; // compression methods
    let mut extensions = rest.get(2..)?;
    while let Some(header) = extensions.first_chunk::<4>() {
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
        let data = extensions.get(4..4 + len)?;
        if kind == USE_SRTP {
            let len = usize::from(u16::from_be_bytes(*data.first_chunk()?));
            let offered = data.get(2..2 + len)?;
            let offers = |code: u16| offered.chunks_exact(2).any(|c| c == code.to_be_bytes());
            return if offers(AEAD_AES_128_GCM) {
                Some(SrtpProfile::AeadAes128Gcm)
            } else if offers(AEAD_AES_256_GCM) {
                Some(SrtpProfile::AeadAes256Gcm)
            } else if offers(AES128_CM_SHA1_80) {
                Some(SrtpProfile::Aes128CmSha1_80)
            } else {
                None
            };
        }
        extensions = &extensions[4 + len..];
    }
    None
}

/// Skips a vector whose length stands before it in `width` bytes.
fn skip(bytes: &[u8], width: usize) -> Option<&[u8]> {
    let len = bytes
        .get(..width)?
        .iter()
        .fold(0, |len, byte| (len << 8) | usize::from(*byte));
    bytes.get(width + len..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The body of a ClientHello that offers these profiles.
    fn body(profiles: &[u16]) -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend([9; 32]);
        body.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
        let mut use_srtp = ((2 * profiles.len()) as u16).to_be_bytes().to_vec();
        use_srtp.extend(profiles.iter().flat_map(|code| code.to_be_bytes()));
        use_srtp.push(0);
        let mut extensions = vec![0, 10, 0, 4, 0, 2, 0, 29];
        extensions.extend(USE_SRTP.to_be_bytes());
        extensions.extend((use_srtp.len() as u16).to_be_bytes());
        extensions.extend(use_srtp);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        body
    }

    fn record(body: &[u8], start: usize, end: usize) -> Vec<u8> {
        let mut message = vec![CLIENT_HELLO];
        message.extend(&(body.len() as u32).to_be_bytes()[1..]);
        message.extend([0, 0]);
        message.extend(&(start as u32).to_be_bytes()[1..]);
        message.extend(&((end - start) as u32).to_be_bytes()[1..]);
        message.extend(&body[start..end]);
        let mut record = vec![HANDSHAKE, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
        record.extend((message.len() as u16).to_be_bytes());
        record.extend(message);
        record
    }

    fn profile(profiles: &[u16]) -> Option<SrtpProfile> {
        let body = body(profiles);
        match ClientHello::default().add(&record(&body, 0, body.len())) {
            Hello::Whole(profile, _) => profile,
            Hello::Incomplete => panic!("a whole hello"),
        }
    }

    #[test]
    fn gcm_is_taken_wherever_it_stands() {
        assert_eq!(profile(&[1, 8, 7]), Some(SrtpProfile::AeadAes128Gcm));
        assert_eq!(profile(&[1, 8]), Some(SrtpProfile::AeadAes256Gcm));
        assert_eq!(profile(&[8]), Some(SrtpProfile::AeadAes256Gcm));
        assert_eq!(profile(&[2, 1]), Some(SrtpProfile::Aes128CmSha1_80));
        assert_eq!(profile(&[2]), None);
    }

    #[test]
    fn fragments_are_put_together_in_any_order() {
        let body = body(&[1, 7]);
        let pieces = [(30, 60), (0, 20), (60, body.len()), (10, 40)];
        let mut hello = ClientHello::default();
        for (index, (start, end)) in pieces.into_iter().enumerate() {
            let outcome = hello.add(&record(&body, start, end));
            match outcome {
                Hello::Incomplete => assert!(index < 3),
                Hello::Whole(profile, datagrams) => {
                    assert_eq!(profile, Some(SrtpProfile::AeadAes128Gcm));
                    assert_eq!((index, datagrams.len()), (3, 4));
                }
            }
        }
    }

    #[test]
    fn garbage_neither_panics_nor_grows() {
        use rand::{RngExt, SeedableRng, rngs::SmallRng};
        let body = body(&[1, 7]);
        let good = record(&body, 0, body.len());
        let mut rng = SmallRng::seed_from_u64(4);
        let mut hello = ClientHello::default();
        for _ in 0..20_000 {
            let mut datagram = good.clone();
            for _ in 0..rng.random_range(0..4u8) {
                let at = rng.random_range(0..datagram.len());
                datagram[at] = rng.random();
            }
            datagram.truncate(rng.random_range(0..=good.len()));
            hello.add(&datagram);
            assert!(hello.datagrams.len() <= MAX_DATAGRAMS && hello.body.len() <= MAX_HELLO);
        }
    }
}
