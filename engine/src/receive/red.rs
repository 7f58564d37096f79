//! Redundant audio (RED, RFC 2198): a packet carries, before its own Opus frame, those of the
//! packets before it, so that a lost packet is found in the next one.
//!
//! It is forwarded unchanged to subscribers that have negotiated it. The others get the packet's
//! own frame alone, under the same sequence number. Packets that the publisher's network lost are
//! recovered from the packets after them, for both.

use std::time::Instant;

use crate::api::codec::{Codec, MediaKind};
use crate::api::command::Payload;
use crate::forward::fan_out::fan_out;
use crate::forward::forwarder::SourcePacket;
use crate::forward::last_n::LastN;
use crate::forward::relay::relay_packet;
use crate::receive::ingress::{Authentic, Ingress};
use crate::state::Media;
use crate::state::packet::Received;
use crate::wire::payload::reader::PacketLayers;
use crate::wire::red_payload::{RedPayload, Redundancy, Redundant};
use crate::wire::rtp::extensions::{HeaderTemplate, ReceivedExtensions, patch_header};

impl Ingress {
    /// Before a RED packet is forwarded: the packets just before it that have not arrived are
    /// put in as Opus packets.
    pub(crate) fn recover_audio(
        &mut self,
        media: &mut Media,
        last_n: &LastN,
        now: Instant,
        authentic: &Authentic,
        packet: &[u8],
    ) {
        let (owner, header) = (authentic.owner, &authentic.header);
        if authentic.payload != Payload::Red {
            return;
        }
        // What is encrypted end to end only looks as if it could be read.
        let track = media.tracks.get(owner.track);
        if track.is_none_or(|track| track.encrypted) {
            return;
        }
        let Some(red) = header.payload(packet).and_then(RedPayload::parse) else {
            return;
        };
        for (distance, block) in red.earlier() {
            let Some(missing) = authentic.sequence.checked_sub(distance) else {
                continue;
            };
            let timestamp = header.timestamp.wrapping_sub(block.offset);
            let Some(received) = self.recover(media, now, authentic, missing, timestamp, block)
            else {
                continue;
            };
            let packet = self.packet(&received);
            let muted = media.tracks[owner.track].muted;
            if !muted {
                let audience = last_n.audience(media, owner.track);
                relay_packet(media, now, owner.track, &received, audience, packet);
                fan_out(media, now, owner.track, &received, audience);
            }
            media.keep(now, owner.track, &received, packet, !muted);
        }
    }

    /// Notes a recovered packet as if it had arrived, and writes it in the form that subscribers
    /// get. `None` when it has, or when a later one has.
    fn recover(
        &mut self,
        media: &mut Media,
        now: Instant,
        authentic: &Authentic,
        sequence: u64,
        timestamp: u32,
        block: Redundant<'_>,
    ) -> Option<Received> {
        let (owner, ssrc) = (authentic.owner, authentic.header.ssrc);
        let track = media.tracks.get_mut(owner.track)?;
        let layer = track.layers.get_mut(usize::from(owner.layer))?;
        if track.kind != MediaKind::Audio
            || layer.ssrc != Some(ssrc)
            || sequence <= layer.highest_sequence
        {
            return None;
        }
        let template = HeaderTemplate {
            payload_type: Codec::Opus.payload_type(),
            marker: false,
        };
        let extensions = ReceivedExtensions::default();
        let (header_len, len) =
            self.write(&template, &extensions, block.frame, MediaKind::Audio)?;
        let packet = &mut self.scratch[..len];
        patch_header(packet, sequence as u16, timestamp, ssrc);
        layer.highest_sequence = sequence;
        layer.nack.received(sequence, now);
        Some(Received {
            source: SourcePacket {
                layer: owner.layer,
                sequence,
                timestamp,
                layers: PacketLayers::whole(true),
            },
            codec: Codec::Opus,
            header_len,
            len,
            redundancy: Redundancy::None,
        })
    }
}
