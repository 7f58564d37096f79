//! The packets that wait to be written for one peer.
//!
//! A packet waits as a note of where it stands in its track's cache and how its header will
//! read, not as a copy; packets that follow each other and are alike share a note. What has
//! gathered when the engine sends is put into the order in which the most packets of equal size
//! follow each other: the kernel takes such a run in one piece (UDP_SEGMENT), for little more than
//! the price of one packet.
//!
//! Invariant: packets of one SSRC leave in the order in which they were queued; a receiver would
//! take any other for loss and ask for a retransmission.

use crate::api::codec::Codec;
use crate::send::send_order::{Group, SendOrder, Stretch};
use crate::state::table::{SubscriptionIx, TrackIx};
use crate::wire::payload::counters::PictureCounters;

/// More than this many do not wait; it is far above what the fastest link takes in one interval.
const MAX_QUEUED: usize = 4_096;
/// Memory that an empty queue may keep, in packets.
const KEPT_CAPACITY: usize = 256;

/// The form in which a packet is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For the first time.
    Media,
    /// A retransmission on the media's own SSRC: the SRTP index is the same, so the plaintext has to be
    /// the same too.
    Repeat,
    /// A retransmission on the retransmission stream (RFC 4588).
    Repair {
        /// Sequence number under which the packet was sent first.
        original: u16,
    },
    /// Nothing but RTP padding (RFC 3550, section 5.1): on the retransmission stream, or on the
    /// media's own as long as that has carried no media.
    Padding,
    /// A frame in which nothing is heard.
    Silence(Codec),
}

/// One packet to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueuedPacket {
    /// Index of the subscription.
    pub(crate) subscription: SubscriptionIx,
    /// Index of the track.
    pub(crate) track: TrackIx,
    pub(crate) layer: u8,
    /// Extended sequence number within the layer, by which the cache has it.
    pub(crate) source: u64,
    /// Extended sequence number under which it leaves.
    pub(crate) sequence: u64,
    pub(crate) timestamp: u32,
    pub(crate) ssrc: u32,
    /// Under which it leaves.
    pub(crate) payload_type: u8,
    /// Picture counters, where they are not the source's.
    pub(crate) counters: Option<PictureCounters>,
    /// It ends a picture for this subscriber, and has the marker.
    pub(crate) ends_picture: bool,
    pub(crate) form: Form,
    /// Its arrival is reported, by its transport-wide sequence number.
    pub(crate) reported: bool,
    /// It is sent as plain Opus, stripped of the redundancy of RED (see `wire/red_payload.rs`).
    pub(crate) red_stripped: bool,
    /// Length in the clear, as it leaves; 0 for one that is not to be sent any more.
    pub(crate) len: u16,
}

/// The place of the last packet of an SSRC in a queue.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct LastQueued {
    generation: u32,
    index: u16,
}

/// Packets of one SSRC that follow each other and are alike: those of a frame, mostly.
#[derive(Debug)]
struct Waiting {
    first: QueuedPacket,
    /// How many come after the first one.
    more: u16,
    /// Those of the same SSRC before these.
    previous: Option<u16>,
}

impl Waiting {
    fn group(&self) -> Group {
        Group {
            len: self.first.len,
            packets: self.more + 1,
            previous: self.previous,
        }
    }

    /// All of them; their index is this.
    fn whole(&self, index: u16) -> Stretch {
        Stretch {
            group: index,
            first: 0,
            packets: self.more + 1,
        }
    }

    fn packet(&self, place: u16) -> QueuedPacket {
        QueuedPacket {
            source: self.first.source + u64::from(place),
            sequence: self.first.sequence + u64::from(place),
            ends_picture: self.first.ends_picture && place == self.more,
            ..self.first
        }
    }

    /// Takes in a packet when it is as the next one would be.
    fn extend(&mut self, packet: &QueuedPacket) -> bool {
        let next = self.more + 1;
        let alike = !self.first.ends_picture
            && packet.form == Form::Media
            && self.packet(next)
                == QueuedPacket {
                    ends_picture: false,
                    ..*packet
                };
        if alike {
            self.more = next;
            self.first.ends_picture = packet.ends_picture;
        }
        alike
    }
}

/// One peer's packets.
#[derive(Debug, Default)]
pub(crate) struct SendQueue {
    waiting: Vec<Waiting>,
    order: SendOrder,
    /// Tells this filling of the queue from the ones before; from 1.
    generation: u32,
    /// Packets that wait, and those of them that have been handed out.
    packets: u16,
    written: u16,
    /// Where the next one to be handed out is: the stretch, and the place in it.
    place: (u16, u16),
}

