//! One track as a browser publishes it: packets of an encoder's frames, with a history from
//! which it answers retransmission requests.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use moim_engine::codec::{Codec, RED_PAYLOAD_TYPE};
use moim_engine::ids::TrackId;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::encoder::{Encoder, Frame, Video};
use super::packet::{Stamp, extension, header};

/// Payload bytes of a packet at most.
const MAX_PAYLOAD: usize = 1_160;
/// Packets that a stream can send again.
const HISTORY: usize = 700;
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
/// In silence a DTX encoder sends one frame out of this many.
const DTX_FRAMES: u32 = 20;
/// The levels of speech and silence, -dBov.
const LEVELS: (u8, u8) = (25, 127);

/// What a microphone sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Audio {
    /// Each packet also carries the frame before it (RED, RFC 2198).
    pub(crate) red: bool,
    /// Whether somebody speaks; in silence next to nothing is sent.
    pub(crate) speaking: bool,
}

#[derive(Debug)]
enum Source {
    Video(Encoder),
    Audio {
        audio: Audio,
        frame: u32,
        /// The frame before, for RED.
        former: Option<Vec<u8>>,
        random: SmallRng,
    },
}

/// One SSRC.
#[derive(Debug)]
struct Stream {
    ssrc: u32,
    rtx_ssrc: u32,
    rid: Option<&'static [u8]>,
    sequence: u32,
    rtx_sequence: u32,
    tl0: u8,
    packets: u32,
    octets: u32,
    /// Sequence number, and the packet from its payload on.
    history: VecDeque<(u16, Sent)>,
}

#[derive(Debug, Clone)]
struct Sent {
    marker: bool,
    timestamp: u32,
    payload: Vec<u8>,
}

/// A packet to be encrypted.
pub(super) struct Plain {
    pub(super) ssrc: u32,
    /// Extended sequence number.
    pub(super) sequence: u32,
    pub(super) header_len: usize,
    pub(super) bytes: Vec<u8>,
}

/// A published track at its publisher.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) track: TrackId,
    mid: u8,
    codec: Codec,
    source: Source,
    streams: Vec<Stream>,
    timestamp: u32,
    /// When the next frame is made.
    pub(super) due: Instant,
    pub(super) muted: bool,
    /// Packets of padding that go out with the next frame, as a browser probes its network.
    pub(super) padding: u32,
    /// Audio frames made so far that hold sound.
    pub(super) frames: u32,
    epoch: Instant,
}

/// The RIDs of simulcast layers, lowest first.
pub(super) const RIDS: [&str; 3] = ["q", "h", "f"];

impl Publication {
    pub(super) fn video(
        epoch: Instant,
        due: Instant,
        track: TrackId,
        mid: u8,
        video: Video,
        seed: u64,
    ) -> Publication {
        let count = if video.simulcast() { 3 } else { 1 };
        let codec = if video == Video::Svc {
            Codec::Vp9
        } else {
            Codec::Vp8
        };
        let stream = |index: usize| {
            let rid = (count > 1).then(|| RIDS[index].as_bytes());
            Stream::new(track.0 as u32 * 100 + index as u32, rid)
        };
        Publication {
            track,
            mid,
            codec,
            source: Source::Video(Encoder::new(video, seed)),
            streams: (0..count).map(stream).collect(),
            timestamp: track.0 as u32 * 1_000_000,
            due,
            muted: false,
            padding: 0,
            frames: 0,
            epoch,
        }
    }

    pub(super) fn audio(
        epoch: Instant,
        due: Instant,
        track: TrackId,
        mid: u8,
        audio: Audio,
        seed: u64,
    ) -> Publication {
        Publication {
            track,
            mid,
            codec: Codec::Opus,
            source: Source::Audio {
                audio,
                frame: 0,
                former: None,
                random: SmallRng::seed_from_u64(seed),
            },
            streams: vec![Stream::new(track.0 as u32 * 100, None)],
            timestamp: track.0 as u32 * 1_000_000,
            due,
            muted: false,
            padding: 0,
            frames: 0,
            epoch,
        }
    }

