//! Connection quality: what the connections' counters say of what each participant sees and
//! hears, as the score that clients show. A participant is as well off as the worst of its
//! streams.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use moim_engine::command::Command;
use moim_engine::ids::{TrackId, TransportId};
use moim_engine::quality::{SubscriptionQuality, TrackQuality, TransportQuality};
use moim_signaling::wire::{ConnectionQualityInfo, ConnectionQualityUpdate, signal_response};

use super::core::Room;
use super::id::{ParticipantKey, TrackKey};
use super::score::{BEST, Window, since};
use super::subscription::Progress;

/// The connections are looked at this often: LiveKit's interval.
const INTERVAL: Duration = Duration::from_secs(5);

impl Room {
    /// Asks the engine for the connections' counters when it is time.
    pub(super) fn measure_quality(&mut self) {
        let now = self.now.instant;
        let asked_at = *self.qualities.asked_at.get_or_insert(now);
        if now.saturating_duration_since(asked_at) < INTERVAL {
            return;
        }
        self.qualities.asked_at = Some(now);
        // A connection that ended meanwhile was not answered for.
        self.score_measured();
        self.qualities.asked = self.transports.len();
        self.media.command(Command::MeasureQuality {
            room: self.media.room_id(),
            transports: self.transports.keys().copied().collect(),
        });
    }

    /// When the connections are to be looked at.
    pub(super) fn quality_deadline(&self) -> Option<Instant> {
        let asked_at = self.qualities.asked_at;
        (!self.participants.is_empty())
            .then(|| asked_at.map_or(self.now.instant, |asked_at| asked_at + INTERVAL))
    }

    /// A connection fell silent, or is heard again.
    pub(super) fn transport_silent(&mut self, transport: TransportId, silent: bool) {
        if silent && self.transports.contains_key(&transport) {
            self.qualities.silent.insert(transport);
        } else {
            self.qualities.silent.remove(&transport);
        }
    }

    /// Counters that were asked for, of some of the connections: each shard answers for its own.
    pub(super) fn quality_measured(&mut self, measured: Vec<TransportQuality>) {
        self.qualities.measured.extend(measured);
        if self.qualities.measured.len() >= self.qualities.asked {
            self.score_measured();
        }
    }

    /// Scores everybody by what was answered, and tells when anybody's quality is another than
    /// before.
    fn score_measured(&mut self) {
        let measured = std::mem::take(&mut self.qualities.measured);
        if measured.is_empty() {
            return;
        }
        let mut scores: BTreeMap<ParticipantKey, f32> = BTreeMap::new();
        let mut note = |key: ParticipantKey, score: f32| {
            let worst = scores.entry(key).or_insert(BEST);
            *worst = worst.min(score);
        };
        // What publishers lost, their subscribers miss without their network being to blame.
        let mut lost_before: BTreeMap<TrackId, u64> = BTreeMap::new();
        let mut tracks = BTreeMap::new();
        for (transport, track) in measured
            .iter()
            .flat_map(|transport| transport.tracks.iter().map(move |track| (transport, track)))
        {
            tracks.insert(track.track, (track.expected, track.lost));
            if let Some((owner, window)) = self.track_window(transport.rtt, track) {
                lost_before.insert(track.track, window.lost);
                note(owner, window.score());
            }
        }
        let mut subscriptions = BTreeMap::new();
        for transport in &measured {
            let Some(&(key, _)) = self.transports.get(&transport.transport) else {
                continue;
            };
            note(key, BEST);
            for sent in &transport.subscriptions {
                subscriptions.insert(sent.subscription, (sent.sent, sent.lost));
                let window = self.sent_window(key, transport.rtt, sent, &lost_before);
                if let Some(window) = window {
                    note(key, window.score());
                }
            }
        }
        self.qualities.tracks = tracks;
        self.qualities.subscriptions = subscriptions;
        self.settle_standings(&scores);
    }

