//! A participant's two connections as values: negotiation, transport and the orders that follow
//! from them. They know nothing of rooms, participants or WebSockets, so that anything that
//! speaks SDP can own one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moim_engine::codec::Codec;
use moim_engine::command::{Command, IceCredentials, NewTransport};
use moim_engine::ids::TransportId;
use rand::distr::Alphanumeric;
use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use super::handle::RoomMedia;
use super::negotiation::{
    Candidate, LocalEndpoint, NegotiatedTrack, NegotiationError, OfferedTrack,
    PublisherNegotiation, SendTrack, SubscriberAnswer, SubscriberNegotiation, SubscriberOffer,
    TrackDecision,
};

/// Characters of our username fragments and passwords, at 5.95 bits each: RFC 8445, section
/// 5.3, asks for at least 24 and 128 random bits.
const UFRAG_LEN: usize = 16;
const PWD_LEN: usize = 32;
/// After it was opened and after an answer a connection waits for this long before it makes an
/// offer, so that what changes in a burst (a meeting that begins, a gallery that is scrolled) is
/// one offer, and what is there at a join is in the first: some stacks lose their way when they
/// are offered tracks while ICE and DTLS are not done. LiveKit's server waits for 150 ms.
const OFFER_SPACING: Duration = Duration::from_millis(20);

/// Fresh ICE credentials.
fn ice_credentials(rng: &mut StdRng) -> IceCredentials {
    let mut text = |len| {
        (&mut *rng)
            .sample_iter(Alphanumeric)
            .take(len)
            .map(char::from)
            .collect()
    };
    IceCredentials {
        ufrag: text(UFRAG_LEN),
        pwd: text(PWD_LEN),
    }
}

/// Our side of a connection that has its place on a shard.
fn local_endpoint(media: &RoomMedia, transport: TransportId, ice: IceCredentials) -> LocalEndpoint {
    let candidates = media.addresses(transport).iter().map(|address| Candidate {
        ip: address.ip,
        port: address.port,
        tcp: address.tcp,
    });
    LocalEndpoint {
        ice,
        fingerprint: media.fingerprint(),
        candidates: candidates.collect(),
    }
}

fn add_transport(media: &mut RoomMedia, transport: TransportId, ice: IceCredentials, opens: bool) {
    let room = media.room_id();
    media.command(Command::AddTransport(Box::new(NewTransport {
        transport,
        room,
        local_ice: ice,
        opens_data_channels: opens,
    })));
}

/// The connection on which the client offers and publishes.
#[derive(Debug)]
pub struct PublisherConnection {
    transport: TransportId,
    negotiation: PublisherNegotiation,
    /// ICE and DTLS are done.
    pub connected: bool,
}

/// What an accepted offer comes to.
#[derive(Debug)]
pub struct Answered {
    /// The SDP of the answer.
    pub sdp: String,
    /// Every track that is sent from now on.
    pub tracks: Vec<NegotiatedTrack>,
    /// M-lines that carried a track before and do not any more.
    pub stopped_mids: Vec<String>,
}

impl PublisherConnection {
    /// Takes a place on the room's home shard.
    pub fn open(media: &mut RoomMedia, rng: &mut StdRng) -> PublisherConnection {
        let transport = media.place_publisher();
        let ice = ice_credentials(rng);
        add_transport(media, transport, ice.clone(), false);
        PublisherConnection {
            transport,
            negotiation: PublisherNegotiation::new(local_endpoint(media, transport, ice)),
            connected: false,
        }
    }

    /// Its number in the media plane.
    pub fn transport(&self) -> TransportId {
        self.transport
    }

    /// Answers an offer; `decide` is asked for every m-line that sends media. The engine is told
    /// how to read what arrives.
    ///
    /// # Errors
    /// When the offer cannot be answered as a whole; nothing has changed then.
    pub fn answer(
        &mut self,
        media: &mut RoomMedia,
        rng: &mut StdRng,
        offer: &str,
        decide: &mut dyn FnMut(&OfferedTrack) -> TrackDecision,
    ) -> Result<Answered, NegotiationError> {
        let fresh_ice = ice_credentials(rng);
        let answer = self.negotiation.answer(offer, fresh_ice, decide)?;
        if let Some(local_ice) = answer.restarted_ice {
            media.command(Command::RestartIce {
                transport: self.transport,
                local_ice,
            });
        }
        media.command(Command::SetReceive {
            transport: self.transport,
            mapping: Arc::new(answer.mapping),
        });
        media.command(Command::SetRemote {
            transport: self.transport,
            ice: answer.remote.ice,
            fingerprint: answer.remote.fingerprint,
        });
        Ok(Answered {
            sdp: answer.sdp,
            tracks: answer.tracks,
            stopped_mids: answer.stopped_mids,
        })
    }

