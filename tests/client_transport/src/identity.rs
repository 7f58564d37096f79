//! Who the clients are to the server.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use moim_engine::command::Fingerprint;
use rtc::dtls::config::{ConfigBuilder, HandshakeConfig};
use rtc::dtls::crypto::Certificate;
use rtc::dtls::extension::extension_use_srtp::SrtpProtectionProfile;

/// When to send a flight again.
const FLIGHT_INTERVAL: Duration = Duration::from_secs(1);

/// The certificate of all clients of a process, and how DTLS is done with it.
pub struct Identity {
    handshake: Arc<HandshakeConfig>,
    fingerprint: Fingerprint,
}

impl Identity {
    /// With a new certificate.
    ///
    /// # Errors
    /// When the cryptographic library makes none.
    pub fn new() -> anyhow::Result<Identity> {
        let provider = rtc::crypto::default_provider()?;
        let certificate =
            Certificate::generate_self_signed(vec!["load".to_owned()], provider.crypto())?;
        let der = certificate.certificate.first().map_or(&[][..], |der| der);
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(digest::digest(&digest::SHA256, der).as_ref());
        let handshake = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm])
            .with_insecure_skip_verify(true)
            .with_flight_interval(FLIGHT_INTERVAL)
            .build(true, None)?;
        Ok(Identity {
            handshake: Arc::new(handshake),
            fingerprint: Fingerprint(fingerprint),
        })
    }

    /// The certificate's SHA-256 fingerprint, which signaling gives to the server.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(crate) fn handshake(&self) -> &Arc<HandshakeConfig> {
        &self.handshake
    }
}
