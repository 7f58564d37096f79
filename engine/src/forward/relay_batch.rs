//! What crosses from one shard's engine to another, and where it gathers.

use std::time::{Duration, Instant};

use crate::api::codec::Codec;
use crate::api::ids::{ShardId, TrackId, TransportId};
use crate::state::packet::{Audience, Received};
use crate::state::track::{Feed, SenderReport, Track, Wanted};

/// What crosses waits at most this long for more, so that a burst wakes the other shard once.
pub(super) const RELAY_INTERVAL: Duration = Duration::from_millis(1);
/// Packets and bytes that gather for one shard while it does not take them.
pub(super) const MAX_PACKETS: usize = 4_096;
pub(super) const MAX_BYTES: usize = 1 << 20;
/// Packets that one batch asks for again.
pub(super) const MAX_RESENDS: usize = 64;
/// Buffers larger than this are given back once they are empty.
const KEPT_BYTES: usize = 256 << 10;
/// Layers of a track.
pub(super) const LAYERS: usize = 3;

/// What crosses from one engine to another in one go.
#[derive(Debug, Default)]
pub struct RelayBatch {
    /// The packets' plaintext, one after the other, in the form that subscribers get.
    pub(super) bytes: Vec<u8>,
    pub(super) items: Vec<RelayItem>,
    /// Layers of which a keyframe is wanted.
    pub(super) keyframes: Vec<(TrackId, u8)>,
    /// Packets that are missing, by layer and extended sequence number.
    pub(super) resends: Vec<(TrackId, u8, u64)>,
    /// Connections there whose data is held up by more receivers here than before, or by fewer.
    pub(super) holds: Vec<(TransportId, i32)>,
}

/// What has to be seen in the order in which it was said.
#[derive(Debug)]
pub(super) enum RelayItem {
    /// To the home: what is wanted of this track from now on.
    Want(TrackId, Wanted),
    /// From the home: which layers of a track are alive.
    Layers(TrackId, [Option<LayerState>; LAYERS]),
    /// From the home: the next packet of the bytes.
    Packet {
        track: TrackId,
        /// Of the layer's media, also when this was a retransmission.
        ssrc: u32,
        received: Received,
        /// Its audience; `None` for a retransmission, which goes to the track's present subscribers.
        audience: Option<Audience>,
    },
}

/// A layer that has been sent, as far as subscribers on another shard need to know. Times are ages, counted
/// back from when the batch is handled: the other shard may have another clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct LayerState {
    pub(super) ssrc: u32,
    pub(super) codec: Codec,
    /// Since the last packet.
    pub(super) silent_for: Duration,
    pub(super) sender_report: Option<RelayedReport>,
}

/// A publisher's [`SenderReport`].
#[derive(Debug, Clone, Copy)]
pub(super) struct RelayedReport {
    /// NTP time, 32.32 bits of seconds.
    ntp: u64,
    /// RTP timestamp at that time.
    rtp: u32,
    /// Since it arrived.
    age: Duration,
}

impl RelayedReport {
    /// A report as it is at `now` of the shard that has the publisher.
    pub(super) fn new(report: SenderReport, now: Instant) -> RelayedReport {
        RelayedReport {
            ntp: report.ntp,
            rtp: report.rtp,
            age: now.saturating_duration_since(report.at),
        }
    }

    /// The report in the time of the shard that receives it at `now`.
    pub(super) fn received(self, now: Instant) -> SenderReport {
        SenderReport {
            ntp: self.ntp,
            rtp: self.rtp,
            at: before(now, self.age),
        }
    }
}

/// The instant that was an age ago; `now` when the clock does not reach back so far.
pub(super) fn before(now: Instant, age: Duration) -> Instant {
    now.checked_sub(age).unwrap_or(now)
}