impl SendQueue {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.waiting.capacity() * size_of::<Waiting>() + self.order.memory()
    }

    /// Whether [`SendQueue::take`] has handed out anything.
    pub(crate) fn is_begun(&self) -> bool {
        self.written > 0
    }

    /// Adds a packet; `last` is kept by its stream from one packet to the next. False when the
    /// queue is full.
    pub(crate) fn push(&mut self, packet: QueuedPacket, last: &mut LastQueued) -> bool {
        if usize::from(self.packets) >= MAX_QUEUED {
            return false;
        }
        self.packets += 1;
        if self
            .waiting
            .last_mut()
            .is_some_and(|waiting| waiting.extend(&packet))
        {
            return true;
        }
        // The generation 0 is that of streams that have queued nothing.
        self.generation = self.generation.max(1);
        let previous = (last.generation == self.generation).then_some(last.index);
        *last = LastQueued {
            generation: self.generation,
            index: self.waiting.len() as u16,
        };
        self.waiting.push(Waiting {
            first: packet,
            more: 0,
            previous,
        });
        true
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> u64 {
        let len = |waiting: &Waiting| u64::from(waiting.first.len) * (u64::from(waiting.more) + 1);
        self.waiting.iter().map(len).sum()
    }

    /// Lets go of what is queued of a track.
    pub(crate) fn cancel(&mut self, track: TrackIx) {
        for waiting in &mut self.waiting {
            if waiting.first.track == track {
                waiting.first.len = 0;
            }
        }
    }

    /// The next packets to write, at most `limit`, in the order of leaving; none when all have
    /// been handed out. The order is decided by the first call after a [`SendQueue::clear`], and
    /// nothing may be pushed from then on.
    pub(crate) fn take(&mut self, limit: usize) -> impl Iterator<Item = QueuedPacket> {
        if !self.is_begun() {
            self.order.decide(self.waiting.iter().map(Waiting::group));
        }
        std::iter::from_fn(|| self.next()).take(limit)
    }

    fn next(&mut self) -> Option<QueuedPacket> {
        let (index, place) = self.place;
        let stretch = if self.order.is_as_they_came() {
            self.waiting.get(usize::from(index))?.whole(index)
        } else {
            self.order.get(usize::from(index))?
        };
        self.place = if place + 1 < stretch.packets {
            (index, place + 1)
        } else {
            (index + 1, 0)
        };
        self.written += 1;
        let waiting = &self.waiting[usize::from(stretch.group)];
        Some(waiting.packet(stretch.first + place))
    }

    /// Whether [`SendQueue::take`] has handed out everything.
    pub(crate) fn is_written(&self) -> bool {
        self.written == self.packets
    }

    /// Forgets everything; gives memory back when a burst has grown it far.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
        self.order.clear();
        (self.packets, self.written, self.place) = (0, 0, (0, 0));
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.waiting.capacity() > 2 * KEPT_CAPACITY {
            self.waiting.shrink_to(KEPT_CAPACITY);
            self.order.shrink_to(KEPT_CAPACITY);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn packet(ssrc: u32, sequence: u64, len: u16) -> QueuedPacket {
        QueuedPacket {
            subscription: SubscriptionIx(ssrc),
            track: TrackIx(ssrc),
            layer: 0,
            source: sequence,
            sequence,
            timestamp: 0,
            ssrc,
            payload_type: 96,
            counters: None,
            ends_picture: false,
            form: Form::Media,
            reported: true,
            red_stripped: false,
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
    fn packets_that_are_alike_share_a_note_and_leave_as_they_came() {
        let mut queue = SendQueue::default();
        let mut last = LastQueued::default();
        let end = |sequence, len| QueuedPacket {
            ends_picture: true,
            ..packet(1, sequence, len)
        };
        let came = [
            packet(1, 1, 900),
            packet(1, 2, 900),
            end(3, 900),
            packet(1, 4, 900),
            // One is missing in the source.
            packet(1, 6, 900),
            QueuedPacket {
                source: 8,
                ..packet(1, 7, 900)
            },
            QueuedPacket {
                timestamp: 3_000,
                ..packet(1, 8, 900)
            },
            end(9, 300),
        ];
        for packet in came {
            assert!(queue.push(packet, &mut last));
        }
        assert_eq!(queue.waiting.len(), 6);
        assert_eq!(queue.bytes(), 7 * 900 + 300);
        let taken: Vec<_> = queue.take(100).collect();
        assert_eq!(taken, came);
        assert!(queue.is_written());
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
