//! What a publisher sends: packets shaped as encoders shape them.
//!
//! Video comes in frames at 30 a second on three simulcast layers. Frames vary in size around
//! what the layer's rate asks for, a keyframe is several times as large, and each is split into
//! packets that differ by a byte at most. Audio is a packet each 20 ms, of varying size. Every
//! payload ends with the time at which it was made and a count.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::sdp;

/// Bits per second of the layers, lowest first.
const LAYER_RATES: [u32; 3] = [150_000, 500_000, 1_700_000];
const FRAME_INTERVAL: Duration = Duration::from_nanos(33_333_333);
const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
/// Payload bytes of a packet at most.
const MAX_PAYLOAD: usize = 1_160;
/// Payload of an Opus packet at about 36 kbit/s with variable bit rate: least bytes, and how
/// much more there may be.
const AUDIO_PAYLOAD: (usize, usize) = (60, 60);
/// A frame's size varies by this part of it to either side, in percent.
const FRAME_VARIATION: usize = 30;
/// A keyframe is this many times an ordinary frame.
const KEYFRAME_SIZE: usize = 4;
/// The stamp at a payload's end: nanoseconds since the run began, and a count.
pub(crate) const STAMP: usize = 12;

/// One RTP stream.
struct Stream {
    ssrc: u32,
    rid: Option<&'static str>,
    rate: u32,
    sequence: u32,
    picture: u16,
    keyframe: bool,
    rng: SmallRng,
}

/// One track.
pub(crate) struct Source {
    mid: u8,
    video: bool,
    streams: Vec<Stream>,
    timestamp: u32,
    /// When the next frame is due.
    pub(crate) due: Instant,
}

impl Source {
    /// `layers` is how many of the simulcast layers are sent; each has an SSRC from `ssrc` on.
    pub(crate) fn new(mid: u8, video: bool, ssrc: u32, layers: usize, due: Instant) -> Source {
        let simulcast = video && layers > 1;
        let stream = |(index, rate): (usize, &u32)| Stream {
            ssrc: ssrc + index as u32,
            rid: simulcast.then(|| sdp::RIDS[index]),
            rate: if simulcast { *rate } else { LAYER_RATES[2] },
            sequence: 1,
            picture: 0,
            keyframe: true,
            rng: SmallRng::seed_from_u64(u64::from(ssrc) + index as u64),
        };
        let count = if video { layers } else { 1 };
        Source {
            mid,
            video,
            streams: LAYER_RATES
                .iter()
                .enumerate()
                .take(count)
                .map(stream)
                .collect(),
            timestamp: ssrc,
            due,
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
        for stream in &mut self.streams {
            let (bytes, count) = if self.video {
                stream.frame()
            } else {
                (stream.audio(), 1)
            };
            for index in 0..count {
                // The first packets have what does not divide evenly.
                let size = bytes / count + usize::from(index < bytes % count);
                let end = index + 1 == count;
                let header = stream.header(&mut buffer, self.mid, self.video, end, self.timestamp);
                if self.video {
                    stream.descriptor(&mut buffer[header..], index == 0);
                }
                let len = header + size;
                buffer[len - STAMP..len - 4].copy_from_slice(&stamp.to_be_bytes());
                buffer[len - 4..len].copy_from_slice(&stream.sequence.to_be_bytes());
                send(&mut buffer, len, stream.sequence, header);
                stream.sequence += 1;
            }
            stream.keyframe = false;
            stream.picture = (stream.picture + 1) & 0x7fff;
        }
        let (ticks, interval) = if self.video {
            (3_000, FRAME_INTERVAL)
        } else {
            (960, AUDIO_INTERVAL)
        };
        self.timestamp = self.timestamp.wrapping_add(ticks);
        self.due += interval;
        if now > self.due + Duration::from_millis(200) {
            self.due = now;
        }
    }
}

impl Stream {
    /// Bytes of the next frame, and into how many packets it is split.
    fn frame(&mut self) -> (usize, usize) {
        let mut bytes = self.rate as usize / 8 / 30;
        let percent = 100 - FRAME_VARIATION..=100 + FRAME_VARIATION;
        bytes = bytes * self.rng.random_range(percent) / 100;
        if self.keyframe {
            bytes *= KEYFRAME_SIZE;
        }
        (bytes, bytes.div_ceil(MAX_PAYLOAD).max(1))
    }

    /// Bytes of the next audio packet's payload.
    fn audio(&mut self) -> usize {
        let (least, more) = AUDIO_PAYLOAD;
        least + self.rng.random_range(0..=more)
    }

    fn header(&self, out: &mut [u8], mid: u8, video: bool, end: bool, timestamp: u32) -> usize {
        let payload_type = if video { sdp::VP8 } else { sdp::OPUS };
        out[0] = 0x90;
        out[1] = payload_type | if video && end { 0x80 } else { 0 };
        out[2..4].copy_from_slice(&(self.sequence as u16).to_be_bytes());
        out[4..8].copy_from_slice(&timestamp.to_be_bytes());
        out[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        out[12..16].copy_from_slice(&[0xbe, 0xde, 0, 1]);
        // One byte each, as the one-byte form counts them (RFC 8285, section 4.2).
        out[16] = sdp::MID_EXTENSION << 4;
        out[17] = b'0' + mid;
        match self.rid {
            Some(rid) => {
                out[18] = sdp::RID_EXTENSION << 4;
                out[19] = rid.as_bytes()[0];
            }
            None => out[18..20].fill(0),
        }
        20
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
