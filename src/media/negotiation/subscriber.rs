//! The subscriber connection: we offer, the client answers. There is never more than one offer
//! under way, so the two sides cannot offer at once.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::codecs::{self, Format, known_formats};
use super::sdp::{Description, Section};
use super::{LocalEndpoint, NegotiationError, RemoteDescription, extensions};
use moim_engine::codec::{Codec, MediaKind, RED_PAYLOAD_TYPE};
use moim_engine::command::{HeaderExtension, IceCredentials, Payload};

/// M-lines of one connection: enough for two tracks of each of a hundred publishers.
const MAX_SECTIONS: usize = 256;
/// We are the DTLS server, always (RFC 4145, section 4), and say so at once: some clients
/// answer `actpass` from an ICE-lite peer with `passive`, and nobody would begin. Those obey
/// this offer whatever their answer says, so what the answer says is not looked at.
const OUR_SETUP: &str = "passive";

/// A track to be offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendTrack {
    /// The caller's number for it.
    pub key: u32,
    /// Audio or video.
    pub kind: MediaKind,
    /// What it is encoded with, put first; `None` when that is not known yet.
    pub codec: Option<Codec>,
    /// Id of the media stream at the client: tracks with the same one play in step.
    pub stream_id: String,
    /// Id of a stream for this track alone, taken on an m-line that was used before: there a
    /// client's track keeps the id of the former one, so the stream must say which it is.
    pub own_stream_id: String,
    /// Id of the track at the client.
    pub track_id: String,
    /// SSRC of the media.
    pub ssrc: u32,
    /// SSRC of its retransmissions.
    pub rtx_ssrc: Option<u32>,
}

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
    pub key: u32,
    /// The client takes retransmissions as a stream of their own.
    pub takes_rtx: bool,
    /// It takes redundant audio (RFC 2198).
    pub takes_red: bool,
    /// It reports the arrival of each packet that carries a transport-wide sequence number.
    pub takes_transport_cc: bool,
    /// What it can decode.
    pub codecs: Vec<Codec>,
}

/// What an answer says.
#[derive(Debug, Clone)]
pub struct SubscriberAnswer {
    /// The client's side.
    pub remote: RemoteDescription,
    /// Tracks taken by this answer or before.
    pub accepted: Vec<AcceptedTrack>,
    /// Tracks that the client does not take.
    pub rejected: Vec<u32>,
}

