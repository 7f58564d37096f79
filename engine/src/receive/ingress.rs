//! The way in: an RTP datagram becomes one plaintext packet in the form that subscribers get.

use std::time::{Duration, Instant};

use crate::api::codec::{Codec, MediaKind, RED_PAYLOAD_TYPE};
use crate::api::command::Payload;
use crate::api::event::Event;
use crate::engine::Engine;
use crate::forward::forwarder::SourcePacket;
use crate::receive::received_streams::StreamOwner;
use crate::state::Tracks;
use crate::state::packet::Received;
use crate::state::packet_cache::CachedFrame;
use crate::state::peer::Peer;
use crate::state::table::{PeerIx, TrackIx};
use crate::state::track::Feed;
use crate::wire::padding::pad;
use crate::wire::payload::reader::PacketLayers;
use crate::wire::red_payload;
use crate::wire::rtp::extensions::{
    HeaderTemplate, ReceivedExtensions, patch_header, write_header,
};
use crate::wire::rtp::header::RtpHeader;
use crate::wire::srtp::MAX_OVERHEAD;

/// Feedback for congestion control is gathered over this time.
const FEEDBACK_INTERVAL: Duration = Duration::from_millis(50);
/// Reports are due this often while packets flow.
pub(crate) const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// A retransmission may name a packet at most this far from the newest.
const REPAIR_WINDOW: u64 = 2_048;

/// What a datagram holds, once it is authenticated.
struct Authentic {
    header: RtpHeader,
    owner: StreamOwner,
    payload: Payload,
    /// Extended sequence number on its own SSRC.
    sequence: u64,
    /// Length of header and payload.
    len: usize,
}

impl Engine {
    pub(crate) fn handle_rtp(
        &mut self,
        now: Instant,
        arrived: Instant,
        peer: PeerIx,
        datagram: &mut [u8],
    ) {
        let Some(authentic) = self.authenticate(peer, datagram) else {
            self.statistics.datagrams_dropped += 1;
            return;
        };
        self.statistics.packets_in += 1;
        self.statistics.bytes_in += authentic.len as u64;
        let packet = &datagram[..authentic.len];

        let state = &mut self.peers[peer];
        let extensions =
            ReceivedExtensions::read(&authentic.header, packet, &state.format.extensions);
        if let Some(sequence) = extensions.transport_cc {
            state.transport_cc.record(sequence, arrived);
        }
        if state.feedback_due.is_none() {
            state.feedback_due = Some(now + FEEDBACK_INTERVAL);
        }
        if state.report_due.is_none() {
            state.report_due = Some(now + REPORT_INTERVAL);
        }
        self.arm_media_timers(peer);

        let owner = authentic.owner;
        if authentic.payload == Payload::Red
            && let Some(body) = authentic.header.payload(packet)
        {
            self.recover_audio(now, owner, &authentic.header, authentic.sequence, body);
        }
        if let Some(received) = self.receive(now, &authentic, packet, &extensions) {
            if let Some(level) = extensions.audio_level {
                self.hear(now, owner.track, level.dbov);
                if !self.passes_last_n(now, owner.track, level.dbov, &received.source) {
                    return;
                }
            }
            self.relay_packet(now, owner.track, &received);
            self.fan_out(now, owner.track, &received);
            // A voice packet is a frame (RFC 7587, section 4.2).
            if authentic.header.marker || received.codec.kind() == MediaKind::Audio {
                self.ready.completed(now, arrived);
            }
        }
    }

