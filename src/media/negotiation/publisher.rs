//! The publisher connection: the client offers, we answer.

use std::collections::HashSet;

use super::answer::Answer;
use super::offered_track::{NegotiatedTrack, OfferedTrack, TrackDecision};
use super::sdp::Description;
use super::{LocalEndpoint, NegotiationError, RemoteDescription};
use moim_engine::command::{IceCredentials, ReceiveMapping};

/// The answer and what it means for the engine and the room.
#[derive(Debug, Clone)]
pub struct PublisherAnswer {
    /// The SDP.
    pub sdp: String,
    /// The client's side.
    pub remote: RemoteDescription,
    /// Our new credentials, when the offer restarts ICE (RFC 8839, section 4.4.1.1.1): the engine
    /// is to have them before the client's.
    pub restarted_ice: Option<IceCredentials>,
    /// How to read what arrives.
    pub mapping: ReceiveMapping,
    /// All tracks that are sent from now on.
    pub tracks: Vec<NegotiatedTrack>,
    /// M-lines that carried a track before and do not any more.
    pub stopped_mids: Vec<String>,
}

/// The state of the publisher connection's negotiation.
#[derive(Debug)]
pub struct PublisherNegotiation {
    local: LocalEndpoint,
    version: u64,
    remote: Option<RemoteDescription>,
    /// M-lines that carry a track.
    sending: Vec<String>,
}

impl PublisherNegotiation {
    /// A connection on which nothing has been negotiated.
    pub fn new(local: LocalEndpoint) -> PublisherNegotiation {
        PublisherNegotiation {
            local,
            version: 0,
            remote: None,
            sending: Vec::new(),
        }
    }

    /// Answers an offer. `decide` is asked for every m-line that sends media. `fresh_ice` is what
    /// our credentials become when the offer restarts ICE; otherwise it is not used.
    ///
    /// # Errors
    /// When the offer cannot be answered as a whole; the connection stays as it was.
    pub fn answer(
        &mut self,
        offer: &str,
        fresh_ice: IceCredentials,
        decide: &mut dyn FnMut(&OfferedTrack) -> TrackDecision,
    ) -> Result<PublisherAnswer, NegotiationError> {
        let offer = Description::offer(offer)?;
        let remote = offer.remote()?;
        if let Some(known) = &self.remote
            && known.fingerprint != remote.fingerprint
        {
            let text = "the certificate of a connection cannot change";
            return Err(NegotiationError::Unsupported(text.into()));
        }
        let restarts = self
            .remote
            .as_ref()
            .is_some_and(|known| known.ice != remote.ice);
        let local = LocalEndpoint {
            ice: if restarts {
                fresh_ice
            } else {
                self.local.ice.clone()
            },
            ..self.local.clone()
        };
        let mut answer = Answer::new(&local, &offer);
        for section in &offer.sections {
            if offer.setup(section) == Some("passive") {
                let text = "a=setup:passive in an offer: the server only answers DTLS";
                return Err(NegotiationError::Unsupported(text.into()));
            }
            answer.section(section, decide)?;
        }
        // From here on nothing fails.
        self.version += 1;
        let sdp = answer.sdp(self.version);
        let (mapping, tracks) = answer.outcome();
        let sending: HashSet<&str> = tracks.iter().map(|track| track.mid.as_str()).collect();
        self.sending.retain(|mid| !sending.contains(mid.as_str()));
        let still_sending = tracks.iter().map(|track| track.mid.clone()).collect();
        let stopped_mids = std::mem::replace(&mut self.sending, still_sending);
        self.remote = Some(remote.clone());
        let restarted_ice = restarts.then(|| local.ice.clone());
        self.local = local;
        Ok(PublisherAnswer {
            sdp,
            remote,
            restarted_ice,
            mapping,
            tracks,
            stopped_mids,
        })
    }
}
