//! The score of a connection: the transmission rating of the E-model (ITU-T G.107) in its usual
//! short form: 100, less what delay and loss take away, and for video less what it lacks in
//! layers.

use std::time::Duration;

use moim_engine::codec::MediaKind;
use moim_signaling::wire::ConnectionQuality;

pub(super) const BEST: f32 = 100.0;
/// As bad as a score becomes while anything gets through, so that it also recovers.
pub(super) const WORST: f32 = 30.0;
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
pub(super) struct Window {
    pub(super) kind: MediaKind,
    /// Losses are made good by redundancy.
    pub(super) red: bool,
    /// Nothing came where something should have.
    pub(super) starved: bool,
    pub(super) packets: u64,
    pub(super) lost: u64,
    pub(super) rtt: Duration,
    pub(super) jitter: Duration,
    pub(super) missing_layers: u8,
}

impl Window {
    pub(super) fn score(&self) -> f32 {
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
pub(super) struct Standing {
    pub(super) score: f32,
    pub(super) quality: ConnectionQuality,
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
    pub(super) fn update(&mut self, score: Option<f32>) {
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
    pub(super) fn opinion(&self) -> f32 {
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

/// The difference of two readings of a counter; one that was reset counts from zero.
pub(super) fn since(former: u64, now: u64) -> u64 {
    now.checked_sub(former).unwrap_or(now)
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
