//! The VP9 payload descriptor (RFC 9628, section 4.2).

/// Whether a packet begins a picture that needs no other: start of a frame of the lowest
/// spatial layer, not predicted from another picture.
pub(crate) fn starts_keyframe(payload: &[u8]) -> bool {
    spatial_layer_of_start(payload) == Some(0)
}

/// Spatial layer of the unpredicted frame that starts here, if one does.
fn spatial_layer_of_start(payload: &[u8]) -> Option<u8> {
    let first = *payload.first()?;
    let has = |bit: u8| first & bit != 0;
    let (picture_id, predicted, layers, starts) = (has(0x80), has(0x40), has(0x20), has(0x08));
    if predicted || !starts {
        return None;
    }
    if !layers {
        return Some(0);
    }
    let mut at = 1;
    if picture_id {
        at += if payload.get(at)? & 0x80 != 0 { 2 } else { 1 };
    }
    Some((payload.get(at)? >> 1) & 0x07)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_unpredicted_base_layer_is_a_start() {
        assert!(starts_keyframe(&[0x08, 0]));
        assert!(starts_keyframe(&[0xa8, 0x81, 0x02, 0x00, 0x00]));
        assert!(starts_keyframe(&[0xa8, 0x01, 0x00, 0x00]));
        assert!(
            !starts_keyframe(&[0xa8, 0x01, 0x02, 0x00]),
            "spatial layer 1"
        );
        assert!(!starts_keyframe(&[0x48, 0]), "predicted");
        assert!(!starts_keyframe(&[0x00, 0]), "not the start of a frame");
        assert!(!starts_keyframe(&[]));
    }
}
