//! The last packets of one layer, kept in the clear for retransmission to whichever subscriber
//! misses one: a ring of bytes with an index by sequence number.
//!
//! Invariant: what [`PacketCache::get`] returns is exactly what was inserted under that number;
//! a packet whose bytes have been overwritten is not found any more.

use std::time::{Duration, Instant};

use crate::wire::payload::layers::LayerSet;

/// Memory of a cache that holds anything.
const SMALLEST: usize = 4 << 10;
/// What a cache should reach back: several round trips of a far subscriber.
const KEPT: Duration = Duration::from_millis(1_200);

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// Extended sequence number plus one; 0 when the entry is free.
    number: u64,
    /// Position in the endless stream of bytes of which the ring holds the end.
    position: u64,
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

impl CachedFrame {
    /// Of a stream without layers.
    pub(crate) const WHOLE: CachedFrame = CachedFrame {
        needed_by: LayerSet::ALL,
        ends: false,
    };
}

/// A packet found in the cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CachedPacket<'a> {
    /// Header and payload.
    pub(crate) packet: &'a [u8],
    pub(crate) header_len: u16,
    pub(crate) frame: CachedFrame,
}

/// Packets of one layer by extended sequence number.
#[derive(Debug)]
pub(crate) struct PacketCache {
    entries: Vec<Entry>,
    ring: Vec<u8>,
    /// Position of the next byte.
    end: u64,
    max_entries: usize,
    max_bytes: usize,
    /// When the oldest byte of the ring was written.
    lap_began: Option<Instant>,
}

impl PacketCache {
    /// A cache of at most `max_packets` packets, a power of two, and `max_bytes` bytes. It
    /// takes memory as it is used.
    pub(crate) fn new(max_packets: u16, max_bytes: usize) -> PacketCache {
        debug_assert!(max_packets.is_power_of_two());
        PacketCache {
            entries: Vec::new(),
            ring: Vec::new(),
            end: 0,
            max_entries: usize::from(max_packets),
            max_bytes,
            lap_began: None,
        }
    }

    /// Keeps a packet: a header of `header_len` bytes and its payload.
    pub(crate) fn insert(
        &mut self,
        now: Instant,
        sequence: u64,
        packet: &[u8],
        header_len: u16,
        frame: CachedFrame,
    ) {
        if packet.len() > self.max_bytes || packet.len() > usize::from(u16::MAX) {
            return;
        }
        self.grow(now, packet.len());
        let capacity = self.ring.len() as u64;
        // A packet never wraps around the end of the ring.
        let offset = self.end % capacity;
        if offset + packet.len() as u64 > capacity {
            self.end += capacity - offset;
        }
        let start = (self.end % capacity) as usize;
        self.ring[start..start + packet.len()].copy_from_slice(packet);
        let slot = sequence as usize & (self.entries.len() - 1);
        self.entries[slot] = Entry {
            number: sequence + 1,
            position: self.end,
            len: packet.len() as u16,
            header_len,
            frame,
        };
        self.end += packet.len() as u64;
    }

