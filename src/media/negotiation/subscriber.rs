//! The subscriber connection: we offer, the client answers. There is never more than one offer
//! under way, so the two sides cannot offer at once.

use std::collections::HashMap;

use super::codecs::{self, Format, known_formats};
use super::feedback::TRANSPORT_CC;
use super::grammar::Word;
use super::sdp::{Description, Section};
use super::send_track::SendTrack;
use super::{DataLine, LocalEndpoint, NegotiationError, RemoteDescription, offer};
use moim_engine::codec::{Codec, MediaKind, PayloadTypes};
use moim_engine::command::{HeaderExtension, IceCredentials, Payload};

/// M-lines of one connection: enough for two tracks of each of a hundred publishers.
const MAX_SECTIONS: usize = 256;
/// We are the DTLS server, always (RFC 4145, section 4), and say so at once: some clients
/// answer `actpass` from an ICE-lite peer with `passive`, and nobody would begin. Those obey
/// this offer whatever their answer says, so what the answer says is not looked at.
const OUR_SETUP: &str = "passive";

/// An offer to be sent.
#[derive(Debug, Clone)]
pub struct SubscriberOffer {
    /// The SDP.
    pub sdp: String,
    /// Its number; answers carry it back.
    pub id: u32,
    /// Track id by identification tag.
    pub mid_to_track_id: HashMap<String, String>,
}

/// A track that the client takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedTrack {
    /// The caller's number for it.
    pub key: u64,
    /// Under which payload types it takes the codecs that the track may have.
    pub payload_types: PayloadTypes,
    /// It reports the arrival of each packet that carries a transport-wide sequence number.
    pub takes_transport_cc: bool,
}

impl AcceptedTrack {
    /// Whether the client decodes what is encoded with a codec.
    pub fn takes(&self, codec: Codec) -> bool {
        self.payload_types.media(codec).is_some()
    }
}

/// What an answer says.
#[derive(Debug, Clone)]
pub struct SubscriberAnswer {
    /// The client's side.
    pub remote: RemoteDescription,
    /// Tracks taken by this answer or before.
    pub accepted: Vec<AcceptedTrack>,
    /// Tracks that the client does not take, or of whose codecs it takes none.
    pub rejected: Vec<u64>,
}

/// What an m-line carries.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Slot {
    Carries {
        track: Box<SendTrack>,
        /// Whether the m-line had another track before.
        used_before: bool,
        /// Whether an offer has shown it.
        offered: bool,
        /// The client takes none of its codecs: it is not shown until it may have others.
        refused: bool,
    },
    /// Its track has ended; the client must hear that before another takes its place, or it
    /// would take the new one for the old. `offered` when an offer has told it.
    Ended {
        offered: bool,
    },
    Free,
}

#[derive(Debug)]
struct MediaSection {
    kind: MediaKind,
    slot: Slot,
}

/// The state of the subscriber connection's negotiation.
#[derive(Debug)]
pub struct SubscriberNegotiation {
    local: LocalEndpoint,
    session: u64,
    last_id: u32,
    in_flight: Option<u32>,
    changed: bool,
    /// How many of `sections` an offer has shown: m-lines are never taken back (RFC 3264,
    /// section 8).
    offered_sections: usize,
    /// Media m-lines; their identification tags count from 1, as 0 is the data channels'.
    sections: Vec<MediaSection>,
}

impl SubscriberNegotiation {
    /// A connection on which nothing has been negotiated. `session` is the session id in its
    /// SDP.
    pub fn new(local: LocalEndpoint, session: u64) -> SubscriberNegotiation {
        SubscriberNegotiation {
            local,
            session: session >> 1,
            last_id: 0,
            in_flight: None,
            changed: true,
            offered_sections: 0,
            sections: Vec::new(),
        }
    }

    /// Puts a track on a free m-line or a new one. False when there is no room for another.
    pub fn add_track(&mut self, track: SendTrack) -> bool {
        let free = self
            .sections
            .iter()
            .position(|section| section.kind == track.kind && section.slot == Slot::Free);
        let kind = track.kind;
        let slot = Slot::Carries {
            track: Box::new(track),
            used_before: free.is_some(),
            offered: false,
            refused: false,
        };
        if let Some(section) = free.and_then(|index| self.sections.get_mut(index)) {
            section.slot = slot;
        } else if self.sections.len() < MAX_SECTIONS {
            self.sections.push(MediaSection { kind, slot });
        } else {
            return false;
        }
        self.changed = true;
        true
    }