/// What an m-line carries.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Slot {
    Carries(SendTrack),
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
            sections: Vec::new(),
        }
    }

    /// Puts a track on a free m-line or a new one. False when there is no room for another.
    pub fn add_track(&mut self, track: SendTrack) -> bool {
        let free = self
            .sections
            .iter()
            .position(|section| section.kind == track.kind && section.slot == Slot::Free);
        match free {
            Some(index) => {
                self.sections[index].slot = Slot::Carries(SendTrack {
                    stream_id: track.own_stream_id.clone(),
                    ..track
                });
            }
            None if self.sections.len() < MAX_SECTIONS => self.sections.push(MediaSection {
                kind: track.kind,
                slot: Slot::Carries(track),
            }),
            None => return false,
        }
        self.changed = true;
        true
    }

    /// Takes a track off its m-line.
    pub fn remove_track(&mut self, key: u32) {
        for section in &mut self.sections {
            if matches!(&section.slot, Slot::Carries(track) if track.key == key) {
                section.slot = Slot::Ended { offered: false };
                self.changed = true;
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
        let mids: Vec<String> = (0..=self.sections.len())
            .map(|mid| mid.to_string())
            .collect();
        let borrowed: Vec<&str> = mids.iter().map(String::as_str).collect();
        let mut sdp = String::with_capacity(1_024 + 2_048 * self.sections.len());
        self.local
            .write_session(&mut sdp, self.session, u64::from(self.last_id), &borrowed);
        self.local
            .write_data_section(&mut sdp, "0", OUR_SETUP, true);
        let mut mid_to_track_id = HashMap::new();
        for (section, mid) in self.sections.iter().zip(&mids[1..]) {
            self.write_section(&mut sdp, section, mid);
            if let Slot::Carries(track) = &section.slot {
                mid_to_track_id.insert(mid.clone(), track.track_id.clone());
            }
        }
        for section in &mut self.sections {
            if let Slot::Ended { offered } = &mut section.slot {
                *offered = true;
            }
        }
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
        let answer = Description::parse(sdp)?;
        let remote = answer.remote()?;
        // M-lines added since the offer are not in its answer.
        if answer.sections.len() > self.sections.len() + 1 {
            let text = format!("it has {} m-lines", answer.sections.len());
            return Err(NegotiationError::Mismatch(text));
        }
        for (index, section) in answer.sections.iter().enumerate() {
            if section.mid != index.to_string() {
                let text = format!("m-line {index} has the mid `{}`", section.mid);
                return Err(NegotiationError::Mismatch(text));
            }
        }
        self.in_flight = None;
        let mut outcome = SubscriberAnswer {
            remote,
            accepted: Vec::new(),
            rejected: Vec::new(),
        };
        for (ours, theirs) in self.sections.iter_mut().zip(&answer.sections[1..]) {
            match &ours.slot {
                Slot::Carries(track) if theirs.is_rejected() || !theirs.direction().receives() => {
                    outcome.rejected.push(track.key);
                }
                Slot::Carries(track) => {
                    let formats = known_formats(theirs);
                    let media = |payload| match payload {
                        Payload::Media(codec) => Some(codec),
                        Payload::Rtx(_) | Payload::Red => None,
                    };
                    outcome.accepted.push(AcceptedTrack {
                        key: track.key,
                        takes_rtx: formats.iter().any(|f| matches!(f.payload, Payload::Rtx(_))),
                        takes_red: formats.iter().any(|f| f.payload == Payload::Red),
                        takes_transport_cc: takes_transport_cc(theirs, &formats),
                        codecs: formats.iter().filter_map(|f| media(f.payload)).collect(),
                    });
                }
                Slot::Ended { offered: true } => ours.slot = Slot::Free,
                // It ended after the offer, which still showed it.
                Slot::Ended { offered: false } | Slot::Free => {}
            }
        }
        Ok(outcome)
    }

    fn write_section(&self, out: &mut String, section: &MediaSection, mid: &str) {
        let (name, first) = match section.kind {
            MediaKind::Audio => ("audio", Codec::Opus),
            MediaKind::Video => ("video", Codec::Vp8),
        };
        let preferred = match &section.slot {
            Slot::Carries(track) => track.codec.unwrap_or(first),
            _ => first,
        };
        let mut offered: Vec<Codec> = Codec::ALL
            .into_iter()
            .filter(|codec| codec.kind() == section.kind)
            .collect();
        offered.sort_by_key(|codec| *codec != preferred);
        let _ = write!(out, "m={name} 9 UDP/TLS/RTP/SAVPF");
        for codec in &offered {
            let _ = write!(out, " {}", codec.payload_type());
            if let Some(rtx) = codec.rtx_payload_type() {
                let _ = write!(out, " {rtx}");
            }
        }
        if section.kind == MediaKind::Audio {
            let _ = write!(out, " {RED_PAYLOAD_TYPE}");
        }
        let _ = write!(out, "\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\n");
        self.local.write_transport(out, OUR_SETUP);
        out.push_str("a=rtcp-mux\r\na=rtcp-rsize\r\n");
        for codec in offered {
            write_codec(out, codec);
        }
        if section.kind == MediaKind::Audio {
            let (red, opus) = (RED_PAYLOAD_TYPE, Codec::Opus.payload_type());
            let _ = write!(
                out,
                "a=rtpmap:{red} {}\r\na=fmtp:{red} {opus}/{opus}\r\n",
                codecs::RED
            );
        }
        for (id, name) in extensions::offered(section.kind) {
            let _ = write!(out, "a=extmap:{id} {name}\r\n");
        }
        match &section.slot {
            Slot::Carries(track) => write_track(out, track),
            _ => out.push_str("a=inactive\r\n"),
        }
    }
}

/// An answer takes it by the header extension and by the feedback for what it decodes.
fn takes_transport_cc(section: &Section<'_>, formats: &[Format<'_>]) -> bool {
    extensions::taken(HeaderExtension::TransportCc, section)
        && formats
            .iter()
            .filter(|format| matches!(format.payload, Payload::Media(_)))
            .all(|format| codecs::takes_feedback(section, format, codecs::TRANSPORT_CC))
}

fn write_codec(out: &mut String, codec: Codec) {
    let number = codec.payload_type();
    let _ = write!(out, "a=rtpmap:{number} {}\r\n", codecs::rtpmap(codec));
    if let Some(fmtp) = codecs::fmtp(codec) {
        let _ = write!(out, "a=fmtp:{number} {fmtp}\r\n");
    }
    let remb = (codec.kind() == MediaKind::Video).then_some(codecs::REMB);
    for feedback in codecs::feedback(codec).iter().copied().chain(remb) {
        let _ = write!(out, "a=rtcp-fb:{number} {feedback}\r\n");
    }
    if let Some(rtx) = codec.rtx_payload_type() {
        let _ = write!(
            out,
            "a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={number}\r\n"
        );
    }
}

fn write_track(out: &mut String, track: &SendTrack) {
    let SendTrack {
        stream_id,
        track_id,
        ssrc,
        rtx_ssrc,
        ..
    } = track;
    let _ = write!(out, "a=sendonly\r\na=msid:{stream_id} {track_id}\r\n");
    if let Some(rtx) = rtx_ssrc {
        let _ = write!(out, "a=ssrc-group:FID {ssrc} {rtx}\r\n");
    }
    for ssrc in [Some(ssrc), rtx_ssrc.as_ref()].into_iter().flatten() {
        let _ = write!(
            out,
            "a=ssrc:{ssrc} cname:{stream_id}\r\na=ssrc:{ssrc} msid:{stream_id} {track_id}\r\n"
        );
    }
}
