//! H.264 NAL units in RTP (RFC 6184).

const IDR: u8 = 5;
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Whether a packet begins a keyframe: with its parameter sets, or with the IDR slice itself.
pub(crate) fn starts_keyframe(payload: &[u8]) -> bool {
    let Some(first) = payload.first() else {
        return false;
    };
    match first & 0x1f {
        IDR | SPS => true,
        STAP_A => aggregated(&payload[1..]).any(|kind| kind == IDR || kind == SPS),
        FU_A => payload
            .get(1)
            .is_some_and(|header| header & 0x80 != 0 && matches!(header & 0x1f, IDR | SPS)),
        _ => false,
    }
}

/// Whether a packet holds a sequence parameter set, which comes before everything else of a
/// keyframe.
pub(crate) fn has_parameter_set(payload: &[u8]) -> bool {
    match payload.first().map(|first| first & 0x1f) {
        Some(SPS) => true,
        Some(STAP_A) => aggregated(&payload[1..]).any(|kind| kind == SPS),
        _ => false,
    }
}

/// Types of the NAL units in a STAP-A.
fn aggregated(mut rest: &[u8]) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let (size, after) = rest.split_first_chunk::<2>()?;
        let size = usize::from(u16::from_be_bytes(*size));
        let kind = after.first()? & 0x1f;
        rest = after.get(size.max(1)..)?;
        Some(kind)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_set_is_found_alone_and_aggregated() {
        assert!(has_parameter_set(&[0x67, 1]));
        assert!(has_parameter_set(&[0x78, 0, 2, 0x09, 1, 0, 1, 0x67]));
        assert!(!has_parameter_set(&[0x65, 1]));
        assert!(!has_parameter_set(&[]));
    }

    #[test]
    fn parameter_sets_and_idr_slices_are_starts() {
        assert!(starts_keyframe(&[0x67, 1]));
        assert!(starts_keyframe(&[0x65, 1]));
        assert!(starts_keyframe(&[0x78, 0, 2, 0x67, 1, 0, 1, 0x68]));
        assert!(starts_keyframe(&[0x7c, 0x85, 1]));
        assert!(
            !starts_keyframe(&[0x7c, 0x05, 1]),
            "the middle of a fragment"
        );
        assert!(!starts_keyframe(&[0x61, 1]), "another slice");
        assert!(!starts_keyframe(&[0x78, 0, 2, 0x61, 1]));
        assert!(!starts_keyframe(&[]));
    }
}