    /// Which layers the server wants.
    pub(super) fn set_layers(&mut self, wanted: &[bool]) {
        if let Source::Video(encoder) = &mut self.source {
            encoder.set_active(wanted);
        }
    }

    pub(super) fn set_speaking(&mut self, speaking: bool) {
        if let Source::Audio { audio, .. } = &mut self.source {
            audio.speaking = speaking;
        }
    }

    pub(super) fn keyframe_wanted(&mut self, ssrc: u32) {
        if let Source::Video(encoder) = &mut self.source
            && let Some(layer) = self.streams.iter().position(|stream| stream.ssrc == ssrc)
        {
            encoder.request_keyframe(layer);
        }
    }

    /// The next frame is due after this interval.
    fn advance(&mut self, interval: Duration) {
        let ticks = interval.as_nanos() as u64 * u64::from(self.codec.clock_rate());
        let ticks = (ticks + 500_000_000) / 1_000_000_000;
        self.timestamp = self.timestamp.wrapping_add(ticks as u32);
        self.due += interval;
    }

    /// The packets of the frame that is due; `transport_cc` counts packets of the connection.
    pub(super) fn produce(&mut self, now: Instant, transport_cc: &mut u16) -> Vec<Plain> {
        let created = now.duration_since(self.epoch);
        let mut packets = Vec::new();
        let interval = match &mut self.source {
            Source::Video(encoder) => {
                let frames = encoder.next_picture();
                let (simulcast, interval) = (encoder.video.simulcast(), encoder.video.interval());
                let descriptor = match encoder.video {
                    Video::Svc => vp9_descriptor,
                    _ => vp8_descriptor,
                };
                let payload_type = self.codec.payload_type();
                for frame in frames.iter().filter(|_| !self.muted) {
                    let layer = usize::from(simulcast) * usize::from(frame.layer);
                    let stream = &mut self.streams[layer];
                    for (payload, marker) in packetize(frame, created, stream, descriptor) {
                        let sent = Sent {
                            marker,
                            timestamp: self.timestamp,
                            payload,
                        };
                        let packet = stream.send(self.mid, payload_type, sent, &[], transport_cc);
                        packets.push(packet);
                    }
                }
                for _ in 0..std::mem::take(&mut self.padding) {
                    let lowest = &mut self.streams[0];
                    let padding =
                        lowest.padding(self.mid, payload_type, self.timestamp, transport_cc);
                    packets.push(padding);
                }
                interval
            }
            Source::Audio {
                audio,
                frame,
                former,
                random,
            } => {
                let number = *frame;
                *frame += 1;
                let sounds = audio.speaking && !self.muted;
                if sounds || (!self.muted && number % DTX_FRAMES == 0) {
                    self.frames += u32::from(sounds);
                    let level = if sounds { LEVELS.0 } else { LEVELS.1 };
                    let size = if sounds {
                        random.random_range(60..=120)
                    } else {
                        24
                    };
                    let this = audio_frame(created, number, size);
                    let payload = match (audio.red, former.take()) {
                        (false, _) => this.clone(),
                        (true, former) => red(&this, former.as_deref()),
                    };
                    *former = sounds.then_some(this);
                    let sent = Sent {
                        marker: false,
                        timestamp: self.timestamp,
                        payload,
                    };
                    let level = [(extension::AUDIO_LEVEL, &[level][..])];
                    let stream = &mut self.streams[0];
                    let payload_type = if audio.red {
                        RED_PAYLOAD_TYPE
                    } else {
                        self.codec.payload_type()
                    };
                    let packet = stream.send(self.mid, payload_type, sent, &level, transport_cc);
                    packets.push(packet);
                } else {
                    *former = None;
                }
                AUDIO_INTERVAL
            }
        };
        self.advance(interval);
        packets
    }