    /// Takes a track off its m-line. One that no offer has shown leaves no trace: a client that
    /// scrolls through a gallery would else gain an m-line with each picture it passes.
    pub fn remove_track(&mut self, key: u64) {
        for section in &mut self.sections {
            let Slot::Carries { track, offered, .. } = &section.slot else {
                continue;
            };
            if track.key != key {
                continue;
            }
            section.slot = if *offered {
                self.changed = true;
                Slot::Ended { offered: false }
            } else {
                Slot::Free
            };
        }
        while self.sections.len() > self.offered_sections
            && self
                .sections
                .last()
                .is_some_and(|last| last.slot == Slot::Free)
        {
            self.sections.pop();
        }
    }

    /// What a track may be encoded with has changed. The client is offered it if that is new to
    /// it.
    pub fn set_codecs(&mut self, key: u64, codecs: &[Codec]) {
        for section in &mut self.sections {
            let kind = section.kind;
            if let Slot::Carries { track, refused, .. } = &mut section.slot
                && track.key == key
            {
                let before = offer::offered_codecs(kind, Some(&**track));
                if *refused && track.codecs != codecs {
                    *refused = false;
                    self.changed = true;
                }
                track.codecs = codecs.to_vec();
                let now = offer::offered_codecs(kind, Some(&**track));
                self.changed |= now.iter().any(|codec| !before.contains(codec));
            }
        }
    }

    /// The next offer restarts ICE with these credentials. An offer under way is forgotten.
    pub fn restart_ice(&mut self, ice: IceCredentials) {
        self.local.ice = ice;
        self.in_flight = None;
        self.changed = true;
    }

    /// Whether something has changed that the client does not know, and it can be told.
    pub fn needs_offer(&self) -> bool {
        self.changed && self.in_flight.is_none()
    }

    /// Whether an answer is awaited.
    pub fn offer_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// The next offer; `None` while an answer is awaited.
    pub fn offer(&mut self) -> Option<SubscriberOffer> {
        if self.in_flight.is_some() {
            return None;
        }
        self.last_id += 1;
        self.in_flight = Some(self.last_id);
        self.changed = false;
        let mids: Vec<usize> = (0..=self.sections.len()).collect();
        let mut sdp = String::with_capacity(1_024 + 2_048 * self.sections.len());
        let version = u64::from(self.last_id);
        self.local
            .write_session(&mut sdp, self.session, version, &mids);
        let data = DataLine {
            protocol: "UDP/DTLS/SCTP",
            mid: Some("0"),
        };
        self.local
            .write_data_section(&mut sdp, &data, OUR_SETUP, true);
        let mut mid_to_track_id = HashMap::new();
        for (section, mid) in self.sections.iter().zip(1..) {
            let (local, kind) = (&self.local, section.kind);
            let track = match &section.slot {
                Slot::Carries { refused: true, .. } => None,
                Slot::Carries {
                    track, used_before, ..
                } => Some((
                    &**track,
                    if *used_before {
                        &track.own_stream_id
                    } else {
                        &track.stream_id
                    },
                )),
                Slot::Ended { .. } | Slot::Free => None,
            };
            offer::write_section(&mut sdp, local, kind, mid, OUR_SETUP, track);
            if let Some((track, _)) = track {
                mid_to_track_id.insert(mid.to_string(), track.track_id.to_string());
            }
        }
        for section in &mut self.sections {
            match &mut section.slot {
                Slot::Ended { offered } | Slot::Carries { offered, .. } => *offered = true,
                Slot::Free => {}
            }
        }
        self.offered_sections = self.sections.len();
        Some(SubscriberOffer {
            sdp,
            id: self.last_id,
            mid_to_track_id,
        })
    }

