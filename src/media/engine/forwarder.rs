//! How the packets of a track's layers become one continuous stream for one subscriber.
//!
//! Invariant: the sequence numbers sent never repeat for another packet, and grow by one from
//! the last packet before a switch (of layer, or after a pause) to the first one after it.
//! Within a stretch without switches a packet keeps its distance to its neighbours, so that a
//! packet lost on the way to us is a gap for the subscriber too, and is filled when it arrives
//! late.

use std::time::{Duration, Instant};

/// Where a source packet stands, as far as rewriting needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SourcePacket {
    /// Layer, 0 lowest.
    pub(crate) layer: u8,
    /// Extended sequence number within the layer.
    pub(crate) sequence: u64,
    /// RTP timestamp within the layer.
    pub(crate) timestamp: u32,
    /// VP8 picture id and TL0PICIDX, where the codec has them.
    pub(crate) picture: Option<PictureIds>,
}

/// The counters of a VP8 payload descriptor (RFC 7741, section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PictureIds {
    /// PictureID, 15 or 7 bits.
    pub(crate) picture_id: u16,
    /// TL0PICIDX.
    pub(crate) tl0: u8,
}

/// What a packet carries when it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rewrite {
    /// Extended sequence number.
    pub(crate) sequence: u64,
    /// RTP timestamp.
    pub(crate) timestamp: u32,
    /// Picture id and TL0PICIDX.
    pub(crate) picture: Option<PictureIds>,
}

/// A stretch of packets without a switch: source and sent numbers differ by constants.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    layer: u8,
    /// First source sequence number; earlier ones belong to the time before the switch.
    first_source: u64,
    /// First sent sequence number.
    first_sent: u64,
    timestamp_offset: u32,
    picture_id_offset: u16,
    tl0_offset: u8,
}

impl Stretch {
    fn rewrite(&self, packet: &SourcePacket) -> Rewrite {
        Rewrite {
            sequence: packet.sequence - self.first_source + self.first_sent,
            timestamp: packet.timestamp.wrapping_add(self.timestamp_offset),
            picture: packet.picture.map(|ids| PictureIds {
                picture_id: ids.picture_id.wrapping_add(self.picture_id_offset) & 0x7fff,
                tl0: ids.tl0.wrapping_add(self.tl0_offset),
            }),
        }
    }
}

/// Switches kept, for retransmissions of what was sent before them.
const KEPT_STRETCHES: usize = 4;

/// One subscriber's view of one track.
#[derive(Debug)]
pub(crate) struct Forwarder {
    clock_rate: u32,
    stretches: [Option<Stretch>; KEPT_STRETCHES],
    /// The next packet starts a new stretch.
    paused: bool,
    highest_sent: u64,
    last_timestamp: u32,
    last_picture: PictureIds,
    last_sent_at: Option<Instant>,
}

impl Forwarder {
    /// `first_sequence` is the sequence number of the first packet sent, below 2^16.
    pub(crate) fn new(clock_rate: u32, first_sequence: u16) -> Forwarder {
        Forwarder {
            clock_rate,
            stretches: [None; KEPT_STRETCHES],
            paused: true,
            highest_sent: u64::from(first_sequence).wrapping_sub(1),
            last_timestamp: 0,
            last_picture: PictureIds::default(),
            last_sent_at: None,
        }
    }

    /// The layer that flows, if one does.
    pub(crate) fn layer(&self) -> Option<u8> {
        if self.paused {
            return None;
        }
        self.stretches[0].map(|stretch| stretch.layer)
    }

    /// Stops the flow; the next [`Forwarder::start`] continues it without a gap.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    /// Difference between the timestamps sent and those of the flowing layer.
    pub(crate) fn timestamp_offset(&self) -> Option<u32> {
        if self.paused {
            return None;
        }
        self.stretches[0].map(|stretch| stretch.timestamp_offset)
    }

    /// The timestamp of a packet that continues the layer that flowed before the pause.
    pub(crate) fn resumed_timestamp(&self, packet: &SourcePacket) -> Option<u32> {
        let stretch = self.stretches[0].filter(|stretch| stretch.layer == packet.layer)?;
        Some(packet.timestamp.wrapping_add(stretch.timestamp_offset))
    }