    /// The packet with this extended sequence number, if it is still here.
    pub(crate) fn get(&self, sequence: u64) -> Option<CachedPacket<'_>> {
        let slot = sequence as usize & self.entries.len().checked_sub(1)?;
        let entry = self.entries[slot];
        let capacity = self.ring.len() as u64;
        if entry.number != sequence + 1 || self.end - entry.position > capacity {
            return None;
        }
        let start = (entry.position % capacity) as usize;
        Some(CachedPacket {
            packet: &self.ring[start..start + usize::from(entry.len)],
            header_len: entry.header_len,
            frame: entry.frame,
        })
    }

    /// Forgets everything and gives the memory back.
    pub(crate) fn clear(&mut self) {
        self.entries = Vec::new();
        self.ring = Vec::new();
        self.end = 0;
        self.lap_began = None;
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.ring.len() + self.entries.len() * size_of::<Entry>()
    }

    /// Doubles index and ring when a lap around the ring is over too soon. What is in them is
    /// carried over, which happens a few times in a stream's first second.
    fn grow(&mut self, now: Instant, len: usize) {
        if self.entries.is_empty() {
            self.entries = vec![Entry::default(); self.max_entries.min(32)];
            self.ring = vec![0; SMALLEST.max(len.next_power_of_two()).min(self.max_bytes)];
        }
        let began = *self.lap_began.get_or_insert(now);
        let capacity = self.ring.len();
        let lap_over = (self.end % capacity as u64) as usize + len > capacity
            || (self.end > 0 && self.end.is_multiple_of(capacity as u64));
        if !lap_over && len <= capacity {
            return;
        }
        let long_enough = now.saturating_duration_since(began) >= KEPT;
        if len <= capacity && (long_enough || capacity >= self.max_bytes) {
            self.lap_began = Some(now);
            return;
        }
        let bytes = (capacity * 2)
            .max(len.next_power_of_two())
            .min(self.max_bytes);
        let count = (self.entries.len() * 2).min(self.max_entries);
        let mut grown = PacketCache {
            entries: vec![Entry::default(); count],
            ring: vec![0; bytes],
            end: 0,
            max_entries: self.max_entries,
            max_bytes: self.max_bytes,
            lap_began: self.lap_began,
        };
        let mut kept: Vec<u64> = self.entries.iter().map(|entry| entry.number).collect();
        kept.sort_unstable();
        for number in kept.into_iter().filter(|number| *number > 0) {
            if let Some(cached) = self.get(number - 1) {
                grown.copy(number - 1, &cached);
            }
        }
        *self = grown;
    }

    /// As insert, into a cache known to have room.
    fn copy(&mut self, sequence: u64, cached: &CachedPacket<'_>) {
        let packet = cached.packet;
        let start = self.end as usize;
        if let Some(place) = self.ring.get_mut(start..start + packet.len()) {
            place.copy_from_slice(packet);
            let slot = sequence as usize & (self.entries.len() - 1);
            self.entries[slot] = Entry {
                number: sequence + 1,
                position: self.end,
                len: packet.len() as u16,
                header_len: cached.header_len,
                frame: cached.frame,
            };
            self.end += packet.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_clock;

    fn packet(sequence: u64) -> Vec<u8> {
        let len = 20 + (sequence * 37 % 1_200) as usize;
        let mut packet = vec![sequence as u8; len];
        packet[..8].copy_from_slice(&sequence.to_be_bytes());
        packet
    }

    #[test]
    fn what_is_found_is_what_was_put_in() {
        use rand::{RngExt, SeedableRng, rngs::SmallRng};
        let mut rng = SmallRng::seed_from_u64(9);
        let mut cache = PacketCache::new(256, 64 << 10);
        let now = test_clock::start();
        for newest in 1_000u64..20_000 {
            let sequence = newest - u64::from(rng.random_range(0..8u8));
            cache.insert(now, sequence, &packet(sequence), 12, CachedFrame::default());
            let asked = newest - u64::from(rng.random_range(0..600u16));
            if let Some(cached) = cache.get(asked) {
                assert_eq!(cached.packet, packet(asked));
            }
        }
        assert!(cache.memory() <= (64 << 10) + 256 * size_of::<Entry>());
    }

    #[test]
    fn the_last_packets_are_there_also_while_it_grows() {
        let mut cache = PacketCache::new(1_024, 1 << 20);
        let now = test_clock::start();
        for sequence in 0..2_000 {
            cache.insert(now, sequence, &packet(sequence), 12, CachedFrame::default());
            for recent in sequence.saturating_sub(4)..=sequence {
                assert!(cache.get(recent).is_some(), "{recent} after {sequence}");
            }
        }
        assert!((1_600..2_000).all(|sequence| cache.get(sequence).is_some()));
    }

    #[test]
    fn it_holds_what_its_stream_sends_in_its_time_and_not_much_more() {
        let start = test_clock::start();
        let mut cache = PacketCache::new(1_024, 1 << 20);
        // 100 packets of 500 bytes a second.
        for sequence in 0..1_000u64 {
            let now = start + Duration::from_millis(10 * sequence);
            cache.insert(now, sequence, &[1; 500], 12, CachedFrame::default());
        }
        let held = (0..1_000).filter(|n| cache.get(*n).is_some()).count();
        assert!((100..=300).contains(&held), "{held} packets are held");
        assert!(cache.memory() < 160 << 10, "{} bytes", cache.memory());
    }

    #[test]
    fn an_unused_cache_takes_no_memory() {
        let mut cache = PacketCache::new(1_024, 1 << 20);
        assert_eq!(cache.memory(), 0);
        assert!(cache.get(0).is_none());
        cache.insert(
            test_clock::start(),
            1,
            &packet(1),
            12,
            CachedFrame::default(),
        );
        assert!(cache.memory() < 8 << 10);
        cache.clear();
        assert_eq!(cache.memory(), 0);
    }
}
