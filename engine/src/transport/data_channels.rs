//! The data channels of one connection: SCTP over DTLS (RFC 8831) and the protocol by which
//! channels are opened (RFC 8832).
//!
//! We are the DTLS server and wait for the peer's association; the channels that we open have
//! odd stream ids (RFC 8832, section 6).

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rtc_datachannel::message::Message;
use rtc_datachannel::message::message_channel_ack::DataChannelAck;
use rtc_datachannel::message::message_channel_open::{ChannelType, DataChannelOpen};
use rtc_sctp::{
    Association, AssociationHandle, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier, ReliabilityType, ServerConfig, StreamEvent, TransportConfig,
};
use rtc_shared::TransportProtocol;
use rtc_shared::marshal::{Marshal, Unmarshal};

use crate::api::command::DataChannel;

const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 1));
/// Largest message taken and sent; our SDP says so.
pub(super) const MAX_MESSAGE: u32 = 64 << 10;
/// What may wait to be sent on a channel that must lose nothing.
const MAX_RELIABLE_BUFFER: usize = 4 << 20;
/// What may wait on one that may.
const MAX_LOSSY_BUFFER: usize = 256 << 10;
/// What may wait for the channels to open.
const MAX_EARLY: usize = 256 << 10;
/// Streams that the peer may use.
const MAX_STREAMS: u16 = 64;
/// Keeps an SCTP packet within a DTLS record within a datagram of 1,200 bytes.
const MTU: u32 = 1_150;

/// What happened on the data channels.
#[derive(Debug)]
pub(super) enum DataEvent {
    Message {
        channel: DataChannel,
        payload: Bytes,
    },
    Failed(String),
}

/// Why a message was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer does not read its data channel")]
pub(super) struct BufferFull;

/// The data channels of one connection.
pub(super) struct DataChannels {
    opens: bool,
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    connected: bool,
    /// Stream of each channel, in the order of [`DataChannel::ALL`].
    streams: [Option<u16>; 3],
    early: VecDeque<(DataChannel, Bytes)>,
    early_bytes: usize,
    outgoing: VecDeque<Bytes>,
    events: VecDeque<DataEvent>,
}

impl DataChannels {
    /// `opens`: we open the three channels ourselves.
    pub(super) fn new(opens: bool) -> DataChannels {
        let transport = TransportConfig::default()
            .with_max_message_size(MAX_MESSAGE)
            .with_max_num_inbound_streams(MAX_STREAMS)
            .with_max_num_outbound_streams(MAX_STREAMS);
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
            streams: [None; 3],
            early: VecDeque::new(),
            early_bytes: 0,
            outgoing: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// One SCTP packet from the peer.
    pub(super) fn handle(&mut self, now: Instant, packet: Bytes) {
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
        self.settle(now);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
        self.settle(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.association.as_ref()?.1.poll_timeout()
    }

    pub(super) fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outgoing.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<DataEvent> {
        self.events.pop_front()
    }

    /// Sends a message, or keeps it until the channel opens. On a lossy channel that is full
    /// it is dropped, as its name says.
    pub(super) fn send(
        &mut self,
        now: Instant,
        channel: DataChannel,
        payload: &Bytes,
    ) -> Result<(), BufferFull> {
        let (Some(stream), true) = (self.streams[channel as usize], self.connected) else {
            return self.keep_early(channel, payload);
        };
        let Some((_, association)) = &mut self.association else {
            return Ok(());
        };
        let Ok(mut stream) = association.stream(stream) else {
            return Ok(());
        };
        let waiting = stream.buffered_amount().unwrap_or(0);
        if channel == DataChannel::Reliable {
            if waiting + payload.len() > MAX_RELIABLE_BUFFER {
                return Err(BufferFull);
            }
        } else if waiting + payload.len() > MAX_LOSSY_BUFFER {
            return Ok(());
        }
        // A message larger than the peer takes is not sent: nothing else can fail here.
        let _ = stream.write_chunk_with_ppi(now, payload, PayloadProtocolIdentifier::Binary);
        self.settle(now);
        Ok(())
    }

    fn keep_early(&mut self, channel: DataChannel, payload: &Bytes) -> Result<(), BufferFull> {
        if channel != DataChannel::Reliable {
            return Ok(());
        }
        if self.early_bytes + payload.len() > MAX_EARLY {
            return Err(BufferFull);
        }
        self.early_bytes += payload.len();
        self.early.push_back((channel, payload.clone()));
        Ok(())
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
                Event::Stream(StreamEvent::Readable { id }) => self.read(now, id),
                _ => {}
            }
        }
        let Some((handle, association)) = &mut self.association else {
            return;
        };
        while let Some(transmit) = association.poll_transmit(now) {
            if let Payload::RawEncode(packets) = transmit.message {
                self.outgoing.extend(packets);
            }
        }
        while let Some(event) = association.poll_endpoint_event() {
            self.endpoint.handle_event(*handle, event);
        }
    }

