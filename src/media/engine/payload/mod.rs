//! The payload formats, as far as forwarding needs to look into them: where a subscriber can
//! start, and VP8's counters. Everything else passes opaque, encrypted frames too.

pub(crate) mod av1;
pub(crate) mod h264;
pub(crate) mod vp8;
pub(crate) mod vp9;

use crate::media::codec::Codec;

/// Whether a decoder can start with this packet: the first one of a keyframe. A dependency
/// descriptor answers for payloads that cannot be read.
pub(crate) fn starts_keyframe(
    codec: Codec,
    payload: &[u8],
    dependency_descriptor: Option<&[u8]>,
) -> bool {
    if let Some(descriptor) = dependency_descriptor {
        return av1::descriptor_starts_keyframe(descriptor);
    }
    match codec {
        Codec::Opus => true,
        Codec::Vp8 => {
            vp8::Vp8Descriptor::parse(payload).is_some_and(|descriptor| descriptor.starts_keyframe)
        }
        Codec::Vp9 => vp9::starts_keyframe(payload),
        Codec::H264 | Codec::H264Single => h264::starts_keyframe(payload),
        Codec::Av1 => av1::starts_keyframe(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_payloads_never_panic() {
        use rand::{RngExt, SeedableRng, rngs::SmallRng};
        let mut rng = SmallRng::seed_from_u64(2);
        for _ in 0..100_000 {
            let mut bytes = [0u8; 48];
            rng.fill(&mut bytes[..]);
            let len = rng.random_range(0..48);
            for codec in Codec::ALL {
                starts_keyframe(codec, &bytes[..len], None);
                starts_keyframe(codec, &bytes[..len], Some(&bytes[..len]));
            }
            if let Some(descriptor) = vp8::Vp8Descriptor::parse(&bytes[..len]) {
                vp8::patch(&mut bytes[..len], &descriptor, 1, 1);
            }
        }
    }
}
