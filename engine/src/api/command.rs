//! What the control plane tells the engine.

use std::sync::Arc;

use bytes::Bytes;

use crate::api::codec::{Codec, MediaKind, PayloadTypes};
use crate::api::ids::{RoomId, ShardId, SubscriptionId, TrackId, TransportId};

/// An order to the engine. Orders that name something unknown are ignored: the thing may have
/// ended while the order was under way.
#[derive(Debug, Clone)]
pub enum Command {
    /// Creates a peer connection that waits for its remote description.
    AddTransport(Box<NewTransport>),
    /// The remote side's ICE credentials and certificate fingerprint, from its SDP. Given again
    /// with other credentials after an ICE restart; the fingerprint must not change.
    SetRemote {
        /// Which connection.
        transport: TransportId,
        /// Credentials that the peer's checks must carry.
        ice: IceCredentials,
        /// The certificate that the peer must present.
        fingerprint: Fingerprint,
    },
    /// New local ICE credentials; the old ones are valid until a check with the new ones passes.
    RestartIce {
        /// Which connection.
        transport: TransportId,
        /// The new local credentials.
        local_ice: IceCredentials,
    },
    /// Ends the connection and everything that it publishes and receives.
    RemoveTransport(TransportId),
    /// How to read the RTP that arrives on a connection. Replaces the former mapping.
    SetReceive {
        /// Which connection.
        transport: TransportId,
        /// The mapping that the answer agreed on.
        mapping: Arc<ReceiveMapping>,
    },
    /// A track that a connection may publish. Media for it is accepted from now on.
    AddTrack(Box<NewTrack>),
    /// A track that is published on another shard, so that it can be subscribed to here. Its
    /// packets cross while somebody does.
    MirrorTrack {
        /// The track; its connection is not here.
        track: Box<NewTrack>,
        /// The room that it belongs to.
        room: RoomId,
        /// Where it is published.
        home: ShardId,
    },
    /// The m-line, streams or layers of a track changed by renegotiation.
    SetTrackSource {
        /// Which track.
        track: TrackId,
        /// Where its packets are found now.
        source: TrackSource,
    },
    /// Ends a track and its subscriptions.
    RemoveTrack(TrackId),
    /// A muted track's packets go nowhere.
    SetTrackMuted {
        /// Which track.
        track: TrackId,
        /// Whether it is muted.
        muted: bool,
    },
    /// Sends a track to a subscriber from now on.
    AddSubscription(NewSubscription),
    /// Ends one.
    RemoveSubscription(SubscriptionId),
    /// Changes what a subscriber is sent of a track.
    SetSubscription {
        /// Which subscription.
        subscription: SubscriptionId,
        /// What is to be sent from now on.
        settings: SubscriptionSettings,
    },
    /// Another answer of the subscriber: under which payload types it takes the track now.
    SetPayloadTypes {
        /// Which subscription.
        subscription: SubscriptionId,
        /// What the answer takes.
        payload_types: PayloadTypes,
    },
    /// From now on a room forwards only its loudest audio tracks (last-N).
    SetLastN {
        /// Which room.
        room: RoomId,
        /// The number of audio tracks that are forwarded at a time; `None` for all of them.
        slots: Option<u8>,
    },
    /// Tells by [`Event::Quality`](crate::Event::Quality) how connections fare.
    MeasureQuality {
        /// The room that hears of it.
        room: RoomId,
        /// Which connections.
        transports: Vec<TransportId>,
    },
    /// Sends one message on a data channel of each of the connections. The bytes are shared.
    SendData {
        /// To whom.
        transports: Vec<TransportId>,
        /// On which channel.
        channel: DataChannel,
        /// The message, at most 64 KiB and what names its sender.
        payload: Bytes,
        /// Who sent it, and is slowed when a receiver does not keep up with reliable data;
        /// `None` for what the server says itself.
        from: Option<DataSource>,
    },
    /// The room has passed on messages of [`Event::Data`](super::event::Event::Data), or has
    /// dropped them: more may be read.
    DataTaken {
        /// Which room.
        room: RoomId,
        /// The sum of their [`window_cost`](super::event::Event::window_cost).
        cost: usize,
    },
    /// Ends whatever a room has here: its connections, and its mirrored tracks.
    CloseRoom(RoomId),
}