    fn fail(&mut self, reason: &str) {
        if self.connected || self.association.is_some() {
            self.events.push_back(DataEvent::Failed(reason.to_owned()));
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
                self.streams[channel as usize] = Some(id);
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

    fn read(&mut self, now: Instant, id: u16) {
        loop {
            let Some((_, association)) = &mut self.association else {
                return;
            };
            let Ok(mut stream) = association.stream(id) else {
                return;
            };
            let Ok(Some(chunks)) = stream.read_sctp() else {
                return;
            };
            let kind = chunks.ppi;
            let Ok(payload) = chunks.to_payload(MAX_MESSAGE as usize) else {
                continue;
            };
            match kind {
                PayloadProtocolIdentifier::Dcep => self.control(now, id, payload),
                PayloadProtocolIdentifier::StringEmpty | PayloadProtocolIdentifier::BinaryEmpty => {
                    self.message(id, Bytes::new())
                }
                _ => self.message(id, payload.freeze()),
            }
        }
    }

    fn message(&mut self, id: u16, payload: Bytes) {
        if let Some(channel) = self.channel_of(id) {
            self.events
                .push_back(DataEvent::Message { channel, payload });
        }
    }

    fn channel_of(&self, id: u16) -> Option<DataChannel> {
        DataChannel::ALL
            .into_iter()
            .find(|channel| self.streams[*channel as usize] == Some(id))
    }

    fn control(&mut self, now: Instant, id: u16, payload: BytesMut) {
        match Message::unmarshal(&mut payload.freeze()) {
            Ok(Message::DataChannelOpen(open)) => self.opened_by_peer(now, id, &open),
            Ok(Message::DataChannelAck(_)) => {
                if let Some(channel) = self.channel_of(id) {
                    self.opened(now, channel);
                }
            }
            _ => {}
        }
    }

    /// The peer opens a channel. One whose label means nothing here is acknowledged and not
    /// read; a second one with the same label replaces the first.
    fn opened_by_peer(&mut self, now: Instant, id: u16, open: &DataChannelOpen) {
        if let Ok(ack) = Message::DataChannelAck(DataChannelAck).marshal() {
            self.write_control(now, id, &ack);
        }
        let channel = DataChannel::ALL
            .into_iter()
            .find(|channel| channel.label().as_bytes() == open.label);
        if let Some(channel) = channel {
            self.set_reliability(id, channel);
            self.streams[channel as usize] = Some(id);
            self.opened(now, channel);
        }
    }

    fn opened(&mut self, now: Instant, channel: DataChannel) {
        if channel != DataChannel::Reliable {
            return;
        }
        for (channel, payload) in std::mem::take(&mut self.early) {
            // It was bounded when it was kept, far below what the channel takes.
            let _ = self.send(now, channel, &payload);
        }
        self.early_bytes = 0;
    }
}
