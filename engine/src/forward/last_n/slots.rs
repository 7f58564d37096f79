//! Which audio tracks of a large room are forwarded (last-N): many microphones that nobody speaks
//! into are most of a room's packets.
//!
//! A track is admitted to a slot by its first loud packets, together with the packets just before
//! them, so that no first syllable is clipped. A slot is taken from its owner for a track that is
//! clearly louder, or once the owner has paused; an owner that stays silent is evicted. While there
//! are slots for all tracks, the first loud packet admits: if it is a click, it costs nobody a slot.
//! Tracks without audio levels, and the sound of shared screens, are always forwarded.
//!
//! Invariant: of the tracks in which somebody speaks, as many are admitted as there are slots.

use crate::state::table::TrackIx;
use std::time::{Duration, Instant};

/// A packet at this level or louder carries speech, in -dBov (RFC 6464). Our choice: room noise
/// through a browser's automatic gain control stays below it.
const SPEECH_LEVEL: u8 = 45;
/// This many loud packets in a row admit a track: a single one is a click. Our choice.
const LOUD_PACKETS: u8 = 2;
/// Held packets that are forwarded with the admitting one: 160 ms of Opus frames of 20 ms, the
/// length of an unstressed first syllable. Our choice.
pub(super) const PREROLL_PACKETS: u64 = 8;
/// An owner that has not been loud for this long loses its slot to any track in which somebody
/// speaks. Our choice: longer than the pauses between words.
const PAUSE: Duration = Duration::from_millis(600);
/// An owner that has not been loud for this long is evicted. Our choice.
const SILENCE: Duration = Duration::from_secs(2);
/// How much louder than the quietest owner a track must be to take its slot, dB. Our choice.
const MARGIN: f32 = 6.0;
/// Weight of a packet's level in the smoothed one while it rises. Our choice.
const ATTACK: f32 = 0.5;
/// Weight of a packet's level in the smoothed one while it falls. Our choice.
const DECAY: f32 = 0.05;

/// An audio track of the room, admitted or held.
#[derive(Debug)]
struct AudioTrack {
    /// Index of the track.
    track: TrackIx,
    admitted: bool,
    /// Smoothed level in dB above silence, 0 to 127.
    level: f32,
    loud_packets: u8,
    last_loud: Option<Instant>,
    /// Sequence number of the first packet that was held, while the track is not admitted.
    held_from: u64,
}

impl AudioTrack {
    fn new(track: TrackIx, admitted: bool, held_from: u64) -> AudioTrack {
        AudioTrack {
            track,
            admitted,
            level: 0.0,
            loud_packets: 0,
            last_loud: None,
            held_from,
        }
    }