    /// Begins a new stretch with `packet` and says how it is sent. `same_instant` is the
    /// timestamp in the former layer's clock of what `packet` shows, where sender reports tell.
    pub(crate) fn start(
        &mut self,
        packet: &SourcePacket,
        now: Instant,
        same_instant: Option<u32>,
    ) -> Rewrite {
        let timestamp = match self.last_sent_at {
            None => packet.timestamp,
            Some(last) => self.next_timestamp(now.saturating_duration_since(last), same_instant),
        };
        let picture = packet.picture.unwrap_or_default();
        let continued = self.last_sent_at.is_some();
        let stretch = Stretch {
            layer: packet.layer,
            first_source: packet.sequence,
            first_sent: self.highest_sent.wrapping_add(1),
            timestamp_offset: timestamp.wrapping_sub(packet.timestamp),
            picture_id_offset: if continued {
                self.last_picture
                    .picture_id
                    .wrapping_add(1)
                    .wrapping_sub(picture.picture_id)
            } else {
                0
            },
            tl0_offset: if continued {
                self.last_picture
                    .tl0
                    .wrapping_add(1)
                    .wrapping_sub(picture.tl0)
            } else {
                0
            },
        };
        self.stretches.rotate_right(1);
        self.stretches[0] = Some(stretch);
        self.paused = false;
        let rewrite = stretch.rewrite(packet);
        self.sent(&rewrite, now);
        rewrite
    }

    /// How a packet of the flowing layer is sent; `None` when it is not to be sent, because it
    /// is of another layer or from before the switch.
    pub(crate) fn next(&mut self, packet: &SourcePacket, now: Instant) -> Option<Rewrite> {
        let stretch = self.stretches[0].filter(|_| !self.paused)?;
        if packet.layer != stretch.layer || packet.sequence < stretch.first_source {
            return None;
        }
        let rewrite = stretch.rewrite(packet);
        self.sent(&rewrite, now);
        Some(rewrite)
    }

    /// Which source packet went out under a sequence number that a subscriber asks for again:
    /// layer and extended sequence number, and how it was rewritten.
    pub(crate) fn sent_as(&self, sequence: u16) -> Option<(u8, u64, u64)> {
        let behind = (self.highest_sent as u16).wrapping_sub(sequence);
        if behind > 0x7fff {
            return None;
        }
        let sent = self.highest_sent.checked_sub(u64::from(behind))?;
        let stretch = self
            .stretches
            .iter()
            .flatten()
            .find(|stretch| sent >= stretch.first_sent)?;
        Some((
            stretch.layer,
            sent - stretch.first_sent + stretch.first_source,
            sent,
        ))
    }

