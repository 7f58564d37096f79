//! Session keys from master keys (RFC 3711, section 4.3), key derivation rate zero.

use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};

/// How packets are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtpProfile {
    /// AEAD_AES_128_GCM (RFC 7714): several times cheaper than the other.
    AeadAes128Gcm,
    /// AES128_CM_HMAC_SHA1_80 (RFC 3711): what every WebRTC peer has.
    Aes128CmSha1_80,
}

impl SrtpProfile {
    /// Bytes of a master key.
    pub const fn key_len(self) -> usize {
        16
    }

    /// Bytes of a master salt.
    pub const fn salt_len(self) -> usize {
        match self {
            SrtpProfile::AeadAes128Gcm => 12,
            SrtpProfile::Aes128CmSha1_80 => 14,
        }
    }

    /// Bytes to ask of the DTLS exporter (RFC 5764, section 4.2).
    pub const fn keying_material_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }
}

/// Which of the two streams of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Label {
    Rtp,
    Rtcp,
}

/// Keys of one stream.
pub(super) struct SessionKeys {
    pub(super) encryption: [u8; 16],
    pub(super) authentication: [u8; 20],
    /// 12 bytes are used with GCM, 14 with counter mode.
    pub(super) salt: [u8; 14],
}

pub(super) fn derive(
    profile: SrtpProfile,
    master_key: &[u8],
    master_salt: &[u8],
    label: Label,
) -> SessionKeys {
    let first = match label {
        Label::Rtp => 0,
        Label::Rtcp => 3,
    };
    let mut keys = SessionKeys {
        encryption: [0; 16],
        authentication: [0; 20],
        salt: [0; 14],
    };
    expand(master_key, master_salt, first, &mut keys.encryption);
    expand(master_key, master_salt, first + 1, &mut keys.authentication);
    let salt_len = profile.salt_len();
    expand(
        master_key,
        master_salt,
        first + 2,
        &mut keys.salt[..salt_len],
    );
    keys
}

/// The AES-CM keystream for a label. The label stands at byte 7 of the 14-byte block; a GCM
/// master salt of 12 bytes is padded to the right (RFC 7714, section 11).
fn expand(master_key: &[u8], master_salt: &[u8], label: u8, out: &mut [u8]) {
    let mut key = [0u8; 16];
    let take = master_key.len().min(16);
    key[..take].copy_from_slice(&master_key[..take]);
    let cipher = Aes128::new(&Array::from(key));
    let mut block = [0u8; 16];
    let take = master_salt.len().min(14);
    block[..take].copy_from_slice(&master_salt[..take]);
    block[7] ^= label;
    for (counter, chunk) in out.chunks_mut(16).enumerate() {
        let mut stream = block;
        stream[14..].copy_from_slice(&(counter as u16).to_be_bytes());
        let mut stream = Array::from(stream);
        cipher.encrypt_block(&mut stream);
        chunk.copy_from_slice(&stream[..chunk.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_vectors_of_rfc_3711_appendix_b_3_hold() {
        let key = 0xE1F9_7A0D_3E01_8BE0_D64F_A32C_06DE_4139_u128.to_be_bytes();
        let salt = [
            0x0E, 0xC6, 0x75, 0xAD, 0x49, 0x8A, 0xFE, 0xEB, 0xB6, 0x96, 0x0B, 0x3A, 0xAB, 0xE6,
        ];
        let keys = derive(SrtpProfile::Aes128CmSha1_80, &key, &salt, Label::Rtp);
        let encryption = 0xC61E_7A93_744F_39EE_1073_4AFE_3FF7_A087_u128.to_be_bytes();
        assert_eq!(keys.encryption, encryption);
        let salt = [
            0x30, 0xCB, 0xBC, 0x08, 0x86, 0x3D, 0x8C, 0x85, 0xD4, 0x9D, 0xB3, 0x4A, 0x9A, 0xE1,
        ];
        assert_eq!(keys.salt, salt);
        assert_eq!(keys.authentication[..4], [0xCE, 0xBE, 0x32, 0x1F]);
    }
}
