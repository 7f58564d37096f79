//! The data channels of one client: it begins the association (RFC 8831), acknowledges the
//! channels that the server opens (RFC 8832), or opens the reliable one itself. What comes on
//! channels is let go of, unless the owner asks for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rtc::datachannel::message::Message;
use rtc::datachannel::message::message_channel_ack::DataChannelAck;
use rtc::datachannel::message::message_channel_open::{ChannelType, DataChannelOpen};
use rtc::sctp::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event,
    Payload, PayloadProtocolIdentifier, StreamEvent,
};
use rtc::shared::TransportProtocol;
use rtc::shared::marshal::{Marshal, Unmarshal};

/// Bytes of the largest message that is looked at: what the server sends at most.
const MAX_MESSAGE: usize = 128 << 10;
/// Bytes that wait to be acknowledged, beyond which no message is taken to be sent.
const MAX_BUFFERED: usize = 1 << 20;
/// Label of the channel that loses nothing.
const RELIABLE: &[u8] = b"_reliable";
/// The stream on which we open it; ours are even (RFC 8832, section 6).
const OWN_STREAM: u16 = 0;

/// The association of one connection.
pub(crate) struct DataChannels {
    peer: SocketAddr,
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    opened: usize,
    opens: bool,
    /// The stream of the reliable channel, once it is open.
    reliable: Option<u16>,
    /// What has come on it, if that is kept.
    kept: Option<Vec<Bytes>>,
}

impl DataChannels {
    /// Without an association yet; `peer` is what the library calls the other side.
    pub(crate) fn new(peer: SocketAddr) -> DataChannels {
        let config = Arc::new(EndpointConfig::new());
        DataChannels {
            peer,
            endpoint: Endpoint::new(peer, TransportProtocol::UDP, config, None),
            association: None,
            opened: 0,
            opens: false,
            reliable: None,
            kept: None,
        }
    }

    /// Opens the reliable channel when the association stands.
    pub(crate) fn open_reliable(&mut self) {
        self.opens = true;
    }

    /// What has come on the reliable channel since this was last asked; it is kept from the
    /// first time on.
    pub(crate) fn take_messages(&mut self) -> Vec<Bytes> {
        std::mem::take(self.kept.get_or_insert_default())
    }

    /// Sends a message on the reliable channel. False when that is not open, or too much waits
    /// to be acknowledged.
    pub(crate) fn send(&mut self, now: Instant, message: &Bytes) -> bool {
        let association = self.association.as_mut().zip(self.reliable);
        let Some(((_, association), id)) = association else {
            return false;
        };
        let Ok(mut stream) = association.stream(id) else {
            return false;
        };
        let buffered = stream.buffered_amount().unwrap_or(usize::MAX);
        let kind = PayloadProtocolIdentifier::Binary;
        buffered < MAX_BUFFERED && stream.write_chunk_with_ppi(now, message, kind).is_ok()
    }

    /// Channels that the server has opened.
    pub(crate) fn opened(&self) -> usize {
        self.opened
    }

    /// Begins the association.
    pub(crate) fn connect(&mut self, now: Instant) {
        let connected = self
            .endpoint
            .connect(now, ClientConfig::default(), self.peer);
        debug_assert!(connected.is_ok(), "there is room for one association");
        self.association = connected.ok();
    }

    /// One SCTP packet of the server.
    pub(crate) fn handle(&mut self, now: Instant, packet: Bytes) {
        let event = self.endpoint.handle(now, self.peer, None, packet);
        if let (Some((_, DatagramEvent::AssociationEvent(event))), Some((_, association))) =
            (event, &mut self.association)
        {
            association.handle_event(event);
        }
        while let Some(event) = self.association.as_mut().and_then(|(_, a)| a.poll()) {
            match event {
                Event::Connected if self.opens => self.open(now),
                Event::Stream(StreamEvent::Readable { id }) => self.read(now, id),
                _ => {}
            }
        }
    }

    fn open(&mut self, now: Instant) {
        let open = Message::DataChannelOpen(DataChannelOpen {
            channel_type: ChannelType::Reliable,
            priority: 0,
            reliability_parameter: 0,
            label: RELIABLE.to_vec(),
            protocol: Vec::new(),
        });
        let Some((_, association)) = &mut self.association else {
            return;
        };
        let stream = association.open_stream(OWN_STREAM, PayloadProtocolIdentifier::Binary);
        if let (Ok(mut stream), Ok(open)) = (stream, open.marshal()) {
            // Fails only when the association is over.
            let _ = stream.write_with_ppi(now, &open, PayloadProtocolIdentifier::Dcep);
        }
    }

    fn read(&mut self, now: Instant, id: u16) {
        let Some((_, association)) = &mut self.association else {
            return;
        };
        let Ok(mut stream) = association.stream(id) else {
            return;
        };
        while let Ok(Some(chunks)) = stream.read_sctp() {
            let Ok(payload) = chunks.to_payload(MAX_MESSAGE) else {
                continue;
            };
            if chunks.ppi != PayloadProtocolIdentifier::Dcep {
                if let Some(kept) = self.kept.as_mut().filter(|_| self.reliable == Some(id)) {
                    kept.push(payload.freeze());
                }
                continue;
            }
            match Message::unmarshal(&mut payload.freeze()) {
                Ok(Message::DataChannelOpen(open)) => {
                    if let Ok(ack) = Message::DataChannelAck(DataChannelAck).marshal() {
                        // Fails only when the association is over, and the channel with it.
                        let _ = stream.write_with_ppi(now, &ack, PayloadProtocolIdentifier::Dcep);
                        self.opened += 1;
                    }
                    if open.label == RELIABLE {
                        self.reliable = Some(id);
                    }
                }
                Ok(Message::DataChannelAck(_)) if id == OWN_STREAM => self.reliable = Some(id),
                _ => {}
            }
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.association.as_ref()?.1.poll_timeout()
    }

    /// What has to be sent over DTLS.
    pub(crate) fn take_outgoing(&mut self, now: Instant) -> Vec<Bytes> {
        let mut outgoing = Vec::new();
        let Some((handle, association)) = &mut self.association else {
            return outgoing;
        };
        while let Some(transmit) = association.poll_transmit(now) {
            if let Payload::RawEncode(packets) = transmit.message {
                outgoing.extend(packets);
            }
        }
        while let Some(event) = association.poll_endpoint_event() {
            self.endpoint.handle_event(*handle, event);
        }
        outgoing
    }
}
