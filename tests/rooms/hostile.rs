//! A meeting of clients that may send anything: frames of bytes, as a fuzzer makes them, go to
//! the room as signal messages, data packets, media events and gaps. Whatever they are, the room
//! does not panic, stays within its bounds, and those who are still there end with its own view.

use std::time::Duration;

use bytes::Bytes;
use moim_engine::command::DataChannel;
use moim_engine::event::Event;
use moim_signaling::SessionEnd;
use moim_signaling::wire::{SignalRequest, TrackInfo};
use prost::Message as _;

use crate::choices::Choices;
use crate::meeting::{Link, Meeting};

/// Clients of the meeting.
const CLIENTS: usize = 3;
/// Frames of one input. Longer inputs find nothing that shorter ones do not.
const MAX_FRAMES: usize = 64;
/// Tracks that a participant may publish: the default of `room.max_tracks`.
const MAX_TRACKS: usize = 20;
/// Encodings of one track: the codec and one backup.
const MAX_ENCODINGS: usize = 2;
/// What one frame may make the room tell all clients, in bytes, and how often longer than itself
/// that may be: a frame names what the answers describe.
const MAX_TOLD: usize = 256 << 10;
const MAX_AMPLIFICATION: usize = 1 << 10;
/// Attributes that a participant may have, bytes.
const MAX_ATTRIBUTES: usize = 64 << 10;

/// One step: whose, what, and the bytes.
struct Frame<'a> {
    client: usize,
    kind: u8,
    bytes: &'a [u8],
}

/// The frames of an input: a byte that says whose (its lowest two bits) and what (the others),
/// two that give the length, and the bytes.
fn frames(mut input: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    std::iter::from_fn(move || {
        let ([head, high, low], rest) = input.split_first_chunk()?;
        let len = usize::from(u16::from_be_bytes([*high, *low])).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        input = rest;
        Some(Frame {
            client: usize::from(head & 3) % CLIENTS,
            kind: head >> 2,
            bytes,
        })
    })
}

/// Plays an input.
pub(crate) fn play(input: &[u8]) {
    let mut meeting = Meeting::new(0, Choices::seeded(0));
    for client in 0..CLIENTS {
        meeting.join_with_all_rights(client);
    }
    meeting.end_round();
    for frame in frames(input).take(MAX_FRAMES) {
        meeting.frame(&frame);
        meeting.check_bounds(frame.bytes.len());
    }
    meeting.calm_down();
    meeting.check_participants();
}

impl Meeting {
    fn frame(&mut self, frame: &Frame<'_>) {
        let index = frame.client;
        match self.clients[index].link {
            Link::Away => return self.join_with_all_rights(index),
            Link::Cut | Link::Lost => return self.resume(index),
            Link::Up => {}
        }
        let bytes = self.with_known_sids(frame.bytes);
        match frame.kind {
            0..40 => {
                let request = SignalRequest::decode(&bytes[..]);
                if let Some(message) = request.ok().and_then(|request| request.message) {
                    self.request(index, message);
                }
            }
            40..44 => self.data(index, DataChannel::Reliable, bytes),
            44..46 => self.data(index, DataChannel::Lossy, bytes),
            46..50 => self.media_events(index),
            50..53 => self.stream_state(index),
            53 => {
                if let Some(seat) = self.clients[index].seat {
                    self.room.session_ended(self.now, seat, SessionEnd::Lost);
                    self.clients[index].link = Link::Lost;
                }
            }
            54 => self.clients[index].link = Link::Cut,
            55..58 => self.administer(index),
            58..60 => self.answer(index, true),
            _ => self.advance(Duration::from_millis(10 << (3 * (frame.kind & 3)))),
        }
        self.end_round();
    }

    fn data(&mut self, index: usize, channel: DataChannel, payload: Vec<u8>) {
        if let Some(transport) = self.clients[index].transports.first().copied() {
            let event = Event::Data {
                transport,
                channel,
                payload: Bytes::from(payload),
            };
            self.room.handle_media(self.now, event);
        }
    }

    /// The bytes with sids of the room in place of what looks like one, so that an input can
    /// name what is there: `TR_` and a letter that counts tracks, and `PA_` participants.
    fn with_known_sids(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if !bytes
            .windows(3)
            .any(|start| start == b"TR_" || start == b"PA_")
        {
            return bytes;
        }
        let truth = self.truth();
        let participants: Vec<&str> = truth.iter().map(|info| info.sid.as_str()).collect();
        let tracks = truth.iter().flat_map(|info| &info.tracks);
        let tracks: Vec<&str> = tracks.map(|track: &TrackInfo| track.sid.as_str()).collect();
        for from in 0..bytes.len().saturating_sub(3) {
            let known = match &bytes[from..from + 3] {
                b"TR_" => &tracks,
                b"PA_" => &participants,
                _ => continue,
            };
            let letter = usize::from(bytes[from + 3]);
            if let Some(sid) = known.get(letter % known.len().max(1))
                && let Some(named) = bytes.get_mut(from..from + sid.len())
            {
                named.copy_from_slice(sid.as_bytes());
            }
        }
        bytes
    }

    /// What holds after every frame.
    fn check_bounds(&mut self, len: usize) {
        let told = std::mem::take(&mut self.told);
        let most = MAX_TOLD + MAX_AMPLIFICATION * len;
        assert!(told <= most, "{len} bytes made the room say {told}");
        self.plane.obey(self.room.media());
        let truth = self.truth();
        let people = truth.len();
        assert!(people <= CLIENTS);
        for info in &truth {
            assert!(
                info.tracks.len() <= MAX_TRACKS,
                "{} tracks",
                info.tracks.len()
            );
            let attributes = info.attributes.iter();
            let attributes: usize = attributes
                .map(|(name, value)| name.len() + value.len())
                .sum();
            assert!(attributes <= MAX_ATTRIBUTES);
        }
        // A publisher's connection and a subscriber's.
        assert!(self.plane.transports.len() <= 2 * people);
        let tracks = self.plane.tracks.len();
        assert!(tracks <= people * MAX_TRACKS * MAX_ENCODINGS);
        assert!(self.plane.subscriptions.len() <= tracks * people);
    }
}
