//! What a microphone sends: speech and the pauses in it, as an Opus encoder with DTX makes them of
//! conversation.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Seconds for which somebody speaks, and pauses, on average (ITU-T P.59, table 1).
const SPURT: f64 = 1.004;
const PAUSE: f64 = 1.587;
/// Packets a second.
const PACKETS: f64 = 50.0;
/// Payload of an Opus packet at about 36 kbit/s with variable bit rate: least bytes, and how
/// much more there may be.
const PAYLOAD: (usize, usize) = (60, 60);
/// In silence a packet each 400 ms says what the background sounds like.
const COMFORT_INTERVAL: u32 = 20;
/// A few bytes; these have room for our stamp.
const COMFORT_PAYLOAD: usize = 12;
/// How loud speech is, in -dBov: the loudest, and how much softer it may be.
const SPEECH_LEVEL: (u8, u8) = (15, 20);
const SILENCE_LEVEL: u8 = 90;
/// Tells in an audio level that it is that of a voice (RFC 6464, section 3).
const VOICE_ACTIVITY: u8 = 0x80;

/// Whether somebody speaks into a microphone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Speech {
    /// Nobody does.
    Silence,
    /// Somebody does, and pauses.
    Spurts,
    /// Somebody does without a pause.
    Constant,
}

/// A packet of a microphone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sound {
    /// Payload bytes.
    pub(crate) bytes: usize,
    /// As the header extension has it (RFC 6464): -dBov, and whether it is a voice.
    pub(crate) level: u8,
    /// It comes after a pause.
    pub(crate) is_first: bool,
}

/// One microphone.
pub(crate) struct Voice {
    speech: Speech,
    random: SmallRng,
    speaks: bool,
    /// Packets until that changes.
    left: u32,
    silent_for: u32,
}

impl Voice {
    pub(crate) fn new(speech: Speech, seed: u64) -> Voice {
        let mut voice = Voice {
            speech,
            random: SmallRng::seed_from_u64(seed),
            speaks: speech == Speech::Constant,
            left: 0,
            silent_for: 0,
        };
        if speech == Speech::Spurts {
            voice.left = voice.duration(PAUSE);
        }
        voice
    }

    /// The packet of the next 20 ms; mostly there is none in silence.
    pub(crate) fn next(&mut self) -> Option<Sound> {
        let spoke = self.speaks;
        if self.speech == Speech::Spurts {
            if self.left == 0 {
                self.speaks = !self.speaks;
                self.left = self.duration(if self.speaks { SPURT } else { PAUSE });
            }
            self.left -= 1;
        }
        if self.speaks {
            self.silent_for = 0;
            let (least, more) = PAYLOAD;
            let (loudest, softer) = SPEECH_LEVEL;
            return Some(Sound {
                bytes: least + self.random.random_range(0..=more),
                level: VOICE_ACTIVITY | (loudest + self.random.random_range(0..=softer)),
                is_first: !spoke,
            });
        }
        self.silent_for += 1;
        (self.silent_for % COMFORT_INTERVAL == 1).then_some(Sound {
            bytes: COMFORT_PAYLOAD,
            level: SILENCE_LEVEL,
            is_first: false,
        })
    }

    /// Packets of something that lasts so long on average, and ends at any time.
    fn duration(&mut self, seconds: f64) -> u32 {
        let share: f64 = self.random.random();
        let packets = -(1.0 - share).ln() * seconds * PACKETS;
        (packets as u32).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a minute's packets, those of speech and the others; and how often speech began.
    fn minutes(voice: &mut Voice, minutes: usize) -> (usize, usize, usize) {
        let (mut speech, mut comfort, mut spurts) = (0, 0, 0);
        for sound in (0..minutes * 3_000).filter_map(|_| voice.next()) {
            let is_speech = sound.level & VOICE_ACTIVITY != 0;
            assert_eq!(is_speech, sound.bytes >= PAYLOAD.0);
            speech += usize::from(is_speech);
            comfort += usize::from(!is_speech);
            spurts += usize::from(sound.is_first);
        }
        (speech, comfort, spurts)
    }

    #[test]
    fn somebody_speaks_for_two_fifths_of_the_time() {
        let (speech, comfort, spurts) = minutes(&mut Voice::new(Speech::Spurts, 7), 60);
        let share = speech as f64 / (60.0 * 3_000.0);
        assert!((0.33..0.44).contains(&share), "{share}");
        // One in 2.6 s.
        assert!((20 * 60..26 * 60).contains(&spurts), "{spurts}");
        assert!(comfort > 60 * 60 && comfort < 60 * 180, "{comfort}");
    }

    #[test]
    fn silence_is_a_packet_in_400_ms_and_constant_speech_has_none() {
        let silence = minutes(&mut Voice::new(Speech::Silence, 7), 1);
        assert_eq!(silence, (0, 150, 0));
        let constant = minutes(&mut Voice::new(Speech::Constant, 7), 1);
        assert_eq!(constant, (3_000, 0, 0));
    }
}
