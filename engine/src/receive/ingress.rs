//! The way in: an RTP datagram becomes one plaintext packet in the form that subscribers get.

use std::time::{Duration, Instant};

use crate::allocation::allocator::Allocator;
use crate::api::codec::{MediaKind, RED_PAYLOAD_TYPE};
use crate::api::command::Payload;
use crate::api::event::Event;
use crate::forward::fan_out::end_flow;
use crate::forward::forwarder::SourcePacket;
use crate::receive::received_streams::StreamOwner;
use crate::state::Media;
use crate::state::packet::Received;
use crate::state::peer::{Peer, REPORT_INTERVAL};
use crate::state::table::PeerIx;
use crate::state::track::Feed;
use crate::state::track::{Layer, Track};
use crate::state::{Peers, Tracks};
use crate::wire::padding::pad;
use crate::wire::payload::reader::PacketLayers;
use crate::wire::red_payload::{self, Redundancy};
use crate::wire::rtp::extensions::{
    HeaderTemplate, ReceivedExtensions, patch_header, write_header,
};
use crate::wire::rtp::header::RtpHeader;
use crate::wire::srtp::MAX_OVERHEAD;

/// Feedback for congestion control is gathered over this time.
const FEEDBACK_INTERVAL: Duration = Duration::from_millis(50);
/// A retransmission may name a packet at most this far from the newest.
const REPAIR_WINDOW: u64 = 2_048;

/// Largest datagram that is looked at, bytes: larger than any path's MTU outside of data centres.
pub(crate) const MAX_DATAGRAM: usize = 2_048;

/// What a datagram holds, once it is authenticated.
pub(crate) struct Authentic {
    pub(crate) header: RtpHeader,
    pub(crate) owner: StreamOwner,
    pub(crate) payload: Payload,
    /// Extended sequence number on its own SSRC.
    pub(crate) sequence: u64,
    /// Length of header and payload.
    pub(crate) len: usize,
}

/// Verifies and decrypts a datagram in place and finds whose packet it is. Only a packet
/// that authenticates can teach us a new SSRC.
pub(crate) fn authenticate(
    media: &mut Media,
    now: Instant,
    peer: PeerIx,
    datagram: &mut [u8],
) -> Option<Authentic> {
    let header = RtpHeader::parse(datagram)?;
    let state = &mut media.peers[peer];
    let payload = state.payload(header.payload_type)?;
    let known = state.streams.find(header.ssrc);
    let srtp = state.srtp.as_ref()?;
    let window = match known {
        Some(index) => Some(&state.streams.get(index).window),
        None => state.streams.window(header.ssrc),
    };
    let sequence = match window {
        Some(window) => {
            let sequence = window.estimate(header.sequence);
            window.is_new(sequence).then_some(sequence)?
        }
        None => u64::from(header.sequence),
    };
    let roc = (sequence >> 16) as u32;
    let len = srtp
        .receiver
        .unprotect_rtp(roc, header.header_len, datagram)?;
    let index = match known {
        Some(index) => index,
        None if state.streams.note_late(now, header.ssrc, sequence) => return None,
        None => {
            let owner = find_owner(state, &media.tracks, &header, &datagram[..len], payload)?;
            state.streams.bind(now, header.ssrc, owner);
            state.streams.find(header.ssrc)?
        }
    };
    let stream = state.streams.get_mut(index);
    stream.window.commit(sequence);
    Some(Authentic {
        header,
        owner: stream.owner,
        payload,
        sequence,
        len,
    })
}

/// Notes that a packet has arrived, for the feedback and the reports that its sender gets. Gives its
/// header extensions.
pub(crate) fn note_arrival<'a>(
    media: &mut Media,
    now: Instant,
    arrived: Instant,
    peer: PeerIx,
    authentic: &Authentic,
    packet: &'a [u8],
) -> ReceivedExtensions<'a> {
    media.statistics.packets_in += 1;
    media.statistics.bytes_in += authentic.len as u64;
    let state = &mut media.peers[peer];
    let extensions = ReceivedExtensions::read(&authentic.header, packet, &state.format.extensions);
    if let Some(sequence) = extensions.transport_cc {
        state.transport_cc.record(sequence, arrived);
    }
    if state.feedback_due.is_none() {
        state.feedback_due = Some(now + FEEDBACK_INTERVAL);
    }
    if state.report_due.is_none() {
        state.report_due = Some(now + REPORT_INTERVAL);
    }
    media.arm_media_timers(peer);
    extensions
}

