//! The counters by which receivers tell pictures: PictureID and TL0PICIDX (RFC 7741, section
//! 4.2; RFC 9628, section 4.2) and the dependency descriptor's frame number.

/// Values of the counters, or distances between them. What a packet does not have is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PictureCounters {
    /// PictureID, 15 bits; where a stream has 7, the lower ones count.
    pub(crate) picture_id: u16,
    /// The dependency descriptor's frame_number.
    pub(crate) frame_number: u16,
    /// TL0PICIDX.
    pub(crate) tl0: u8,
}

const PICTURE_ID_MASK: u16 = 0x7fff;

impl PictureCounters {
    /// Those that a payload descriptor has: TL0PICIDX with its place.
    pub(super) fn of_fields(
        picture_id: Option<PictureIdField>,
        tl0: Option<(u8, usize)>,
    ) -> PictureCounters {
        PictureCounters {
            picture_id: picture_id.map_or(0, |field| field.value),
            tl0: tl0.map_or(0, |(value, _)| value),
            ..PictureCounters::default()
        }
    }

    /// Sets those that a payload descriptor has.
    pub(super) fn patch_fields(
        &self,
        payload: &mut [u8],
        picture_id: Option<PictureIdField>,
        tl0: Option<(u8, usize)>,
    ) {
        if let Some(field) = picture_id {
            field.patch(payload, self.picture_id);
        }
        if let Some((_, at)) = tl0 {
            payload[at] = self.tl0;
        }
    }

    /// Each one moved by a distance.
    pub(crate) fn plus(self, distance: PictureCounters) -> PictureCounters {
        PictureCounters {
            picture_id: self.picture_id.wrapping_add(distance.picture_id) & PICTURE_ID_MASK,
            frame_number: self.frame_number.wrapping_add(distance.frame_number),
            tl0: self.tl0.wrapping_add(distance.tl0),
        }
    }

    /// The distances from `origin`.
    pub(crate) fn since(self, origin: PictureCounters) -> PictureCounters {
        PictureCounters {
            picture_id: self.picture_id.wrapping_sub(origin.picture_id) & PICTURE_ID_MASK,
            frame_number: self.frame_number.wrapping_sub(origin.frame_number),
            tl0: self.tl0.wrapping_sub(origin.tl0),
        }
    }

    /// Each one plus one.
    pub(crate) fn next(self) -> PictureCounters {
        self.plus(PictureCounters {
            picture_id: 1,
            frame_number: 1,
            tl0: 1,
        })
    }
}

/// A PictureID as it stands in a payload descriptor: 7 bits, or 15 where the first bit says so.
/// VP8 and VP9 write it the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PictureIdField {
    pub(crate) value: u16,
    at: usize,
    long: bool,
}

impl PictureIdField {
    /// The field at an offset of the payload; `None` when it ends within it.
    pub(crate) fn parse(payload: &[u8], at: usize) -> Option<PictureIdField> {
        let high = *payload.get(at)?;
        let long = high & 0x80 != 0;
        let mut value = u16::from(high & 0x7f);
        if long {
            value = value << 8 | u16::from(*payload.get(at + 1)?);
        }
        Some(PictureIdField { value, at, long })
    }

    /// Bytes that it takes.
    pub(crate) fn len(self) -> usize {
        1 + usize::from(self.long)
    }

    /// Sets it, in as many bits as it has.
    pub(crate) fn patch(self, payload: &mut [u8], picture_id: u16) {
        let at = self.at;
        if self.long {
            let value = picture_id | 0x8000;
            payload[at..at + 2].copy_from_slice(&value.to_be_bytes());
        } else {
            payload[at] = (picture_id & 0x7f) as u8;
        }
    }
}
