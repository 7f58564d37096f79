//! What the engine tells the control plane.

use bytes::Bytes;

use crate::api::codec::Codec;
use crate::api::command::DataChannel;
use crate::api::ids::{RoomId, SubscriptionId, TrackId, TransportId};
use crate::api::quality::TransportQuality;

/// Something that the room must hear of.
#[derive(Debug, Clone)]
pub struct RoomEvent {
    /// Which room.
    pub room: RoomId,
    /// What happened.
    pub event: Event,
}

/// One happening in the media plane.
#[derive(Debug, Clone)]
pub enum Event {
    /// ICE and DTLS are done: media and data flow.
    TransportConnected(TransportId),
    /// No check has arrived for a while (RFC 7675); it may come back.
    TransportSilent(TransportId),
    /// Checks arrive again after [`Event::TransportSilent`].
    TransportBack(TransportId),
    /// The connection is over and cannot come back.
    TransportFailed {
        /// Which one.
        transport: TransportId,
        /// For the log.
        reason: String,
    },
    /// A message on a data channel.
    Data {
        /// From whom.
        transport: TransportId,
        /// On which channel.
        channel: DataChannel,
        /// The message.
        payload: Bytes,
    },
    /// A receiver does not read its reliable data, and what waited for it was discarded, in
    /// whole messages; or it reads again, and what is sent to it from now on arrives.
    DataStalled {
        /// The receiver's connection.
        transport: TransportId,
        /// It does not read.
        stalled: bool,
    },
    /// The first packet of a layer of a track.
    LayerStarted {
        /// Which track.
        track: TrackId,
        /// Which layer, 0 lowest.
        layer: u8,
        /// What it is encoded with.
        codec: Codec,
        /// SSRC of the media.
        ssrc: u32,
    },
    /// The first packet of a subscription has been sent.
    SubscriptionStarted(SubscriptionId),
    /// What the subscriber's network carries does not suffice even for the lowest layer of a
    /// track, so it is not sent; or it suffices again.
    StreamState {
        /// Which subscription.
        subscription: SubscriptionId,
        /// Not sent for now.
        paused: bool,
    },
    /// What [`MeasureQuality`](crate::Command::MeasureQuality) asked for.
    Quality(Vec<TransportQuality>),
    /// Who is heard: linear level 0.0 to 1.0 of each active audio track, loudest first. Sent
    /// when it changes, at most every 300 ms.
    Speakers(Vec<(TrackId, f32)>),
    /// A shard with a part of the room has ended or lost its state: the room's media is gone.
    ShardEnded,
}

/// What a message counts in its room's window beyond its bytes, in bytes: about the size of an
/// event. It bounds the number of messages that are on their way to a room at 4,096.
const MESSAGE_COST: usize = 256;

impl Event {
    /// Bytes that it counts in its room's window: the room says by
    /// [`DataTaken`](super::command::Command::DataTaken) that they are free again. Only
    /// messages count.
    pub fn window_cost(&self) -> usize {
        match self {
            Event::Data { payload, .. } => payload.len() + MESSAGE_COST,
            _ => 0,
        }
    }

    /// Whether a room that is slow may miss it: a later one says the same, or nobody relies on
    /// it.
    pub fn may_be_lost(&self) -> bool {
        match self {
            Event::Data { channel, .. } => {
                matches!(channel, DataChannel::Lossy | DataChannel::DataTrack)
            }
            Event::Speakers(_) | Event::Quality(_) | Event::SubscriptionStarted(_) => true,
            _ => false,
        }
    }
}
