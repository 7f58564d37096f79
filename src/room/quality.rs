//! Connection quality: what the connections' counters say of what each participant sees and
//! hears, as the score that clients show.
//!
//! The score is the transmission rating of the E-model (ITU-T G.107) in its usual short form:
//! 100, less what delay and loss take away, and for video less what it lacks in layers. A
//! participant is as well off as the worst of its streams.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use moim_signaling::wire::{
    ConnectionQuality, ConnectionQualityInfo, ConnectionQualityUpdate, participant_info,
    signal_response,
};
use tokio::time::Instant;

use super::participant::ParticipantKey;
use super::state::Room;
use moim_engine::codec::MediaKind;
use moim_engine::command::Command;
use moim_engine::ids::{SubscriptionId, TrackId, TransportId};
use moim_engine::quality::{SubscriptionQuality, TrackQuality, TransportQuality};

/// The connections are looked at this often.
const INTERVAL: Duration = Duration::from_secs(5);
const BEST: f32 = 100.0;
/// As bad as a score becomes while anything gets through, so that it also recovers.
const WORST: f32 = 30.0;
/// What each missing layer of video takes away: about one step of quality.
const LAYER_EFFECT: f32 = 35.0;
/// What each percent of lost packets takes away. Opus hides single losses by its own means and
/// RED restores most; lost video is mostly sent again.
const OPUS_LOSS_EFFECT: f32 = 5.3;
const RED_LOSS_EFFECT: f32 = 2.7;
const VIDEO_LOSS_EFFECT: f32 = 2.0;
/// Shares of the new value in the smoothed score: it falls fast and rises slowly.
const FALL: f32 = 0.8;
const RISE: f32 = 0.4;
/// How far beyond a threshold a score must rise, so that it does not go up and down.
const HYSTERESIS: f32 = 3.0;

/// How one stream fared since the last look.
#[derive(Debug, Clone, Copy)]
struct Window {
    kind: MediaKind,
    /// Losses are made good by redundancy.
    red: bool,
    /// Nothing came where something should have.
    starved: bool,
    packets: u64,
    lost: u64,
    rtt: Duration,
    jitter: Duration,
    missing_layers: u8,
}

impl Window {
    fn score(&self) -> f32 {
        if self.starved {
            return WORST;
        }
        // One way, and the receiver's jitter buffer.
        let delay = self.rtt.as_secs_f32() * 500.0 + self.jitter.as_secs_f32() * 2_000.0;
        let delay_effect = if delay <= 160.0 {
            delay / 40.0
        } else {
            (delay - 120.0) / 10.0
        };
        let weight = match self.kind {
            MediaKind::Audio if self.red => RED_LOSS_EFFECT,
            MediaKind::Audio => OPUS_LOSS_EFFECT,
            MediaKind::Video => VIDEO_LOSS_EFFECT,
        };
        let lost_percent = match self.packets {
            0 => 0.0,
            packets => self.lost as f32 * 100.0 / packets as f32,
        };
        let network = BEST - delay_effect - weight * lost_percent;
        let picture = BEST - LAYER_EFFECT * f32::from(self.missing_layers);
        network.min(picture).clamp(WORST, BEST)
    }
}

/// A participant's smoothed score.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Standing {
    score: f32,
    quality: ConnectionQuality,
}

impl Default for Standing {
    fn default() -> Standing {
        Standing {
            score: BEST,
            quality: ConnectionQuality::Excellent,
        }
    }
}

impl Standing {
    /// Takes in the score of the last interval; `None` when nothing gets through at all.
    fn update(&mut self, score: Option<f32>) {
        let Some(score) = score else {
            *self = Standing {
                score: WORST,
                quality: ConnectionQuality::Lost,
            };
            return;
        };
        let share = if score < self.score { FALL } else { RISE };
        self.score += (score - self.score) * share;
        let now = quality_of(self.score);
        // Rising, it has to be clearly better.
        if rank(now) <= rank(self.quality) {
            self.quality = now;
        } else {
            let clearly = quality_of(self.score - HYSTERESIS);
            if rank(clearly) > rank(self.quality) {
                self.quality = clearly;
            }
        }
    }