impl RelayBatch {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
            && self.keyframes.is_empty()
            && self.resends.is_empty()
            && self.holds.is_empty()
    }

    /// Empties it. Its memory is kept for the next use, unless there was very much of it.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.items.clear();
        self.keyframes.clear();
        self.resends.clear();
        self.holds.clear();
    }

    /// False when there is no room.
    pub(super) fn push_packet(
        &mut self,
        track: TrackId,
        ssrc: u32,
        received: Received,
        audience: Option<Audience>,
        packet: &[u8],
    ) -> bool {
        if self.items.len() >= MAX_PACKETS || self.bytes.len() + packet.len() > MAX_BYTES {
            return false;
        }
        self.bytes.extend_from_slice(packet);
        self.items.push(RelayItem::Packet {
            track,
            ssrc,
            received,
            audience,
        });
        true
    }
}

/// What gathers for one other engine.
pub(super) struct Outbox {
    pub(super) to: ShardId,
    pub(super) batch: RelayBatch,
    /// It has gathered long enough.
    pub(super) released: bool,
}

/// What gathers for the other engines.
#[derive(Default)]
pub(crate) struct Relay {
    pub(super) outboxes: Vec<Outbox>,
    due: Option<Instant>,
}

impl Relay {
    pub(super) fn batch(&mut self, now: Instant, to: ShardId) -> &mut RelayBatch {
        self.due.get_or_insert(now + RELAY_INTERVAL);
        let index = match self.outboxes.iter().position(|outbox| outbox.to == to) {
            Some(index) => index,
            None => {
                self.outboxes.push(Outbox {
                    to,
                    batch: RelayBatch::default(),
                    released: false,
                });
                self.outboxes.len() - 1
            }
        };
        &mut self.outboxes[index].batch
    }

    /// See [`Media::backdate_deadline`](crate::state::Media::backdate_deadline).
    pub(crate) fn backdate_deadline(&mut self, arrived: Instant) {
        self.due = self.due.map(|due| due.min(arrived + RELAY_INTERVAL));
    }

    /// When something is to cross.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Releases what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            for outbox in &mut self.outboxes {
                outbox.released = !outbox.batch.is_empty();
            }
        }
    }

    /// Exchanges an empty batch for what is to cross to another shard now. False, and `batch` stays
    /// as it is, when nothing is.
    pub(crate) fn take_released(&mut self, to: ShardId, batch: &mut RelayBatch) -> bool {
        debug_assert!(batch.is_empty());
        let Some(outbox) = self
            .outboxes
            .iter_mut()
            .filter(|outbox| outbox.released && !outbox.batch.is_empty())
            .find(|outbox| outbox.to == to)
        else {
            return false;
        };
        outbox.released = false;
        std::mem::swap(&mut outbox.batch, batch);
        true
    }

    /// Asks the home of a track for a keyframe of a layer.
    pub(crate) fn want_keyframe(&mut self, now: Instant, home: ShardId, track: TrackId, layer: u8) {
        // Throttled and repeated until it comes at the home, over the subscribers of all shards.
        let keyframes = &mut self.batch(now, home).keyframes;
        if !keyframes.contains(&(track, layer)) {
            keyframes.push((track, layer));
        }
    }

    /// Asks the home of a track for a packet that did not cross. True when it will be asked.
    pub(crate) fn want_packet(
        &mut self,
        now: Instant,
        track: &Track,
        layer: u8,
        sequence: u64,
    ) -> bool {
        let Feed::Shard(home) = track.feed else {
            return false;
        };
        let resends = &mut self.batch(now, home).resends;
        let wanted = (track.id, layer, sequence);
        let new = resends.len() < MAX_RESENDS && !resends.contains(&wanted);
        if new {
            resends.push(wanted);
        }
        new
    }

    /// Tells the shard of a connection that more receivers hold up its data, or fewer.
    pub(crate) fn hold(
        &mut self,
        now: Instant,
        shard: ShardId,
        transport: TransportId,
        change: i32,
    ) {
        let holds = &mut self.batch(now, shard).holds;
        match holds.iter_mut().find(|(held, _)| *held == transport) {
            Some((_, sum)) => *sum += change,
            None => holds.push((transport, change)),
        }
    }

    /// Memory held, in bytes.
    pub(crate) fn memory(&self) -> usize {
        self.outboxes
            .iter()
            .map(|outbox| outbox.batch.bytes.capacity())
            .sum()
    }
}
