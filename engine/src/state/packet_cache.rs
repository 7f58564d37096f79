//! The last packets of one layer that somebody was sent, kept in the clear for retransmission to
//! whichever subscriber misses one. They lie in chunks of the shard's [`ChunkPool`], oldest chunk
//! first, with an index by sequence number: a layer holds what it sends in the time that a
//! retransmission may be asked for, and nothing when nobody is sent it.
//!
//! Invariant: what [`PacketCache::get`] returns is exactly what was inserted under that number;
//! a packet whose chunk has been given back is not found any more.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::chunk_pool::{CHUNK, Chunk, ChunkPool};
use crate::wire::payload::layers::LayerSet;

/// How far back a packet cache reaches: several round trips of a far subscriber.
const KEPT: Duration = Duration::from_millis(1_200);
/// The time between two packets counts as this much at most, longer than between the pictures of a
/// camera: what was sent last before a pause is there for the time after it too, in which alone a
/// receiver notices that it is missing. Our choice.
const LONGEST_STEP: Duration = Duration::from_millis(200);
/// Slots of the smallest index.
const FEWEST_SLOTS: usize = 32;

/// Where in the cache the packet of a slot is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    /// The slot is free.
    #[default]
    Nowhere,
    /// The packet came, and nobody was sent it.
    Passed,
    /// In the chunk of this number, counted from the cache's first one, from this byte on.
    Chunk { number: u32, start: u16 },
}

#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Lower half of the extended sequence number. All slots are of a few seconds, in which a
    /// layer does not send 2^32 packets.
    sequence: u32,
    place: Place,
    len: u16,
    header_len: u16,
    frame: CachedFrame,
}

/// What is remembered of the frame that a packet belongs to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CachedFrame {
    /// Which layers need it.
    pub(crate) needed_by: LayerSet,
    /// The packet is its last.
    pub(crate) ends: bool,
}

/// A packet found in the cache, or one to be kept there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CachedPacket<'a> {
    /// Header and payload.
    pub(crate) packet: &'a [u8],
    pub(crate) header_len: u16,
    pub(crate) frame: CachedFrame,
}

/// A chunk that is being filled or is full.
#[derive(Debug)]
struct Filled {
    bytes: Chunk,
    /// Bytes that are taken.
    len: usize,
    /// The cache's time when its first packet was put in.
    began: Duration,
}

/// Packets of one layer by extended sequence number.
#[derive(Debug)]
pub(crate) struct PacketCache {
    slots: Vec<Slot>,
    chunks: VecDeque<Filled>,
    /// Number of the first of the chunks.
    first_chunk: u32,
    /// Packets noted since the slots began to be used again, and the cache's time when they did.
    noted: usize,
    lap_began: Duration,
    /// The cache's time: that in which its stream sends, without pauses.
    time: Duration,
    /// When the last packet came.
    last: Option<Instant>,
    max_slots: usize,
    max_chunks: usize,
}

impl PacketCache {
    /// A cache of at most `max_packets` packets, a power of two, and `max_bytes` bytes. It
    /// takes memory as it is used.
    pub(crate) fn new(max_packets: u16, max_bytes: usize) -> PacketCache {
        debug_assert!(max_packets.is_power_of_two());
        PacketCache {
            slots: Vec::new(),
            chunks: VecDeque::new(),
            first_chunk: 0,
            noted: 0,
            lap_began: Duration::ZERO,
            time: Duration::ZERO,
            last: None,
            max_slots: usize::from(max_packets),
            max_chunks: max_bytes / CHUNK,
        }
    }

    /// Keeps a packet: a header and its payload.
    pub(crate) fn insert(
        &mut self,
        pool: &mut ChunkPool,
        now: Instant,
        sequence: u64,
        kept: &CachedPacket<'_>,
    ) {
        let packet = kept.packet;
        if packet.len() > CHUNK {
            return;
        }
        self.advance(now);
        self.give_back_old(pool);
        let is_full = |chunk: &Filled| chunk.len + packet.len() > CHUNK;
        if self.chunks.back().is_none_or(is_full) {
            if self.chunks.len() == self.max_chunks {
                self.give_back_first(pool);
            }
            self.chunks.push_back(Filled {
                bytes: pool.take(),
                len: 0,
                began: self.time,
            });
        }
        let number = self.first_chunk + self.chunks.len() as u32 - 1;
        let Some(chunk) = self.chunks.back_mut() else {
            return;
        };
        let start = chunk.len;
        chunk.len += packet.len();
        chunk.bytes[start..chunk.len].copy_from_slice(packet);
        let start = start as u16;
        *self.slot(sequence) = Slot {
            sequence: sequence as u32,
            place: Place::Chunk { number, start },
            len: packet.len() as u16,
            header_len: kept.header_len,
            frame: kept.frame,
        };
    }