impl Command {
    /// Bytes that it points to, about: what it takes in a queue beyond its own size.
    pub fn heap_size(&self) -> usize {
        match self {
            Command::AddTransport(new) => size_of::<NewTransport>() + new.local_ice.heap_size(),
            Command::SetRemote { ice, .. } => ice.heap_size(),
            Command::RestartIce { local_ice, .. } => local_ice.heap_size(),
            Command::SetReceive { mapping, .. } => {
                size_of::<ReceiveMapping>()
                    + size_of_val(&mapping.payload_types[..])
                    + size_of_val(&mapping.extensions[..])
            }
            Command::AddTrack(track) | Command::MirrorTrack { track, .. } => {
                size_of::<NewTrack>() + track.source.heap_size()
            }
            Command::SetTrackSource { source, .. } => source.heap_size(),
            Command::MeasureQuality { transports, .. } => size_of_val(&transports[..]),
            Command::SendData {
                transports,
                payload,
                ..
            } => size_of_val(&transports[..]) + payload.len(),
            Command::RemoveTransport(_)
            | Command::RemoveTrack(_)
            | Command::SetTrackMuted { .. }
            | Command::AddSubscription(_)
            | Command::RemoveSubscription(_)
            | Command::SetPayloadTypes { .. }
            | Command::SetSubscription { .. }
            | Command::SetLastN { .. }
            | Command::DataTaken { .. }
            | Command::CloseRoom(_) => 0,
        }
    }
}

/// A username fragment and password (RFC 8445, section 5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// Username fragment.
    pub ufrag: String,
    /// Password: the key of MESSAGE-INTEGRITY.
    pub pwd: String,
}

impl IceCredentials {
    fn heap_size(&self) -> usize {
        self.ufrag.len() + self.pwd.len()
    }
}

impl std::fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IceCredentials({}, …)", self.ufrag)
    }
}

/// SHA-256 of a peer's certificate (RFC 8122).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

/// Parameters of [`Command::AddTransport`].
#[derive(Debug, Clone)]
pub struct NewTransport {
    /// Its number.
    pub transport: TransportId,
    /// The room that hears of it.
    pub room: RoomId,
    /// Our ICE credentials.
    pub local_ice: IceCredentials,
    /// Open the three data channels ourselves (the subscriber connection) instead of waiting
    /// for the peer to open them.
    pub opens_data_channels: bool,
}

/// The connection from which a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataSource {
    /// Which one.
    pub transport: TransportId,
    /// The shard on which it is.
    pub shard: ShardId,
}

/// A connection on the first shard. Where there are more, the room's place in the media plane
/// sets the right one.
impl From<TransportId> for DataSource {
    fn from(transport: TransportId) -> DataSource {
        DataSource {
            transport,
            shard: ShardId(0),
        }
    }
}

/// The protocol's three data channels, and those that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataChannel {
    /// `_reliable`: ordered, all of it.
    Reliable,
    /// `_lossy`: unordered, no retransmission.
    Lossy,
    /// `_data_track`: as lossy, for data tracks.
    DataTrack,
    /// Any channel that the peer opened under another label. Messages come on it; none can be
    /// sent.
    Other,
}

impl DataChannel {
    /// The three that are opened here, in this order.
    pub const ALL: [DataChannel; 3] = [
        DataChannel::Reliable,
        DataChannel::Lossy,
        DataChannel::DataTrack,
    ];

    /// The label on the wire; empty for [`DataChannel::Other`].
    pub fn label(self) -> &'static str {
        match self {
            DataChannel::Reliable => "_reliable",
            DataChannel::Lossy => "_lossy",
            DataChannel::DataTrack => "_data_track",
            DataChannel::Other => "",
        }
    }
}

/// How payload types and header extensions of one publisher connection map to ours.
#[derive(Debug, Clone, Default)]
pub struct ReceiveMapping {
    /// `(payload type, what it carries)`.
    pub payload_types: Vec<(u8, Payload)>,
    /// `(extension id, which)`.
    pub extensions: Vec<(u8, HeaderExtension)>,
}

/// What a payload type of a publisher stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    /// Media of this codec.
    Media(Codec),
    /// Retransmissions (RFC 4588) of this codec.
    Rtx(Codec),
    /// Opus with the frames of earlier packets (RFC 2198).
    Red,
}

