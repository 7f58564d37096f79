//! The data channels of one client: it begins the association (RFC 8831), acknowledges the
//! channels that the server opens (RFC 8832), and lets go of what comes on them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rtc::datachannel::message::Message;
use rtc::datachannel::message::message_channel_ack::DataChannelAck;
use rtc::sctp::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event,
    Payload, PayloadProtocolIdentifier, StreamEvent,
};
use rtc::shared::TransportProtocol;
use rtc::shared::marshal::{Marshal, Unmarshal};

/// Largest message that is looked at: opening a channel takes a few dozen bytes.
const MAX_MESSAGE: usize = 64 << 10;

/// The association of one connection.
pub(crate) struct DataChannels {
    peer: SocketAddr,
    endpoint: Endpoint,
    association: Option<(AssociationHandle, Association)>,
    opened: usize,
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
        }
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
            if let Event::Stream(StreamEvent::Readable { id }) = event {
                self.read(now, id);
            }
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
            if chunks.ppi != PayloadProtocolIdentifier::Dcep {
                continue;
            }
            let Ok(payload) = chunks.to_payload(MAX_MESSAGE) else {
                continue;
            };
            if let Ok(Message::DataChannelOpen(_)) = Message::unmarshal(&mut payload.freeze())
                && let Ok(ack) = Message::DataChannelAck(DataChannelAck).marshal()
            {
                // Fails only when the association is over, and the channel with it.
                let _ = stream.write_with_ppi(now, &ack, PayloadProtocolIdentifier::Dcep);
                self.opened += 1;
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
