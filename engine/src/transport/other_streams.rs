//! Streams on which the peer opened channels under labels of its own.

/// Those streams, a bit each by its id: what is read as reliable data beside `_reliable`.
#[derive(Debug, Default)]
pub(super) struct OtherStreams {
    open: u64,
    /// Those that may have something to be read.
    readable: u64,
}

impl OtherStreams {
    /// The peer opened a channel on a stream. Ids from 64 on are not taken: no association has
    /// as many streams.
    pub(super) fn open(&mut self, id: u16) {
        self.open |= bit(id);
    }

    /// Something arrived on a stream. False when it is none of these.
    pub(super) fn note_arrival(&mut self, id: u16) -> bool {
        let is_open = self.open & bit(id) != 0;
        if is_open {
            self.readable |= bit(id);
        }
        is_open
    }

    /// Whether any of them may have something to be read.
    pub(super) fn has_readable(&self) -> bool {
        self.readable != 0
    }

    /// One that may have something to be read.
    pub(super) fn next_readable(&self) -> Option<u16> {
        self.has_readable()
            .then(|| self.readable.trailing_zeros() as u16)
    }

    /// Everything on a stream has been read.
    pub(super) fn note_drained(&mut self, id: u16) {
        self.readable &= !bit(id);
    }
}

fn bit(id: u16) -> u64 {
    1u64.checked_shl(id.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrived_on_an_open_stream_is_readable_until_it_is_drained() {
        let mut streams = OtherStreams::default();
        assert!(!streams.note_arrival(6));
        for id in [6, 63, 64, u16::MAX] {
            streams.open(id);
        }
        assert!(!streams.has_readable());
        assert!(streams.note_arrival(63) && streams.note_arrival(6));
        assert!(!streams.note_arrival(64) && !streams.note_arrival(u16::MAX));
        assert_eq!(streams.next_readable(), Some(6));
        streams.note_drained(6);
        assert_eq!(streams.next_readable(), Some(63));
        streams.note_drained(63);
        assert_eq!(streams.next_readable(), None);
    }
}