/// Writes received packets in the form that subscribers get.
pub(crate) struct Ingress {
    /// The packet being forwarded.
    pub(super) scratch: Box<[u8; MAX_DATAGRAM]>,
}

impl Default for Ingress {
    fn default() -> Self {
        Ingress {
            scratch: Box::new([0; MAX_DATAGRAM]),
        }
    }
}

/// What a packet's number tells.
#[derive(Debug, Clone, Copy, Default)]
struct Numbered {
    /// Extended sequence number within the layer.
    sequence: u64,
    /// The layer has come to life.
    started: bool,
    /// Another SSRC has taken the layer over.
    restarted: bool,
}

impl Ingress {
    /// The bytes of the packet that was received last.
    pub(crate) fn packet(&self, received: &Received) -> &[u8] {
        &self.scratch[..received.len]
    }

    /// Notes the packet in its layer's statistics, and writes it in the form that subscribers get.
    /// `None` when it has been there before, or is unsound.
    pub(crate) fn receive(
        &mut self,
        media: &mut Media,
        allocator: &mut Allocator,
        now: Instant,
        authentic: &Authentic,
        packet: &[u8],
        extensions: &ReceivedExtensions<'_>,
    ) -> Option<Received> {
        let owner = authentic.owner;
        let track = media.tracks.get_mut(owner.track)?;
        let header = &authentic.header;
        if !owner.repair {
            track.end_silence(owner.layer, now);
        }
        let codec = authentic.payload.codec();
        let body = header.payload(packet)?;
        // A publisher that probes its network sends packets that are all padding.
        let red = authentic.payload == Payload::Red && !body.is_empty();
        let frame = match red && !track.encrypted {
            true => red_payload::own_frame(body)?,
            false => body,
        };
        let is_padding = frame.is_empty();
        let (numbered, body) = note_number(&mut media.peers, track, now, authentic, body)?;
        let layer = track.layers.get_mut(usize::from(owner.layer))?;
        layer.codec = Some(codec);
        let layers = match track.kind {
            MediaKind::Audio if is_padding => PacketLayers::padding(),
            MediaKind::Audio => PacketLayers::whole(true),
            MediaKind::Video => layer.reader.read(
                codec,
                numbered.sequence,
                header.timestamp,
                body,
                extensions.dependency_descriptor,
            ),
        };
        if layers.keyframe {
            layer.keyframe_arrived();
        }
        let sequence = numbered.sequence;
        let template = HeaderTemplate {
            payload_type: if red {
                RED_PAYLOAD_TYPE
            } else {
                codec.payload_type()
            },
            marker: header.marker,
        };
        let (header_len, len) = self.write(&template, extensions, body, track.kind)?;
        let packet = &mut self.scratch[..len];
        patch_header(packet, sequence as u16, header.timestamp, header.ssrc);
        // What it costs is what goes on: padding by which a publisher probes its network does not.
        let layers_changed = layer.rates.note(now, &layers, len + MAX_OVERHEAD);
        let received = Received {
            source: SourcePacket {
                layer: owner.layer,
                sequence,
                timestamp: header.timestamp,
                layers,
            },
            codec,
            header_len,
            len,
            redundancy: if red {
                Redundancy::of(packet, header_len, track.encrypted)
            } else {
                Redundancy::None
            },
        };
        arm_nack(media, owner);
        note_layer(media, allocator, now, authentic, numbered, layers_changed);
        Some(received)
    }

    /// Writes a packet in the form that subscribers get, its number and time not yet set. Gives the
    /// length of its header and its own.
    pub(super) fn write(
        &mut self,
        template: &HeaderTemplate,
        extensions: &ReceivedExtensions<'_>,
        body: &[u8],
        kind: MediaKind,
    ) -> Option<(usize, usize)> {
        let scratch = &mut self.scratch[..];
        let header_len = write_header(scratch, template, extensions);
        let len = header_len + body.len();
        scratch.get_mut(header_len..len)?.copy_from_slice(body);
        Some((header_len, pad(scratch, header_len, len, kind)))
    }
}

