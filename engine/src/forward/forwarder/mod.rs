//! How the packets of a track's streams become one continuous stream for one subscriber.
//!
//! A track has one stream, with layers in it where the codec is scalable, or several of
//! different size (simulcast). Within a stream [`selector`] decides which packets go on, and
//! [`sequence_map`] gives them numbers without a gap for those that do not. Another stream
//! starts with a keyframe, and continues the numbers, the time and the picture counters of the
//! one before.
//!
//! Invariant: the sequence numbers sent never repeat for another packet. A packet lost on the
//! way to us is a gap for the subscriber too, and is filled when it arrives late.

#[cfg(test)]
mod decodability_tests;
mod selector;
mod sequence_map;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use selector::LayerSelector;
use sequence_map::{Offsets, SequenceMap};

use crate::wire::payload::counters::PictureCounters;
use crate::wire::payload::layers::{LayerId, LayerSet};
use crate::wire::payload::reader::{Numbering, PacketLayers};

/// Where a source packet stands, as far as forwarding needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourcePacket {
    /// The stream, 0 lowest.
    pub(crate) layer: u8,
    /// Extended sequence number within the stream; never the same for another packet.
    pub(crate) sequence: u64,
    /// RTP timestamp within the stream.
    pub(crate) timestamp: u32,
    /// Its frame's layers and counters.
    pub(crate) layers: PacketLayers,
}

/// A packet from the cache that was sent before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RepeatedPacket {
    /// Its timestamp and counters as they came.
    pub(crate) timestamp: u32,
    pub(crate) counters: PictureCounters,
    /// Which layers need it.
    pub(crate) needed_by: LayerSet,
    /// It is the last of its frame.
    pub(crate) ends_frame: bool,
}

/// What a packet carries when it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rewrite {
    /// Extended sequence number.
    pub(crate) sequence: u64,
    /// RTP timestamp.
    pub(crate) timestamp: u32,
    /// Picture counters, where they differ from the source's.
    pub(crate) counters: Option<PictureCounters>,
    /// It is the last packet of the picture in the layer that flows, and has to have the marker
    /// (RFC 9628, section 4.1; AV1 RTP specification, section 4.2).
    pub(crate) ends_picture: bool,
}

/// Where a packet that was sent came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SentPacket {
    /// Extended sequence number under which it was sent.
    pub(crate) sent: u64,
    /// The stream and the extended sequence number within it.
    pub(crate) layer: u8,
    pub(crate) source: u64,
}

/// The packet that was dropped last.
#[derive(Debug, Clone, Copy)]
struct Dropped {
    counters: PictureCounters,
}

/// One subscriber's view of one track. What every packet touches comes first.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Forwarder {
    /// How packets of the flowing stream are sent; `None` before the first.
    offsets: Option<Offsets>,
    selector: LayerSelector,
    /// The next packet sent is a start.
    paused: bool,
    /// The stream that should flow, when one should.
    target: Option<u8>,
    /// What the next picture's counters would be.
    next_counters: PictureCounters,
    /// Timestamp in the source of the newest packet.
    newest_timestamp: u32,
    /// Timestamp of the last packet sent.
    last_timestamp: u32,
    last_sent_at: Option<Instant>,
    dropped: Option<Dropped>,
    map: SequenceMap,
    /// The layer of that stream.
    within: LayerId,
    clock_rate: u32,
    /// Sequence number in the source of the last start or keyframe. What comes before it is
    /// needed by nothing after it.
    keyframe: u64,
}

impl Forwarder {
    /// `first_sequence` is the sequence number of the first packet sent, below 2^16.
    pub(crate) fn new(clock_rate: u32, first_sequence: u16) -> Forwarder {
        Forwarder {
            clock_rate,
            target: None,
            within: LayerId::MAX,
            selector: LayerSelector::new(),
            map: SequenceMap::new(u64::from(first_sequence)),
            offsets: None,
            paused: true,
            keyframe: 0,
            dropped: None,
            next_counters: PictureCounters::default(),
            newest_timestamp: 0,
            last_timestamp: 0,
            last_sent_at: None,
        }
    }

    /// The stream that flows, if one does.
    pub(crate) fn layer(&self) -> Option<u8> {
        self.flowing().map(|offsets| offsets.layer)
    }