    /// Verifies and decrypts a datagram in place and finds whose packet it is. Only a packet
    /// that authenticates can teach us a new SSRC.
    fn authenticate(&mut self, peer: PeerIx, datagram: &mut [u8]) -> Option<Authentic> {
        let header = RtpHeader::parse(datagram)?;
        let state = &mut self.peers[peer];
        let payload = state.payload(header.payload_type)?;
        let known = state.streams.find(header.ssrc);
        let srtp = state.srtp.as_ref()?;
        let sequence = match known {
            Some(index) => {
                let window = &state.streams.get(index).window;
                let sequence = window.estimate(header.sequence);
                window.is_new(sequence).then_some(sequence)?
            }
            None if state.streams.is_replaced(header.ssrc) => return None,
            None => u64::from(header.sequence),
        };
        let roc = (sequence >> 16) as u32;
        let len = srtp
            .receiver
            .unprotect_rtp(roc, header.header_len, datagram)?;
        let index = match known {
            Some(index) => index,
            None => {
                let owner = find_owner(state, &self.tracks, &header, &datagram[..len], payload)?;
                state.streams.bind(header.ssrc, owner);
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

    /// Notes the packet in its layer's statistics and cache and writes its canonical form into
    /// the scratch buffer. `None` when there is nothing to forward.
    fn receive(
        &mut self,
        now: Instant,
        authentic: &Authentic,
        packet: &[u8],
        extensions: &ReceivedExtensions<'_>,
    ) -> Option<Received> {
        let owner = authentic.owner;
        let track = self.tracks.get_mut(owner.track)?;
        let header = &authentic.header;
        let layer = track.layers.get_mut(usize::from(owner.layer))?;
        let codec = authentic.payload.codec();
        let mut body = header.payload(packet)?;
        // A publisher that probes its network sends packets that are all padding.
        let red = authentic.payload == Payload::Red && !body.is_empty();
        if red && !red_payload::is_sound(body) {
            return None;
        }
        let mut sequence = layer.number(authentic.sequence);
        let (mut started, mut restarted) = (false, false);
        if owner.repair {
            let (original, rest) = body.split_first_chunk::<2>()?;
            body = rest;
            sequence = original_sequence(layer.highest_sequence, u16::from_be_bytes(*original))?;
            if layer.cache.get(sequence).is_some() {
                return None;
            }
            if let (Some(round_trip), Feed::Peer(publisher)) =
                (layer.nack.repaired(sequence, now), track.feed)
            {
                self.peers[publisher].note_rtt(round_trip);
            }
        } else {
            if layer.ssrc != Some(header.ssrc) {
                restarted = layer.ssrc.is_some();
                layer.restart(header.ssrc);
                sequence = layer.number(authentic.sequence);
                started = true;
            }
            started |= layer.touch(now);
            layer.highest_sequence = layer.highest_sequence.max(sequence);
            layer.last_timestamp = header.timestamp;
            layer
                .statistics
                .on_packet(sequence, header.timestamp, now, codec.clock_rate());
            layer.nack.received(sequence, now);
            // It was recovered from a later one, and another plaintext must not go out under
            // the same index.
            if track.kind == MediaKind::Audio && layer.cache.get(sequence).is_some() {
                return None;
            }
        }
        layer.codec = Some(codec);

        let layers = match track.kind {
            MediaKind::Audio => PacketLayers::whole(true),
            MediaKind::Video => layer.reader.read(
                codec,
                sequence,
                header.timestamp,
                body,
                extensions.dependency_descriptor,
            ),
        };
        if layers.keyframe {
            layer.keyframe_arrived();
        }
        let template = HeaderTemplate {
            payload_type: if red {
                RED_PAYLOAD_TYPE
            } else {
                codec.payload_type()
            },
            marker: header.marker,
        };
        let header_len = write_header(&mut self.scratch[..], &template, extensions);
        let len = header_len + body.len();
        self.scratch.get_mut(header_len..len)?.copy_from_slice(body);
        let len = pad(&mut self.scratch[..], header_len, len, track.kind);
        // What it costs is what goes on: padding by which a publisher probes its network does not.
        let layers_changed = layer.rates.note(now, &layers, len + MAX_OVERHEAD);
        patch_header(
            &mut self.scratch[..len],
            sequence as u16,
            header.timestamp,
            header.ssrc,
        );
        let frame = CachedFrame {
            needed_by: layers.needed_by,
            ends: layers.ends_frame,
        };
        let packet = &self.scratch[..len];
        layer
            .cache
            .insert(now, sequence, packet, header_len as u16, frame);
        let muted = track.muted;
        let nack_due = layer.nack.next_timeout();
        let feed = track.feed;
        if restarted {
            self.end_flow(owner.track, owner.layer);
        }
        if started {
            self.layer_started(now, owner.track, owner.layer, codec, header.ssrc);
        } else if layers_changed {
            self.choose_layers(now, owner.track);
        }
        if let (Some(due), Feed::Peer(publisher)) = (nack_due, feed) {
            let state = &mut self.peers[publisher];
            state.feedback_due = Some(state.feedback_due.map_or(due, |earlier| earlier.min(due)));
            self.arm_media_timers(publisher);
        }
        if muted {
            return None;
        }
        Some(Received {
            source: SourcePacket {
                layer: owner.layer,
                sequence,
                timestamp: header.timestamp,
                layers,
            },
            codec,
            header_len,
            len,
            primary_len: red
                .then(|| red_payload::primary_len(&self.scratch[..len], header_len))
                .flatten(),
        })
    }

    /// A layer's stream began anew: whoever gets it goes on with its first keyframe.
    pub(crate) fn end_flow(&mut self, track: TrackIx, layer: u8) {
        for &index in &self.tracks[track].subscriptions {
            let forwarder = &mut self.subscriptions[index].forwarder;
            if forwarder.layer() == Some(layer) {
                forwarder.pause();
            }
        }
    }

    /// A layer came to life: the room hears of it, and subscribers may want it.
    fn layer_started(&mut self, now: Instant, track: TrackIx, layer: u8, codec: Codec, ssrc: u32) {
        let (id, room) = {
            let track = &self.tracks[track];
            (track.id, track.room)
        };
        self.emit(
            room,
            Event::LayerStarted {
                track: id,
                layer,
                codec,
                ssrc,
            },
        );
        self.choose_layers(now, track);
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

    #[test]
    fn a_retransmission_is_extended_around_the_newest_packet() {
        assert_eq!(original_sequence(70_000, 4_460), Some(69_996));
        assert_eq!(original_sequence(65_537, 65_535), Some(65_535));
        assert_eq!(original_sequence(10, 65_535), None);
        assert_eq!(original_sequence(70_000, 4_465), None);
    }
}