    /// The mean opinion that the E-model expects, 1.0 to 4.5.
    fn opinion(&self) -> f32 {
        let r = self.score;
        (1.0 + 0.035 * r + 7e-6 * r * (r - 60.0) * (100.0 - r)).clamp(1.0, 4.5)
    }
}

fn quality_of(score: f32) -> ConnectionQuality {
    match score {
        score if score > 80.0 => ConnectionQuality::Excellent,
        score if score > 40.0 => ConnectionQuality::Good,
        score if score > 20.0 => ConnectionQuality::Poor,
        _ => ConnectionQuality::Lost,
    }
}

fn rank(quality: ConnectionQuality) -> u8 {
    match quality {
        ConnectionQuality::Lost => 0,
        ConnectionQuality::Poor => 1,
        ConnectionQuality::Good => 2,
        ConnectionQuality::Excellent => 3,
    }
}

/// What is known of the quality of all connections of a room.
#[derive(Debug, Default)]
pub(super) struct Qualities {
    asked_at: Option<Instant>,
    /// Connections that were asked about, and what has been answered.
    asked: usize,
    measured: Vec<TransportQuality>,
    /// Connections from which nothing arrives.
    silent: BTreeSet<TransportId>,
    /// The counters of the last look: packets and losses.
    tracks: BTreeMap<TrackId, (u64, u64)>,
    subscriptions: BTreeMap<SubscriptionId, (u64, u64)>,
    standings: BTreeMap<ParticipantKey, Standing>,
}

/// The difference of two counters; one that began anew counts from zero.
fn since(former: u64, now: u64) -> u64 {
    now.checked_sub(former).unwrap_or(now)
}

