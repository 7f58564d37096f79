//! What a publisher sends: packets shaped as encoders shape them, or the pictures of a clip.
//!
//! Video comes in frames on three simulcast layers, each split into packets that differ by a byte
//! at most. Shaped frames come at 30 a second and vary in size around what the layer's rate asks
//! for, and a keyframe is several times as large. Audio is as in `voice.rs`.
//! What is shaped ends each payload with the time at which it was made and a count.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::clip::{Clip, is_keyframe};
use crate::published::PublishedTrack;
use crate::sdp;
use crate::voice::Voice;

/// Bits per second of the layers, lowest first.
const LAYER_RATES: [u32; 3] = [150_000, 500_000, 1_700_000];
/// The best of the layers.
const TOP: usize = LAYER_RATES.len() - 1;
const FRAME_INTERVAL: Duration = Duration::from_nanos(33_333_333);
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
/// Payload bytes of a packet at most.
const MAX_PAYLOAD: usize = 1_160;
/// Of them, those of the payload descriptor.
const DESCRIPTOR: usize = 4;
/// A frame's size varies by this part of it to either side, in percent.
const FRAME_VARIATION: usize = 30;
/// A keyframe is this many times an ordinary frame.
const KEYFRAME_SIZE: usize = 4;
/// Bytes of a header with its extensions.
const HEADER: usize = 24;
/// Where in it the transport-wide sequence number is.
pub(crate) const TRANSPORT_SEQUENCE: std::ops::Range<usize> = 21..23;
/// The stamp at a payload's end: nanoseconds since the run began, and a count.
pub(crate) const STAMP: usize = 12;

/// What is in the frames of a stream.
enum Content {
    /// Zeros at this bitrate (bit/s), in sizes drawn at random.
    Shaped(u32, SmallRng),
    /// Pictures of a layer of a clip; the number of the one that is sent.
    Clip(Arc<Clip>, usize, usize),
    Voice(Voice),
}

/// What an encoder gives at a time.
struct Frame {
    /// Payload bytes of its packets.
    bytes: usize,
    packets: usize,
    /// How loud it is, when it is sound (RFC 6464).
    level: Option<u8>,
    /// It comes after a pause.
    is_first: bool,
}

/// One RTP stream.
struct Stream {
    ssrc: u32,
    rid: Option<&'static str>,
    content: Content,
    /// The quality that the server calls it by, 0 lowest.
    quality: usize,
    /// The server wants it.
    wanted: bool,
    sequence: u32,
    picture: u16,
    keyframe: bool,
}

/// One track.
pub(crate) struct Source {
    mid: u8,
    video: bool,
    streams: Vec<Stream>,
    timestamp: u32,
    /// When the next frame is due.
    pub(crate) due: Instant,
    interval: Duration,
    /// The same in units of RTP time.
    ticks: u32,
}

impl Source {
    /// What makes the packets of a track; each simulcast layer has an SSRC from that of the track
    /// on.
    pub(crate) fn new(mid: u8, track: &PublishedTrack, due: Instant) -> Source {
        let simulcast = track.video && track.layers > 1;
        let stream = |index: usize| {
            let ssrc = track.ssrc + index as u32;
            let quality = if simulcast { index } else { TOP };
            let content = match &track.clip {
                _ if !track.video => Content::Voice(Voice::new(track.speech, ssrc.into())),
                Some(clip) => {
                    // Cameras do not all show the same at the same time.
                    let first = track.ssrc as usize / 8 * clip.layers[quality].len() / 5;
                    Content::Clip(clip.clone(), quality, first)
                }
                None => Content::Shaped(LAYER_RATES[quality], SmallRng::seed_from_u64(ssrc.into())),
            };
            Stream {
                ssrc,
                rid: simulcast.then(|| sdp::RIDS[index]),
                content,
                quality,
                wanted: true,
                sequence: 1,
                picture: 0,
                keyframe: true,
            }
        };
        let count = if track.video { track.layers } else { 1 };
        let (ticks, interval) = match &track.clip {
            _ if !track.video => (960, AUDIO_INTERVAL),
            Some(clip) => (
                (clip.interval.as_secs_f64() * 90_000.0) as u32,
                clip.interval,
            ),
            None => (3_000, FRAME_INTERVAL),
        };
        let mut source = Source {
            mid,
            video: track.video,
            streams: (0..count).map(stream).collect(),
            timestamp: track.ssrc,
            due,
            interval,
            ticks,
        };
        source.send_qualities(track.qualities);
        source
    }

