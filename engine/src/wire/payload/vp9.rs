//! The VP9 payload descriptor (RFC 9628, section 4.2).

use super::counters::{PictureCounters, PictureIdField};
use super::layers::{LayerId, LayerSet};

/// A payload descriptor as far as forwarding needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vp9Descriptor {
    pub(crate) id: LayerId,
    /// Layers that need the frame.
    pub(crate) needed_by: LayerSet,
    /// Layers from which one may switch with this frame, and to which.
    pub(crate) switch: (LayerSet, LayerSet),
    pub(crate) starts_frame: bool,
    pub(crate) ends_frame: bool,
    pub(crate) starts_keyframe: bool,
    /// Spatial layers, where a scalability structure says how many there are.
    pub(crate) structure: Option<u8>,
    pub(crate) picture_id: Option<PictureIdField>,
    /// TL0PICIDX and its offset.
    pub(crate) tl0: Option<(u8, usize)>,
}

impl Vp9Descriptor {
    /// `None` when the payload ends within the descriptor.
    pub(crate) fn parse(payload: &[u8]) -> Option<Vp9Descriptor> {
        let first = *payload.first()?;
        let has = |bit: u8| first & bit != 0;
        let (predicted, flexible) = (has(0x40), has(0x10));
        let (starts_frame, ends_frame) = (has(0x08), has(0x04));
        let not_for_upper_layers = has(0x01);
        let mut at = 1;
        let picture_id = if has(0x80) {
            let field = PictureIdField::parse(payload, at)?;
            at += field.len();
            Some(field)
        } else {
            None
        };
        let mut id = LayerId::default();
        let mut switch = (LayerSet::EMPTY, LayerSet::EMPTY);
        let mut needed_by = LayerSet::ALL;
        let mut tl0 = None;
        if has(0x20) {
            let layer = *payload.get(at)?;
            at += 1;
            id = LayerId::new((layer >> 1) & 0x07, layer >> 5);
            needed_by = if not_for_upper_layers {
                LayerSet::row(id)
            } else {
                LayerSet::from(id)
            };
            // The frames of higher temporal layers after a switching up point need nothing
            // above this frame's layer from before it.
            if layer & 0x10 != 0 && starts_frame {
                let from = LayerSet::row(id);
                switch = (from, from.without(LayerSet::only(id)));
            }
            if !flexible {
                tl0 = Some((*payload.get(at)?, at));
                at += 1;
            }
        }
        if flexible && predicted {
            // At most three references; the lowest bit says that another follows.
            for _ in 0..3 {
                let more = payload.get(at)? & 1 != 0;
                at += 1;
                if !more {
                    break;
                }
            }
        }
        let structure = if has(0x02) {
            Some((payload.get(at)? >> 5) + 1)
        } else {
            None
        };
        Some(Vp9Descriptor {
            id,
            needed_by,
            switch,
            starts_frame,
            ends_frame,
            starts_keyframe: starts_frame && !predicted && id.spatial == 0,
            structure,
            picture_id,
            tl0,
        })
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

    #[test]
    fn only_an_unpredicted_base_layer_is_a_start() {
        let starts = |payload: &[u8]| {
            Vp9Descriptor::parse(payload).is_some_and(|descriptor| descriptor.starts_keyframe)
        };
        assert!(starts(&[0x08, 0]));
        assert!(starts(&[0xa8, 0x81, 0x02, 0x00, 0x00]));
        assert!(starts(&[0xa8, 0x01, 0x00, 0x00]));
        assert!(!starts(&[0xa8, 0x01, 0x02, 0x00]), "spatial layer 1");
        assert!(!starts(&[0x48, 0]), "predicted");
        assert!(!starts(&[0x00, 0]), "not the start of a frame");
        assert!(!starts(&[]));
    }

    #[test]
    fn counters_are_read_and_patched_in_both_modes() {
        // Not flexible: I P L B, picture id 0x1234, TID 1 U SID 0, TL0PICIDX 9.
        let mut payload = [0xe8, 0x92, 0x34, 0x30, 9, 1];
        let descriptor = Vp9Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.id, LayerId::new(0, 1));
        let counters = descriptor.counters();
        assert_eq!((counters.picture_id, counters.tl0), (0x1234, 9));
        let next = PictureCounters {
            picture_id: 0x7fff,
            tl0: 10,
            frame_number: 0,
        };
        descriptor.patch(&mut payload, &next);
        assert_eq!(payload, [0xe8, 0xff, 0xff, 0x30, 10, 1]);
        // Flexible: I P L F B V, 7 bits of picture id, two references, structure of 3.
        let payload = [0xfa, 0x05, 0x02, 0x03, 0x04, 0x40, 0];
        let descriptor = Vp9Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.tl0, None);
        assert_eq!(descriptor.structure, Some(3));
        assert_eq!(descriptor.id, LayerId::new(1, 0));
    }

    #[test]
    fn a_frame_without_inter_layer_use_is_needed_by_its_own_layer_alone() {
        // L and Z: TID 0, U, SID 1.
        let descriptor = Vp9Descriptor::parse(&[0x29, 0x12, 0]).unwrap();
        assert_eq!(descriptor.needed_by, LayerSet::row(LayerId::new(1, 0)));
        let (from, to) = descriptor.switch;
        assert!(from.contains(LayerId::new(1, 0)) && !from.contains(LayerId::new(0, 0)));
        assert!(to.contains(LayerId::new(1, 1)) && !to.contains(LayerId::new(1, 0)));
        let inter_layer = Vp9Descriptor::parse(&[0x28, 0x12, 0]).unwrap();
        assert_eq!(inter_layer.needed_by, LayerSet::from(LayerId::new(1, 0)));
    }
}
