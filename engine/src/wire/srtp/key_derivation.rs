//! Session keys from master keys (RFC 3711, section 4.3), key derivation rate zero.

use super::counter_mode::CounterMode;

/// How packets are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SrtpProfile {
    /// AEAD_AES_128_GCM (RFC 7714): several times cheaper than counter mode.
    AeadAes128Gcm,
    /// AEAD_AES_256_GCM (RFC 7714): what some offer alone.
    AeadAes256Gcm,
    /// AES128_CM_HMAC_SHA1_80 (RFC 3711): what every WebRTC peer has.
    Aes128CmSha1_80,
}

impl SrtpProfile {
    /// Bytes of a master key.
    pub const fn key_len(self) -> usize {
        match self {
            SrtpProfile::AeadAes128Gcm | SrtpProfile::Aes128CmSha1_80 => 16,
            SrtpProfile::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of a master salt.
    pub const fn salt_len(self) -> usize {
        match self {
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => 12,
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
    /// 32 bytes are used with AES-256, else 16.
    pub(super) encryption: [u8; 32],
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
        encryption: [0; 32],
        authentication: [0; 20],
        salt: [0; 14],
    };
    let master_key = CounterMode::new(master_key);
    let expand = |label, out: &mut [u8]| expand(&master_key, master_salt, label, out);
    expand(first, &mut keys.encryption[..profile.key_len()]);
    expand(first + 1, &mut keys.authentication);
    expand(first + 2, &mut keys.salt[..profile.salt_len()]);
    keys
}

/// The AES-CM keystream for a label, of AES-256 where the master key has 32 bytes (RFC 6188,
/// section 3). The label stands at byte 7 of the 14-byte block; a GCM master salt of 12 bytes is
/// padded to the right (RFC 7714, section 11).
fn expand(master_key: &CounterMode, master_salt: &[u8], label: u8, out: &mut [u8]) {
    let mut block = [0u8; 16];
    let take = master_salt.len().min(14);
    block[..take].copy_from_slice(&master_salt[..take]);
    block[7] ^= label;
    out.fill(0);
    master_key
        .apply(block, out)
        .expect("counter mode takes texts of any length");
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
        assert_eq!(keys.encryption[..16], encryption);
        let salt = [
            0x30, 0xCB, 0xBC, 0x08, 0x86, 0x3D, 0x8C, 0x85, 0xD4, 0x9D, 0xB3, 0x4A, 0x9A, 0xE1,
        ];
        assert_eq!(keys.salt, salt);
        assert_eq!(keys.authentication[..4], [0xCE, 0xBE, 0x32, 0x1F]);
    }

    #[test]
    fn the_test_vectors_of_rfc_6188_section_7_2_hold() {
        let mut key = [0; 32];
        let halves: [u128; 2] = [
            0xF0F0_4914_B513_F276_3A1B_1FA1_30F1_0E29,
            0x98F6_F6E4_3E43_09D1_E622_A0E3_32B9_F1B6,
        ];
        for (part, half) in key.chunks_mut(16).zip(halves) {
            part.copy_from_slice(&half.to_be_bytes());
        }
        let salt = [
            0x3B, 0x04, 0x80, 0x3D, 0xE5, 0x1E, 0xE7, 0xC9, 0x64, 0x23, 0xAB, 0x5B, 0x78, 0xD2,
        ];
        let keys = derive(SrtpProfile::AeadAes256Gcm, &key, &salt, Label::Rtp);
        let halves: [u128; 2] = [
            0x5BA1_064E_30EC_5161_3CAD_926C_5A28_EF73,
            0x1EC7_FB39_7F70_A960_653C_AF06_554C_D8C4,
        ];
        for (part, half) in keys.encryption.chunks(16).zip(halves) {
            assert_eq!(part, half.to_be_bytes());
        }
        let salt = [
            0xFA, 0x31, 0x79, 0x16, 0x85, 0xCA, 0x44, 0x4A, 0x9E, 0x07, 0xC6, 0xC6,
        ];
        assert_eq!(keys.salt[..12], salt);
    }
}
