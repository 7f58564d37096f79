//! The data channels of one connection: SCTP over DTLS (RFC 8831) and the protocol by which
//! channels are opened (RFC 8832).
//!
//! We are the DTLS server and wait for the peer's association; the channels that we open have
//! odd stream ids (RFC 8832, section 6).
//!
//! Messages are read when they are asked for, not when they arrive: what is not read fills the
//! association's receive buffer and closes the window that we announce to the peer (a_rwnd;
//! RFC 9260, section 6.2), which slows it. What is sent waits in a [`DataOutbox`].

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rtc_datachannel::message::Message;
use rtc_datachannel::message::message_channel_ack::DataChannelAck;
use rtc_datachannel::message::message_channel_open::{ChannelType, DataChannelOpen};
use rtc_sctp::{
    Association, AssociationHandle, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier, ReliabilityType, ServerConfig, StreamEvent, TimerConfig,
    TransportConfig,
};
use rtc_shared::TransportProtocol;
use rtc_shared::marshal::{Marshal, Unmarshal};

use super::byte_queue::ByteQueue;
use super::data_outbox::DataOutbox;
use super::other_streams::OtherStreams;
use super::receive_window::ReceiveWindow;
use super::sctp_packet;
use crate::api::command::DataChannel;

/// The types of messages by which channels are opened (RFC 8832, section 8.2.1).
const ACK: u8 = 2;
const OPEN: u8 = 3;
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 1));
/// Bytes of the largest message taken; our SDP says so.
pub(super) const MAX_MESSAGE: u32 = 64 << 10;
/// Bytes of the largest message sent: one of [`MAX_MESSAGE`], with who sent it.
const MAX_MESSAGE_OUT: u32 = MAX_MESSAGE + (4 << 10);
/// Streams that the peer may use; [`OtherStreams`] has a bit for each.
const MAX_STREAMS: u16 = 64;
/// Keeps an SCTP packet within a DTLS record within a datagram of 1,200 bytes.
const MTU: u32 = 1_150;
/// Bytes of SCTP packets that wait for DTLS, which takes them before the next input. What does
/// not fit is as if lost on the network. Several times what an association sends at once.
const MAX_OUTGOING: usize = 4 << 20;

/// How far a channel is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Channel {
    Closed,
    /// We opened it on this stream, and the peer has not acknowledged it.
    Opening(u16),
    Open(u16),
}

impl Channel {
    fn stream(self) -> Option<u16> {
        match self {
            Channel::Closed => None,
            Channel::Opening(stream) | Channel::Open(stream) => Some(stream),
        }
    }
}

/// The data channels of one connection.
pub(super) struct DataChannels {
    opens: bool,
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    connected: bool,
    /// In the order of [`DataChannel::ALL`].
    channels: [Channel; 3],
    /// Whether a channel may have something to be read.
    readable: [bool; 3],
    /// Channels under labels of the peer's own.
    others: OtherStreams,
    window: ReceiveWindow,
    outbox: DataOutbox,
    outgoing: ByteQueue<Bytes>,
    /// Why the association is over; said once.
    failure: Option<String>,
}

impl DataChannels {
    /// `opens`: we open the three channels ourselves.
    pub(super) fn new(opens: bool) -> DataChannels {
        let transport = TransportConfig::default()
            .with_max_receive_buffer_size(ReceiveWindow::SIZE)
            .with_max_message_size(MAX_MESSAGE_OUT)
            .with_max_num_inbound_streams(MAX_STREAMS)
            .with_max_num_outbound_streams(MAX_STREAMS)
            // Whether the peer is there is found by its ICE checks (RFC 7675). A peer that
            // merely does not read its data keeps its media.
            .with_timer_config(TimerConfig {
                max_t3_rtx_retrans: usize::MAX,
                ..TimerConfig::default()
            });
        let mut config = EndpointConfig::new();
        config.max_payload_size(rtc_sctp::max_payload_size_for_mtu(MTU));
        DataChannels {
            opens,
            endpoint: Endpoint::new(
                PEER,
                TransportProtocol::UDP,
                Arc::new(config),
                Some(Arc::new(ServerConfig::new(transport))),
            ),
            association: None,
            connected: false,
            channels: [Channel::Closed; 3],
            readable: [false; 3],
            others: OtherStreams::default(),
            window: ReceiveWindow::default(),
            outbox: DataOutbox::new(),
            outgoing: ByteQueue::new(MAX_OUTGOING),
            failure: None,
        }
    }

