//! A cached packet that is sent again: to a subscriber that missed it, or to another shard.

use crate::api::codec::{Codec, MediaKind};
use crate::forward::forwarder::{RepeatedPacket, SourcePacket};
use crate::send::send_queue::{Form, QueuedPacket};
use crate::state::packet_cache::CachedPacket;
use crate::state::subscription::Subscription;
use crate::state::table::SubscriptionIx;
use crate::state::track::Track;
use crate::wire::payload;
use crate::wire::payload::counters::PictureCounters;
use crate::wire::payload::dependency_descriptor::frame_number;
use crate::wire::payload::reader::PacketLayers;
use crate::wire::red_payload::Redundancy;
use crate::wire::rtp::extensions::dependency_descriptor;
use crate::wire::rtp::header::RtpHeader;

/// Length in bytes of the original sequence number that a retransmission has before the payload
/// (RFC 4588, section 4).
pub(crate) const REPAIR_HEADER: usize = 2;

/// Describes the retransmission of a cached packet: on the retransmission stream (RFC 4588) where the
/// subscriber takes one, else byte for byte the same plaintext under the same SRTP index, so that the
/// repeated nonce reveals nothing.
pub(crate) fn requeue_for_retransmission(
    index: SubscriptionIx,
    subscription: &mut Subscription,
    track: &Track,
    sequence: u16,
) -> Option<QueuedPacket> {
    let sent = subscription.forwarder.sent_as(sequence)?;
    let layer = track.layers.get(usize::from(sent.layer))?;
    let cached = layer.cache.get(sent.source)?;
    // The layer's codec may have changed since.
    let codec = Codec::of_cached(RtpHeader::parse(cached.packet)?.payload_type)?;
    let packet = describe_cached(codec, &cached)?;
    let rewrite = subscription.forwarder.rewrite_again(sent.sent, &packet)?;
    let header_len = usize::from(cached.header_len);
    let redundancy = Redundancy::of(cached.packet, header_len, track.encrypted);
    let outgoing = subscription.outgoing(codec, redundancy)?;
    let mut queued = QueuedPacket {
        subscription: index,
        track: subscription.track,
        layer: sent.layer,
        source: sent.source,
        sequence: rewrite.sequence,
        timestamp: rewrite.timestamp,
        ssrc: subscription.ssrc,
        payload_type: outgoing.payload_type,
        counters: rewrite.counters,
        ends_picture: rewrite.ends_picture,
        form: Form::Repeat,
        reported: subscription.transport_cc,
        red_stripped: outgoing.stripped_len.is_some(),
        len: outgoing.stripped_len.unwrap_or(cached.packet.len()) as u16,
    };
    let rtx = subscription.payload_types.rtx(codec);
    if let Some((ssrc, payload_type)) = subscription.rtx_ssrc.zip(rtx) {
        queued.form = Form::Repair {
            original: rewrite.sequence as u16,
        };
        queued.payload_type = payload_type;
        queued.len += REPAIR_HEADER as u16;
        queued.ssrc = ssrc;
        queued.sequence = subscription.rtx_sequence;
        subscription.rtx_sequence += 1;
    }
    Some(queued)
}

/// What sending a cached packet again needs to know of it, read from its bytes.
fn describe_cached(codec: Codec, cached: &CachedPacket<'_>) -> Option<RepeatedPacket> {
    let header = RtpHeader::parse(cached.packet)?;
    let body = cached.packet.get(usize::from(cached.header_len)..)?;
    Some(RepeatedPacket {
        timestamp: header.timestamp,
        counters: PictureCounters {
            frame_number: dependency_descriptor(cached.packet).map_or(0, frame_number),
            ..payload::counters(codec, body)
        },
        needed_by: cached.frame.needed_by,
        ends_frame: cached.frame.ends,
    })
}

/// A cached packet as [`describe_cached`] has it, for another shard. No subscriber starts with such a
/// packet, nor switches layers at it.
pub(crate) fn source_packet(
    layer: u8,
    sequence: u64,
    codec: Codec,
    cached: &CachedPacket<'_>,
) -> Option<SourcePacket> {
    let packet = describe_cached(codec, cached)?;
    Some(SourcePacket {
        layer,
        sequence,
        timestamp: packet.timestamp,
        layers: PacketLayers {
            needed_by: packet.needed_by,
            ends_frame: packet.ends_frame,
            counters: packet.counters,
            ..PacketLayers::whole(codec.kind() == MediaKind::Audio)
        },
    })
}
