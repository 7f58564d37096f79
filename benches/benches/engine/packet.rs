//! What is done to the bytes of one packet.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use moim_engine::rtp::patch_header;
use moim_engine::srtp::{MAX_OVERHEAD, SrtpProfile, SrtpReceiver, SrtpSender};

const SIZES: [usize; 2] = [100, 1_200];
const CASES: [(SrtpProfile, usize); 4] = [
    (SrtpProfile::AeadAes128Gcm, 100),
    (SrtpProfile::AeadAes128Gcm, 1_200),
    (SrtpProfile::Aes128CmSha1_80, 100),
    (SrtpProfile::Aes128CmSha1_80, 1_200),
];
const HEADER: usize = 12;
const KEY: [u8; 16] = [7; 16];
const SALT: [u8; 14] = [9; 14];

fn packet(size: usize) -> Vec<u8> {
    let mut packet = vec![5; size + MAX_OVERHEAD];
    packet[..HEADER].copy_from_slice(&[0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
    packet
}

fn salt(profile: SrtpProfile) -> &'static [u8] {
    &SALT[..profile.salt_len()]
}

#[divan::bench(args = CASES)]
fn encrypt(bencher: Bencher<'_, '_>, (profile, size): (SrtpProfile, usize)) {
    let sender = SrtpSender::new(profile, &KEY, salt(profile));
    let mut packet = packet(size);
    let mut sequence = 0u16;
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        // Not what was there before, but as many bytes, under an index not used before.
        sequence = sequence.wrapping_add(1);
        packet[2..4].copy_from_slice(&sequence.to_be_bytes());
        sender.protect_rtp(0, HEADER, black_box(&mut packet), size)
    });
}

#[divan::bench(args = CASES)]
fn decrypt(bencher: Bencher<'_, '_>, (profile, size): (SrtpProfile, usize)) {
    let sender = SrtpSender::new(profile, &KEY, salt(profile));
    let receiver = SrtpReceiver::new(profile, &KEY, salt(profile));
    let mut sealed = packet(size);
    let len = sender.protect_rtp(0, HEADER, &mut sealed, size);
    bencher
        .counter(BytesCount::new(size))
        .with_inputs(|| sealed[..len].to_vec())
        .bench_local_refs(|packet| {
            let opened = receiver.unprotect_rtp(0, HEADER, packet);
            assert_eq!(opened, Some(size));
        });
}

/// Copy and new header: what a packet costs each subscriber before encryption.
#[divan::bench(args = SIZES)]
fn rewrite(bencher: Bencher<'_, '_>, size: usize) {
    let cached = packet(size);
    let mut out = packet(size);
    bencher.counter(BytesCount::new(size)).bench_local(|| {
        out[..size].copy_from_slice(black_box(&cached[..size]));
        patch_header(black_box(&mut out), 7, 8, 9);
    });
}
