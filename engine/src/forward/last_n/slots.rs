//! In a large room only the loudest voices are forwarded: many microphones that nobody speaks
//! into are most of its packets.
//!
//! A voice is let in by its first loud packets, together with the packets just before them, so
//! that no first syllable is clipped. A place that is taken is given up for somebody clearly
//! louder, or once its owner has been silent. Where there are places for all, the first loud
//! packet is enough: if it is a click, it costs nobody a place. Tracks without audio levels, and
//! the sound of shared screens, always pass.
//!
//! Invariant: of the voices that speak, as many are let in as there are places.

use std::time::{Duration, Instant};

/// A packet this loud is one of somebody who speaks, in -dBov.
const SPEECH: u8 = 45;
/// So many loud packets in a row let somebody in: one alone is a click.
const LOUD_PACKETS: u8 = 2;
/// Packets from before that are sent with the first one: 160 ms.
pub(super) const BEFORE: u64 = 8;
/// Who has not been loud for this long may be displaced by anybody who speaks.
const PAUSE: Duration = Duration::from_millis(600);
/// Who has not been loud for this long is let out.
const SILENCE: Duration = Duration::from_secs(2);
/// How much louder than the quietest one let in somebody must be to displace it, dB.
const MARGIN: f32 = 6.0;
/// Shares of a packet's level in the smoothed one.
const ATTACK: f32 = 0.5;
const DECAY: f32 = 0.05;

#[derive(Debug)]
struct Voice {
    /// Index of the track.
    track: u32,
    let_in: bool,
    /// Smoothed level in dB above silence, 0 to 127.
    level: f32,
    loud_packets: u8,
    last_loud: Option<Instant>,
    /// First packet that was not forwarded, while it is not let in.
    held_from: u64,
}

impl Voice {
    fn observe(&mut self, dbov: u8, now: Instant) {
        let level = 127.0 - f32::from(dbov.min(127));
        let share = if level > self.level { ATTACK } else { DECAY };
        self.level += (level - self.level) * share;
        if dbov <= SPEECH {
            self.loud_packets = self.loud_packets.saturating_add(1);
            self.last_loud = Some(now);
        } else {
            self.loud_packets = 0;
        }
    }

    fn is_quiet_for(&self, duration: Duration, now: Instant) -> bool {
        self.last_loud
            .is_none_or(|last| now.saturating_duration_since(last) >= duration)
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Forward,
    Hold,
    /// From this packet on it is held.
    LetOut,
    /// It is forwarded with those that were held, from this sequence number on, in place of
    /// another track.
    LetIn {
        from: u64,
        displaced: Option<u32>,
    },
}

/// The voices of one room.
#[derive(Debug)]
pub(crate) struct Loudest {
    pub(super) places: usize,
    voices: Vec<Voice>,
}

impl Loudest {
    pub(super) fn new(places: u8) -> Loudest {
        Loudest {
            places: usize::from(places),
            voices: Vec::new(),
        }
    }

    /// A packet of a track, and how loud it is.
    pub(super) fn observe(&mut self, now: Instant, track: u32, dbov: u8, sequence: u64) -> Verdict {
        let found = self.voices.iter().position(|voice| voice.track == track);
        let index = found.unwrap_or_else(|| {
            self.voices.push(Voice {
                track,
                let_in: false,
                level: 0.0,
                loud_packets: 0,
                last_loud: None,
                held_from: sequence,
            });
            self.voices.len() - 1
        });
        let all_have_places = self.voices.len() <= self.places;
        let voice = &mut self.voices[index];
        voice.observe(dbov, now);
        if voice.let_in {
            if !voice.is_quiet_for(SILENCE, now) {
                return Verdict::Forward;
            }
            voice.let_in = false;
            voice.held_from = sequence;
            return Verdict::LetOut;
        }
        // The publisher may have begun anew with other numbers.
        voice.held_from = voice.held_from.min(sequence);
        let from = voice.held_from.max(sequence.saturating_sub(BEFORE));
        let speaks = voice.loud_packets >= if all_have_places { 1 } else { LOUD_PACKETS };
        let displaced = if speaks {
            self.place_for(index, now)
        } else {
            None
        };
        match displaced {
            Some(displaced) => {
                self.voices[index].let_in = true;
                Verdict::LetIn { from, displaced }
            }
            // It was forwarded when there were places for all.
            None if found.is_none() => Verdict::LetOut,
            None => Verdict::Hold,
        }
    }

    /// Makes a place; gives whose it was, if anybody's. `None` when all who have one keep it.
    fn place_for(&mut self, index: usize, now: Instant) -> Option<Option<u32>> {
        let taken = self.voices.iter().filter(|voice| voice.let_in).count();
        if taken < self.places {
            return Some(None);
        }
        let level = self.voices[index].level;
        let rank = |voice: &Voice| {
            let pauses = voice.is_quiet_for(PAUSE, now);
            (pauses, voice.level)
        };
        let first = self
            .voices
            .iter_mut()
            .filter(|voice| voice.let_in)
            .min_by(|a, b| {
                let ((a_pauses, a_level), (b_pauses, b_level)) = (rank(a), rank(b));
                b_pauses.cmp(&a_pauses).then(a_level.total_cmp(&b_level))
            })?;
        if !first.is_quiet_for(PAUSE, now) && level < first.level + MARGIN {
            return None;
        }
        first.let_in = false;
        // What has been forwarded is not sent again: its next packet is the first one held.
        first.held_from = u64::MAX;
        first.loud_packets = 0;
        Some(Some(first.track))
    }