    /// The layer of the flowing stream that flows.
    pub(crate) fn current(&self) -> Option<LayerId> {
        self.flowing().map(|_| self.selector.current())
    }

    /// Sets which stream should flow, and which layer within it. What flows goes on until the
    /// target can be reached without a flaw, with the fewest frames where a smaller stream is
    /// to follow: what is sent shrinks at once, not only with the keyframe.
    pub(crate) fn set_target(&mut self, stream: Option<u8>, within: LayerId) {
        self.target = stream;
        self.within = within;
        let shrinks = stream.is_some_and(|stream| self.layer().is_some_and(|from| from > stream));
        self.selector.set_target(LayerId {
            temporal: if shrinks { 0 } else { within.temporal },
            ..within
        });
    }

    /// The stream of which a keyframe is needed to reach the target; `None` when it is reached,
    /// or will be without one.
    pub(crate) fn needs_keyframe(&self) -> Option<u8> {
        let target = self.target?;
        let flows = self.layer() == Some(target);
        (!flows || self.selector.needs_keyframe()).then_some(target)
    }

    /// The timestamp of a packet that continues the stream that flowed before the pause.
    pub(crate) fn resumed_timestamp(&self, packet: &SourcePacket) -> Option<u32> {
        let offsets = self
            .offsets
            .filter(|offsets| offsets.layer == packet.layer)?;
        Some(packet.timestamp.wrapping_add(offsets.timestamp))
    }

    /// The newest sequence number that was sent.
    pub(crate) fn latest(&self) -> Option<u16> {
        let last = self.map.next_sent().wrapping_sub(1);
        self.last_sent_at.map(|_| last as u16)
    }

    /// The newest timestamp that was sent.
    pub(crate) fn last_timestamp(&self) -> u32 {
        self.last_timestamp
    }

    /// The RTP clock of the stream that flows next, ticks a second.
    pub(crate) fn set_clock_rate(&mut self, clock_rate: u32) {
        self.clock_rate = clock_rate;
    }

    /// Stops the flow; the next [`Forwarder::start`] continues it without a gap.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    /// Whether any packet of the track has been sent.
    pub(crate) fn has_begun(&self) -> bool {
        self.offsets.is_some()
    }

    /// The sequence number and the timestamp of a packet that fills the time before the first one
    /// of the track; `None` after that.
    pub(crate) fn fill(&mut self, now: Instant) -> Option<(u64, u32)> {
        if self.has_begun() {
            return None;
        }
        if let Some(last) = self.last_sent_at {
            let elapsed = now.saturating_duration_since(last);
            self.last_timestamp = self.next_timestamp(elapsed, None);
        }
        self.last_sent_at = Some(now);
        Some((self.map.fill(), self.last_timestamp))
    }

    /// Difference between the timestamps sent and those of the flowing stream.
    pub(crate) fn timestamp_offset(&self) -> Option<u32> {
        self.flowing().map(|offsets| offsets.timestamp)
    }

    /// Whether packets of a stream are sent, or may be asked for once a late one is its start.
    pub(crate) fn uses(&self, stream: u8) -> bool {
        self.layer() == Some(stream) || self.may_start_with(stream)
    }

    fn may_start_with(&self, stream: u8) -> bool {
        self.target
            .is_some_and(|target| stream == target || (self.layer().is_none() && stream < target))
    }

    /// Whether a packet of a stream that does not flow is where the flow starts or changes to
    /// that stream. Whoever sees nothing yet takes the first stream that offers a start, as
    /// long as it is not above his target. A start that comes late when more of its picture has
    /// been sent is none any more.
    pub(crate) fn starts_with(&self, packet: &SourcePacket) -> bool {
        self.may_start_with(packet.layer)
            && packet.layers.keyframe
            && !self.map.is_past(packet.layer, packet.sequence)
    }

