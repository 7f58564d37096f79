//! All profiles against themselves and against the `rtc` project's implementation.

use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

use super::*;

const PROFILES: [SrtpProfile; 3] = [
    SrtpProfile::AeadAes128Gcm,
    SrtpProfile::AeadAes256Gcm,
    SrtpProfile::Aes128CmSha1_80,
];

fn key(profile: SrtpProfile) -> &'static [u8] {
    &[7; 32][..profile.key_len()]
}

fn salt(profile: SrtpProfile) -> Vec<u8> {
    (0..profile.salt_len() as u8).collect()
}

fn theirs(profile: SrtpProfile) -> Context {
    let their_profile = match profile {
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpProfile::Aes128CmSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let provider = rtc_crypto::default_provider().unwrap();
    Context::new(
        key(profile),
        &salt(profile),
        their_profile,
        None,
        None,
        provider.crypto(),
    )
    .unwrap()
}

fn rtp(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 96, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4];
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet.extend((0..=sequence as u8 | 1).map(|byte| byte ^ 0x5a));
    packet
}

fn rtcp() -> Vec<u8> {
    vec![
        0x80, 201, 0, 1, 1, 2, 3, 4, 0x81, 206, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8,
    ]
}

fn protect(sender: &SrtpSender, roc: u32, plain: &[u8]) -> Vec<u8> {
    let mut packet = plain.to_vec();
    packet.resize(plain.len() + MAX_OVERHEAD, 0);
    let len = sender.protect_rtp(roc, 12, &mut packet, plain.len());
    packet.truncate(len);
    packet
}

#[test]
fn what_we_protect_the_other_implementation_opens_over_a_roll_over() {
    for profile in PROFILES {
        let sender = SrtpSender::new(profile, key(profile), &salt(profile));
        let mut receiver = theirs(profile);
        for index in 65_500u64..65_600 {
            let plain = rtp(index as u16);
            let packet = protect(&sender, (index >> 16) as u32, &plain);
            let opened = receiver.decrypt_rtp(&packet).unwrap();
            assert_eq!(opened[..], plain[..], "{profile:?} {index}");
        }
    }
}

#[test]
fn what_the_other_implementation_protects_we_open_over_a_roll_over() {
    for profile in PROFILES {
        let mut sender = theirs(profile);
        let receiver = SrtpReceiver::new(profile, key(profile), &salt(profile));
        let mut window = ReplayWindow::default();
        for index in 65_500u64..65_600 {
            let plain = rtp(index as u16);
            let mut packet = sender.encrypt_rtp(&plain).unwrap().to_vec();
            let estimate = window.estimate(index as u16);
            let len = receiver
                .unprotect_rtp((estimate >> 16) as u32, 12, &mut packet)
                .unwrap();
            window.commit(estimate);
            assert_eq!(packet[..len], plain[..], "{profile:?} {index}");
        }
    }
}

#[test]
fn rtcp_passes_in_both_directions_and_only_once() {
    for profile in PROFILES {
        let mut ours = SrtpSender::new(profile, key(profile), &salt(profile));
        let mut other = theirs(profile);
        let plain = rtcp();
        let mut packet = plain.clone();
        packet.resize(plain.len() + MAX_RTCP_OVERHEAD, 0);
        let len = ours.protect_rtcp(&mut packet, plain.len());
        let opened = other.decrypt_rtcp(&packet[..len]).unwrap();
        assert_eq!(opened[..], plain[..]);

        let mut receiver = SrtpReceiver::new(profile, key(profile), &salt(profile));
        let sealed = theirs(profile).encrypt_rtcp(&plain).unwrap().to_vec();
        let mut first = sealed.clone();
        let len = receiver.unprotect_rtcp(&mut first).unwrap();
        assert_eq!(first[..len], plain[..]);
        assert_eq!(receiver.unprotect_rtcp(&mut sealed.clone()), None);
    }
}

#[test]
fn a_flipped_bit_anywhere_is_refused() {
    for profile in PROFILES {
        let sender = SrtpSender::new(profile, key(profile), &salt(profile));
        let receiver = SrtpReceiver::new(profile, key(profile), &salt(profile));
        let packet = protect(&sender, 0, &rtp(40));
        for bit in 0..packet.len() * 8 {
            let mut flipped = packet.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(receiver.unprotect_rtp(0, 12, &mut flipped), None);
        }
    }
}

#[test]
fn short_packets_are_refused() {
    for profile in PROFILES {
        let mut receiver = SrtpReceiver::new(profile, key(profile), &salt(profile));
        for len in 0..28 {
            let mut packet = vec![0x80; len];
            assert_eq!(receiver.unprotect_rtp(0, 12.min(len), &mut packet), None);
            assert_eq!(receiver.unprotect_rtcp(&mut packet), None);
        }
    }
}
