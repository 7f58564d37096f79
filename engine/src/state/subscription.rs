//! One track on its way to one subscriber.

use std::time::Instant;

use crate::api::codec::{Codec, MediaKind, PayloadTypes};
use crate::api::command::{NewSubscription, SubscriptionSettings};
use crate::api::ids::SubscriptionId;
use crate::forward::forwarder::{Forwarder, SentPacket};
use crate::send::send_queue::LastQueued;
use crate::state::silence::Silence;
use crate::state::table::{PeerIx, TrackIx};
use crate::state::track::Track;
use crate::wire::payload::layers::LayerId;
use crate::wire::red_payload::Redundancy;

/// Retransmissions that one subscription may take from the cache between two reports.
const RETRANSMISSIONS_A_SECOND: u16 = 1_000;

/// One track sent to one subscriber. What every packet touches comes first, as in [`Peer`].
///
/// [`Peer`]: crate::state::peer::Peer
#[repr(C, align(64))]
pub(crate) struct Subscription {
    /// Index of the receiving peer.
    pub(crate) peer: PeerIx,
    pub(crate) ssrc: u32,
    /// The arrival of its packets is reported.
    pub(crate) transport_cc: bool,
    sent_as: Option<SentAs>,
    pub(crate) started: bool,
    /// Its audio is sent also while the track has no slot of last-N.
    pub(crate) always_heard: bool,
    pub(crate) settings: SubscriptionSettings,
    pub(crate) packets: u32,
    pub(crate) octets: u32,
    pub(crate) last_queued: LastQueued,
    pub(crate) forwarder: Forwarder,

    /// Payload types of its answer. A packet's path reads `sent_as` instead, which saves a cache line.
    pub(crate) payload_types: PayloadTypes,
    pub(crate) id: SubscriptionId,
    /// Index of the track.
    pub(crate) track: TrackIx,
    pub(crate) rtx_ssrc: Option<u32>,
    /// The layer that should flow, when one is alive.
    pub(crate) target: Option<LayerId>,
    /// There is something to send and no room for it.
    pub(crate) paused: bool,
    /// Extended sequence number of the next retransmission.
    pub(crate) rtx_sequence: u64,
    pub(crate) last_repair_queued: LastQueued,
    pub(crate) packets_reported: u32,
    /// Packets that the subscriber has reported lost, since the start.
    pub(crate) reported_lost: u32,
    pub(crate) last_report: Option<SentReport>,
    pub(crate) retransmissions_left: u16,
    /// Silence that is still to be sent while no media arrives.
    pub(crate) silence: Option<Box<Silence>>,
}

/// Under which payload type the last packet left.
#[derive(Debug, Clone, Copy)]
struct SentAs {
    /// The codec's [index](Codec::index).
    codec: u8,
    payload_type: u8,
}

/// The last sender report, to measure the round trip by the receiver's answer to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SentReport {
    /// Middle 32 bits of its NTP time (RFC 3550, section 6.4.1).
    pub(crate) compact_ntp: u32,
    /// When it was sent.
    pub(crate) at: Instant,
}

/// How a packet leaves for one subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) payload_type: u8,
    /// Its length when it is stripped of its redundancy.
    pub(crate) stripped_len: Option<usize>,
}

impl Subscription {
    pub(crate) fn new(
        new: &NewSubscription,
        track: TrackIx,
        peer: PeerIx,
        clock_rate: u32,
        first_sequence: u16,
        first_rtx_sequence: u16,
    ) -> Subscription {
        Subscription {
            id: new.subscription,
            track,
            peer,
            ssrc: new.ssrc,
            rtx_ssrc: new.rtx_ssrc,
            transport_cc: new.transport_cc,
            paused: false,
            payload_types: new.payload_types,
            sent_as: None,
            settings: new.settings,
            target: None,
            // Half the range, so that a client that sees the second packet first does not
            // take it for the end of the former cycle (RFC 3711, section 3.3.1).
            forwarder: Forwarder::new(clock_rate, first_sequence & 0x7fff),
            rtx_sequence: u64::from(first_rtx_sequence & 0x7fff),
            last_queued: LastQueued::default(),
            last_repair_queued: LastQueued::default(),
            started: false,
            always_heard: false,
            packets: 0,
            octets: 0,
            packets_reported: 0,
            reported_lost: 0,
            last_report: None,
            retransmissions_left: RETRANSMISSIONS_A_SECOND,
            silence: None,
        }
    }