    pub(super) fn holds(&self, track: u32) -> bool {
        let found = self.voices.iter().find(|voice| voice.track == track);
        found.is_some_and(|voice| !voice.let_in)
    }

    pub(super) fn forget(&mut self, track: u32) {
        self.voices.retain(|voice| voice.track != track);
    }
}

#[cfg(test)]
mod tests {

    use super::*;

    use crate::test_clock;

    const LOUD: u8 = 20;
    const QUIET: u8 = 90;

    /// A room in which everybody sends a packet every 20 ms.
    struct Meeting {
        loudest: Loudest,
        now: Instant,
        sequence: u64,
    }

    impl Meeting {
        pub(super) fn new(places: u8) -> Meeting {
            Meeting {
                loudest: Loudest::new(places),
                now: test_clock::start(),
                sequence: 1_000,
            }
        }

        /// One packet of each track; what became of each.
        fn step(&mut self, levels: &[u8]) -> Vec<Verdict> {
            self.now += Duration::from_millis(20);
            self.sequence += 1;
            let (now, sequence) = (self.now, self.sequence);
            (0..)
                .zip(levels)
                .map(|(track, &dbov)| self.loudest.observe(now, track, dbov, sequence))
                .collect()
        }

        fn run(&mut self, milliseconds: u64, levels: &[u8]) {
            for _ in 0..milliseconds / 20 {
                self.step(levels);
            }
        }

        fn heard(&self) -> Vec<u32> {
            let voices = self.loudest.voices.iter();
            voices.filter(|v| v.let_in).map(|v| v.track).collect()
        }
    }

    #[test]
    fn who_speaks_is_let_in_at_once_with_what_came_just_before() {
        let mut meeting = Meeting::new(2);
        meeting.run(1_000, &[QUIET, QUIET, QUIET]);
        assert!(meeting.heard().is_empty());
        meeting.step(&[QUIET, LOUD, QUIET]);
        let verdicts = meeting.step(&[QUIET, LOUD, QUIET]);
        let from = meeting.sequence - BEFORE;
        let let_in = Verdict::LetIn {
            from,
            displaced: None,
        };
        assert_eq!(verdicts, [Verdict::Hold, let_in, Verdict::Hold]);
        assert_eq!(meeting.step(&[QUIET; 3])[1], Verdict::Forward);
    }

    #[test]
    fn nobody_who_speaks_waits_where_there_are_places_for_all() {
        let mut meeting = Meeting::new(2);
        meeting.run(1_000, &[QUIET, QUIET]);
        assert!(meeting.heard().is_empty());
        let verdicts = meeting.step(&[QUIET, LOUD]);
        let is_let_in = |verdict| {
            matches!(
                verdict,
                Verdict::LetIn {
                    displaced: None,
                    ..
                }
            )
        };
        assert!(is_let_in(verdicts[1]) && verdicts[0] == Verdict::Hold);
        // With a third one it matters who does.
        meeting.run(3_000, &[QUIET, QUIET, QUIET]);
        assert_eq!(meeting.step(&[QUIET, LOUD, QUIET])[1], Verdict::Hold);
    }

    #[test]
    fn as_many_are_heard_as_there_are_places_when_more_speak() {
        let mut meeting = Meeting::new(3);
        meeting.run(3_000, &[30, 28, 26, 24, 22, 20]);
        assert_eq!(meeting.heard().len(), 3);
        let before = meeting.heard();
        meeting.run(3_000, &[24, 24, 24, 24, 24, 24]);
        assert_eq!(meeting.heard(), before, "equals keep their places");
    }

    #[test]
    fn somebody_clearly_louder_takes_the_place_of_the_quietest() {
        let mut meeting = Meeting::new(2);
        meeting.run(1_000, &[40, 30, QUIET]);
        assert_eq!(meeting.heard(), [0, 1]);
        meeting.run(200, &[40, 30, 20]);
        assert_eq!(meeting.heard(), [1, 2]);
    }

    #[test]
    fn a_place_is_free_for_anybody_once_its_owner_pauses() {
        let mut meeting = Meeting::new(1);
        meeting.run(1_000, &[20, QUIET]);
        meeting.run(700, &[QUIET, QUIET]);
        assert_eq!(meeting.heard(), [0]);
        meeting.run(40, &[QUIET, 40]);
        assert_eq!(meeting.heard(), [1]);
    }

    #[test]
    fn a_click_lets_nobody_in_and_long_silence_lets_out() {
        let mut meeting = Meeting::new(2);
        meeting.run(40, &[QUIET; 3]);
        for _ in 0..20 {
            meeting.step(&[LOUD, QUIET, QUIET]);
            meeting.step(&[QUIET; 3]);
        }
        assert!(meeting.heard().is_empty());
        meeting.run(100, &[LOUD, QUIET, QUIET]);
        assert_eq!(meeting.heard(), [0]);
        meeting.run(2_100, &[QUIET; 3]);
        assert!(meeting.heard().is_empty());
    }

    #[test]
    fn nothing_is_forwarded_twice() {
        let mut meeting = Meeting::new(1);
        let mut next = 0;
        for round in 0..2_000u64 {
            let level = |phase: u64| {
                if ((round + phase) / 37).is_multiple_of(3) {
                    LOUD
                } else {
                    QUIET
                }
            };
            let verdicts = meeting.step(&[level(0), level(50)]);
            match verdicts[0] {
                Verdict::Forward => {
                    assert!(meeting.sequence >= next);
                    next = meeting.sequence + 1;
                }
                Verdict::LetIn { from, .. } => {
                    assert!(from >= next, "{from} again, {next} is next");
                    next = meeting.sequence + 1;
                }
                _ => {}
            }
        }
    }
}
