//! The streams that a peer publishes, by SSRC.
//!
//! Invariant: an SSRC of which another one has taken the place comes back only by packets that it
//! has not sent before. Those that are late, or that somebody plays again, would end the flow of
//! the new one. Its replay window is kept, as its packets go on under the same key (RFC 3711,
//! section 3.2.3).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::state::table::TrackIx;
use crate::wire::srtp::ReplayWindow;

/// Streams of one publisher: every layer of every track, each with its retransmissions. More
/// than this many are not remembered, so a flood of SSRCs fills nothing.
const MAX_STREAMS: usize = 128;
/// SSRCs remembered that have been replaced.
const MAX_REPLACED: usize = 32;
/// A packet of a replaced SSRC that arrives this soon after its last one is late, and not a sign
/// that the encoder has gone back to it. Our choice: longer than networks reorder packets by.
const LATE: Duration = Duration::from_secs(1);
/// Packets by which one that is late may be ahead of the last one received of its SSRC: those of
/// one second at 5 Mbit/s. A longer jump is no reordering: the encoder was restarted, with other
/// sequence numbers.
const MAX_OVERTAKEN: u64 = 500;

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

/// An SSRC of which another one has taken the place.
struct ReplacedStream {
    ssrc: u32,
    window: ReplayWindow,
    at: Instant,
}

/// All received streams of a peer.
#[derive(Default)]
pub(crate) struct ReceivedStreams {
    /// SSRC of each stream; the state at the same index of `streams`.
    ssrcs: Vec<u32>,
    streams: Vec<ReceivedStream>,
    /// SSRCs that were replaced, the oldest first.
    replaced: VecDeque<ReplacedStream>,
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

    /// What has been received under an SSRC, be it the present one of its owner or not.
    pub(crate) fn window(&self, ssrc: u32) -> Option<&ReplayWindow> {
        match self.find(ssrc) {
            Some(index) => Some(&self.get(index).window),
            None => self.replaced(ssrc).map(|replaced| &replaced.window),
        }
    }

    fn replaced(&self, ssrc: u32) -> Option<&ReplacedStream> {
        self.replaced.iter().find(|replaced| replaced.ssrc == ssrc)
    }

    /// Notes a packet that has authenticated and whose SSRC carries nothing. Whether it was sent
    /// before another SSRC took the place of its own.
    pub(crate) fn note_late(&mut self, now: Instant, ssrc: u32, sequence: u64) -> bool {
        let replaced = self.replaced.iter_mut().find(|known| known.ssrc == ssrc);
        let Some(replaced) = replaced else {
            return false;
        };
        let highest = replaced.window.highest();
        let soon = now.saturating_duration_since(replaced.at) < LATE;
        let late = sequence <= highest || (soon && sequence - highest <= MAX_OVERTAKEN);
        if late {
            replaced.window.commit(sequence);
        }
        late
    }

    /// Remembers that `ssrc` carries `owner`; another SSRC that did so is replaced.
    pub(crate) fn bind(&mut self, now: Instant, ssrc: u32, owner: StreamOwner) {
        if let Some(index) = self.find(ssrc) {
            self.streams[index].owner = owner;
            return;
        }
        let back = self.replaced.iter().position(|known| known.ssrc == ssrc);
        let back = back.and_then(|index| self.replaced.remove(index));
        if let Some(index) = self.streams.iter().position(|stream| stream.owner == owner) {
            if self.replaced.len() == MAX_REPLACED {
                self.replaced.pop_front();
            }
            self.replaced.push_back(ReplacedStream {
                ssrc: self.ssrcs.swap_remove(index),
                window: self.streams.swap_remove(index).window,
                at: now,
            });
        }
        if self.ssrcs.len() < MAX_STREAMS {
            self.ssrcs.push(ssrc);
            self.streams.push(ReceivedStream {
                owner,
                window: back.map(|replaced| replaced.window).unwrap_or_default(),
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
    use crate::test_clock;

    fn owner(layer: u8, repair: bool) -> StreamOwner {
        StreamOwner {
            track: TrackIx(1),
            layer,
            repair,
        }
    }

    #[test]
    fn the_last_of_two_streams_of_one_layer_counts() {
        let now = test_clock::start();
        let mut streams = ReceivedStreams::default();
        streams.bind(now, 7, owner(0, false));
        streams.bind(now, 8, owner(0, true));
        streams.bind(now, 9, owner(0, false));
        assert!(streams.find(7).is_none() && streams.replaced(7).is_some());
        assert!(streams.find(8).is_some() && streams.replaced(8).is_none());
        let index = streams.find(9).unwrap();
        assert_eq!(streams.get(index).owner, owner(0, false));
    }

    #[test]
    fn a_replaced_one_comes_back_with_what_is_known_of_it() {
        let now = test_clock::start();
        let mut streams = ReceivedStreams::default();
        streams.bind(now, 7, owner(0, false));
        let index = streams.find(7).unwrap();
        streams.get_mut(index).window.commit(70_000);
        streams.bind(now, 9, owner(0, false));
        assert!(streams.note_late(now, 7, 70_001), "it was overtaken");
        assert!(!streams.note_late(now, 7, 70_502), "its encoder restarted");
        let later = now + LATE;
        assert!(streams.note_late(later, 7, 70_001), "it is played again");
        assert!(streams.note_late(later, 7, 69_999));
        assert!(!streams.note_late(later, 7, 70_002));
        assert!(!streams.note_late(later, 8, 1), "nothing is known of it");
        streams.bind(later, 7, owner(0, false));
        assert!(streams.find(7).is_some() && streams.replaced(7).is_none());
        assert!(streams.replaced(9).is_some());
        assert!(!streams.window(7).unwrap().is_new(70_001));
    }

    #[test]
    fn a_flood_of_streams_fills_nothing() {
        let now = test_clock::start();
        let mut streams = ReceivedStreams::default();
        for ssrc in 0..10_000 {
            streams.bind(now, ssrc, owner(0, false));
        }
        assert_eq!(streams.ssrcs.len(), 1);
        assert_eq!(streams.replaced.len(), MAX_REPLACED);
        streams.unbind_track(TrackIx(1));
        assert!(streams.find(9_999).is_none());
    }
}