    /// Takes the client's answer. `id` is that of the offer, 0 from clients that do not carry
    /// it back.
    ///
    /// # Errors
    /// When no such offer is under way or the answer does not fit it; the offer then stays
    /// unanswered.
    pub fn answer(&mut self, id: u32, sdp: &str) -> Result<SubscriberAnswer, NegotiationError> {
        let expected = self
            .in_flight
            .ok_or_else(|| NegotiationError::Mismatch("no offer is under way".into()))?;
        if id != 0 && id != expected {
            let text = format!("it answers offer {id}, not {expected}");
            return Err(NegotiationError::Mismatch(text));
        }
        let answer = Description::answer(sdp)?;
        let remote = answer.remote()?;
        // M-lines added since the offer are not in its answer.
        if answer.sections.len() > self.sections.len() + 1 {
            let text = format!("it has {} m-lines", answer.sections.len());
            return Err(NegotiationError::Mismatch(text));
        }
        for (index, section) in answer.sections.iter().enumerate() {
            // An m-line may come back without its tag: those that are rejected mostly do.
            let mid = section.mid.map(Word::as_str);
            if mid.is_some_and(|mid| mid != index.to_string()) {
                let mid = mid.unwrap_or_default();
                let text = format!("m-line {index} has the mid `{mid}`");
                return Err(NegotiationError::Mismatch(text));
            }
        }
        self.in_flight = None;
        let mut outcome = SubscriberAnswer {
            remote,
            accepted: Vec::new(),
            rejected: Vec::new(),
        };
        // What has changed since the offer may be what the client takes.
        let is_final = !self.changed;
        for (ours, theirs) in self.sections.iter_mut().zip(answer.sections.iter().skip(1)) {
            match &mut ours.slot {
                // It took a free m-line after the offer, whose answer says nothing of it.
                Slot::Carries { offered: false, .. } => {}
                Slot::Carries { track, refused, .. } => {
                    let taken = !theirs.is_rejected() && answer.direction(theirs).receives();
                    match taken.then(|| accepted(track, theirs)).flatten() {
                        Some(accepted) => outcome.accepted.push(accepted),
                        None => {
                            outcome.rejected.push(track.key);
                            if taken && is_final {
                                *refused = true;
                                self.changed = true;
                            }
                        }
                    }
                }
                Slot::Ended { offered: true } => ours.slot = Slot::Free,
                // It ended after the offer, which still showed it.
                Slot::Ended { offered: false } | Slot::Free => {}
            }
        }
        Ok(outcome)
    }
}

/// How a client takes a track; `None` when it takes none of its codecs.
fn accepted(track: &SendTrack, section: &Section<'_>) -> Option<AcceptedTrack> {
    let formats = known_formats(section);
    let payload_types = payload_types(&formats, track.kind);
    let is_taken = |codec: &Codec| payload_types.media(*codec).is_some();
    let any = if track.codecs.is_empty() {
        payload_types.codecs().next().is_some()
    } else {
        track.codecs.iter().any(is_taken)
    };
    any.then(|| AcceptedTrack {
        key: track.key,
        payload_types,
        takes_transport_cc: takes_transport_cc(section, &formats),
    })
}

/// Under which payload type of an answer each codec can be sent.
fn payload_types(formats: &[Format<'_>], kind: MediaKind) -> PayloadTypes {
    let find = |payload| formats.iter().find(|format| format.payload == payload);
    let mut payload_types = PayloadTypes::default();
    for codec in Codec::ALL.into_iter().filter(|codec| codec.kind() == kind) {
        let taken = codec
            .decoded_by()
            .find_map(|by| Some((by, find(Payload::Media(by))?)));
        let Some((by, format)) = taken else {
            continue;
        };
        payload_types.take(codec, format.payload_type);
        if let Some(rtx) = find(Payload::Rtx(by)) {
            payload_types.take_rtx(codec, rtx.payload_type);
        }
    }
    if let Some(red) = find(Payload::Red) {
        payload_types.take_red(red.payload_type);
    }
    payload_types
}

/// An answer takes it by the header extension and by the feedback for what it decodes.
fn takes_transport_cc(section: &Section<'_>, formats: &[Format<'_>]) -> bool {
    let takes_extension =
        |(_, extension): &(u8, HeaderExtension)| *extension == HeaderExtension::TransportCc;
    section.extensions.iter().any(takes_extension)
        && formats
            .iter()
            .filter(|format| format.media().is_some())
            .all(|format| codecs::takes_feedback(section, format, TRANSPORT_CC))
}