    fn observe(&mut self, dbov: u8, now: Instant) {
        let level = 127.0 - f32::from(dbov.min(127));
        let weight = if level > self.level { ATTACK } else { DECAY };
        self.level += (level - self.level) * weight;
        if dbov <= SPEECH_LEVEL {
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

/// What is done with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its track has a slot.
    Forward,
    /// Its track has none.
    Hold,
    /// Its track loses its slot, and this is the first packet that is held.
    Evict,
    /// Its track gets a slot: the held packets from this sequence number on are forwarded before it.
    Admit {
        from: u64,
        /// The track whose slot it gets, if no slot was free.
        evicted: Option<TrackIx>,
    },
}

/// The audio tracks of one room and the slots that they compete for.
#[derive(Debug)]
pub(crate) struct AudioSlots {
    slots: usize,
    tracks: Vec<AudioTrack>,
}

impl AudioSlots {
    pub(super) fn new(slots: u8) -> AudioSlots {
        AudioSlots {
            slots: usize::from(slots),
            tracks: Vec::new(),
        }
    }

    /// Changes the number of slots. Tracks that were admitted stay so until they are evicted.
    pub(super) fn set_slots(&mut self, slots: u8) {
        self.slots = usize::from(slots);
    }

    /// How many tracks are forwarded at a time.
    pub(super) fn slots(&self) -> usize {
        self.slots
    }

    /// Decides about a packet of a track by its level, in -dBov.
    pub(super) fn observe(
        &mut self,
        now: Instant,
        track: TrackIx,
        dbov: u8,
        sequence: u64,
    ) -> Verdict {
        let found = self.tracks.iter().position(|known| known.track == track);
        let index = found.unwrap_or_else(|| {
            self.tracks.push(AudioTrack::new(track, false, sequence));
            self.tracks.len() - 1
        });
        let slots_for_all = self.tracks.len() <= self.slots;
        let state = &mut self.tracks[index];
        state.observe(dbov, now);
        if state.admitted {
            if !state.is_quiet_for(SILENCE, now) {
                return Verdict::Forward;
            }
            state.admitted = false;
            state.held_from = sequence;
            return Verdict::Evict;
        }
        // The publisher may have restarted with lower sequence numbers.
        state.held_from = state.held_from.min(sequence);
        let from = state
            .held_from
            .max(sequence.saturating_sub(PREROLL_PACKETS));
        let speaks = state.loud_packets >= if slots_for_all { 1 } else { LOUD_PACKETS };
        let slot = if speaks {
            self.take_slot(index, now)
        } else {
            None
        };
        match slot {
            Some(evicted) => {
                self.tracks[index].admitted = true;
                Verdict::Admit { from, evicted }
            }
            // Before the room had slots it was forwarded.
            None if found.is_none() => Verdict::Evict,
            None => Verdict::Hold,
        }
    }

    /// Takes a slot for a track: a free one, or that of the track that is given back. `None` when
    /// every owner keeps its slot.
    fn take_slot(&mut self, index: usize, now: Instant) -> Option<Option<TrackIx>> {
        let taken = self.tracks.iter().filter(|track| track.admitted).count();
        if taken < self.slots {
            return Some(None);
        }
        let level = self.tracks[index].level;
        let rank = |track: &AudioTrack| {
            let pauses = track.is_quiet_for(PAUSE, now);
            (pauses, track.level)
        };
        let quietest = self
            .tracks
            .iter_mut()
            .filter(|track| track.admitted)
            .min_by(|a, b| {
                let ((a_pauses, a_level), (b_pauses, b_level)) = (rank(a), rank(b));
                b_pauses.cmp(&a_pauses).then(a_level.total_cmp(&b_level))
            })?;
        if !quietest.is_quiet_for(PAUSE, now) && level < quietest.level + MARGIN {
            return None;
        }
        quietest.admitted = false;
        // What has been forwarded is not sent again: its next packet is the first one held.
        quietest.held_from = u64::MAX;
        quietest.loud_packets = 0;
        Some(Some(quietest.track))
    }

    /// Notes what the home of a track has decided about it. Whether that is new.
    pub(super) fn follow(&mut self, track: TrackIx, admitted: bool) -> bool {
        match self.tracks.iter_mut().find(|known| known.track == track) {
            Some(known) => std::mem::replace(&mut known.admitted, admitted) != admitted,
            None => {
                self.tracks.push(AudioTrack::new(track, admitted, 0));
                true
            }
        }
    }

    /// Whether a track is known and has no slot.
    pub(super) fn holds(&self, track: TrackIx) -> bool {
        let found = self.tracks.iter().find(|known| known.track == track);
        found.is_some_and(|track| !track.admitted)
    }

    /// Forgets a track that has ended.
    pub(super) fn forget(&mut self, track: TrackIx) {
        self.tracks.retain(|known| known.track != track);
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
        slots: AudioSlots,
        now: Instant,
        sequence: u64,
    }

    impl Meeting {
        pub(super) fn new(slots: u8) -> Meeting {
            Meeting {
                slots: AudioSlots::new(slots),
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
                .map(|(track, &dbov)| self.slots.observe(now, TrackIx(track), dbov, sequence))
                .collect()
        }

        fn run(&mut self, milliseconds: u64, levels: &[u8]) {
            for _ in 0..milliseconds / 20 {
                self.step(levels);
            }
        }

        fn heard(&self) -> Vec<TrackIx> {
            let tracks = self.slots.tracks.iter();
            tracks.filter(|t| t.admitted).map(|t| t.track).collect()
        }
    }

    #[test]
    fn who_speaks_is_admitted_at_once_with_what_came_just_before() {
        let mut meeting = Meeting::new(2);
        meeting.run(1_000, &[QUIET, QUIET, QUIET]);
        assert!(meeting.heard().is_empty());
        meeting.step(&[QUIET, LOUD, QUIET]);
        let verdicts = meeting.step(&[QUIET, LOUD, QUIET]);
        let from = meeting.sequence - PREROLL_PACKETS;
        let admit = Verdict::Admit {
            from,
            evicted: None,
        };
        assert_eq!(verdicts, [Verdict::Hold, admit, Verdict::Hold]);
        assert_eq!(meeting.step(&[QUIET; 3])[1], Verdict::Forward);
    }

    #[test]
    fn no_speaker_waits_where_there_are_slots_for_all() {
        let mut meeting = Meeting::new(2);
        meeting.run(1_000, &[QUIET, QUIET]);
        assert!(meeting.heard().is_empty());
        let verdicts = meeting.step(&[QUIET, LOUD]);
        let is_admitted = |verdict| matches!(verdict, Verdict::Admit { evicted: None, .. });
        assert!(is_admitted(verdicts[1]) && verdicts[0] == Verdict::Hold);
        // With a third one it matters who does.
        meeting.run(3_000, &[QUIET, QUIET, QUIET]);
        assert_eq!(meeting.step(&[QUIET, LOUD, QUIET])[1], Verdict::Hold);
    }

    #[test]
    fn as_many_tracks_are_admitted_as_there_are_slots() {
        let mut meeting = Meeting::new(3);
        meeting.run(3_000, &[30, 28, 26, 24, 22, 20]);
        assert_eq!(meeting.heard().len(), 3);
        let before = meeting.heard();
        meeting.run(3_000, &[24, 24, 24, 24, 24, 24]);
        assert_eq!(meeting.heard(), before, "equals keep their slots");
    }

    #[test]
    fn a_track_that_is_clearly_louder_takes_the_slot_of_the_quietest() {
        let mut meeting = Meeting::new(2);
        meeting.run(1_000, &[40, 30, QUIET]);
        assert_eq!(meeting.heard(), [TrackIx(0), TrackIx(1)]);
        meeting.run(200, &[40, 30, 20]);
        assert_eq!(meeting.heard(), [TrackIx(1), TrackIx(2)]);
    }

    #[test]
    fn a_slot_is_free_for_any_speaker_once_its_owner_pauses() {
        let mut meeting = Meeting::new(1);
        meeting.run(1_000, &[20, QUIET]);
        meeting.run(700, &[QUIET, QUIET]);
        assert_eq!(meeting.heard(), [TrackIx(0)]);
        meeting.run(40, &[QUIET, 40]);
        assert_eq!(meeting.heard(), [TrackIx(1)]);
    }

    #[test]
    fn a_click_admits_nobody_and_long_silence_evicts() {
        let mut meeting = Meeting::new(2);
        meeting.run(40, &[QUIET; 3]);
        for _ in 0..20 {
            meeting.step(&[LOUD, QUIET, QUIET]);
            meeting.step(&[QUIET; 3]);
        }
        assert!(meeting.heard().is_empty());
        meeting.run(100, &[LOUD, QUIET, QUIET]);
        assert_eq!(meeting.heard(), [TrackIx(0)]);
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
                Verdict::Admit { from, .. } => {
                    assert!(from >= next, "{from} again, {next} is next");
                    next = meeting.sequence + 1;
                }
                _ => {}
            }
        }
    }
}
