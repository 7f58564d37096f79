//! Last-N in a room that is spread over shards: a subscriber is sent the same
//! tracks as if all participants were on one.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use crate::api::codec::MediaKind;
use crate::api::command::{Command, NewTrack, TrackSource};
use crate::api::ids::{ShardId, SubscriptionId, TrackId, TransportId};
use crate::forward::relay_batch::RelayBatch;
use crate::test_room::{ROOM, TestPacket, TestRoom};

const SPEAKERS: u32 = 6;
const LISTENERS: u32 = 6;
/// The first listener's number.
const FIRST: u32 = 50;
const STEP: Duration = Duration::from_millis(20);
/// Longer than what crosses between shards waits for more.
const CROSSING: Duration = Duration::from_millis(2);
const LOUD: u8 = 20;
const QUIET: u8 = 90;

/// What happens in the room.
#[derive(Debug, Clone)]
enum Step {
    /// To every shard.
    Everywhere(Command),
    Subscribe {
        listener: u32,
        track: u32,
        number: u32,
    },
    /// Every speaker sends a packet of this level, in -dBov.
    Speak([u8; SPEAKERS as usize]),
}

/// What happens in a meeting, drawn at random.
fn script(rng: &mut SmallRng) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut speaks = [false; SPEAKERS as usize];
    let mut subscribed: Vec<(u32, u32, u32)> = Vec::new();
    for number in 0..150 {
        match rng.random_range(0..10u8) {
            0..4 => {
                let listener = rng.random_range(FIRST..FIRST + LISTENERS);
                let track = rng.random_range(1..=SPEAKERS);
                let known = |s: &(u32, u32, u32)| s.0 == listener && s.1 == track;
                match subscribed.iter().position(known) {
                    Some(place) => {
                        let (.., number) = subscribed.swap_remove(place);
                        let id = SubscriptionId(number.into());
                        steps.push(Step::Everywhere(Command::RemoveSubscription(id)));
                    }
                    None => {
                        let number = 1_000 + number;
                        subscribed.push((listener, track, number));
                        steps.push(Step::Subscribe {
                            listener,
                            track,
                            number,
                        });
                    }
                }
            }
            4 => {
                let slots = rng.random_bool(0.9).then(|| rng.random_range(1..4));
                steps.push(Step::Everywhere(Command::SetLastN { room: ROOM, slots }));
            }
            5 => steps.push(Step::Everywhere(Command::SetTrackMuted {
                track: TrackId(rng.random_range(1..=SPEAKERS.into())),
                muted: rng.random_bool(0.5),
            })),
            _ => {
                let speaker = rng.random_range(0..SPEAKERS as usize);
                speaks[speaker] = !speaks[speaker];
            }
        }
        // Some are silent for long enough to lose their place.
        let packets = if rng.random_bool(0.04) { 120 } else { 6 };
        for _ in 0..packets {
            let level = |speaks: bool| {
                let base = if speaks { LOUD } else { QUIET };
                base + rng.random_range(0..10)
            };
            steps.push(Step::Speak(speaks.map(level)));
        }
    }
    steps
}

/// A room on several shards, with its speakers on the first.
struct Spread {
    shards: Vec<TestRoom>,
    /// On which shard each listener is.
    places: Vec<usize>,
    sequence: u16,
    subscriptions: Vec<(u32, u32)>,
}

impl Spread {
    fn new(places: &[usize]) -> Spread {
        let count = places.iter().max().map_or(1, |last| last + 1);
        let mut shards: Vec<TestRoom> = (0..count).map(|_| TestRoom::new()).collect();
        for speaker in 1..=SPEAKERS {
            shards[0].connect(speaker);
            shards[0].publish(TransportId(speaker.into()), speaker, MediaKind::Audio);
            for far in &mut shards[1..] {
                far.command(Command::MirrorTrack {
                    track: Box::new(NewTrack {
                        track: TrackId(speaker.into()),
                        transport: TransportId(speaker.into()),
                        kind: MediaKind::Audio,
                        screen: false,
                        encrypted: false,
                        source: TrackSource::default(),
                    }),
                    room: ROOM,
                    home: ShardId(0),
                });
            }
        }
        for (listener, &place) in (FIRST..).zip(places) {
            shards[place].connect(listener);
        }
        Spread {
            shards,
            places: places.to_vec(),
            sequence: 0,
            subscriptions: Vec::new(),
        }
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Everywhere(command) => {
                for shard in &mut self.shards {
                    shard.command(command.clone());
                }
                self.cross();
            }
            &Step::Subscribe {
                listener,
                track,
                number,
            } => {
                let shard = &mut self.shards[self.places[(listener - FIRST) as usize]];
                shard.subscribe(TransportId(listener.into()), track, number);
                self.subscriptions.push((listener, number));
                self.cross();
            }
            Step::Speak(levels) => {
                self.sequence += 1;
                for (speaker, &level) in (1..).zip(levels) {
                    let [high, low] = self.sequence.to_be_bytes();
                    self.shards[0].send(
                        TransportId(u64::from(speaker)),
                        &TestPacket {
                            ssrc: speaker,
                            sequence: self.sequence,
                            timestamp: 960 * u32::from(self.sequence),
                            level: Some(level),
                            payload: &[speaker as u8, high, low, level],
                            ..TestPacket::default()
                        },
                    );
                }
                self.cross();
                for shard in &mut self.shards {
                    shard.run(STEP - 2 * CROSSING);
                }
            }
        }
    }

    /// Wishes cross to the speakers' shard, and packets from there, until nobody has any more.
    fn cross(&mut self) {
        for _ in 0..2 {
            for shard in &mut self.shards {
                shard.run(CROSSING);
            }
            for from in 0..self.shards.len() {
                for to in 0..self.shards.len() {
                    let mut batch = RelayBatch::default();
                    if self.shards[from]
                        .engine
                        .poll_relay(ShardId(to as u32), &mut batch)
                    {
                        self.shards[to].handle_relay(ShardId(from as u32), &batch);
                    }
                }
            }
        }
    }

    /// The packets that each subscription received, by sequence number without gaps.
    fn heard(&self) -> Vec<Vec<Vec<u8>>> {
        let of_one = |&(listener, number): &(u32, u32)| {
            let shard = &self.shards[self.places[(listener - FIRST) as usize]];
            let got = shard.got(TransportId(listener.into()), number);
            for pair in got.windows(2) {
                let next = pair[0].header.sequence.wrapping_add(1);
                assert_eq!(pair[1].header.sequence, next, "of {number}");
            }
            got.into_iter().map(|got| got.payload).collect()
        };
        self.subscriptions.iter().map(of_one).collect()
    }
}

#[test]
fn a_subscriber_is_sent_the_same_on_any_shard() {
    let mut heard = 0;
    for seed in 0..4 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let places: Vec<usize> = (0..LISTENERS).map(|_| rng.random_range(0..4)).collect();
        let script = script(&mut rng);
        let mut together = Spread::new(&[0; LISTENERS as usize]);
        let mut spread = Spread::new(&places);
        for step in &script {
            together.play(step);
            spread.play(step);
        }
        let (expected, got) = (together.heard(), spread.heard());
        for ((expected, got), subscription) in expected.iter().zip(&got).zip(&spread.subscriptions)
        {
            assert_eq!(got, expected, "seed {seed}, {places:?}, {subscription:?}");
            heard += got.len();
        }
    }
    assert!(heard > 5_000, "{heard} packets");
}
