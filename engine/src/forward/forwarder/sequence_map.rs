//! Which source packet leaves under which sequence number, while packets are dropped and
//! streams change.
//!
//! Invariants: no number is given to two packets. A packet that is dropped takes none; one that
//! is missing keeps a number free for itself, unless it lies within what was dropped.

use std::collections::VecDeque;

use crate::wire::payload::counters::PictureCounters;
use crate::wire::payload::layers::LayerId;

/// Runs remembered: seconds of a stream of which some of each picture is dropped.
const KEPT_RUNS: usize = 64;

/// What the packets of a run have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Offsets {
    /// The stream that they are of.
    pub(super) layer: u8,
    /// The layer within the stream that flows.
    pub(super) current: LayerId,
    /// Distances from the source's timestamps and counters to those sent.
    pub(super) timestamp: u32,
    pub(super) counters: PictureCounters,
}

/// Consecutive packets of which none was dropped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Run {
    /// Extended sequence number of the first in the source.
    source: u64,
    /// Extended sequence number as which that one is sent.
    sent: u64,
    pub(super) offsets: Offsets,
    /// How many there are, once that is known.
    len: u16,
}

impl Run {
    fn source_end(&self) -> u64 {
        self.source + u64::from(self.len)
    }

    fn sent_end(&self) -> u64 {
        self.sent + u64::from(self.len)
    }

    /// As which one of its source packets is sent.
    pub(super) fn sent_as(&self, sequence: u64) -> u64 {
        sequence - self.source + self.sent
    }

    /// Which source packet was sent under a number.
    pub(super) fn source_of(&self, sent: u64) -> u64 {
        sent - self.sent + self.source
    }
}

/// Sequence numbers of one subscription.
#[derive(Debug)]
#[repr(C)]
pub(super) struct SequenceMap {
    /// The first number of the source that has not been decided on.
    undecided: u64,
    next_sent: u64,
    /// The newest run is over: what came last was dropped, or nothing has come.
    over: bool,
    /// The layer that flowed when the last packet was decided on.
    current: LayerId,
    newest: Option<Run>,
    /// The runs before, oldest first. Takes memory only when there are any.
    history: VecDeque<Run>,
}

impl SequenceMap {
    /// `first` is the number of the first packet sent.
    pub(super) fn new(first: u64) -> SequenceMap {
        SequenceMap {
            newest: None,
            over: true,
            undecided: 0,
            current: LayerId::default(),
            next_sent: first,
            history: VecDeque::new(),
        }
    }

    /// Begins with a packet of another stream, or of the same after a pause. What is missing
    /// before it has no place.
    pub(super) fn start(&mut self, sequence: u64, offsets: Offsets) -> u64 {
        self.close(self.undecided);
        self.undecided = sequence;
        self.forward(sequence, offsets)
    }

    /// Takes the next number for a packet of no stream, before the first one of any.
    pub(super) fn fill(&mut self) -> u64 {
        debug_assert!(self.over, "a number within a run belongs to its source");
        self.next_sent += 1;
        self.next_sent - 1
    }

    /// Whether a packet comes after all that have been decided on.
    pub(super) fn is_new(&self, sequence: u64) -> bool {
        sequence >= self.undecided
    }

    /// Whether packets are missing before a new one.
    pub(super) fn has_gap_before(&self, sequence: u64) -> bool {
        sequence > self.undecided
    }

    /// Whether a packet, or a later one of its stream, has been sent before.
    pub(super) fn is_past(&self, layer: u8, sequence: u64) -> bool {
        let mut runs = self.history.iter().chain(&self.newest);
        runs.any(|run| {
            let open = !self.over
                && self
                    .newest
                    .is_some_and(|newest| newest.source == run.source);
            let end = if open {
                self.undecided
            } else {
                run.source_end()
            };
            run.offsets.layer == layer && sequence < end
        })
    }

    /// A new packet goes on. Those missing before it keep their numbers.
    pub(super) fn forward(&mut self, sequence: u64, offsets: Offsets) -> u64 {
        // What is missing belongs to the time before a change of layer.
        if self.over {
            let current = if sequence > self.undecided {
                self.current
            } else {
                offsets.current
            };
            self.open(self.undecided, Offsets { current, ..offsets });
        }
        if self.newest.is_some_and(|run| run.offsets != offsets) {
            self.next_sent += sequence - self.undecided;
            self.close(sequence);
            self.open(sequence, offsets);
            self.undecided = sequence;
        }
        self.current = offsets.current;
        self.next_sent += sequence + 1 - self.undecided;
        self.undecided = sequence + 1;
        self.next_sent - 1
    }

    /// A new packet is dropped. Those missing before it keep their numbers, unless
    /// `missing_are_dropped`: no packet that would go on can be among them.
    pub(super) fn drop(&mut self, sequence: u64, offsets: Offsets, missing_are_dropped: bool) {
        let missing = sequence - self.undecided;
        if missing > 0 && !(self.over && missing_are_dropped) {
            let before = match self.newest {
                Some(run) if !self.over => run.offsets,
                _ => Offsets {
                    current: self.current,
                    ..offsets
                },
            };
            self.forward(sequence - 1, before);
        }
        self.close(sequence);
        self.current = offsets.current;
        self.undecided = sequence + 1;
    }

    /// The run that a packet from before is of; `None` when it was dropped or is too old.
    pub(super) fn find(&self, layer: u8, sequence: u64) -> Option<&Run> {
        let newest = self.newest.as_ref()?;
        let end = if self.over {
            newest.source_end()
        } else {
            self.undecided
        };
        if newest.offsets.layer == layer && (newest.source..end).contains(&sequence) {
            return Some(newest);
        }
        self.history.iter().rev().find(|run| {
            run.offsets.layer == layer && (run.source..run.source_end()).contains(&sequence)
        })
    }

    /// The run of which a packet was sent.
    pub(super) fn find_sent(&self, sent: u64) -> Option<&Run> {
        let newest = self.newest.as_ref()?;
        if sent >= newest.sent {
            return (sent < self.next_sent).then_some(newest);
        }
        let earlier = self.history.iter().rev().find(|run| sent >= run.sent)?;
        (sent < earlier.sent_end()).then_some(earlier)
    }

    /// Number of the next packet sent.
    pub(super) fn next_sent(&self) -> u64 {
        self.next_sent
    }

    fn open(&mut self, source: u64, offsets: Offsets) {
        if let Some(run) = self.newest.filter(|run| run.len > 0) {
            if self.history.len() == KEPT_RUNS {
                self.history.pop_front();
            }
            self.history.push_back(run);
        }
        self.newest = Some(Run {
            source,
            sent: self.next_sent,
            offsets,
            len: 0,
        });
        self.over = false;
    }

    /// Ends the newest run before a number of the source.
    fn close(&mut self, end: u64) {
        if let Some(run) = self.newest.as_mut().filter(|_| !self.over) {
            // Of a long run the end is remembered.
            let len = end - run.source;
            let surplus = len.saturating_sub(u64::from(u16::MAX));
            run.source += surplus;
            run.sent += surplus;
            run.len = (len - surplus) as u16;
        }
        self.over = true;
    }
}