    /// How a published track has arrived since the last look; `None` before the second look and
    /// when its publisher was told that nobody wants it.
    fn track_window(
        &self,
        rtt: Duration,
        track: &TrackQuality,
    ) -> Option<(ParticipantKey, Window)> {
        let known = self.track_of_encoding(track.track)?;
        let encoding = known.encoding(track.track)?;
        let &(expected, lost) = self.qualities.tracks.get(&track.track)?;
        let wanted = known.layers_asked_for(encoding.codec);
        if wanted == 0 {
            return None;
        }
        let packets = since(expected, track.expected);
        let missing_layers = match track.layer {
            // Of layers within one stream only the receiver's decoder knows.
            Some(layer) if encoding.streams > 1 => wanted.saturating_sub(layer + 1),
            _ => 0,
        };
        let window = Window {
            kind: known.kind,
            red: !known.info.disable_red,
            starved: packets == 0,
            packets,
            lost: since(lost, track.lost),
            rtt,
            jitter: track.jitter,
            missing_layers,
        };
        Some((known.owner, window))
    }

    fn sent_window(
        &self,
        key: ParticipantKey,
        rtt: Duration,
        sent: &SubscriptionQuality,
        lost_before: &BTreeMap<TrackId, u64>,
    ) -> Option<Window> {
        let mut subscriptions = self.participants.get(&key)?.subscriptions.iter();
        let (track, subscription) = subscriptions.find(|(_, s)| s.id == sent.subscription)?;
        let track: &TrackKey = track;
        let Progress::Forwarded { encoding, .. } = &subscription.progress else {
            return None;
        };
        let track = self.publications.get(track)?;
        let &(packets, lost) = self.qualities.subscriptions.get(&sent.subscription)?;
        let upstream = lost_before.get(encoding).copied().unwrap_or(0);
        let missing_layers = match (sent.wanted, sent.layer) {
            (Some(wanted), Some(layer)) => wanted.saturating_sub(layer),
            _ => 0,
        };
        Some(Window {
            kind: track.kind,
            red: !track.info.disable_red,
            starved: sent.wanted.is_some() && sent.layer.is_none(),
            packets: since(packets, sent.sent),
            lost: since(lost, sent.lost).saturating_sub(upstream),
            rtt,
            jitter: Duration::ZERO,
            missing_layers,
        })
    }

    fn settle_standings(&mut self, scores: &BTreeMap<ParticipantKey, f32>) {
        let transports = &self.transports;
        self.qualities
            .silent
            .retain(|transport| transports.contains_key(transport));
        let silent: BTreeSet<ParticipantKey> = self
            .qualities
            .silent
            .iter()
            .filter_map(|transport| Some(transports.get(transport)?.0))
            .collect();
        let mut standings = BTreeMap::new();
        for key in self.participants.keys().copied().collect::<Vec<_>>() {
            if !self.is_active(key) {
                continue;
            }
            let former = self.qualities.standings.get(&key);
            let mut standing = former.copied().unwrap_or_default();
            let score = scores.get(&key).copied();
            standing.update(score.filter(|_| !silent.contains(&key)));
            standings.insert(key, standing);
        }
        self.qualities.standings = standings;
        let viewers: Vec<ParticipantKey> = self.participants.keys().copied().collect();
        for viewer in viewers {
            self.tell_qualities_to(viewer);
        }
    }

    /// Tells a participant its own quality and that of those whose tracks it gets, where it
    /// knows another or none.
    pub(super) fn tell_qualities_to(&mut self, key: ParticipantKey) {
        let Some(viewer) = self.participants.get(&key) else {
            return;
        };
        let owners = viewer.subscriptions.keys().filter_map(|track| {
            let owner = self.publications.get(track)?.owner;
            Some(owner)
        });
        let seen: BTreeSet<ParticipantKey> = owners.chain([key]).collect();
        let mut told = viewer.told.qualities.clone();
        let mut updates = Vec::new();
        for other in seen {
            let (Some(standing), Some(participant)) = (
                self.qualities.standings.get(&other),
                self.participants.get(&other),
            ) else {
                continue;
            };
            let quality = standing.quality as i32;
            if told.insert(other, quality) != Some(quality) {
                updates.push(ConnectionQualityInfo {
                    participant_sid: participant.sid.clone(),
                    quality,
                    score: standing.opinion(),
                });
            }
        }
        told.retain(|other, _| self.participants.contains_key(other));
        let Some(viewer) = self.participants.get_mut(&key) else {
            return;
        };
        if updates.is_empty() || !viewer.session.is_up() {
            return;
        }
        viewer.told.qualities = told;
        let update = ConnectionQualityUpdate { updates };
        viewer.send(signal_response::Message::ConnectionQuality(update));
    }
}
