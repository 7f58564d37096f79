//! Whatever is switched, lost, reordered or muted: what a subscriber gets is numbered without
//! gaps, and every frame in it comes with the frames that it is predicted from.
//!
//! The sources know what each frame is predicted from, and the checks take it from there; they
//! share nothing with the selector but the bytes of the packets.

use std::collections::{BTreeMap, HashMap, HashSet};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::api::codec::Codec;
use crate::test_clock;
use crate::wire::payload::dependency_descriptor::tests::{
    L1T3, L2T2, L2T2_KEY, Template, descriptor,
};
use crate::wire::payload::reader::LayerReader;
use crate::wire::payload::{self, dependency_descriptor};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Encoding {
    /// VP8 with three temporal layers.
    Vp8,
    /// VP9 with two spatial and two temporal layers; the upper frames are predicted from the
    /// lower ones always, or in keyframes only.
    Vp9 { key_only: bool },
    /// AV1 with a dependency descriptor.
    Av1(&'static [Template]),
}

/// A packet as it leaves the publisher.
#[derive(Debug, Clone)]
struct Sent {
    sequence: u64,
    timestamp: u32,
    payload: Vec<u8>,
    descriptor: Option<Vec<u8>>,
    marker: bool,
    frame: usize,
}

/// A frame as the encoder made it.
#[derive(Debug)]
struct Frame {
    predicted_from: Vec<usize>,
    packets: u64,
}

/// One encoder with its packetizer.
struct Source {
    encoding: Encoding,
    sequence: u64,
    timestamp: u32,
    picture_id: u16,
    tl0: u8,
    frame_number: u16,
    /// Pictures since the keyframe.
    picture: usize,
    /// The last frame by spatial and temporal layer.
    last: HashMap<(u8, u8), usize>,
}

impl Source {
    fn new(encoding: Encoding, rng: &mut SmallRng) -> Source {
        Source {
            encoding,
            sequence: rng.random_range(1_000..60_000),
            timestamp: rng.random(),
            picture_id: rng.random::<u16>() & 0x7fff,
            tl0: rng.random(),
            frame_number: rng.random(),
            picture: 0,
            last: HashMap::new(),
        }
    }

    /// The packets of the next picture, its frames added to all frames.
    fn picture(
        &mut self,
        keyframe: bool,
        frames: &mut Vec<Frame>,
        rng: &mut SmallRng,
    ) -> Vec<Sent> {
        if keyframe || self.last.is_empty() {
            self.picture = 0;
            self.last.clear();
        }
        let (spatial_layers, pattern): (u8, &[u8]) = match self.encoding {
            Encoding::Vp8 => (1, &[0, 2, 1, 2]),
            Encoding::Vp9 { .. } => (2, &[0, 1]),
            Encoding::Av1(templates) if templates == L1T3 => (1, &[0, 2, 1, 2]),
            Encoding::Av1(_) => (2, &[0, 1]),
        };
        let place = self.picture % pattern.len();
        let temporal = pattern[place];
        if temporal == 0 {
            self.tl0 = self.tl0.wrapping_add(1);
        }
        let mut packets = Vec::new();
        for spatial in 0..spatial_layers {
            let predicted_from = self.references(spatial, temporal, place);
            let count = rng.random_range(1..4);
            for index in 0..count {
                let (first, last) = (index == 0, index + 1 == count);
                let frame = frames.len();
                packets.push(self.packet(spatial, temporal, place, frame, first, last));
            }
            self.last.insert((spatial, temporal), frames.len());
            if spatial == 0 && self.picture == 0 {
                self.last.retain(|_, frame| *frame == frames.len());
            }
            frames.push(Frame {
                predicted_from,
                packets: count,
            });
            self.frame_number = self.frame_number.wrapping_add(1);
        }
        packets.last_mut().unwrap().marker = true;
        self.picture += 1;
        self.picture_id = (self.picture_id + 1) & 0x7fff;
        self.timestamp = self.timestamp.wrapping_add(3_000);
        packets
    }

    /// What the next frame is predicted from.
    fn references(&self, spatial: u8, temporal: u8, place: usize) -> Vec<usize> {
        let key = self.picture == 0;
        let own = |temporal| self.last.get(&(spatial, temporal)).copied();
        let mut from = Vec::new();
        if !key {
            // The second frame of the highest of three rates builds on the middle one.
            let below = if place == 3 { 1 } else { 0 };
            from.extend(own(if temporal == 0 { 0 } else { below }));
        }
        let inter_layer = match self.encoding {
            Encoding::Vp9 { key_only } => key || !key_only,
            Encoding::Av1(templates) => key || templates == L2T2,
            Encoding::Vp8 => false,
        };
        if spatial > 0 && inter_layer {
            from.extend(self.last.get(&(spatial - 1, temporal)).copied());
        }
        from
    }

    fn packet(
        &mut self,
        spatial: u8,
        temporal: u8,
        place: usize,
        frame: usize,
        first: bool,
        last: bool,
    ) -> Sent {
        let key = self.picture == 0;
        let [high, low] = (self.picture_id | 0x8000).to_be_bytes();
        let mut dependency_descriptor = None;
        let payload = match self.encoding {
            Encoding::Vp8 => {
                // Every frame but the second of the highest rate needs the lowest rate only.
                let sync = u8::from(temporal > 0 && place != 3);
                let start = 0x80 | u8::from(first) << 4;
                let layer = temporal << 6 | sync << 5;
                vec![start, 0xe0, high, low, self.tl0, layer, u8::from(!key)]
            }
            Encoding::Vp9 { key_only } => {
                let not_for_upper = spatial == 1 || (key_only && !key);
                let flags = 0xa0
                    | u8::from(!key) << 6
                    | u8::from(first) << 3
                    | u8::from(last) << 2
                    | u8::from(key && first && spatial == 0) << 1
                    | u8::from(not_for_upper);
                let inter_layer = spatial == 1 && (key || !key_only);
                let up = u8::from(temporal == 0);
                let layer = temporal << 5 | up << 4 | spatial << 1 | u8::from(inter_layer);
                // Ends with a structure of two layers where one is announced.
                vec![flags, high, low, layer, self.tl0, 0x20, 0]
            }
            Encoding::Av1(templates) => {
                let template = templates
                    .iter()
                    .enumerate()
                    .filter(|(_, template)| (template.0, template.1) == (spatial, temporal));
                let mut of_layer = template.map(|(index, _)| index);
                let template = match (key, temporal) {
                    (false, 0) => of_layer.nth(1),
                    _ => of_layer.next(),
                };
                let structure = (key && first && spatial == 0).then_some(templates);
                let template = template.unwrap();
                dependency_descriptor = Some(descriptor(
                    first,
                    last,
                    template,
                    5,
                    self.frame_number,
                    structure,
                ));
                vec![0x10, 0]
            }
        };
        self.sequence += 1;
        Sent {
            sequence: self.sequence,
            timestamp: self.timestamp,
            payload,
            descriptor: dependency_descriptor,
            marker: false,
            frame,
        }
    }
}

/// A packet as the subscriber gets it.
#[derive(Debug, Clone, PartialEq)]
struct Got {
    stream: u8,
    source: u64,
    frame: usize,
    rewrite: Rewrite,
    counters: PictureCounters,
    marker: bool,
}

struct Meeting {
    rng: SmallRng,
    codec: Codec,
    sources: Vec<Source>,
    readers: Vec<LayerReader>,
    frames: Vec<Frame>,
    forwarder: Forwarder,
    now: Instant,
    /// Packets under way: after how many others they arrive.
    late: Vec<(u32, u8, Sent)>,
    got: BTreeMap<u64, Got>,
    /// What has arrived, by stream and sequence number.
    cache: HashMap<(u8, u64), (Sent, SourcePacket)>,
    /// Source packets that came, or will come, out of their order.
    disturbed: usize,
}

impl Meeting {
    fn new(encoding: Encoding, streams: usize, seed: u64) -> Meeting {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut forwarder = Forwarder::new(90_000, rng.random());
        forwarder.set_target(Some(0), LayerId::new(0, 0));
        Meeting {
            codec: match encoding {
                Encoding::Vp8 => Codec::Vp8,
                Encoding::Vp9 { .. } => Codec::Vp9,
                Encoding::Av1(_) => Codec::Av1,
            },
            sources: (0..streams)
                .map(|_| Source::new(encoding, &mut rng))
                .collect(),
            readers: (0..streams).map(|_| LayerReader::default()).collect(),
            frames: Vec::new(),
            forwarder,
            now: test_clock::start(),
            late: Vec::new(),
            got: BTreeMap::new(),
            cache: HashMap::new(),
            disturbed: 0,
            rng,
        }
    }

    /// Runs for some pictures; a packet in `late_one_in` arrives late, none when it is 0.
    fn run(&mut self, pictures: usize, late_one_in: u32) {
        for _ in 0..pictures {
            self.now += Duration::from_millis(33);
            match self.rng.random_range(0..40u8) {
                0 => self.forwarder.pause(),
                1..4 => {
                    let stream = self.rng.random_range(0..self.sources.len()) as u8;
                    let within =
                        LayerId::new(self.rng.random_range(0..2), self.rng.random_range(0..3));
                    let within = match self.sources.len() {
                        1 => within,
                        _ => LayerId {
                            spatial: 0,
                            ..within
                        },
                    };
                    self.forwarder.set_target(Some(stream), within);
                }
                _ => {}
            }
            for stream in 0..self.sources.len() {
                let wanted = self.forwarder.needs_keyframe() == Some(stream as u8);
                let keyframe = wanted && self.rng.random_range(0..4u8) == 0;
                let packets =
                    self.sources[stream].picture(keyframe, &mut self.frames, &mut self.rng);
                for packet in packets {
                    if late_one_in > 0 && self.rng.random_range(0..late_one_in) == 0 {
                        self.disturbed += 1;
                        let after = self.rng.random_range(1..40);
                        self.late.push((after, stream as u8, packet));
                    } else {
                        self.arrive(stream as u8, &packet);
                    }
                }
            }
            self.ask_again();
        }
        while !self.late.is_empty() {
            self.age();
            self.ask_again();
        }
    }

    /// The subscriber asks for what it misses of the last hundred packets.
    fn ask_again(&mut self) {
        let Some((&lowest, &highest)) = self.got.keys().next().zip(self.got.keys().last()) else {
            return;
        };
        for missing in highest.saturating_sub(100).max(lowest)..highest {
            if self.got.contains_key(&missing) {
                continue;
            }
            let Some(found) = self.forwarder.sent_as(missing as u16) else {
                continue;
            };
            assert_eq!(found.sent, missing);
            let Some((sent, packet)) = self.cache.get(&(found.layer, found.source)) else {
                continue;
            };
            if let Some(rewrite) = self.forwarder.rewrite_again(missing, &packet.into()) {
                let got = got(self.codec, found.layer, sent, rewrite);
                self.got.insert(missing, got);
            }
        }
    }

    fn age(&mut self) {
        for (after, ..) in &mut self.late {
            *after -= 1;
        }
        let (due, late) = self.late.drain(..).partition(|(after, ..)| *after == 0);
        self.late = late;
        let due: Vec<(u32, u8, Sent)> = due;
        for (_, stream, packet) in due {
            self.forward(stream, &packet);
        }
    }

    fn arrive(&mut self, stream: u8, packet: &Sent) {
        self.forward(stream, packet);
        self.age();
    }

    fn forward(&mut self, stream: u8, sent: &Sent) {
        let layers = self.readers[usize::from(stream)].read(
            self.codec,
            sent.sequence,
            sent.timestamp,
            &sent.payload,
            sent.descriptor.as_deref(),
        );
        let packet = SourcePacket {
            layer: stream,
            sequence: sent.sequence,
            timestamp: sent.timestamp,
            layers,
        };
        self.cache
            .insert((stream, sent.sequence), (sent.clone(), packet));
        let rewrite = if self.forwarder.layer() == Some(stream) {
            self.forwarder.next(&packet, self.now)
        } else if self.forwarder.starts_with(&packet) {
            Some(self.forwarder.start(&packet, self.now, None))
        } else {
            None
        };
        let Some(rewrite) = rewrite else {
            return;
        };
        let found = self.forwarder.sent_as(rewrite.sequence as u16).unwrap();
        assert_eq!(
            (found.sent, found.layer, found.source),
            (rewrite.sequence, stream, sent.sequence)
        );
        let again = self.forwarder.rewrite_again(found.sent, &(&packet).into());
        assert_eq!(again, Some(rewrite), "a repetition is the same");
        let former = self
            .got
            .insert(rewrite.sequence, got(self.codec, stream, sent, rewrite));
        assert_eq!(former, None, "a number is given once");
    }

    /// Every frame that came whole has what it is predicted from.
    fn check_decodable(&self) {
        let mut packets: HashMap<usize, u64> = HashMap::new();
        for got in self.got.values() {
            *packets.entry(got.frame).or_default() += 1;
        }
        let whole = |frame: &usize| packets.get(frame) == Some(&self.frames[*frame].packets);
        for frame in packets.keys().filter(|frame| whole(frame)) {
            for reference in &self.frames[*frame].predicted_from {
                assert!(
                    whole(reference),
                    "{:?}: frame {frame} lacks {reference}, of which {:?} of {} came",
                    self.sources[0].encoding,
                    packets.get(reference),
                    self.frames[*reference].packets
                );
            }
        }
    }

    /// Numbers grow by one, and pictures end with a marker; frame by frame in order.
    fn check_continuous(&self) {
        let mut last: Option<(&u64, &Got)> = None;
        for (sequence, got) in &self.got {
            if let Some((before, former)) = last {
                assert_eq!(*sequence, before + 1);
                let same_picture = former.rewrite.timestamp == got.rewrite.timestamp;
                assert_eq!(former.marker, !same_picture, "at {sequence}");
                let ahead = got.rewrite.timestamp.wrapping_sub(former.rewrite.timestamp);
                assert!(ahead < 90_000 * 60, "time runs forward");
            }
            last = Some((sequence, got));
        }
    }

    /// The frames that came, in order, each with its sent counters.
    fn frames_got(&self) -> Vec<(&Got, PictureCounters)> {
        let mut seen = HashSet::new();
        let first = self.got.values().filter(move |got| seen.insert(got.frame));
        first.map(|got| (got, got.counters)).collect()
    }
}

fn got(codec: Codec, stream: u8, sent: &Sent, rewrite: Rewrite) -> Got {
    let mut payload = sent.payload.clone();
    let mut descriptor = sent.descriptor.clone().unwrap_or_default();
    if let Some(counters) = &rewrite.counters {
        payload::patch_counters(codec, &mut payload, counters);
        dependency_descriptor::patch_frame_number(&mut descriptor, counters.frame_number);
    }
    Got {
        stream,
        source: sent.sequence,
        frame: sent.frame,
        counters: PictureCounters {
            frame_number: dependency_descriptor::frame_number(&descriptor),
            ..payload::counters(codec, &payload)
        },
        marker: sent.marker || rewrite.ends_picture,
        rewrite,
    }
}

const ENCODINGS: [(Encoding, usize); 8] = [
    (Encoding::Vp8, 1),
    (Encoding::Vp8, 3),
    (Encoding::Vp9 { key_only: false }, 1),
    (Encoding::Vp9 { key_only: true }, 1),
    (Encoding::Av1(L1T3), 1),
    (Encoding::Av1(L1T3), 3),
    (Encoding::Av1(L2T2), 1),
    (Encoding::Av1(L2T2_KEY), 1),
];

#[test]
fn random_switches_leave_no_gap_and_nothing_undecodable() {
    for (encoding, streams) in ENCODINGS {
        for seed in 0..12 {
            let mut meeting = Meeting::new(encoding, streams, seed);
            meeting.run(400, 0);
            assert!(meeting.got.len() > 100, "{encoding:?}, seed {seed}");
            meeting.check_continuous();
            meeting.check_decodable();
        }
    }
}

#[test]
fn late_packets_fill_their_gaps_and_break_nothing() {
    for (encoding, streams) in ENCODINGS {
        for seed in 0..12 {
            let mut meeting = Meeting::new(encoding, streams, seed);
            meeting.run(400, 20);
            let (first, last) = (meeting.got.keys().min(), meeting.got.keys().max());
            let numbers = last.unwrap() - first.unwrap() + 1;
            let gaps = numbers as usize - meeting.got.len();
            assert!(
                gaps <= meeting.disturbed,
                "{encoding:?}, seed {seed}: {gaps}"
            );
            meeting.check_decodable();
        }
    }
}

#[test]
fn vp8_pictures_count_by_one_and_base_frames_too() {
    for streams in [1, 3] {
        for seed in 0..12 {
            let mut meeting = Meeting::new(Encoding::Vp8, streams, seed);
            meeting.run(400, 0);
            let frames = meeting.frames_got();
            for pair in frames.windows(2) {
                let step = pair[1].1.since(pair[0].1);
                assert_eq!(step.picture_id, 1, "seed {seed}");
                assert!(step.tl0 <= 1, "seed {seed}");
            }
        }
    }
}

#[test]
fn frame_numbers_keep_the_distances_by_which_frames_refer_to_each_other() {
    for (encoding, streams) in ENCODINGS {
        let mut meeting = Meeting::new(encoding, streams, 3);
        meeting.run(400, 0);
        let frames = meeting.frames_got();
        let number: HashMap<usize, PictureCounters> = frames
            .iter()
            .map(|(got, counters)| (got.frame, *counters))
            .collect();
        for (got, counters) in &frames {
            for reference in &meeting.frames[got.frame].predicted_from {
                let distance = counters.since(number[reference]);
                let frame_distance = (got.frame - reference) / streams;
                match encoding {
                    Encoding::Av1(_) if streams == 1 => {
                        assert_eq!(usize::from(distance.frame_number), frame_distance);
                    }
                    Encoding::Vp9 { .. } => {
                        // Two frames a picture.
                        let pictures = got.frame / 2 - reference / 2;
                        assert_eq!(usize::from(distance.picture_id), pictures);
                    }
                    _ => assert!(distance.frame_number < 8),
                }
            }
        }
    }
}

#[test]
fn targets_are_reached() {
    for (encoding, streams) in ENCODINGS {
        let mut meeting = Meeting::new(encoding, streams, 1);
        meeting.run(200, 0);
        let spatial = match encoding {
            Encoding::Vp9 { .. } => 1,
            Encoding::Av1(templates) if templates != L1T3 => 1,
            _ => 0,
        };
        for target in [
            LayerId::new(spatial, 2),
            LayerId::new(0, 0),
            LayerId::new(spatial, 1),
        ] {
            for _ in 0..40 {
                meeting.forwarder.set_target(Some(0), target);
                meeting.run_quietly();
            }
            assert_eq!(meeting.forwarder.layer(), Some(0));
            assert_eq!(meeting.forwarder.current(), Some(target), "{encoding:?}");
            assert_eq!(meeting.forwarder.needs_keyframe(), None);
        }
        meeting.check_decodable();
        meeting.check_continuous();
    }
}

impl Meeting {
    /// One picture of each source, with the keyframes that are needed and nothing else.
    fn run_quietly(&mut self) {
        self.now += Duration::from_millis(33);
        for stream in 0..self.sources.len() {
            let keyframe = self.forwarder.needs_keyframe() == Some(stream as u8);
            let packets = self.sources[stream].picture(keyframe, &mut self.frames, &mut self.rng);
            for packet in packets {
                self.arrive(stream as u8, &packet);
            }
        }
    }
}