impl Room {
    /// Asks the engine for the connections' counters when it is time.
    pub(super) fn measure_quality(&mut self, now: Instant) {
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
        let known = self.tracks.get(&track.track)?;
        let &(expected, lost) = self.qualities.tracks.get(&track.track)?;
        let wanted = known.layers_asked_for();
        if wanted == 0 {
            return None;
        }
        let packets = since(expected, track.expected);
        let missing_layers = match track.layer {
            // Of layers within one stream only the receiver's decoder knows.
            Some(layer) if known.layers > 1 => wanted.saturating_sub(layer + 1),
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
        let mut subscriptions = self.participants.get(&key)?.subscriptions.values();
        let subscription = subscriptions.find(|s| s.id == sent.subscription)?;
        let track = self.tracks.get(&subscription.track)?;
        let &(packets, lost) = self.qualities.subscriptions.get(&sent.subscription)?;
        let upstream = lost_before.get(&subscription.track).copied().unwrap_or(0);
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
        let mut changed = false;
        let mut standings = BTreeMap::new();
        for participant in self.participants.values() {
            if participant.state != participant_info::State::Active {
                continue;
            }
            let former = self.qualities.standings.get(&participant.key);
            let mut standing = former.copied().unwrap_or_default();
            let score = scores.get(&participant.key).copied();
            let lost = silent.contains(&participant.key);
            standing.update(score.filter(|_| !lost));
            changed |= former.is_none_or(|former| former.quality != standing.quality);
            standings.insert(participant.key, standing);
        }
        self.qualities.standings = standings;
        if changed {
            self.tell_qualities();
        }
    }

    /// Everybody hears of himself and of those that he gets tracks of.
    fn tell_qualities(&mut self) {
        let infos: BTreeMap<ParticipantKey, ConnectionQualityInfo> = self
            .qualities
            .standings
            .iter()
            .filter_map(|(key, standing)| {
                let info = ConnectionQualityInfo {
                    participant_sid: self.participants.get(key)?.sid.clone(),
                    quality: standing.quality as i32,
                    score: standing.opinion(),
                };
                Some((*key, info))
            })
            .collect();
        for participant in self.participants.values_mut() {
            let mut seen: BTreeSet<ParticipantKey> = participant
                .subscriptions
                .keys()
                .filter_map(|track| Some(self.tracks.get(track)?.owner))
                .collect();
            seen.insert(participant.key);
            let updates: Vec<_> = seen
                .iter()
                .filter_map(|key| infos.get(key))
                .cloned()
                .collect();
            if !updates.is_empty() {
                let update = ConnectionQualityUpdate { updates };
                participant.send(signal_response::Message::ConnectionQuality(update));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(kind: MediaKind) -> Window {
        Window {
            kind,
            red: false,
            starved: false,
            packets: 1_000,
            lost: 0,
            rtt: Duration::from_millis(40),
            jitter: Duration::from_millis(2),
            missing_layers: 0,
        }
    }

    #[test]
    fn what_is_seen_and_heard_decides_the_quality() {
        use ConnectionQuality::{Excellent, Good, Poor};
        let audio = window(MediaKind::Audio);
        let video = window(MediaKind::Video);
        let ms = Duration::from_millis;
        let cases = [
            ("a good line", audio, Excellent),
            ("2 % of a voice", Window { lost: 20, ..audio }, Excellent),
            ("8 % of a voice", Window { lost: 80, ..audio }, Good),
            ("15 % of a voice", Window { lost: 150, ..audio }, Poor),
            (
                "5 % with RED",
                Window {
                    lost: 50,
                    red: true,
                    ..audio
                },
                Excellent,
            ),
            ("5 % of a picture", Window { lost: 50, ..video }, Excellent),
            ("15 % of a picture", Window { lost: 150, ..video }, Good),
            (
                "one layer less",
                Window {
                    missing_layers: 1,
                    ..video
                },
                Good,
            ),
            (
                "two layers less",
                Window {
                    missing_layers: 2,
                    ..video
                },
                Poor,
            ),
            (
                "a far country",
                Window {
                    rtt: ms(300),
                    ..audio
                },
                Excellent,
            ),
            (
                "a satellite",
                Window {
                    rtt: ms(700),
                    ..audio
                },
                Good,
            ),
            (
                "much jitter",
                Window {
                    jitter: ms(200),
                    ..audio
                },
                Good,
            ),
            (
                "nothing comes",
                Window {
                    starved: true,
                    ..video
                },
                Poor,
            ),
        ];
        for (name, window, expected) in cases {
            assert_eq!(
                quality_of(window.score()),
                expected,
                "{name}: {}",
                window.score()
            );
        }
    }

    #[test]
    fn it_falls_at_once_and_rises_when_it_lasts() {
        let mut standing = Standing::default();
        standing.update(Some(WORST));
        assert_eq!(standing.quality, ConnectionQuality::Good);
        standing.update(Some(WORST));
        assert_eq!(standing.quality, ConnectionQuality::Poor);
        let mut intervals = 0;
        while standing.quality != ConnectionQuality::Excellent {
            standing.update(Some(BEST));
            intervals += 1;
        }
        assert!((3..7).contains(&intervals), "{intervals} intervals");
        assert!(standing.opinion() > 4.0);
    }

    #[test]
    fn a_score_at_a_threshold_does_not_flap() {
        let mut standing = Standing::default();
        let mut changes = 0;
        for interval in 0..40 {
            let former = standing.quality;
            standing.update(Some(if interval % 2 == 0 { 79.0 } else { 82.0 }));
            changes += u32::from(standing.quality != former);
        }
        assert!(changes <= 1, "{changes} changes");
    }

    #[test]
    fn who_is_not_heard_of_is_lost_and_comes_back() {
        let mut standing = Standing::default();
        standing.update(None);
        assert_eq!(standing.quality, ConnectionQuality::Lost);
        standing.update(Some(BEST));
        assert_eq!(standing.quality, ConnectionQuality::Good);
    }
}
