//! The VP8 payload descriptor (RFC 7741, section 4.2).

use super::counters::{PictureCounters, PictureIdField};

/// A payload descriptor as far as forwarding needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vp8Descriptor {
    pub(crate) picture_id: Option<PictureIdField>,
    /// TL0PICIDX and its offset.
    pub(crate) tl0: Option<(u8, usize)>,
    /// TID: the temporal layer.
    pub(crate) temporal: u8,
    /// Y: the frame needs frames of the lowest temporal layer only.
    pub(crate) layer_sync: bool,
    pub(crate) starts_frame: bool,
    pub(crate) starts_keyframe: bool,
}

impl Vp8Descriptor {
    /// `None` when the payload ends within the descriptor.
    pub(crate) fn parse(payload: &[u8]) -> Option<Vp8Descriptor> {
        let first = *payload.first()?;
        let mut descriptor = Vp8Descriptor {
            picture_id: None,
            tl0: None,
            temporal: 0,
            layer_sync: false,
            starts_frame: first & 0x10 != 0 && first & 0x0f == 0,
            starts_keyframe: false,
        };
        let mut at = 1;
        if first & 0x80 != 0 {
            let flags = *payload.get(at)?;
            at += 1;
            if flags & 0x80 != 0 {
                let field = PictureIdField::parse(payload, at)?;
                at += field.len();
                descriptor.picture_id = Some(field);
            }
            if flags & 0x40 != 0 {
                descriptor.tl0 = Some((*payload.get(at)?, at));
                at += 1;
            }
            if flags & 0x30 != 0 {
                let layer = *payload.get(at)?;
                at += 1;
                if flags & 0x20 != 0 {
                    descriptor.temporal = layer >> 6;
                    descriptor.layer_sync = layer & 0x20 != 0;
                }
            }
        }
        // The start of partition 0 holds the frame header, of which a zero lowest bit means a
        // keyframe (RFC 6386, section 9.1).
        descriptor.starts_keyframe =
            descriptor.starts_frame && payload.get(at).is_some_and(|header| header & 1 == 0);
        Some(descriptor)
    }

    /// The counters that the descriptor has.
    pub(crate) fn counters(&self) -> PictureCounters {
        PictureCounters::of_fields(self.picture_id, self.tl0)
    }

    /// Sets the counters that the descriptor has.
    pub(crate) fn patch(&self, payload: &mut [u8], counters: &PictureCounters) {
        counters.patch_fields(payload, self.picture_id, self.tl0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(picture_id: u16, tl0: u8) -> PictureCounters {
        PictureCounters {
            picture_id,
            tl0,
            frame_number: 0,
        }
    }

    #[test]
    fn a_full_descriptor_is_read_and_patched() {
        let mut payload = [0x90, 0xf0, 0x92, 0x34, 0x56, 0x20, 0x10, 1, 2];
        let descriptor = Vp8Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.counters(), counters(0x1234, 0x56));
        assert!(descriptor.starts_keyframe);
        descriptor.patch(&mut payload, &counters(0x7fff, 9));
        let patched = Vp8Descriptor::parse(&payload).unwrap();
        assert_eq!(patched.counters(), counters(0x7fff, 9));
    }

    #[test]
    fn a_short_picture_id_stays_short() {
        let mut payload = [0x80, 0x80, 0x7f, 0x11];
        let descriptor = Vp8Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.counters().picture_id, 0x7f);
        descriptor.patch(&mut payload, &counters(0x80, 0));
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

    #[test]
    fn the_temporal_layer_counts_only_where_it_is_said_to_be_there() {
        let read = |flags| Vp8Descriptor::parse(&[0x90, flags, 0xa0, 0x01]).unwrap();
        assert_eq!((read(0x20).temporal, read(0x20).layer_sync), (2, true));
        assert_eq!((read(0x10).temporal, read(0x10).layer_sync), (0, false));
    }
}