    /// How the source packet behind `sent` was rewritten.
    pub(crate) fn rewrite_again(&self, sent: u64, packet: &SourcePacket) -> Option<Rewrite> {
        let stretch = self
            .stretches
            .iter()
            .flatten()
            .find(|stretch| sent >= stretch.first_sent)?;
        (packet.sequence >= stretch.first_source && packet.layer == stretch.layer)
            .then(|| stretch.rewrite(packet))
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

    fn sent(&mut self, rewrite: &Rewrite, now: Instant) {
        if self.last_sent_at.is_some() && rewrite.sequence <= self.highest_sent {
            return;
        }
        self.highest_sent = rewrite.sequence;
        self.last_timestamp = rewrite.timestamp;
        self.last_sent_at = Some(now);
        if let Some(ids) = rewrite.picture {
            self.last_picture = ids;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::test_clock;

    fn packet(layer: u8, sequence: u64, timestamp: u32) -> SourcePacket {
        SourcePacket {
            layer,
            sequence,
            timestamp,
            picture: None,
        }
    }

    #[test]
    fn a_gap_of_the_source_stays_a_gap_and_is_filled_late() {
        let now = test_clock::start();
        let mut forwarder = Forwarder::new(90_000, 100);
        assert_eq!(forwarder.start(&packet(0, 7, 0), now, None).sequence, 100);
        assert_eq!(
            forwarder.next(&packet(0, 9, 0), now).map(|r| r.sequence),
            Some(102)
        );
        assert_eq!(
            forwarder.next(&packet(0, 8, 0), now).map(|r| r.sequence),
            Some(101)
        );
        assert_eq!(
            forwarder.next(&packet(0, 10, 0), now).map(|r| r.sequence),
            Some(103)
        );
    }

    #[test]
    fn a_switch_continues_sequence_numbers_and_moves_time_forward() {
        let start = test_clock::start();
        let mut forwarder = Forwarder::new(90_000, 0);
        forwarder.start(&packet(0, 1_000, 50_000), start, None);
        let later = start + Duration::from_millis(40);
        let rewrite = forwarder.start(&packet(2, 70_000, 9), later, None);
        assert_eq!(rewrite.sequence, 1);
        assert_eq!(rewrite.timestamp, 50_000 + 3_600);
        assert!(forwarder.next(&packet(0, 1_001, 50_000), later).is_none());
        assert!(forwarder.next(&packet(2, 69_999, 0), later).is_none());
    }

    #[test]
    fn sender_reports_place_a_switch_exactly() {
        let start = test_clock::start();
        let mut forwarder = Forwarder::new(90_000, 0);
        forwarder.start(&packet(0, 1, 1_000), start, None);
        let later = start + Duration::from_millis(50);
        let rewrite = forwarder.start(&packet(1, 1, 77), later, Some(1_000 + 3_000));
        assert_eq!(rewrite.timestamp, 4_000);
        let back = forwarder.start(&packet(0, 5, 1), later, Some(10));
        assert_eq!(back.timestamp, 4_001);
    }

    #[test]
    fn picture_ids_continue_over_a_switch() {
        let now = test_clock::start();
        let mut forwarder = Forwarder::new(90_000, 0);
        let ids = |picture_id, tl0| Some(PictureIds { picture_id, tl0 });
        let mut first = packet(0, 1, 0);
        first.picture = ids(0x7ffe, 255);
        assert_eq!(forwarder.start(&first, now, None).picture, first.picture);
        let mut second = packet(1, 1, 0);
        second.picture = ids(12, 3);
        assert_eq!(forwarder.start(&second, now, None).picture, ids(0x7fff, 0));
        second.sequence = 2;
        second.picture = ids(13, 4);
        assert_eq!(
            forwarder.next(&second, now).and_then(|r| r.picture),
            ids(0, 1)
        );
    }

    #[test]
    fn what_was_sent_before_a_switch_is_found_again() {
        let now = test_clock::start();
        let mut forwarder = Forwarder::new(90_000, 65_535);
        forwarder.start(&packet(0, 500, 0), now, None);
        forwarder.next(&packet(0, 501, 0), now);
        forwarder.start(&packet(1, 9_000, 0), now, None);
        assert_eq!(forwarder.sent_as(65_535), Some((0, 500, 65_535)));
        assert_eq!(forwarder.sent_as(0), Some((0, 501, 65_536)));
        assert_eq!(forwarder.sent_as(1), Some((1, 9_000, 65_537)));
        assert_eq!(forwarder.sent_as(2), None);
        let again = forwarder.rewrite_again(65_536, &packet(0, 501, 3));
        assert_eq!(again.map(|r| (r.sequence, r.timestamp)), Some((65_536, 3)));
    }

    #[test]
    fn random_switches_never_repeat_a_sequence_number() {
        use rand::{RngExt, SeedableRng, rngs::SmallRng};
        let mut rng = SmallRng::seed_from_u64(7);
        let mut now = test_clock::start();
        let mut forwarder = Forwarder::new(90_000, rng.random());
        let mut next = [1_000u64, 2_000, 3_000];
        let mut seen = std::collections::HashMap::new();
        for _ in 0..20_000 {
            now += Duration::from_millis(rng.random_range(1..30));
            let layer = rng.random_range(0..3u8);
            let skip = u64::from(rng.random_range(0..10u8) == 0);
            next[usize::from(layer)] += 1 + skip;
            let source = packet(layer, next[usize::from(layer)], 0);
            let rewrite = match rng.random_range(0..50u8) {
                0 => Some(forwarder.start(&source, now, None)),
                1 => {
                    forwarder.pause();
                    None
                }
                _ => forwarder.next(&source, now),
            };
            if let Some(rewrite) = rewrite {
                let former = seen.insert(rewrite.sequence, (source.layer, source.sequence));
                assert_eq!(former, None, "sequence {} twice", rewrite.sequence);
            }
        }
    }
}