    /// One SCTP packet from the peer.
    pub(super) fn handle(&mut self, now: Instant, packet: Bytes) {
        let is_held = self.has_reliable();
        if !sctp_packet::is_safe(&packet) || !self.window.admits(&packet, is_held) {
            return;
        }
        let kept = self.window.chunks();
        self.handle_packet(now, packet.clone());
        self.settle(now);
        if is_held && self.window.chunks() == kept {
            self.window.refuse(&packet);
        }
    }

    fn handle_packet(&mut self, now: Instant, packet: Bytes) {
        match self.endpoint.handle(now, PEER, None, packet) {
            // One association a connection: another INIT is not a second peer.
            Some((handle, DatagramEvent::NewAssociation(association)))
                if self.association.is_none() =>
            {
                self.association = Some((handle, association));
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                if let Some((ours, association)) = &mut self.association
                    && *ours == handle
                {
                    association.handle_event(event);
                }
            }
            _ => {}
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
        self.outbox.handle_timeout(now);
        self.settle(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let association = self.association.as_ref();
        let association = association.and_then(|(_, association)| association.poll_timeout());
        association
            .into_iter()
            .chain(self.outbox.poll_timeout())
            .min()
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outgoing.pop()
    }

    /// Why the association is over; said once.
    pub(super) fn poll_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// Whether those that send reliable data to the peer are not to be read for now.
    pub(super) fn holds_up(&self) -> bool {
        self.outbox.holds_up()
    }

    /// Whether the peer has stalled, or reads again after that; said once.
    pub(super) fn poll_stalled(&mut self) -> Option<bool> {
        let stalled = self.outbox.poll_news()?;
        let dropped = self.outbox.take_dropped();
        tracing::debug!(stalled, dropped, "a peer's reliable data");
        Some(stalled)
    }

    /// Sends a message as soon as the peer takes it.
    pub(super) fn send(&mut self, now: Instant, channel: DataChannel, payload: &Bytes) {
        if channel != DataChannel::Other {
            self.outbox.push(now, channel, payload);
            self.settle(now);
        }
    }

    /// The next message on one of the lossy channels.
    pub(super) fn poll_lossy(&mut self, now: Instant) -> Option<(DataChannel, Bytes)> {
        let lossy = [DataChannel::Lossy, DataChannel::DataTrack];
        lossy
            .into_iter()
            .find_map(|channel| Some((channel, self.read(now, channel)?)))
    }

    /// Whether there may be a message on the reliable channel or one with another label.
    pub(super) fn has_reliable(&self) -> bool {
        self.readable[DataChannel::Reliable as usize] || self.others.has_readable()
    }

    /// The next message on the reliable channel or, when that has none, on one with another
    /// label.
    pub(super) fn poll_reliable(&mut self, now: Instant) -> Option<(DataChannel, Bytes)> {
        let mut message = self.read_reliable(now);
        if message.is_none() {
            let refused = self.window.note_drained();
            self.handle_again(now, refused);
            message = self.read_reliable(now);
        }
        self.announce_window(now, message.as_ref()?.1.len());
        message
    }

    fn read_reliable(&mut self, now: Instant) -> Option<(DataChannel, Bytes)> {
        if let Some(message) = self.read(now, DataChannel::Reliable) {
            return Some((DataChannel::Reliable, message));
        }
        while let Some(id) = self.others.next_readable() {
            match self.read_message(now, id) {
                Some(message) => return Some((DataChannel::Other, message)),
                None => self.others.note_drained(id),
            }
        }
        None
    }

    /// Tells the peer that `read` bytes of its messages have been read, if it is to know.
    ///
    /// The library sends a SACK for data that arrives and not when it is read, so that a peer
    /// whose window was closed would learn it only by its next probe, seconds later. RFC 9260,
    /// section 6.2, asks for one when the window opens again. A repetition of what arrived last
    /// brings it about.
    fn announce_window(&mut self, now: Instant, read: usize) {
        if let Some(again) = self.window.note_read(read) {
            self.handle_again(now, again);
        }
    }

    fn handle_again(&mut self, now: Instant, packets: Vec<Bytes>) {
        if packets.is_empty() {
            return;
        }
        for packet in packets {
            self.handle_packet(now, packet);
        }
        self.settle(now);
    }

    /// Takes out of the association what has come of the last input.
    fn settle(&mut self, now: Instant) {
        while let Some(event) = self
            .association
            .as_mut()
            .and_then(|(_, association)| association.poll())
        {
            match event {
                Event::Connected => {
                    self.connected = true;
                    if self.opens {
                        self.open_all(now);
                    }
                }
                Event::HandshakeFailed { reason } => self.fail(&reason.to_string()),
                Event::AssociationLost { reason, .. } => self.fail(&reason.to_string()),
                Event::Stream(StreamEvent::Readable { id }) => self.has_arrived(now, id),
                Event::Stream(StreamEvent::BufferedAmountReleased { id, n_bytes }) => {
                    self.acknowledged(now, id, n_bytes);
                }
                Event::DatagramReceived => self.window.note_chunk(),
                _ => {}
            }
        }
        self.write_waiting(now);
        let Some((handle, association)) = &mut self.association else {
            return;
        };
        while let Some(transmit) = association.poll_transmit(now) {
            if let Payload::RawEncode(packets) = transmit.message {
                for packet in packets {
                    self.outgoing.push(packet);
                }
            }
        }
        while let Some(event) = association.poll_endpoint_event() {
            self.endpoint.handle_event(*handle, event);
        }
    }

    fn fail(&mut self, reason: &str) {
        if self.connected || self.association.is_some() {
            self.failure.get_or_insert_with(|| reason.to_owned());
        }
        self.connected = false;
    }

    /// Opens our three channels.
    fn open_all(&mut self, now: Instant) {
        for (index, channel) in DataChannel::ALL.into_iter().enumerate() {
            let id = 2 * index as u16 + 1;
            let open = Message::DataChannelOpen(DataChannelOpen {
                channel_type: match channel {
                    DataChannel::Reliable => ChannelType::Reliable,
                    _ => ChannelType::PartialReliableRexmitUnordered,
                },
                priority: 0,
                reliability_parameter: 0,
                label: channel.label().as_bytes().to_vec(),
                protocol: Vec::new(),
            });
            let Some((_, association)) = &mut self.association else {
                return;
            };
            let opened = association
                .open_stream(id, PayloadProtocolIdentifier::Binary)
                .is_ok();
            if opened && let Ok(open) = open.marshal() {
                self.write_control(now, id, &open);
                // The reliability of data counts from after the OPEN, which must arrive.
                self.set_reliability(id, channel);
                self.channels[channel as usize] = Channel::Opening(id);
            }
        }
    }

    fn set_reliability(&mut self, id: u16, channel: DataChannel) {
        if channel == DataChannel::Reliable {
            return;
        }
        if let Some((_, association)) = &mut self.association
            && let Ok(mut stream) = association.stream(id)
        {
            let _ = stream.set_reliability_params(true, ReliabilityType::Rexmit, 0);
        }
    }

    fn write_control(&mut self, now: Instant, id: u16, message: &[u8]) {
        if let Some((_, association)) = &mut self.association
            && let Ok(mut stream) = association.stream(id)
        {
            let _ = stream.write_with_ppi(now, message, PayloadProtocolIdentifier::Dcep);
        }
    }

    /// Gives SCTP what waits, as far as its channels are open and it has little.
    fn write_waiting(&mut self, now: Instant) {
        if !self.connected {
            return;
        }
        if let Channel::Open(id) = self.channels[DataChannel::Reliable as usize] {
            while let Some(message) = self.outbox.pop_reliable() {
                self.write(now, id, &message);
            }
        }
        while let Some(channel) = self.outbox.next_lossy() {
            let Channel::Open(id) = self.channels[channel as usize] else {
                return;
            };
            let in_sctp = self.buffered(id);
            let Some(message) = self.outbox.pop_lossy(in_sctp) else {
                return;
            };
            self.write(now, id, &message);
        }
    }

    fn write(&mut self, now: Instant, id: u16, message: &Bytes) {
        if let Some((_, association)) = &mut self.association
            && let Ok(mut stream) = association.stream(id)
        {
            // SCTP cannot send nothing (RFC 8831, section 6.6).
            let (message, kind) = if message.is_empty() {
                let stand_in = Bytes::from_static(&[0]);
                (stand_in, PayloadProtocolIdentifier::BinaryEmpty)
            } else {
                (message.clone(), PayloadProtocolIdentifier::Binary)
            };
            // Fails for a message that is too large, which the room makes none of, and when
            // the association ends, which it says by itself.
            let _ = stream.write_chunk_with_ppi(now, &message, kind);
        }
    }

    /// Bytes of a stream that the peer has not acknowledged.
    fn buffered(&mut self, id: u16) -> usize {
        let association = self.association.as_mut();
        association
            .and_then(|(_, association)| association.stream(id).ok()?.buffered_amount().ok())
            .unwrap_or(0)
    }

    fn acknowledged(&mut self, now: Instant, id: u16, bytes: usize) {
        if self.channels[DataChannel::Reliable as usize] == Channel::Open(id) {
            let in_sctp = self.buffered(id);
            let association = self.association.as_ref();
            let rtt = association.map_or(Duration::ZERO, |(_, association)| association.rtt());
            self.outbox.acknowledged(now, bytes, rtt, in_sctp);
        }
    }

    /// Something arrived on a stream. On an open channel it is left until it is asked for; on
    /// others it opens one, or means nothing.
    fn has_arrived(&mut self, now: Instant, id: u16) {
        while !self.leave_for_reading(id) {
            let Some((kind, payload)) = self.read_stream(id) else {
                return;
            };
            if kind == PayloadProtocolIdentifier::Dcep {
                self.control(now, id, payload);
            }
        }
    }

    fn leave_for_reading(&mut self, id: u16) -> bool {
        let channel = self.channel_of(id);
        let open =
            channel.filter(|channel| matches!(self.channels[*channel as usize], Channel::Open(_)));
        match open {
            Some(channel) => {
                self.readable[channel as usize] = true;
                true
            }
            None => self.others.note_arrival(id),
        }
    }

    /// The next message of a channel.
    fn read(&mut self, now: Instant, channel: DataChannel) -> Option<Bytes> {
        if !self.readable[channel as usize] {
            return None;
        }
        let stream = self.channels[channel as usize].stream();
        let message = stream.and_then(|id| self.read_message(now, id));
        self.readable[channel as usize] = message.is_some();
        message
    }

    /// The next message of an open stream; what opens channels is not one.
    fn read_message(&mut self, now: Instant, id: u16) -> Option<Bytes> {
        loop {
            let (kind, payload) = self.read_stream(id)?;
            match kind {
                PayloadProtocolIdentifier::Dcep => self.control(now, id, payload),
                PayloadProtocolIdentifier::StringEmpty | PayloadProtocolIdentifier::BinaryEmpty => {
                    return Some(Bytes::new());
                }
                _ => return Some(payload.freeze()),
            }
        }
    }

    /// The next message of a stream. One that is too large is dropped.
    fn read_stream(&mut self, id: u16) -> Option<(PayloadProtocolIdentifier, BytesMut)> {
        loop {
            let (_, association) = self.association.as_mut()?;
            let chunks = association.stream(id).ok()?.read_sctp().ok()??;
            if let Ok(payload) = chunks.to_payload(MAX_MESSAGE as usize) {
                return Some((chunks.ppi, payload));
            }
        }
    }

    fn channel_of(&self, id: u16) -> Option<DataChannel> {
        DataChannel::ALL
            .into_iter()
            .find(|channel| self.channels[*channel as usize].stream() == Some(id))
    }

    fn control(&mut self, now: Instant, id: u16, payload: BytesMut) {
        // The library has message types of its own beside those of RFC 8832, section 8.2.1, and
        // panics on short ones.
        if !matches!(payload.first(), Some(&(OPEN | ACK))) {
            return;
        }
        match Message::unmarshal(&mut payload.freeze()) {
            Ok(Message::DataChannelOpen(open)) => self.opened_by_peer(now, id, &open),
            Ok(Message::DataChannelAck(_)) => {
                if let Some(channel) = self.channel_of(id) {
                    self.opened(now, channel, id);
                }
            }
            _ => {}
        }
    }

    /// The peer opens a channel. A second one with one of the three labels replaces the first.
    fn opened_by_peer(&mut self, now: Instant, id: u16, open: &DataChannelOpen) {
        if let Ok(ack) = Message::DataChannelAck(DataChannelAck).marshal() {
            self.write_control(now, id, &ack);
        }
        let channel = DataChannel::ALL
            .into_iter()
            .find(|channel| channel.label().as_bytes() == open.label);
        match channel {
            Some(channel) => {
                self.set_reliability(id, channel);
                self.opened(now, channel, id);
            }
            None => self.others.open(id),
        }
    }

    fn opened(&mut self, now: Instant, channel: DataChannel, id: u16) {
        self.channels[channel as usize] = Channel::Open(id);
        if channel == DataChannel::Reliable {
            let in_sctp = self.buffered(id);
            self.outbox.opened(now, in_sctp);
        }
    }
}