    /// The server wants of the qualities of video, the lowest first, these.
    pub(crate) fn send_qualities(&mut self, wanted: [bool; 3]) {
        // Without simulcast the one stream is of whatever quality is wanted.
        let any = self.streams.len() == 1 && wanted.contains(&true);
        for stream in self.streams.iter_mut().filter(|_| self.video) {
            let wanted = any || wanted[stream.quality];
            stream.keyframe |= wanted && !stream.wanted;
            stream.wanted = wanted;
        }
    }

    /// A receiver needs a keyframe of a stream.
    pub(crate) fn request_keyframe(&mut self, ssrc: u32) {
        for stream in &mut self.streams {
            stream.keyframe |= stream.ssrc == ssrc;
        }
    }

    /// Writes the packets that are due. `send` gets each as room for a packet, its length, and
    /// its extended sequence number and header length.
    pub(crate) fn produce(
        &mut self,
        now: Instant,
        epoch: Instant,
        mut send: impl FnMut(&mut [u8; 1_500], usize, u32, usize),
    ) {
        let stamp = now.saturating_duration_since(epoch).as_nanos() as u64;
        let mut buffer = [0; 1_500];
        for stream in self.streams.iter_mut().filter(|stream| stream.wanted) {
            let Some(Frame {
                bytes,
                packets: count,
                level,
                is_first,
            }) = stream.frame()
            else {
                continue;
            };
            let mut written = 0;
            for index in 0..count {
                // The first packets have what does not divide evenly.
                let size = bytes / count + usize::from(index < bytes % count);
                let end = index + 1 == count;
                let marker = if self.video { end } else { is_first };
                let header = stream.header(&mut buffer, self.mid, marker, level, self.timestamp);
                if self.video {
                    stream.descriptor(&mut buffer[header..], index == 0);
                }
                let len = header + size;
                if let Content::Clip(clip, layer, number) = &stream.content {
                    let part =
                        &clip.layers[*layer].picture(*number)[written..][..size - DESCRIPTOR];
                    buffer[header + DESCRIPTOR..len].copy_from_slice(part);
                    written += part.len();
                } else {
                    buffer[len - STAMP..len - 4].copy_from_slice(&stamp.to_be_bytes());
                    buffer[len - 4..len].copy_from_slice(&stream.sequence.to_be_bytes());
                }
                send(&mut buffer, len, stream.sequence, header);
                stream.sequence += 1;
            }
            stream.keyframe = false;
            stream.picture = (stream.picture + 1) & 0x7fff;
        }
        self.timestamp = self.timestamp.wrapping_add(self.ticks);
        self.due += self.interval;
        if now > self.due + Duration::from_millis(200) {
            self.due = now;
        }
    }
}

impl Stream {
    /// The next frame, or packet of sound; `None` in silence.
    fn frame(&mut self) -> Option<Frame> {
        let (bytes, packets) = match &mut self.content {
            Content::Voice(voice) => {
                return voice.next().map(|sound| Frame {
                    bytes: sound.bytes,
                    packets: 1,
                    level: Some(sound.level),
                    is_first: sound.is_first,
                });
            }
            Content::Shaped(rate, rng) => {
                let mut bytes = *rate as usize / 8 / 30;
                let percent = 100 - FRAME_VARIATION..=100 + FRAME_VARIATION;
                bytes = bytes * rng.random_range(percent) / 100;
                if self.keyframe {
                    bytes *= KEYFRAME_SIZE;
                }
                (bytes, bytes.div_ceil(MAX_PAYLOAD).max(1))
            }
            Content::Clip(clip, layer, number) => {
                let layer = &clip.layers[*layer];
                *number = (*number + 1) % layer.len();
                if self.keyframe {
                    *number = layer.keyframe_from(*number);
                }
                let picture = layer.picture(*number);
                self.keyframe = is_keyframe(picture);
                let count = picture.len().div_ceil(MAX_PAYLOAD - DESCRIPTOR);
                (picture.len() + count * DESCRIPTOR, count)
            }
        };
        Some(Frame {
            bytes,
            packets,
            level: None,
            is_first: false,
        })
    }