    /// The packets requested by NACK, on the retransmission stream where the codec has one.
    pub(super) fn again(
        &mut self,
        ssrc: u32,
        sequences: &[u16],
        transport_cc: &mut u16,
    ) -> Vec<Plain> {
        let (mid, codec) = (self.mid, self.codec);
        let Some(stream) = self.streams.iter_mut().find(|stream| stream.ssrc == ssrc) else {
            return Vec::new();
        };
        let Some(payload_type) = codec.rtx_payload_type() else {
            return Vec::new();
        };
        let again = |sequence: &u16| stream.again(mid, payload_type, *sequence, transport_cc);
        sequences.iter().filter_map(again).collect()
    }

    /// What sender reports say of each stream that is sent: SSRC, timestamp now, packets, bytes.
    pub(super) fn sent(&self, now: Instant) -> impl Iterator<Item = (u32, u32, u32, u32)> {
        // The timestamp is already that of the frame that is due next.
        let until = self.due.saturating_duration_since(now).as_secs_f64();
        let ticks = (until * f64::from(self.codec.clock_rate())) as u32;
        let timestamp = self.timestamp.wrapping_sub(ticks);
        self.streams
            .iter()
            .filter(|stream| stream.packets > 0)
            .map(move |stream| (stream.ssrc, timestamp, stream.packets, stream.octets))
    }
}

impl Stream {
    fn new(ssrc: u32, rid: Option<&'static [u8]>) -> Stream {
        Stream {
            ssrc,
            rtx_ssrc: ssrc + 50,
            rid,
            sequence: 65_000,
            rtx_sequence: 1,
            tl0: 0,
            packets: 0,
            octets: 0,
            history: VecDeque::new(),
        }
    }

    fn send(
        &mut self,
        mid: u8,
        payload_type: u8,
        sent: Sent,
        more: &[(u8, &[u8])],
        transport_cc: &mut u16,
    ) -> Plain {
        let (mid, number) = ([mid], transport_cc.to_be_bytes());
        *transport_cc = transport_cc.wrapping_add(1);
        let mut extensions = vec![
            (extension::MID, &mid[..]),
            (extension::TRANSPORT_CC, &number[..]),
        ];
        extensions.extend(self.rid.map(|rid| (extension::RID, rid)));
        extensions.extend_from_slice(more);
        let sequence = self.sequence;
        self.sequence += 1;
        self.packets += 1;
        self.octets += sent.payload.len() as u32;
        let mut bytes = header(
            payload_type,
            sent.marker,
            sequence as u16,
            sent.timestamp,
            self.ssrc,
            &extensions,
        );
        let header_len = bytes.len();
        bytes.extend_from_slice(&sent.payload);
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back((sequence as u16, sent));
        Plain {
            ssrc: self.ssrc,
            sequence,
            header_len,
            bytes,
        }
    }

    /// A packet that is all padding (RFC 3550, section 5.1), of the largest size.
    fn padding(
        &mut self,
        mid: u8,
        payload_type: u8,
        timestamp: u32,
        transport_cc: &mut u16,
    ) -> Plain {
        let nothing = Sent {
            marker: false,
            timestamp,
            payload: Vec::new(),
        };
        let mut packet = self.send(mid, payload_type, nothing, &[], transport_cc);
        packet.bytes[0] |= 0x20;
        packet.bytes.resize(packet.header_len + 254, 0);
        packet.bytes.push(255);
        packet
    }

    fn again(
        &mut self,
        mid: u8,
        payload_type: u8,
        sequence: u16,
        transport_cc: &mut u16,
    ) -> Option<Plain> {
        let (_, sent) = self
            .history
            .iter()
            .rev()
            .find(|(number, _)| *number == sequence)?;
        let (mid, number) = ([mid], transport_cc.to_be_bytes());
        *transport_cc = transport_cc.wrapping_add(1);
        let mut extensions = vec![
            (extension::MID, &mid[..]),
            (extension::TRANSPORT_CC, &number[..]),
        ];
        extensions.extend(self.rid.map(|rid| (extension::REPAIRED_RID, rid)));
        let rtx_sequence = self.rtx_sequence;
        self.rtx_sequence += 1;
        let mut bytes = header(
            payload_type,
            sent.marker,
            rtx_sequence as u16,
            sent.timestamp,
            self.rtx_ssrc,
            &extensions,
        );
        let header_len = bytes.len();
        bytes.extend_from_slice(&sequence.to_be_bytes());
        bytes.extend_from_slice(&sent.payload);
        Some(Plain {
            ssrc: self.rtx_ssrc,
            sequence: rtx_sequence,
            header_len,
            bytes,
        })
    }
}

