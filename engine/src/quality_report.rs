//! Answers [`MeasureQuality`](crate::Command::MeasureQuality).

use std::time::{Duration, Instant};

use crate::allocation::choices::Choices;
use crate::api::codec::{Codec, MediaKind};
use crate::api::event::Event;
use crate::api::ids::{RoomId, TransportId};
use crate::api::quality::{SubscriptionQuality, TrackQuality, TransportQuality};
use crate::state::Media;
use crate::state::subscription::Subscription;
use crate::state::track::Track;

/// Tells the room how these connections of it fare.
pub(crate) fn measure_quality(
    media: &mut Media,
    now: Instant,
    room: RoomId,
    transports: &[TransportId],
) {
    let qualities = transports
        .iter()
        .filter_map(|&transport| {
            let state = media.peers.get(media.peers.find(transport)?)?;
            let published = state.tracks.iter().map(|&i| &media.tracks[i]);
            let received = state.subscriptions.iter();
            Some(TransportQuality {
                transport,
                rtt: state.rtt,
                tracks: published
                    .filter(|track| !track.muted)
                    .map(|track| track_quality(track, now))
                    .collect(),
                subscriptions: received
                    .map(|&index| &media.subscriptions[index])
                    .map(|s| subscription_quality(s, &media.tracks[s.track], now))
                    .collect(),
            })
        })
        .collect();
    media.emit(room, Event::Quality(qualities));
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
        layer: track
            .available_layers()
            .map(|layer| layer.spatial)
            .filter(|_| !track.is_silent(now))
            .max(),
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
    let flows = track.kind == MediaKind::Video && subscription.settings.enabled && !track.muted;
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
            .then(|| Choices::new(track, &subscription.settings, now).largest())
            .flatten()
            .map(|layer| layer.spatial),
        layer: sent.filter(|_| flows),
    }
}
