//! AV1 in RTP: the aggregation header, and the dependency descriptor that other codecs use too
//! (AV1 RTP specification, section 4.4 and appendix A).

/// Whether a packet begins a new coded video sequence: the N bit.
pub(crate) fn starts_keyframe(payload: &[u8]) -> bool {
    payload.first().is_some_and(|header| header & 0x08 != 0)
}

/// Whether a dependency descriptor stands on the first packet of a keyframe: it starts a frame
/// and carries the template structure, which it does only there.
pub(crate) fn descriptor_starts_keyframe(descriptor: &[u8]) -> bool {
    let (Some(first), Some(flags)) = (descriptor.first(), descriptor.get(3)) else {
        return false;
    };
    first & 0x80 != 0 && flags & 0x80 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_sequence_bit_is_a_start() {
        assert!(starts_keyframe(&[0x18, 0x0a]));
        assert!(!starts_keyframe(&[0x10, 0x0a]));
        assert!(!starts_keyframe(&[]));
    }

    #[test]
    fn a_descriptor_with_its_structure_is_a_start() {
        assert!(descriptor_starts_keyframe(&[0x80, 0, 1, 0x80, 0]));
        assert!(
            !descriptor_starts_keyframe(&[0x00, 0, 1, 0x80, 0]),
            "not the first packet"
        );
        assert!(!descriptor_starts_keyframe(&[0x80, 0, 1]), "no structure");
    }
}
