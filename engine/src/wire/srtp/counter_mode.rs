//! AES in counter mode (RFC 3711, section 4.1.1): for packets, and to derive session keys.

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;

/// An AES key with its key schedule.
pub(super) struct CounterMode(EncryptingKey);

impl CounterMode {
    /// A key of 16 or 32 bytes.
    pub(super) fn new(key: &[u8]) -> CounterMode {
        let algorithm = match key.len() {
            32 => &AES_256,
            _ => &AES_128,
        };
        let key = UnboundCipherKey::new(algorithm, key).and_then(EncryptingKey::ctr);
        CounterMode(key.expect("a key of 16 or 32 bytes"))
    }

    /// Adds the key stream from this block on to a text: encrypts or decrypts it. `None` when that
    /// cannot be done, and the text is not to be used.
    #[must_use]
    pub(super) fn apply(&self, block: [u8; 16], text: &mut [u8]) -> Option<()> {
        let context = EncryptionContext::Iv128(FixedLength::from(block));
        self.0.less_safe_encrypt(text, context).ok().map(|_| ())
    }
}
