//! The VP8 payload descriptor (RFC 7741, section 4.2).

/// PictureID and TL0PICIDX, with their places, so that they can be rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vp8Descriptor {
    pub(crate) picture_id: Option<u16>,
    pub(crate) tl0: Option<u8>,
    pub(crate) starts_keyframe: bool,
    picture_id_offset: usize,
    /// The PictureID has 15 bits, not 7.
    long: bool,
    tl0_offset: usize,
}

impl Vp8Descriptor {
    /// `None` when the payload ends within the descriptor.
    pub(crate) fn parse(payload: &[u8]) -> Option<Vp8Descriptor> {
        let first = *payload.first()?;
        let mut descriptor = Vp8Descriptor {
            picture_id: None,
            tl0: None,
            starts_keyframe: false,
            picture_id_offset: 0,
            long: false,
            tl0_offset: 0,
        };
        let mut at = 1;
        if first & 0x80 != 0 {
            let flags = *payload.get(at)?;
            at += 1;
            if flags & 0x80 != 0 {
                descriptor.picture_id_offset = at;
                let high = *payload.get(at)?;
                descriptor.long = high & 0x80 != 0;
                at += 1;
                let mut value = u16::from(high & 0x7f);
                if descriptor.long {
                    value = (value << 8) | u16::from(*payload.get(at)?);
                    at += 1;
                }
                descriptor.picture_id = Some(value);
            }
            if flags & 0x40 != 0 {
                descriptor.tl0_offset = at;
                descriptor.tl0 = Some(*payload.get(at)?);
                at += 1;
            }
            if flags & 0x30 != 0 {
                payload.get(at)?;
                at += 1;
            }
        }
        // The start of partition 0 holds the frame header, of which a zero lowest bit means a
        // keyframe (RFC 6386, section 9.1).
        let starts_frame = first & 0x10 != 0 && first & 0x0f == 0;
        descriptor.starts_keyframe =
            starts_frame && payload.get(at).is_some_and(|header| header & 1 == 0);
        Some(descriptor)
    }
}

/// Sets PictureID, in as many bits as it has, and TL0PICIDX, where the descriptor has them.
pub(crate) fn patch(payload: &mut [u8], descriptor: &Vp8Descriptor, picture_id: u16, tl0: u8) {
    if descriptor.picture_id.is_some() {
        let at = descriptor.picture_id_offset;
        if descriptor.long {
            let value = (picture_id & 0x7fff) | 0x8000;
            payload[at..at + 2].copy_from_slice(&value.to_be_bytes());
        } else {
            payload[at] = (picture_id & 0x7f) as u8;
        }
    }
    if descriptor.tl0.is_some() {
        payload[descriptor.tl0_offset] = tl0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_descriptor_is_read_and_patched() {
        let mut payload = [0x90, 0xf0, 0x92, 0x34, 0x56, 0x20, 0x10, 1, 2];
        let descriptor = Vp8Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.picture_id, Some(0x1234));
        assert_eq!(descriptor.tl0, Some(0x56));
        assert!(descriptor.starts_keyframe);
        patch(&mut payload, &descriptor, 0x7fff, 9);
        let patched = Vp8Descriptor::parse(&payload).unwrap();
        assert_eq!((patched.picture_id, patched.tl0), (Some(0x7fff), Some(9)));
    }

    #[test]
    fn a_short_picture_id_stays_short() {
        let mut payload = [0x80, 0x80, 0x7f, 0x11];
        let descriptor = Vp8Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.picture_id, Some(0x7f));
        patch(&mut payload, &descriptor, 0x80, 0);
        assert_eq!(payload, [0x80, 0x80, 0x00, 0x11]);
    }

    #[test]
    fn only_the_start_of_a_keyframe_is_a_start() {
        let starts = |payload: &[u8]| Vp8Descriptor::parse(payload).unwrap().starts_keyframe;
        assert!(starts(&[0x10, 0x00]));
        assert!(!starts(&[0x10, 0x01]), "an interframe");
        assert!(!starts(&[0x00, 0x00]), "not the start of a partition");
        assert!(!starts(&[0x11, 0x00]), "not the first partition");
        assert!(!starts(&[0x10]), "nothing to see");
    }
}
