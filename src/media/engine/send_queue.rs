//! The packets that wait to be written for one peer.
//!
//! A packet waits as a note of where it stands in its track's cache and how its header will
//! read, not as a copy. What has gathered when the engine sends is put into the order in which
//! the most packets of equal size follow each other: the kernel takes such a run in one piece
//! (UDP_SEGMENT), for little more than the price of one packet.
//!
//! Invariant: packets of one SSRC leave in the order in which they were queued; a receiver would
//! take any other for loss and ask for a retransmission.

use super::payload::counters::PictureCounters;

/// More than this many do not wait; it is far above what the fastest link takes in one interval.
const MAX_QUEUED: usize = 4_096;
/// Memory that an empty queue may keep, in packets.
const KEPT_CAPACITY: usize = 256;

/// As what a packet leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For the first time.
    Media,
    /// Once more, to the last byte as before: the index is the same, so the plaintext has to be.
    Repeat,
    /// Once more, on the retransmission stream (RFC 4588).
    Repair {
        /// Payload type of the retransmission stream.
        payload_type: u8,
        /// Sequence number under which the packet was sent first.
        original: u16,
    },
    /// Nothing but RTP padding (RFC 3550, section 5.1), on the retransmission stream.
    Padding {
        /// Payload type of the retransmission stream.
        payload_type: u8,
    },
}

/// One packet to be written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct QueuedPacket {
    /// Index of the subscription.
    pub(crate) subscription: u32,
    /// Index of the track.
    pub(crate) track: u32,
    pub(crate) layer: u8,
    /// Extended sequence number within the layer, by which the cache has it.
    pub(crate) source: u64,
    /// Extended sequence number under which it leaves.
    pub(crate) sequence: u64,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    /// Picture counters, where they are not the source's.
    pub(crate) counters: Option<PictureCounters>,
    /// It ends a picture for this subscriber, and has the marker.
    pub(crate) ends_picture: bool,
    pub(crate) form: Form,
    /// Its arrival is reported, by its transport-wide sequence number.
    pub(crate) reported: bool,
    /// It leaves without its redundancy (see `red.rs`).
    pub(crate) red_undone: bool,
    /// Length in the clear, as it leaves; 0 for one that is not to be sent any more.
    pub(crate) len: u16,
}

/// The place of the last packet of an SSRC in a queue.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LastQueued {
    generation: u32,
    index: u16,
}

#[derive(Debug)]
struct Waiting {
    packet: QueuedPacket,
    /// The packet of the same SSRC before this one.
    previous: Option<u16>,
}

/// One peer's packets.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    waiting: Vec<Waiting>,
    /// Tells this filling of the queue from the ones before; from 1.
    generation: u32,
    /// Indexes into `waiting` in the order of leaving, once that is decided.
    order: Vec<u32>,
    written: usize,
}