    /// Ends it, with all that it publishes.
    pub fn close(self, media: &mut RoomMedia) {
        media.command(Command::RemoveTransport(self.transport));
    }
}

/// The connection on which we offer and the client receives.
#[derive(Debug)]
pub struct SubscriberConnection {
    transport: TransportId,
    negotiation: SubscriberNegotiation,
    /// ICE and DTLS are done.
    pub connected: bool,
    /// When the offer under way was made; `None` when none is.
    offered_at: Option<Instant>,
    /// When the connection was opened, or the last offer answered.
    settled_at: Option<Instant>,
}

impl SubscriberConnection {
    /// Takes a place on a shard of the room.
    pub fn open(media: &mut RoomMedia, rng: &mut StdRng, now: Instant) -> SubscriberConnection {
        let transport = media.place_subscriber();
        let ice = ice_credentials(rng);
        add_transport(media, transport, ice.clone(), true);
        let local = local_endpoint(media, transport, ice);
        SubscriberConnection {
            transport,
            negotiation: SubscriberNegotiation::new(local, rng.next_u64()),
            connected: false,
            offered_at: None,
            settled_at: Some(now),
        }
    }

    /// Its number in the media plane.
    pub fn transport(&self) -> TransportId {
        self.transport
    }

    /// When the offer that awaits its answer was made.
    pub fn offered_at(&self) -> Option<Instant> {
        self.offered_at
    }

    /// Puts a track into the next offer. False when there is no room for another m-line.
    pub fn add_track(&mut self, track: SendTrack) -> bool {
        self.negotiation.add_track(track)
    }

    /// Takes a track out of the next offer.
    pub fn remove_track(&mut self, key: u64) {
        self.negotiation.remove_track(key);
    }

    /// What a track may be encoded with has changed.
    pub fn set_codecs(&mut self, key: u64, codecs: &[Codec]) {
        self.negotiation.set_codecs(key, codecs);
    }

    /// When the next offer may be made; `None` when there is nothing to offer or an answer is
    /// awaited.
    pub fn offer_due(&self) -> Option<Instant> {
        let spaced = self.settled_at.map(|settled| settled + OFFER_SPACING);
        spaced.filter(|_| self.negotiation.needs_offer())
    }

    /// The next offer, when something has changed, no answer is awaited and the last one is not
    /// too fresh.
    pub fn next_offer(&mut self, now: Instant) -> Option<SubscriberOffer> {
        let early = self.offer_due().is_some_and(|due| due > now);
        if early || !self.negotiation.needs_offer() {
            return None;
        }
        let offer = self.negotiation.offer()?;
        self.offered_at = Some(now);
        Some(offer)
    }

    /// Takes the client's answer to the offer numbered `id` and tells the engine of its side.
    ///
    /// # Errors
    /// When it answers no offer that is under way, or does not fit it: the offer then stays
    /// unanswered.
    pub fn answer(
        &mut self,
        media: &mut RoomMedia,
        id: u32,
        sdp: &str,
        now: Instant,
    ) -> Result<SubscriberAnswer, NegotiationError> {
        let answer = self.negotiation.answer(id, sdp)?;
        self.offered_at = None;
        self.settled_at = Some(now);
        media.command(Command::SetRemote {
            transport: self.transport,
            ice: answer.remote.ice.clone(),
            fingerprint: answer.remote.fingerprint,
        });
        Ok(answer)
    }

    /// The next offer restarts ICE (RFC 8445, section 2.4); one under way is forgotten.
    pub fn restart_ice(&mut self, media: &mut RoomMedia, rng: &mut StdRng) {
        let ice = ice_credentials(rng);
        self.negotiation.restart_ice(ice.clone());
        self.offered_at = None;
        self.settled_at = None;
        media.command(Command::RestartIce {
            transport: self.transport,
            local_ice: ice,
        });
    }

    /// Ends it, with all that it receives.
    pub fn close(self, media: &mut RoomMedia) {
        media.command(Command::RemoveTransport(self.transport));
    }
}