    /// How a packet leaves for the subscriber; `None` when its answer does not take such packets.
    pub(crate) fn outgoing(&mut self, codec: Codec, redundancy: Redundancy) -> Option<Outgoing> {
        let (payload_type, stripped_len) = match redundancy {
            Redundancy::None => (self.media_type(codec)?, None),
            Redundancy::Strippable(len) => match self.payload_types.red() {
                Some(red) => (red, None),
                None => (self.media_type(codec)?, Some(len)),
            },
            Redundancy::Sealed => (self.payload_types.red()?, None),
        };
        Some(Outgoing {
            payload_type,
            stripped_len,
        })
    }

    fn media_type(&mut self, codec: Codec) -> Option<u8> {
        let index = codec.index() as u8;
        if let Some(sent_as) = self.sent_as.filter(|sent_as| sent_as.codec == index) {
            return Some(sent_as.payload_type);
        }
        let payload_type = self.payload_types.media(codec)?;
        self.sent_as = Some(SentAs {
            codec: index,
            payload_type,
        });
        Some(payload_type)
    }

    /// Takes another answer.
    pub(crate) fn renegotiate(&mut self, answered: PayloadTypes) {
        self.payload_types = self.payload_types.renegotiated(answered);
        self.sent_as = None;
    }

    /// Counts a packet of this many bytes of payload, for the sender's reports (RFC 3550, section
    /// 6.4.1).
    pub(crate) fn count(&mut self, payload_len: usize) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload_len as u32);
    }

    /// Whether anything can be sent on a retransmission stream.
    pub(crate) fn can_repair(&self) -> bool {
        self.rtx_ssrc.is_some() && self.transport_cc && self.settings.enabled
    }

    /// Sets the layer of its track that should flow; `None` for none that is not flowing yet.
    pub(crate) fn set_target(&mut self, track: &Track, target: Option<LayerId>) {
        self.target = target;
        match target.map(|layer| track.locate(layer)) {
            Some((stream, within)) => self.forwarder.set_target(Some(stream), within),
            None => self.forwarder.set_target(None, LayerId::MAX),
        }
    }

    /// Whether a packet that was sent is still of use to who missed it. A voice has no later picture
    /// that makes up for it.
    pub(crate) fn is_needed(&self, kind: MediaKind, sent: &SentPacket) -> bool {
        kind == MediaKind::Audio || self.forwarder.is_needed(sent)
    }

    /// A new second: the right to retransmissions is whole again.
    pub(crate) fn renew_retransmissions(&mut self) {
        self.retransmissions_left = RETRANSMISSIONS_A_SECOND;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ids::{TrackId, TransportId};
    use crate::forward::forwarder::SourcePacket;
    use crate::test_clock;
    use crate::wire::payload::reader::PacketLayers;

    #[test]
    fn a_voice_is_needed_and_a_picture_before_a_keyframe_is_not() {
        let new = NewSubscription {
            shown_as: None,
            subscription: SubscriptionId(1),
            track: TrackId(1),
            transport: TransportId(1),
            ssrc: 1,
            rtx_ssrc: None,
            transport_cc: true,
            payload_types: PayloadTypes::as_offered(),
            settings: SubscriptionSettings::default(),
        };
        let mut subscription = Subscription::new(&new, TrackIx(0), PeerIx(0), 48_000, 7, 0);
        let source = |sequence| SourcePacket {
            layer: 0,
            sequence,
            timestamp: 0,
            layers: PacketLayers::whole(true),
        };
        let forwarder = &mut subscription.forwarder;
        forwarder.start(&source(100), test_clock::start(), None);
        forwarder.next(&source(101), test_clock::start());
        let [first, second] = [7, 8].map(|sequence| forwarder.sent_as(sequence).unwrap());
        for (kind, needed) in [(MediaKind::Audio, true), (MediaKind::Video, false)] {
            assert_eq!(subscription.is_needed(kind, &first), needed);
            assert!(subscription.is_needed(kind, &second));
        }
    }
}