    fn header(
        &self,
        out: &mut [u8],
        mid: u8,
        marker: bool,
        level: Option<u8>,
        timestamp: u32,
    ) -> usize {
        let payload_type = level.map_or(sdp::VP8, |_| sdp::OPUS);
        out[0] = 0x90;
        out[1] = payload_type | if marker { 0x80 } else { 0 };
        out[2..4].copy_from_slice(&(self.sequence as u16).to_be_bytes());
        out[4..8].copy_from_slice(&timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        out[12..16].copy_from_slice(&[0xbe, 0xde, 0, 2]);
        // One byte each, as the one-byte form counts them (RFC 8285, section 4.2).
        out[16] = sdp::MID_EXTENSION << 4;
        out[17] = b'0' + mid;
        match (self.rid, level) {
            (Some(rid), _) => {
                out[18] = sdp::RID_EXTENSION << 4;
                out[19] = rid.as_bytes()[0];
            }
            (None, Some(level)) => {
                out[18] = sdp::LEVEL_EXTENSION << 4;
                out[19] = level;
            }
            (None, None) => out[18..20].fill(0),
        }
        out[20..HEADER].copy_from_slice(&[sdp::TRANSPORT_CC_EXTENSION << 4 | 1, 0, 0, 0]);
        HEADER
    }

    /// A VP8 payload descriptor with a picture id (RFC 7741, section 4.2) and the first bytes
    /// of the frame (RFC 6386, section 9.1).
    fn descriptor(&self, out: &mut [u8], start: bool) {
        out[0] = if start { 0x90 } else { 0x80 };
        out[1] = 0x80;
        out[2..4].copy_from_slice(&(self.picture | 0x8000).to_be_bytes());
        if start {
            out[4] = if self.keyframe { 0x10 } else { 0x11 };
            out[5..14].copy_from_slice(&[2, 0, 0x9d, 1, 0x2a, 0x40, 1, 0xb4, 0]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clip::tests::clip;
    use crate::voice::Speech;

    fn camera(clip: Option<Arc<Clip>>) -> Source {
        let track = PublishedTrack {
            video: true,
            ssrc: 8,
            layers: 3,
            qualities: [true; 3],
            speech: Speech::Constant,
            clip,
        };
        Source::new(0, &track, Instant::now())
    }

    /// What the next frames of each layer are in their packets: SSRC, whether a frame starts and
    /// ends here, and the payload behind the descriptor.
    fn next(source: &mut Source) -> Vec<(u32, bool, bool, Vec<u8>)> {
        let mut packets = Vec::new();
        let now = source.due;
        source.produce(now, now, |packet, len, _, header| {
            let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
            let (start, end) = (packet[header] & 0x10 != 0, packet[1] & 0x80 != 0);
            packets.push((ssrc, start, end, packet[header + DESCRIPTOR..len].to_vec()));
        });
        packets
    }

    #[test]
    fn the_pictures_of_a_clip_arrive_whole() {
        let large: Vec<u8> = (0..3_000u32).map(|n| (2 * (n / 7)) as u8).collect();
        let mut source = camera(Some(Arc::new(clip(&[&large, &[1, 2]]))));
        for _ in 0..3 {
            for ssrc in 8..11 {
                let packets = next(&mut source);
                let of_layer: Vec<_> = packets.iter().filter(|p| p.0 == ssrc).collect();
                assert!(of_layer[0].1 && of_layer[of_layer.len() - 1].2);
                let picture: Vec<u8> = of_layer.iter().flat_map(|p| p.3.clone()).collect();
                assert!(picture == large || picture == [1, 2]);
            }
        }
    }

    #[test]
    fn a_clip_goes_on_with_a_keyframe_when_one_is_asked_for() {
        let pictures: [&[u8]; 4] = [&[0], &[1], &[3], &[5]];
        let mut source = camera(Some(Arc::new(clip(&pictures))));
        let first = |source: &mut Source, ssrc| {
            let packets = next(source);
            packets.iter().find(|p| p.0 == ssrc).map(|p| p.3[0])
        };
        assert_eq!(first(&mut source, 9), Some(0));
        assert_eq!(first(&mut source, 9), Some(1));
        source.request_keyframe(9);
        assert_eq!(first(&mut source, 9), Some(0));
        assert_eq!(first(&mut source, 8), Some(5));
    }

    #[test]
    fn layers_that_are_not_wanted_rest_and_come_back_with_a_keyframe() {
        for content in [None, Some(Arc::new(clip(&[&[0], &[1], &[3]])))] {
            let mut source = camera(content);
            let ssrcs = |source: &mut Source| next(source).iter().map(|p| p.0).collect::<Vec<_>>();
            ssrcs(&mut source);
            source.send_qualities([true, false, false]);
            let low = ssrcs(&mut source);
            assert!(low.iter().all(|ssrc| *ssrc == 8) && !low.is_empty());
            source.send_qualities([true; 3]);
            let packets = next(&mut source);
            let key = |ssrc| {
                packets
                    .iter()
                    .find(|p| p.0 == ssrc)
                    .map(|p| is_keyframe(&p.3))
            };
            assert_eq!([8, 9, 10].map(key), [Some(false), Some(true), Some(true)]);
        }
    }
}