impl SendQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.waiting.capacity() * size_of::<Waiting>() + self.order.capacity() * size_of::<u32>()
    }

    /// Whether [`SendQueue::take`] has handed out anything.
    pub(crate) fn is_begun(&self) -> bool {
        !self.order.is_empty()
    }

    /// Adds a packet; `last` is kept by its stream from one packet to the next. False when the
    /// queue is full.
    pub(crate) fn push(&mut self, packet: QueuedPacket, last: &mut LastQueued) -> bool {
        if self.waiting.len() >= MAX_QUEUED {
            return false;
        }
        // The generation 0 is that of streams that have queued nothing.
        self.generation = self.generation.max(1);
        let previous = (last.generation == self.generation).then_some(last.index);
        *last = LastQueued {
            generation: self.generation,
            index: self.waiting.len() as u16,
        };
        self.waiting.push(Waiting { packet, previous });
        true
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> u64 {
        let len = |waiting: &Waiting| u64::from(waiting.packet.len);
        self.waiting.iter().map(len).sum()
    }

    /// Lets go of what is queued of a track.
    pub(crate) fn cancel(&mut self, track: u32) {
        for waiting in &mut self.waiting {
            if waiting.packet.track == track {
                waiting.packet.len = 0;
            }
        }
    }

    /// The next packets to write, at most `limit`, in the order of leaving; empty when all
    /// have been handed out. The order is decided by the first call after a
    /// [`SendQueue::clear`], and nothing may be pushed from then on.
    pub(crate) fn take(&mut self, limit: usize) -> impl Iterator<Item = &QueuedPacket> {
        if self.order.is_empty() {
            self.decide_order();
        }
        let start = self.written;
        self.written = (start + limit).min(self.order.len());
        self.order[start..self.written]
            .iter()
            .map(|&index| &self.waiting[index as usize].packet)
    }

    /// Whether [`SendQueue::take`] has handed out everything.
    pub(crate) fn is_written(&self) -> bool {
        self.written == self.waiting.len()
    }

    /// Forgets everything; gives memory back when a burst has grown it far.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.order.clear();
        self.written = 0;
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.waiting.capacity() > 2 * KEPT_CAPACITY {
            self.waiting.shrink_to(KEPT_CAPACITY);
            self.order.shrink_to(KEPT_CAPACITY);
        }
    }

    /// Largest first. A packet counts as large as the largest of its SSRC that comes after it,
    /// so that none overtakes another of the same SSRC.
    fn decide_order(&mut self) {
        // Size in the upper half, inverted for largest first; index in the lower one, which
        // keeps equals in their order.
        self.order.extend(
            (0u32..)
                .zip(&self.waiting)
                .map(|(index, waiting)| u32::from(u16::MAX - waiting.packet.len) << 16 | index),
        );
        for index in (0..self.waiting.len()).rev() {
            if let Some(previous) = self.waiting[index].previous {
                let size = self.order[index] >> 16;
                let before = &mut self.order[usize::from(previous)];
                *before = (*before >> 16).min(size) << 16 | u32::from(previous);
            }
        }
        self.order.sort_unstable();
        for entry in &mut self.order {
            *entry &= 0xffff;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn packet(ssrc: u32, sequence: u64, len: u16) -> QueuedPacket {
        QueuedPacket {
            subscription: ssrc,
            track: ssrc,
            layer: 0,
            source: sequence,
            sequence,
            timestamp: 0,
            ssrc,
            counters: None,
            ends_picture: false,
            form: Form::Media,
            reported: true,
            red_undone: false,
            len,
        }
    }

    fn order(queue: &mut SendQueue) -> Vec<(u32, u64)> {
        let mut out = Vec::new();
        while !queue.is_written() {
            out.extend(queue.take(3).map(|packet| (packet.ssrc, packet.sequence)));
        }
        queue.clear();
        out
    }

    #[test]
    fn equal_sizes_leave_together_and_the_largest_first() {
        let mut queue = SendQueue::default();
        for (ssrc, len) in [(1, 100), (2, 132), (3, 100), (4, 132)] {
            assert!(queue.push(packet(ssrc, 9, len), &mut LastQueued::default()));
        }
        assert_eq!(order(&mut queue), [(2, 9), (4, 9), (1, 9), (3, 9)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn no_packet_overtakes_another_of_its_stream() {
        let mut queue = SendQueue::default();
        let (mut one, mut two) = (LastQueued::default(), LastQueued::default());
        for round in 0..3 {
            for (sequence, len) in [(1, 300), (2, 1_200), (3, 1_200), (4, 500)] {
                queue.push(packet(1, sequence, len), &mut one);
            }
            queue.push(packet(2, 1, 700), &mut two);
            assert_eq!(
                order(&mut queue),
                [(1, 1), (1, 2), (1, 3), (2, 1), (1, 4)],
                "round {round}"
            );
        }
    }

    #[test]
    fn a_full_queue_takes_nothing_more() {
        let mut queue = SendQueue::default();
        let mut last = LastQueued::default();
        for sequence in 0..MAX_QUEUED as u64 {
            assert!(queue.push(packet(1, sequence, 100), &mut last));
        }
        assert!(!queue.push(packet(1, 5, 100), &mut last));
        assert_eq!(order(&mut queue).len(), MAX_QUEUED);
        assert!(queue.memory() <= 2 * KEPT_CAPACITY * size_of::<Waiting>());
    }
}