/// Notes a packet, or one that is sent again, in the state of its layer. Gives its number and its own
/// payload; `None` when it is there already.
fn note_number<'a>(
    peers: &mut Peers,
    track: &mut Track,
    now: Instant,
    authentic: &Authentic,
    body: &'a [u8],
) -> Option<(Numbered, &'a [u8])> {
    let owner = authentic.owner;
    let layer = track.layers.get_mut(usize::from(owner.layer))?;
    if owner.repair {
        let (numbered, round_trip, body) = note_repair(layer, now, body)?;
        if let (Some(round_trip), Feed::Peer(publisher)) = (round_trip, track.feed) {
            peers[publisher].note_rtt(round_trip);
        }
        return Some((numbered, body));
    }
    let numbered = note_media(layer, now, authentic);
    // It was recovered from a later one, and another plaintext must not go out under the same index.
    let recovered = track.kind == MediaKind::Audio && layer.cache.has(numbered.sequence);
    (!recovered).then_some((numbered, body))
}

/// Notes a retransmission (RFC 4588) in the state of its layer. Gives the round trip that it took from
/// the request, if one was made, and what follows the original sequence number in `body`. `None` when
/// the packet is there already.
fn note_repair<'a>(
    layer: &mut Layer,
    now: Instant,
    body: &'a [u8],
) -> Option<(Numbered, Option<Duration>, &'a [u8])> {
    let (original, rest) = body.split_first_chunk::<2>()?;
    let sequence = original_sequence(layer.highest_sequence, u16::from_be_bytes(*original))?;
    if layer.cache.has(sequence) {
        return None;
    }
    let numbered = Numbered {
        sequence,
        ..Numbered::default()
    };
    Some((numbered, layer.nack.repaired(sequence, now), rest))
}

/// Notes a packet that is not a retransmission in the state of its layer.
fn note_media(layer: &mut Layer, now: Instant, authentic: &Authentic) -> Numbered {
    let header = &authentic.header;
    let mut numbered = Numbered::default();
    if layer.ssrc != Some(header.ssrc) {
        numbered.restarted = layer.ssrc.is_some();
        layer.restart(header.ssrc);
        numbered.started = true;
    }
    let sequence = layer.number(authentic.sequence);
    numbered.sequence = sequence;
    numbered.started |= layer.touch(now);
    layer.highest_sequence = layer.highest_sequence.max(sequence);
    layer.last_timestamp = header.timestamp;
    let clock_rate = authentic.payload.codec().clock_rate();
    layer
        .statistics
        .on_packet(sequence, header.timestamp, now, clock_rate);
    layer.nack.received(sequence, now);
    numbered
}

/// What the layers of a track are has changed with a packet: the room and the subscribers hear of it.
fn note_layer(
    media: &mut Media,
    allocator: &mut Allocator,
    now: Instant,
    authentic: &Authentic,
    numbered: Numbered,
    layers_changed: bool,
) {
    let owner = authentic.owner;
    if numbered.restarted {
        end_flow(media, owner.track, owner.layer);
    }
    if numbered.started {
        let track = &media.tracks[owner.track];
        let (room, event) = (
            track.room,
            Event::LayerStarted {
                track: track.id,
                layer: owner.layer,
                codec: authentic.payload.codec(),
                ssrc: authentic.header.ssrc,
            },
        );
        media.emit(room, event);
    }
    if numbered.started || layers_changed {
        allocator.choose_layers(media, now, owner.track);
    }
    media.tracks[owner.track].layers[usize::from(owner.layer)].begins_keyframe = false;
}

/// Arms the publisher's timer for the requests of packets that a layer misses.
fn arm_nack(media: &mut Media, owner: StreamOwner) {
    let track = &media.tracks[owner.track];
    let layer = &track.layers[usize::from(owner.layer)];
    if let (Some(due), Feed::Peer(publisher)) = (layer.nack.next_timeout(), track.feed) {
        let state = &mut media.peers[publisher];
        state.feedback_due = Some(state.feedback_due.map_or(due, |earlier| earlier.min(due)));
        media.arm_media_timers(publisher);
    }
}

/// Extends the sequence number in a retransmission (RFC 4588, section 4).
fn original_sequence(highest: u64, sequence: u16) -> Option<u64> {
    let behind = u64::from((highest as u16).wrapping_sub(sequence));
    if behind < REPAIR_WINDOW {
        return highest.checked_sub(behind);
    }
    None
}

