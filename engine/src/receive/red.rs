//! Redundant audio (RED, RFC 2198): a packet carries, before its own Opus frame, those of the
//! packets before it, so that a lost packet is found in the next one.
//!
//! It is passed on as it came to subscribers that take it. The others get the packet's own frame
//! alone, under the same sequence number. What a publisher's network lost is put in from the
//! packets after it, for both.

use std::time::Instant;

use crate::api::codec::{Codec, MediaKind};
use crate::engine::Engine;
use crate::forward::forwarder::SourcePacket;
use crate::receive::received_streams::StreamOwner;
use crate::state::packet::Received;
use crate::state::packet_cache::CachedFrame;
use crate::wire::padding::pad;
use crate::wire::payload::reader::PacketLayers;
use crate::wire::red_payload::{RedPayload, Redundant};
use crate::wire::rtp::extensions::{
    HeaderTemplate, ReceivedExtensions, patch_header, write_header,
};
use crate::wire::rtp::header::RtpHeader;

impl Engine {
    /// Before a RED packet is forwarded: the packets just before it that have not arrived are
    /// put in as Opus packets. `header` and `sequence` are those of the RED packet.
    pub(crate) fn recover_audio(
        &mut self,
        now: Instant,
        owner: StreamOwner,
        header: &RtpHeader,
        sequence: u64,
        payload: &[u8],
    ) {
        let Some(red) = RedPayload::parse(payload) else {
            return;
        };
        for (distance, block) in red.earlier() {
            let Some(missing) = sequence.checked_sub(distance) else {
                continue;
            };
            let timestamp = header.timestamp.wrapping_sub(block.offset);
            let recovered =
                self.insert_recovered(now, owner, header.ssrc, missing, timestamp, block);
            if let Some(received) = recovered
                && !self.is_held(owner.track)
            {
                self.fan_out(now, owner.track, &received);
            }
        }
    }

    /// Keeps a recovered packet as if it had arrived. `None` when it has, when a later one has,
    /// or when nobody is to get it.
    fn insert_recovered(
        &mut self,
        now: Instant,
        owner: StreamOwner,
        ssrc: u32,
        sequence: u64,
        timestamp: u32,
        block: Redundant<'_>,
    ) -> Option<Received> {
        let track = self.tracks.get_mut(owner.track)?;
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
        let scratch = &mut self.scratch[..];
        let header_len = write_header(scratch, &template, &ReceivedExtensions::default());
        let len = header_len + block.frame.len();
        scratch
            .get_mut(header_len..len)?
            .copy_from_slice(block.frame);
        let len = pad(scratch, header_len, len, MediaKind::Audio);
        patch_header(scratch, sequence as u16, timestamp, ssrc);
        layer.cache.insert(
            now,
            sequence,
            &scratch[..len],
            header_len as u16,
            CachedFrame::WHOLE,
        );
        layer.highest_sequence = sequence;
        layer.nack.received(sequence, now);
        if track.muted {
            return None;
        }
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
            primary_len: None,
        })
    }
}
