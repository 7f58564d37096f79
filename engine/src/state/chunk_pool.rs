//! Memory for packets that are kept, in chunks of one size that the packet caches of a shard take
//! and give back: what one stream has no use for any more is the next one's.

/// Bytes of a chunk: six full packets and more. A cache holds about one chunk more than its
/// packets need, so a larger one would cost the many small streams, and a smaller one would leave
/// a larger part of each chunk empty behind its last packet.
pub(super) const CHUNK: usize = 8 << 10;
/// Chunks that are kept for the next use; further ones are given back to the allocator. Our
/// choice: half a megabyte a shard.
const MAX_FREE: usize = 64;

/// One chunk.
pub(super) type Chunk = Box<[u8]>;

/// The chunks of a shard that no cache holds.
#[derive(Debug, Default)]
pub(crate) struct ChunkPool {
    free: Vec<Chunk>,
}

impl ChunkPool {
    /// A chunk with anything in it. The one that was given back last is the likeliest to be in the
    /// processor's cache.
    pub(super) fn take(&mut self) -> Chunk {
        self.free
            .pop()
            .unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice())
    }

    /// Takes a chunk back.
    pub(super) fn give_back(&mut self, chunk: Chunk) {
        if self.free.len() < MAX_FREE {
            self.free.push(chunk);
        }
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.free.len() * CHUNK
    }
}