/// Whose stream a new SSRC is: by MID and RID (RFC 9143, RFC 8853), else by being the only
/// track of its kind.
fn find_owner(
    state: &Peer,
    tracks: &Tracks,
    header: &RtpHeader,
    packet: &[u8],
    payload: Payload,
) -> Option<StreamOwner> {
    let extensions = ReceivedExtensions::read(header, packet, &state.format.extensions);
    let (repair, codec) = (matches!(payload, Payload::Rtx(_)), payload.codec());
    let track = match extensions.mid {
        Some(mid) => state.tracks.iter().copied().find(|&index| {
            let track = &tracks[index];
            track.source.mid.as_bytes() == mid && track.kind == codec.kind()
        })?,
        None => {
            let mut of_kind = state
                .tracks
                .iter()
                .copied()
                .filter(|&index| tracks[index].kind == codec.kind());
            let only = of_kind.next()?;
            if of_kind.next().is_some() {
                return None;
            }
            only
        }
    };
    let rid = if repair {
        extensions.repaired_rid.or(extensions.rid)
    } else {
        extensions.rid
    };
    let simulcast = tracks[track].source.rids.len() > 1;
    let layer = match rid {
        Some(rid) => tracks[track]
            .layer_of_rid(rid)
            .or((!simulcast).then_some(0))?,
        None if simulcast => return None,
        None => 0,
    };
    Some(StreamOwner {
        track,
        layer,
        repair,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_room::{TestPacket, TestRoom};

    #[test]
    fn an_encoder_that_goes_back_to_its_former_ssrc_is_heard() {
        let mut room = TestRoom::new();
        let (publisher, subscriber) = (room.connect(1), room.connect(2));
        room.publish(publisher, 1, MediaKind::Audio);
        room.subscribe(subscriber, 1, 900);
        // The first SSRC's sequence numbers wrap, so that its roll-over counter counts.
        let (mut sequences, mut timestamp) = ([65_500u16, 7], 0);
        for round in 0..6 {
            let ssrc = [11, 22][round % 2];
            let sequence = &mut sequences[round % 2];
            let before = room.got(subscriber, 900).len();
            for _ in 0..50 {
                *sequence = sequence.wrapping_add(1);
                timestamp += 960;
                let packet = TestPacket {
                    ssrc,
                    sequence: *sequence,
                    timestamp,
                    ..TestPacket::default()
                };
                let cycle = u32::from(ssrc == 11 && *sequence < 60_000);
                room.send_in_cycle(publisher, &packet, cycle);
                room.run(Duration::from_millis(20));
            }
            let got = room.got(subscriber, 900);
            assert_eq!(got.len() - before, 50, "in round {round}");
        }
        let sent = TestPacket::default().payload;
        let got = room.got(subscriber, 900);
        assert!(got.iter().all(|got| got.payload == sent));
        let numbers: Vec<u16> = room
            .got(subscriber, 900)
            .iter()
            .map(|got| got.header.sequence)
            .collect();
        assert!(
            numbers
                .windows(2)
                .all(|pair| pair[1] == pair[0].wrapping_add(1))
        );
    }

    #[test]
    fn padding_by_which_a_microphone_probes_reaches_nobody() {
        let mut room = TestRoom::new();
        let (publisher, subscriber) = (room.connect(1), room.connect(2));
        room.publish(publisher, 1, MediaKind::Audio);
        room.subscribe(subscriber, 1, 900);
        for sequence in 0..60u16 {
            // It comes before the first frame, too, and beside each third one.
            let padding = sequence < 3 || sequence % 3 == 0;
            let packet = TestPacket {
                ssrc: 11,
                sequence,
                timestamp: 960 * u32::from(sequence),
                payload: if padding { &[] } else { &[0xf8; 40] },
                ..TestPacket::default()
            };
            room.send(publisher, &packet);
            room.run(Duration::from_millis(20));
        }
        let got = room.got(subscriber, 900);
        assert_eq!(got.len(), 38);
        assert!(got.iter().all(|packet| packet.payload.len() == 40));
        let numbers: Vec<u16> = got.iter().map(|packet| packet.header.sequence).collect();
        assert!(
            numbers
                .windows(2)
                .all(|pair| pair[1] == pair[0].wrapping_add(1))
        );
    }

    #[test]
    fn a_retransmission_is_extended_around_the_newest_packet() {
        assert_eq!(original_sequence(70_000, 4_460), Some(69_996));
        assert_eq!(original_sequence(65_537, 65_535), Some(65_535));
        assert_eq!(original_sequence(10, 65_535), None);
        assert_eq!(original_sequence(70_000, 4_465), None);
    }
}
