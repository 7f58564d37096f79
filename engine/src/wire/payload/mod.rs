//! The payload formats, as far as forwarding needs to look into them: where a subscriber can
//! start, to which layers a frame belongs, and the counters of pictures. Everything else passes
//! opaque, encrypted frames too.

mod av1;
mod bit_reader;
pub(crate) mod counters;
pub(crate) mod dependency_descriptor;
mod h264;
pub(crate) mod layers;
pub(crate) mod reader;
mod vp8;
mod vp9;

use counters::PictureCounters;
use vp8::Vp8Descriptor;
use vp9::Vp9Descriptor;

use crate::api::codec::Codec;

/// The counters in a payload.
pub(crate) fn counters(codec: Codec, payload: &[u8]) -> PictureCounters {
    match codec {
        Codec::Vp8 => Vp8Descriptor::parse(payload).map(|descriptor| descriptor.counters()),
        Codec::Vp9 => Vp9Descriptor::parse(payload).map(|descriptor| descriptor.counters()),
        _ => None,
    }
    .unwrap_or_default()
}

/// Sets the counters that a payload has.
pub(crate) fn patch_counters(codec: Codec, payload: &mut [u8], counters: &PictureCounters) {
    match codec {
        Codec::Vp8 => {
            if let Some(descriptor) = Vp8Descriptor::parse(payload) {
                descriptor.patch(payload, counters);
            }
        }
        Codec::Vp9 => {
            if let Some(descriptor) = Vp9Descriptor::parse(payload) {
                descriptor.patch(payload, counters);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_payloads_never_panic() {
        use rand::{RngExt, SeedableRng, rngs::SmallRng};
        let mut rng = SmallRng::seed_from_u64(2);
        let mut reader = reader::LayerReader::default();
        for _ in 0..100_000 {
            let mut bytes = [0u8; 48];
            rng.fill(&mut bytes[..]);
            let len = rng.random_range(0..48);
            for codec in Codec::ALL {
                reader.read(codec, rng.random(), rng.random(), &bytes[..len], None);
                reader.read(
                    codec,
                    rng.random(),
                    rng.random(),
                    &bytes[..len],
                    Some(&bytes[..len]),
                );
                let next = counters(codec, &bytes[..len]).next();
                patch_counters(codec, &mut bytes[..len], &next);
            }
        }
    }

    #[test]
    fn what_is_patched_is_read_again() {
        use rand::{RngExt, SeedableRng, rngs::SmallRng};
        let mut rng = SmallRng::seed_from_u64(5);
        for _ in 0..10_000 {
            let mut bytes = [0u8; 24];
            rng.fill(&mut bytes[..]);
            for codec in [Codec::Vp8, Codec::Vp9] {
                let before = bytes;
                let read = counters(codec, &bytes);
                patch_counters(codec, &mut bytes, &read);
                assert_eq!(bytes, before);
            }
        }
    }
}
