//! The streams that a peer publishes, by SSRC.
//!
//! Invariant: an SSRC of which another one has taken the place does not come back by itself. Its
//! packets that are late, or that somebody plays again, would end the flow of the new one.

use std::collections::VecDeque;

use crate::state::table::TrackIx;
use crate::wire::srtp::ReplayWindow;

/// Streams of one publisher: every layer of every track, each with its retransmissions. More
/// than this many are not remembered, so a flood of SSRCs fills nothing.
const MAX_STREAMS: usize = 128;
/// SSRCs remembered that have been replaced.
const MAX_REPLACED: usize = 32;

/// Which layer of which track an SSRC carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StreamOwner {
    /// Index of the track.
    pub(crate) track: TrackIx,
    /// Layer, 0 lowest.
    pub(crate) layer: u8,
    /// Retransmissions of that layer (RFC 4588).
    pub(crate) repair: bool,
}

/// The state of one received SSRC.
pub(crate) struct ReceivedStream {
    pub(crate) owner: StreamOwner,
    pub(crate) window: ReplayWindow,
}

/// All received streams of a peer.
#[derive(Default)]
pub(crate) struct ReceivedStreams {
    /// SSRC of each stream; the state at the same index of `streams`.
    ssrcs: Vec<u32>,
    streams: Vec<ReceivedStream>,
    /// SSRCs that were replaced, the oldest first.
    replaced: VecDeque<u32>,
}

impl ReceivedStreams {
    /// Index of the stream of an SSRC.
    pub(crate) fn find(&self, ssrc: u32) -> Option<usize> {
        self.ssrcs.iter().position(|&known| known == ssrc)
    }

    pub(crate) fn get(&self, index: usize) -> &ReceivedStream {
        &self.streams[index]
    }

    pub(crate) fn get_mut(&mut self, index: usize) -> &mut ReceivedStream {
        &mut self.streams[index]
    }

    /// Whether another SSRC has taken the place of this one.
    pub(crate) fn is_replaced(&self, ssrc: u32) -> bool {
        self.replaced.contains(&ssrc)
    }

    /// Remembers that `ssrc` carries `owner`; another SSRC that did so is replaced.
    pub(crate) fn bind(&mut self, ssrc: u32, owner: StreamOwner) {
        self.replaced.retain(|&replaced| replaced != ssrc);
        if let Some(index) = self.find(ssrc) {
            self.streams[index].owner = owner;
            return;
        }
        if let Some(index) = self.streams.iter().position(|stream| stream.owner == owner) {
            if self.replaced.len() == MAX_REPLACED {
                self.replaced.pop_front();
            }
            self.replaced.push_back(self.ssrcs.swap_remove(index));
            self.streams.swap_remove(index);
        }
        if self.ssrcs.len() < MAX_STREAMS {
            self.ssrcs.push(ssrc);
            self.streams.push(ReceivedStream {
                owner,
                window: ReplayWindow::default(),
            });
        }
    }

    /// Forgets all streams of a track.
    pub(crate) fn unbind_track(&mut self, track: TrackIx) {
        let mut index = 0;
        while index < self.streams.len() {
            if self.streams[index].owner.track == track {
                self.ssrcs.swap_remove(index);
                self.streams.swap_remove(index);
            } else {
                index += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(layer: u8, repair: bool) -> StreamOwner {
        StreamOwner {
            track: TrackIx(1),
            layer,
            repair,
        }
    }

    #[test]
    fn the_last_of_two_streams_of_one_layer_counts() {
        let mut streams = ReceivedStreams::default();
        streams.bind(7, owner(0, false));
        streams.bind(8, owner(0, true));
        streams.bind(9, owner(0, false));
        assert!(streams.find(7).is_none() && streams.is_replaced(7));
        assert!(streams.find(8).is_some() && !streams.is_replaced(8));
        let index = streams.find(9).unwrap();
        assert_eq!(streams.get(index).owner, owner(0, false));
    }

    #[test]
    fn a_replaced_one_comes_back_when_it_is_said_to() {
        let mut streams = ReceivedStreams::default();
        streams.bind(7, owner(0, false));
        streams.bind(9, owner(0, false));
        streams.bind(7, owner(0, false));
        assert!(streams.find(7).is_some() && !streams.is_replaced(7));
        assert!(streams.is_replaced(9));
    }

    #[test]
    fn a_flood_of_streams_fills_nothing() {
        let mut streams = ReceivedStreams::default();
        for ssrc in 0..10_000 {
            streams.bind(ssrc, owner(0, false));
        }
        assert_eq!(streams.ssrcs.len(), 1);
        assert_eq!(streams.replaced.len(), MAX_REPLACED);
        streams.unbind_track(TrackIx(1));
        assert!(streams.find(9_999).is_none());
    }
}