impl Payload {
    /// The codec that it is encoded with.
    pub fn codec(self) -> Codec {
        match self {
            Payload::Media(codec) | Payload::Rtx(codec) => codec,
            Payload::Red => Codec::Opus,
        }
    }
}

/// The RTP header extensions that mean something to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HeaderExtension {
    /// urn:ietf:params:rtp-hdrext:sdes:mid (RFC 9143)
    Mid,
    /// urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id (RFC 8852)
    Rid,
    /// urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id (RFC 8852)
    RepairedRid,
    /// urn:ietf:params:rtp-hdrext:ssrc-audio-level (RFC 6464)
    AudioLevel,
    /// draft-holmer-rmcat-transport-wide-cc-extensions-01
    TransportCc,
    /// AV1 dependency descriptor
    DependencyDescriptor,
    /// abs-capture-time
    AbsCaptureTime,
    /// abs-send-time
    AbsSendTime,
    /// urn:3gpp:video-orientation
    VideoOrientation,
    /// playout-delay
    PlayoutDelay,
}

/// Parameters of [`Command::AddTrack`].
#[derive(Debug, Clone)]
pub struct NewTrack {
    /// Its number.
    pub track: TrackId,
    /// The connection that publishes it.
    pub transport: TransportId,
    /// Audio or video.
    pub kind: MediaKind,
    /// It is of a screen: its picture comes before cameras where not everything fits, and its
    /// sound is always forwarded.
    pub screen: bool,
    /// Its frames are encrypted end to end, so that no payload may be opened or taken apart.
    pub encrypted: bool,
    /// Where its packets are found.
    pub source: TrackSource,
}

/// How a track's packets are recognised on its connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrackSource {
    /// The m-line's identification tag, matched against the MID extension.
    pub mid: String,
    /// RIDs of a simulcast track, lowest layer first; empty for a single stream.
    pub rids: Vec<String>,
    /// `(media SSRC, its RTX SSRC)` where the SDP names them, lowest layer first.
    pub ssrcs: Vec<(u32, Option<u32>)>,
}

impl TrackSource {
    fn heap_size(&self) -> usize {
        let rids = self.rids.iter().map(|rid| size_of::<String>() + rid.len());
        self.mid.len() + rids.sum::<usize>() + size_of_val(&self.ssrcs[..])
    }
}

/// Parameters of [`Command::AddSubscription`].
#[derive(Debug, Clone)]
pub struct NewSubscription {
    /// Its number.
    pub subscription: SubscriptionId,
    /// What is sent.
    pub track: TrackId,
    /// To which connection.
    pub transport: TransportId,
    /// SSRC of the media that we send.
    pub ssrc: u32,
    /// SSRC of retransmissions, when the subscriber takes RTX.
    pub rtx_ssrc: Option<u32>,
    /// The subscriber reports when each packet arrived, by transport-wide sequence numbers.
    pub transport_cc: bool,
    /// Under which payload types the subscriber takes each codec, retransmissions and redundant
    /// audio. What is encoded with another codec is not sent; redundant audio becomes plain Opus
    /// where it is not taken.
    pub payload_types: PayloadTypes,
    /// What the subscriber is to be sent of it.
    pub settings: SubscriptionSettings,
    /// The codec as whose media a few seconds of nothing are sent while the track is silent, for
    /// a subscriber that learns of a track by its first packet; `None` for others.
    pub shown_as: Option<Codec>,
}

/// How much of a track a subscriber is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionSettings {
    /// Send at all. `false` while the subscriber does not show it, or the publisher does not
    /// permit it.
    pub enabled: bool,
    /// The best spatial layer to send: 0 lowest, 2 highest.
    pub max_layer: u8,
    /// Frames a second that are enough; 0 for all there are.
    pub max_frame_rate: u8,
    /// Which of the tracks that do not all fit come first: 1 before 2 and so on; 0, unsaid, last.
    pub priority: u8,
    /// Send nothing where it does not fit even at its smallest. Otherwise its smallest is sent all
    /// the same, and the network is asked for more than it is taken to carry.
    pub allow_pause: bool,
}

impl Default for SubscriptionSettings {
    fn default() -> SubscriptionSettings {
        SubscriptionSettings {
            enabled: true,
            max_layer: 2,
            max_frame_rate: 0,
            priority: 0,
            allow_pause: true,
        }
    }
}