    /// Begins with `packet`, the start of a keyframe, and says how it is sent. `same_instant` is
    /// the timestamp in the former stream's clock of what `packet` shows, where sender reports
    /// tell.
    pub(crate) fn start(
        &mut self,
        packet: &SourcePacket,
        now: Instant,
        same_instant: Option<u32>,
    ) -> Rewrite {
        let counters = packet.layers.counters;
        let (timestamp, next_counters) = match self.last_sent_at {
            None => (packet.timestamp, counters),
            Some(last) => {
                let elapsed = now.saturating_duration_since(last);
                let timestamp = self.next_timestamp(elapsed, same_instant);
                // What filled the time before had no counters.
                let next_counters = self.offsets.map_or(counters, |_| self.next_counters);
                (timestamp, next_counters)
            }
        };
        self.selector.set_target(self.within);
        self.selector.start();
        let offsets = Offsets {
            layer: packet.layer,
            current: self.selector.current(),
            timestamp: timestamp.wrapping_sub(packet.timestamp),
            counters: next_counters.since(counters),
        };
        self.paused = false;
        self.keyframe = packet.sequence;
        self.dropped = None;
        self.newest_timestamp = packet.timestamp;
        let sequence = self.map.start(packet.sequence, offsets);
        self.sent(packet, offsets, sequence, now)
    }

    /// How a packet of the flowing stream is sent; `None` when it is not to be sent, because it
    /// is of another stream, from before the start, or of a layer that is not wanted.
    pub(crate) fn next(&mut self, packet: &SourcePacket, now: Instant) -> Option<Rewrite> {
        let mut offsets = self
            .flowing()
            .filter(|offsets| offsets.layer == packet.layer)?;
        if !self.map.is_new(packet.sequence) {
            return self.late(packet);
        }
        if self.map.has_gap_before(packet.sequence) {
            let same_picture = packet.timestamp == self.newest_timestamp;
            self.selector.missing(same_picture);
        }
        self.newest_timestamp = packet.timestamp;
        if packet.layers.needed_by == LayerSet::EMPTY {
            self.map.drop(packet.sequence, offsets, false);
            return None;
        }
        if packet.layers.keyframe {
            self.keyframe = packet.sequence;
        }
        if self.selector.select(&packet.layers) {
            offsets.current = self.selector.current();
            let sequence = self.map.forward(packet.sequence, offsets);
            return Some(self.sent(packet, offsets, sequence, now));
        }
        self.drop(packet, offsets);
        None
    }

    /// Which source packet went out under a sequence number that a subscriber asks for again.
    pub(crate) fn sent_as(&self, sequence: u16) -> Option<SentPacket> {
        let last = self.map.next_sent().checked_sub(1)?;
        let behind = (last as u16).wrapping_sub(sequence);
        if behind > 0x7fff {
            return None;
        }
        let sent = last.checked_sub(u64::from(behind))?;
        let run = self.map.find_sent(sent)?;
        Some(SentPacket {
            sent,
            layer: run.offsets.layer,
            source: run.source_of(sent),
        })
    }

    /// Whether a packet that was sent is still of use to who missed it: what came before the last
    /// start or keyframe is not.
    pub(crate) fn is_needed(&self, sent: &SentPacket) -> bool {
        self.offsets
            .is_some_and(|offsets| offsets.layer == sent.layer && sent.source >= self.keyframe)
    }

    /// How a packet that [`Forwarder::sent_as`] has told was rewritten; `None` when it came too
    /// late to be known as one that is not wanted.
    pub(crate) fn rewrite_again(&self, sent: u64, packet: &RepeatedPacket) -> Option<Rewrite> {
        let offsets = self.map.find_sent(sent)?.offsets;
        rewrite(packet, &offsets, sent)
    }

    fn flowing(&self) -> Option<Offsets> {
        self.offsets.filter(|_| !self.paused)
    }

    /// A packet from before the newest one: it fills its gap, if it has one.
    fn late(&mut self, packet: &SourcePacket) -> Option<Rewrite> {
        let found = self
            .map
            .find(packet.layer, packet.sequence)
            .and_then(|run| {
                let sequence = run.sent_as(packet.sequence);
                rewrite(&packet.into(), &run.offsets, sequence)
            });
        if found.is_none() && packet.sequence > self.keyframe {
            self.selector.dropped(&packet.layers);
        }
        found
    }

