//! The aggregation header of AV1 in RTP (AV1 RTP specification, section 4.4). Layers are told
//! by the dependency descriptor alone.

/// Whether a packet begins a new coded video sequence: the N bit.
pub(crate) fn starts_keyframe(payload: &[u8]) -> bool {
    payload.first().is_some_and(|header| header & 0x08 != 0)
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
}
