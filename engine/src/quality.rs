//! How connections fare: the counters from which the control plane scores them.

use std::time::{Duration, Instant};

use super::choices::Choices;
use super::dispatch::Engine;
use super::event::Event;
use super::ids::{RoomId, SubscriptionId, TrackId, TransportId};
use super::subscription::Subscription;
use super::track::Track;
use crate::codec::{Codec, MediaKind};

/// One connection. Counters are since the start of their stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportQuality {
    /// Which connection.
    pub transport: TransportId,
    /// Round trip, as far as reports have told it.
    pub rtt: Duration,
    /// The tracks that it publishes and that are not muted.
    pub tracks: Vec<TrackQuality>,
    /// What it is sent.
    pub subscriptions: Vec<SubscriptionQuality>,
}

/// How a track arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackQuality {
    /// Which track.
    pub track: TrackId,
    /// Packets that the publisher has sent on all layers.
    pub expected: u64,
    /// Packets of them that have not arrived by themselves.
    pub lost: u64,
    /// How unevenly they arrive (RFC 3550, section 6.4.1).
    pub jitter: Duration,
    /// The best layer that arrives, 0 lowest.
    pub layer: Option<u8>,
}

/// How a track is sent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionQuality {
    /// Which subscription.
    pub subscription: SubscriptionId,
    /// Packets sent.
    pub sent: u64,
    /// Packets of them that the subscriber reports lost.
    pub lost: u64,
    /// The best layer of video that it wants and that arrives here; `None` when there is none.
    pub wanted: Option<u8>,
    /// The layer of video that it is sent.
    pub layer: Option<u8>,
}

impl Engine {
    /// Tells the room how these connections of it fare.
    pub(super) fn measure_quality(
        &mut self,
        now: Instant,
        room: RoomId,
        transports: &[TransportId],
    ) {
        let qualities = transports
            .iter()
            .filter_map(|&transport| {
                let state = self.peers.get(self.find_peer(transport)? as usize)?;
                let published = state.tracks.iter().map(|&i| &self.tracks[i as usize]);
                let received = state.subscriptions.iter();
                Some(TransportQuality {
                    transport,
                    rtt: state.rtt,
                    tracks: published
                        .filter(|track| !track.muted)
                        .map(|track| track_quality(track, now))
                        .collect(),
                    subscriptions: received
                        .map(|&index| &self.subscriptions[index as usize])
                        .map(|s| subscription_quality(s, &self.tracks[s.track as usize], now))
                        .collect(),
                })
            })
            .collect();
        self.emit(room, Event::Quality(qualities));
    }
}

fn track_quality(track: &Track, now: Instant) -> TrackQuality {
    let clock_rate = match track.kind {
        MediaKind::Audio => Codec::Opus.clock_rate(),
        MediaKind::Video => Codec::Vp8.clock_rate(),
    };
    let mut quality = TrackQuality {
        track: track.id,
        expected: 0,
        lost: 0,
        jitter: Duration::ZERO,
        layer: track.alive_layers(now).map(|layer| layer.spatial).max(),
    };
    for layer in &track.layers {
        let (expected, arrived) = layer.statistics.totals();
        quality.expected += expected;
        quality.lost += expected.saturating_sub(arrived);
        let ticks = u64::from(layer.statistics.jitter());
        let jitter = Duration::from_micros(ticks * 1_000_000 / u64::from(clock_rate));
        quality.jitter = quality.jitter.max(jitter);
    }
    quality
}

fn subscription_quality(
    subscription: &Subscription,
    track: &Track,
    now: Instant,
) -> SubscriptionQuality {
    let flows = track.kind == MediaKind::Video && subscription.wish.enabled && !track.muted;
    let forwarder = &subscription.forwarder;
    let sent = if track.is_scalable() {
        forwarder.current().map(|layer| layer.spatial)
    } else {
        forwarder.layer()
    };
    SubscriptionQuality {
        subscription: subscription.id,
        sent: subscription.packets.into(),
        lost: subscription.reported_lost.into(),
        wanted: flows
            .then(|| Choices::new(track, &subscription.wish, now).largest())
            .flatten()
            .map(|layer| layer.spatial),
        layer: sent.filter(|_| flows),
    }
}