/// Splits a frame into payloads of nearly equal size, and says which ends the picture.
fn packetize(
    frame: &Frame,
    created: Duration,
    stream: &mut Stream,
    descriptor: fn(&Frame, bool, bool, u8) -> Vec<u8>,
) -> Vec<(Vec<u8>, bool)> {
    if frame.temporal == 0 && (frame.layer == 0 || stream.rid.is_some()) {
        stream.tl0 = stream.tl0.wrapping_add(1);
    }
    let count = frame.bytes.div_ceil(MAX_PAYLOAD).max(1);
    let packet = |index: usize| {
        let size = frame.bytes / count + usize::from(index < frame.bytes % count);
        let (first, last) = (index == 0, index + 1 == count);
        let mut payload = descriptor(frame, first, last, stream.tl0);
        let stamp = Stamp {
            created,
            picture: frame.picture,
            needs: frame.needs,
            needs_lower: frame.needs_lower,
            layer: frame.layer,
            temporal: frame.temporal,
            index: index as u8,
            count: count as u8,
        };
        payload.resize(size.max(payload.len() + Stamp::LEN) - Stamp::LEN, 0);
        stamp.write(&mut payload);
        (payload, last && frame.ends_picture)
    };
    (0..count).map(packet).collect()
}

/// RFC 7741, section 4.2: picture id of 15 bits, TL0PICIDX and temporal layer; then the first
/// bytes of the frame (RFC 6386, section 9.1).
fn vp8_descriptor(frame: &Frame, first: bool, _: bool, tl0: u8) -> Vec<u8> {
    let start = if first { 0x90 } else { 0x80 };
    let [high, low] = (frame.picture as u16 | 0x8000).to_be_bytes();
    let temporal = (frame.temporal << 6) | (u8::from(frame.switch_point) << 5);
    let mut out = vec![start, 0xe0, high, low, tl0, temporal];
    if first {
        let kind = u8::from(!frame.keyframe);
        out.extend_from_slice(&[0x10 | kind, 2, 0, 0x9d, 1, 0x2a, 0x40, 1, 0xb4, 0]);
    }
    out
}

/// RFC 9628, section 4.2: picture id of 15 bits and layer indices, not flexible mode.
fn vp9_descriptor(frame: &Frame, first: bool, last: bool, tl0: u8) -> Vec<u8> {
    let predicted = !frame.keyframe;
    let flags = 0x80
        | (u8::from(predicted) << 6)
        | 0x20
        | (u8::from(first) << 3)
        | (u8::from(last) << 2)
        | u8::from(frame.layer == 2);
    let [high, low] = (frame.picture as u16 | 0x8000).to_be_bytes();
    let sync = u8::from(frame.switch_point);
    let layers =
        (frame.temporal << 5) | (sync << 4) | (frame.layer << 1) | u8::from(frame.needs_lower);
    vec![flags, high, low, layers, tl0]
}

/// An Opus frame: all that matters of it is its size.
fn audio_frame(created: Duration, number: u32, size: usize) -> Vec<u8> {
    let mut payload = vec![0x78; size - Stamp::LEN];
    let stamp = Stamp {
        created,
        picture: number,
        needs: None,
        needs_lower: false,
        layer: 0,
        temporal: 0,
        index: 0,
        count: 1,
    };
    stamp.write(&mut payload);
    payload
}

/// RFC 2198: the former frame and this one.
fn red(this: &[u8], former: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(this.len() * 2 + 5);
    let opus = Codec::Opus.payload_type();
    if let Some(former) = former {
        let block = (960 << 10) | former.len() as u32;
        out.push(0x80 | opus);
        out.extend_from_slice(&block.to_be_bytes()[1..]);
    }
    out.push(opus);
    out.extend_from_slice(former.unwrap_or(&[]));
    out.extend_from_slice(this);
    out
}
