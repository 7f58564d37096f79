//! SRTP and SRTCP in place, with the protection profiles that WebRTC peers use:
//! AEAD_AES_128_GCM and AEAD_AES_256_GCM (RFC 7714), and AES128_CM_HMAC_SHA1_80 (RFC 3711).
//!
//! Invariant: one key never encrypts two different packets under one index. For RTP the caller
//! keeps it, by counting each SSRC it sends; for RTCP the index is counted here.

mod cipher;
mod counter_mode;
mod key_derivation;
mod replay;

use cipher::Cipher;
pub use key_derivation::SrtpProfile;
use key_derivation::{Label, derive};
pub(crate) use replay::ReplayWindow;

use moim_native::prefetch::prefetch;

/// Most that protection adds to an RTP packet.
pub const MAX_OVERHEAD: usize = 16;
/// Most that protection adds to an RTCP packet: tag and index.
pub const MAX_RTCP_OVERHEAD: usize = 20;
/// The SRTCP index has 31 bits.
const MAX_RTCP_INDEX: u32 = 0x7fff_ffff;
/// Set when an SRTCP packet is encrypted.
const ENCRYPTED: u32 = 0x8000_0000;
/// Senders whose SRTCP index is remembered.
const MAX_RTCP_SENDERS: usize = 64;

/// Master keys and salts of both directions.
pub struct SrtpKeys<'a> {
    /// Key for what we send.
    pub local_key: &'a [u8],
    /// Salt for what we send.
    pub local_salt: &'a [u8],
    /// Key of what we receive.
    pub remote_key: &'a [u8],
    /// Salt of what we receive.
    pub remote_salt: &'a [u8],
}

impl<'a> SrtpKeys<'a> {
    /// Splits what the DTLS exporter gave (RFC 5764, section 4.2). We are the DTLS server.
    pub fn from_exporter(profile: SrtpProfile, material: &'a [u8]) -> Option<Self> {
        let (client_key, rest) = material.split_at_checked(profile.key_len())?;
        let (server_key, rest) = rest.split_at_checked(profile.key_len())?;
        let (client_salt, rest) = rest.split_at_checked(profile.salt_len())?;
        let (server_salt, _) = rest.split_at_checked(profile.salt_len())?;
        Some(SrtpKeys {
            local_key: server_key,
            local_salt: server_salt,
            remote_key: client_key,
            remote_salt: client_salt,
        })
    }

    /// The same keys as the peer, the DTLS client, sees them.
    pub fn swapped(self) -> SrtpKeys<'a> {
        SrtpKeys {
            local_key: self.remote_key,
            local_salt: self.remote_salt,
            remote_key: self.local_key,
            remote_salt: self.local_salt,
        }
    }
}

fn ciphers(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> (Cipher, Cipher) {
    let rtp = Cipher::new(profile, &derive(profile, key, salt, Label::Rtp));
    let rtcp = Cipher::new(profile, &derive(profile, key, salt, Label::Rtcp));
    (rtp, rtcp)
}

/// Protects what we send to one peer.
pub struct SrtpSender {
    rtp: Cipher,
    rtcp: Cipher,
    next_rtcp_index: u32,
}

impl SrtpSender {
    /// From a master key and its salt.
    pub fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> SrtpSender {
        let (rtp, rtcp) = ciphers(profile, key, salt);
        SrtpSender {
            rtp,
            rtcp,
            next_rtcp_index: 0,
        }
    }

    /// Asks for the memory that [`Self::protect_rtp`] touches.
    pub(crate) fn prefetch(&self) {
        self.rtp.prefetch();
    }

    /// Encrypts `packet[..len]`, an RTP packet, and puts the tag behind it. The buffer has room
    /// for [`MAX_OVERHEAD`]. Returns the new length.
    pub fn protect_rtp(&self, roc: u32, header_len: usize, packet: &mut [u8], len: usize) -> usize {
        self.rtp.seal_rtp(roc, header_len, packet, len)
    }

    /// The same for a compound RTCP packet, with room for [`MAX_RTCP_OVERHEAD`]. Returns 0 when
    /// the indexes are used up: the key must then not be used any more.
    pub fn protect_rtcp(&mut self, packet: &mut [u8], len: usize) -> usize {
        if self.next_rtcp_index > MAX_RTCP_INDEX || len < 8 {
            return 0;
        }
        let index = self.next_rtcp_index | ENCRYPTED;
        self.next_rtcp_index += 1;
        self.rtcp.seal_rtcp(index, packet, len)
    }
}

/// Opens what one peer sends.
pub struct SrtpReceiver {
    rtp: Cipher,
    rtcp: Cipher,
    rtcp_senders: Vec<(u32, ReplayWindow)>,
}

impl SrtpReceiver {
    /// From a master key and its salt.
    pub fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> SrtpReceiver {
        let (rtp, rtcp) = ciphers(profile, key, salt);
        SrtpReceiver {
            rtp,
            rtcp,
            rtcp_senders: Vec::new(),
        }
    }

    /// Asks for the memory that [`Self::unprotect_rtcp`] touches.
    pub(crate) fn prefetch_for_rtcp(&self) {
        self.rtcp.prefetch();
        prefetch(&self.rtcp_senders[..]);
    }

    /// Verifies and decrypts an RTP packet in place; the length without the tag. Replay is the
    /// caller's to check, by a [`ReplayWindow`] for each SSRC.
    pub fn unprotect_rtp(&self, roc: u32, header_len: usize, packet: &mut [u8]) -> Option<usize> {
        self.rtp.open_rtp(roc, header_len, packet)
    }

    /// Verifies and decrypts a compound RTCP packet in place, unless it is a replay; the length
    /// without trailer.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Option<usize> {
        let sender = u32::from_be_bytes(*packet.get(4..8)?.first_chunk()?);
        let index = self.rtcp.rtcp_index(packet)? & MAX_RTCP_INDEX;
        let known = self
            .rtcp_senders
            .iter()
            .position(|(ssrc, _)| *ssrc == sender);
        if let Some(known) = known
            && !self.rtcp_senders[known].1.is_new(u64::from(index))
        {
            return None;
        }
        let len = self.rtcp.open_rtcp(packet)?;
        let known = known.unwrap_or_else(|| {
            if self.rtcp_senders.len() == MAX_RTCP_SENDERS {
                self.rtcp_senders.remove(0);
            }
            self.rtcp_senders.push((sender, ReplayWindow::default()));
            self.rtcp_senders.len() - 1
        });
        self.rtcp_senders[known].1.commit(u64::from(index));
        Some(len)
    }
}

#[cfg(test)]
mod tests;