    fn drop(&mut self, packet: &SourcePacket, mut offsets: Offsets) {
        offsets.current = self.selector.current();
        let layers = &packet.layers;
        let adjoins = self
            .dropped
            .is_some_and(|dropped| nothing_between(dropped.counters, layers));
        self.map.drop(packet.sequence, offsets, adjoins);
        let counters = layers.counters;
        let same_picture = self
            .dropped
            .is_some_and(|dropped| dropped.counters.picture_id == counters.picture_id);
        self.dropped = Some(Dropped { counters });
        if layers.numbering != Numbering::Dense {
            self.next_counters = counters.plus(offsets.counters).next();
        } else if !same_picture {
            // The next picture takes this one's number.
            let this = counters.plus(offsets.counters);
            offsets.counters.picture_id = offsets.counters.picture_id.wrapping_sub(1) & 0x7fff;
            self.next_counters = PictureCounters {
                picture_id: this.picture_id,
                ..this.next()
            };
        }
        self.offsets = Some(offsets);
    }

    /// Notes a packet in the stream's order as sent.
    fn sent(
        &mut self,
        packet: &SourcePacket,
        offsets: Offsets,
        sequence: u64,
        now: Instant,
    ) -> Rewrite {
        let timestamp = packet.timestamp.wrapping_add(offsets.timestamp);
        self.offsets = Some(offsets);
        self.dropped = None;
        self.next_counters = packet.layers.counters.plus(offsets.counters).next();
        self.last_timestamp = timestamp;
        self.last_sent_at = Some(now);
        Rewrite {
            sequence,
            timestamp,
            counters: sent_counters(packet.layers.counters, &offsets),
            ends_picture: ends_picture(packet.layers.needed_by, packet.layers.ends_frame, &offsets),
        }
    }

    fn next_timestamp(&self, elapsed: Duration, same_instant: Option<u32>) -> u32 {
        let by_clock = || {
            let ticks = elapsed.as_micros() as u64 * u64::from(self.clock_rate) / 1_000_000;
            self.last_timestamp.wrapping_add((ticks as u32).max(1))
        };
        let Some(timestamp) = same_instant else {
            return by_clock();
        };
        // Time never runs backwards, and reports that disagree by seconds are not believed.
        let ahead = timestamp.wrapping_sub(self.last_timestamp);
        let allowed = elapsed.as_millis() as u64 + 2_000;
        if ahead == 0 || u64::from(ahead) > allowed * u64::from(self.clock_rate) / 1_000 {
            return by_clock();
        }
        timestamp
    }
}

impl From<&SourcePacket> for RepeatedPacket {
    fn from(packet: &SourcePacket) -> RepeatedPacket {
        RepeatedPacket {
            timestamp: packet.timestamp,
            counters: packet.layers.counters,
            needed_by: packet.layers.needed_by,
            ends_frame: packet.layers.ends_frame,
        }
    }
}

/// How a packet of a run is sent, if it is needed. Padding is, as a number was kept for it: without
/// it the receiver would wait for a packet.
fn rewrite(packet: &RepeatedPacket, offsets: &Offsets, sequence: u64) -> Option<Rewrite> {
    let needed = packet.needed_by.contains(offsets.current) || packet.needed_by == LayerSet::EMPTY;
    needed.then(|| Rewrite {
        sequence,
        timestamp: packet.timestamp.wrapping_add(offsets.timestamp),
        counters: sent_counters(packet.counters, offsets),
        ends_picture: ends_picture(packet.needed_by, packet.ends_frame, offsets),
    })
}

fn sent_counters(counters: PictureCounters, offsets: &Offsets) -> Option<PictureCounters> {
    (offsets.counters != PictureCounters::default()).then(|| counters.plus(offsets.counters))
}

/// Whether a packet is the last of what a subscriber gets of a picture: frames of larger layers
/// may follow in the source.
fn ends_picture(needed_by: LayerSet, ends_frame: bool, offsets: &Offsets) -> bool {
    ends_frame && needed_by.lowest_spatial() == Some(offsets.current.spatial)
}

/// Whether packets between a dropped one and this one, dropped too, can only be of frames that
/// are dropped.
fn nothing_between(dropped: PictureCounters, packet: &PacketLayers) -> bool {
    let distance = packet.counters.since(dropped);
    match packet.numbering {
        Numbering::None => false,
        Numbering::Dense => distance.picture_id <= 1,
        Numbering::Picture => distance.picture_id == 0,
        Numbering::Frame => distance.frame_number <= 1,
    }
}