    /// Notes that a packet came of which nobody was sent anything.
    pub(crate) fn pass(&mut self, now: Instant, sequence: u64) {
        self.advance(now);
        *self.slot(sequence) = Slot {
            sequence: sequence as u32,
            place: Place::Passed,
            ..Slot::default()
        };
    }

    /// Whether the packet with this extended sequence number came lately.
    pub(crate) fn has(&self, sequence: u64) -> bool {
        self.find(sequence).is_some()
    }

    /// The packet with this extended sequence number, if it is still here.
    pub(crate) fn get(&self, sequence: u64) -> Option<CachedPacket<'_>> {
        let slot = self.find(sequence)?;
        let Place::Chunk { number, start } = slot.place else {
            return None;
        };
        let chunk = number.checked_sub(self.first_chunk)?;
        let (chunk, start) = (self.chunks.get(chunk as usize)?, usize::from(start));
        Some(CachedPacket {
            packet: &chunk.bytes[start..start + usize::from(slot.len)],
            header_len: slot.header_len,
            frame: slot.frame,
        })
    }

    /// Forgets everything and gives the memory back.
    pub(crate) fn clear(&mut self) {
        self.slots = Vec::new();
        self.chunks = VecDeque::new();
        self.first_chunk = 0;
        self.noted = 0;
        self.lap_began = self.time;
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.chunks.len() * CHUNK
            + self.chunks.capacity() * size_of::<Filled>()
            + self.slots.capacity() * size_of::<Slot>()
    }

    fn find(&self, sequence: u64) -> Option<&Slot> {
        let slot = &self.slots[sequence as usize & self.slots.len().checked_sub(1)?];
        (slot.sequence == sequence as u32 && slot.place != Place::Nowhere).then_some(slot)
    }

    fn advance(&mut self, now: Instant) {
        let last = self.last.replace(now).unwrap_or(now);
        self.time += now.saturating_duration_since(last).min(LONGEST_STEP);
    }

    /// Gives back the chunks of which the last packet is too old: it came before the next chunk's
    /// first one.
    fn give_back_old(&mut self, pool: &mut ChunkPool) {
        while let Some(second) = self.chunks.get(1)
            && self.time - second.began >= KEPT
        {
            self.give_back_first(pool);
        }
    }

    fn give_back_first(&mut self, pool: &mut ChunkPool) {
        if let Some(first) = self.chunks.pop_front() {
            pool.give_back(first.bytes);
            self.first_chunk += 1;
        }
    }

    /// The slot for a packet. There are more of them from when they would be used again too soon.
    fn slot(&mut self, sequence: u64) -> &mut Slot {
        if self.slots.is_empty() {
            self.slots = vec![Slot::default(); FEWEST_SLOTS.min(self.max_slots)];
        }
        if self.noted >= self.slots.len() {
            let too_soon = self.time - self.lap_began < KEPT;
            if too_soon && self.slots.len() < self.max_slots {
                self.double_slots();
            } else {
                self.noted = 0;
                self.lap_began = self.time;
            }
        }
        self.noted += 1;
        let mask = self.slots.len() - 1;
        &mut self.slots[sequence as usize & mask]
    }

    /// Happens a few times in a stream's first second.
    fn double_slots(&mut self) {
        let count = self.slots.len() * 2;
        let former = std::mem::replace(&mut self.slots, vec![Slot::default(); count]);
        for slot in former {
            if slot.place != Place::Nowhere {
                self.slots[slot.sequence as usize & (count - 1)] = slot;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    fn packet(sequence: u64) -> Vec<u8> {
        let len = 20 + (sequence * 37 % 1_200) as usize;
        let mut packet = vec![sequence as u8; len];
        packet[..8].copy_from_slice(&sequence.to_be_bytes());
        packet
    }

    /// A cache with a pool of its own.
    struct Kept {
        cache: PacketCache,
        pool: ChunkPool,
    }

    impl Kept {
        fn new(max_packets: u16, max_bytes: usize) -> Kept {
            Kept {
                cache: PacketCache::new(max_packets, max_bytes),
                pool: ChunkPool::default(),
            }
        }

        fn insert(&mut self, now: Instant, sequence: u64, packet: &[u8]) {
            let kept = CachedPacket {
                packet,
                header_len: 12,
                frame: CachedFrame::default(),
            };
            self.cache.insert(&mut self.pool, now, sequence, &kept);
        }
    }

    #[test]
    fn what_is_found_is_what_was_put_in() {
        let mut rng = SmallRng::seed_from_u64(9);
        let mut kept = Kept::new(256, 64 << 10);
        let mut now = test_clock::start();
        for newest in 1_000u64..20_000 {
            now += Duration::from_millis(rng.random_range(0..12));
            let sequence = newest - u64::from(rng.random_range(0..8u8));
            if rng.random_bool(0.9) {
                kept.insert(now, sequence, &packet(sequence));
            } else {
                kept.cache.pass(now, sequence);
                assert!(kept.cache.get(sequence).is_none());
            }
            assert!(kept.cache.has(sequence));
            let asked = newest - u64::from(rng.random_range(0..600u16));
            if let Some(cached) = kept.cache.get(asked) {
                assert_eq!(cached.packet, packet(asked));
                assert!(kept.cache.has(asked));
            }
        }
        assert!(kept.cache.memory() <= (64 << 10) + (16 << 10));
    }

    #[test]
    fn the_last_packets_are_there_also_while_it_grows() {
        let mut kept = Kept::new(1_024, 1 << 20);
        let now = test_clock::start();
        for sequence in 0..2_000 {
            kept.insert(now, sequence, &packet(sequence));
            for recent in sequence.saturating_sub(4)..=sequence {
                assert!(
                    kept.cache.get(recent).is_some(),
                    "{recent} after {sequence}"
                );
            }
        }
        assert!((1_600..2_000).all(|sequence| kept.cache.get(sequence).is_some()));
    }

    #[test]
    fn it_holds_what_its_stream_sends_in_its_time_and_little_more() {
        let start = test_clock::start();
        for (interval, len) in [(5, 1_150), (10, 500), (20, 80), (50, 1_000)] {
            let mut kept = Kept::new(1_024, 1 << 20);
            let mut rng = SmallRng::seed_from_u64(interval);
            for sequence in 0..2_000u64 {
                let now = start + Duration::from_millis(interval * sequence);
                kept.insert(now, sequence, &vec![1; len - rng.random_range(0..20)]);
            }
            let in_time = 1_200 / interval;
            let held = |n: &u64| kept.cache.get(*n).is_some();
            assert!((2_000 - in_time..2_000).all(|n| held(&n)));
            let needed = in_time as usize * len;
            let index = 2 * in_time as usize * size_of::<Slot>();
            let most = needed * 9 / 8 + 2 * CHUNK + index + 2_048;
            assert!(kept.cache.memory() <= most, "{}", kept.cache.memory());
        }
    }

    #[test]
    fn what_was_sent_before_a_pause_is_there_after_it() {
        let mut kept = Kept::new(1_024, 1 << 20);
        let start = test_clock::start();
        for sequence in 0..20 {
            kept.insert(start, sequence, &[1; 1_000]);
        }
        kept.insert(start + 100 * KEPT, 20, &[1; 1_000]);
        assert!((15..=20).all(|n| kept.cache.get(n).is_some()));
    }

    #[test]
    fn chunks_go_from_one_cache_to_the_next() {
        let mut kept = Kept::new(1_024, 1 << 20);
        let mut now = test_clock::start();
        for sequence in 0..1_000 {
            now += Duration::from_millis(5);
            kept.insert(now, sequence, &[1; 1_000]);
        }
        let held = kept.cache.chunks.len();
        for sequence in 1_000..1_020 {
            now += LONGEST_STEP;
            kept.insert(now, sequence, &[1; 1_000]);
        }
        assert!(kept.cache.chunks.len() <= 3 && kept.pool.memory() >= (held - 3) * CHUNK);
        let mut next = PacketCache::new(64, 64 << 10);
        let free = kept.pool.memory();
        let first = CachedPacket {
            packet: &[2; 100],
            header_len: 12,
            frame: CachedFrame::default(),
        };
        next.insert(&mut kept.pool, now, 1, &first);
        assert_eq!(kept.pool.memory(), free - CHUNK);
    }

    #[test]
    fn an_unused_cache_takes_no_memory() {
        let mut kept = Kept::new(1_024, 1 << 20);
        assert_eq!(kept.cache.memory(), 0);
        assert!(kept.cache.get(5).is_none() && !kept.cache.has(5));
        let now = test_clock::start();
        kept.insert(now, 5, &packet(5));
        assert!(kept.cache.memory() < CHUNK + (2 << 10));
        kept.cache.clear();
        assert_eq!(kept.cache.memory(), 0);
        assert!(kept.cache.get(5).is_none());
    }
}
