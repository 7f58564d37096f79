//! The publisher connection: the client offers, we answer.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::codecs::{self, Format, fmtp_value, known_formats};
use super::sdp::{Description, Section};
use super::{LocalEndpoint, NegotiationError, RemoteDescription, extensions};
use moim_engine::codec::{Codec, MediaKind};
use moim_engine::command::{IceCredentials, Payload, ReceiveMapping, TrackSource};

/// Layers of a simulcast track.
const MAX_LAYERS: usize = 3;

/// A track that a client wants to send, as its m-line describes it.
#[derive(Debug, Clone)]
pub struct OfferedTrack {
    /// Identification tag of the m-line.
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// Id of the client's media stream.
    pub stream_id: String,
    /// Id of the client's track: the `cid` of `AddTrackRequest`.
    pub track_id: String,
    /// What it can be encoded with, the client's favourite first.
    pub codecs: Vec<Codec>,
    /// How its packets are recognised.
    pub source: TrackSource,
}

/// What becomes of an offered track.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrackDecision {
    /// It is not taken: the m-line is answered inactive.
    Refuse,
    /// It is taken.
    Accept {
        /// The codec that it should use, put first.
        preferred: Option<Codec>,
        /// Opus in stereo.
        stereo: bool,
        /// Opus may stop sending in silence.
        dtx: bool,
        /// Audio should carry earlier frames again (RFC 2198).
        red: bool,
    },
}

/// A track that the answer takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedTrack {
    /// Identification tag of the m-line.
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// Id of the client's track.
    pub cid: String,
    /// How its packets are recognised.
    pub source: TrackSource,
    /// What it may be encoded with, the preferred first.
    pub codecs: Vec<Codec>,
}

/// The answer and what it means for the engine and the room.
#[derive(Debug, Clone)]
pub struct PublisherAnswer {
    /// The SDP.
    pub sdp: String,
    /// The client's side.
    pub remote: RemoteDescription,
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

    /// Whether an offer restarts ICE (RFC 8839, section 4.4.1.1.1), so that we need new
    /// credentials before it is answered.
    ///
    /// # Errors
    /// When the offer cannot be read.
    pub fn offer_restarts_ice(&self, sdp: &str) -> Result<bool, NegotiationError> {
        let remote = Description::parse(sdp)?.remote()?;
        Ok(self
            .remote
            .as_ref()
            .is_some_and(|known| known.ice != remote.ice))
    }

    /// The credentials of the next answer.
    pub fn set_local_ice(&mut self, ice: IceCredentials) {
        self.local.ice = ice;
    }

    /// Answers an offer. `decide` is asked for every m-line that sends media.
    ///
    /// # Errors
    /// When the offer cannot be answered as a whole; the connection stays as it was.
    pub fn answer(
        &mut self,
        offer: &str,
        decide: &mut dyn FnMut(&OfferedTrack) -> TrackDecision,
    ) -> Result<PublisherAnswer, NegotiationError> {
        let offer = Description::parse(offer)?;
        let remote = offer.remote()?;
        if let Some(known) = &self.remote
            && known.fingerprint != remote.fingerprint
        {
            let text = "the certificate of a connection cannot change";
            return Err(NegotiationError::Unsupported(text.into()));
        }
        let mut answer = Answer::new(&self.local);
        for section in &offer.sections {
            match offer.value(section, "setup") {
                Some("passive") => {
                    let text = "a=setup:passive in an offer: the server only answers DTLS";
                    return Err(NegotiationError::Unsupported(text.into()));
                }
                _ => answer.section(section, decide)?,
            }
        }
        self.version += 1;
        let sdp = answer.sdp(&self.local, self.version);
        let sending: Vec<String> = answer.tracks.iter().map(|t| t.mid.clone()).collect();
        let stopped_mids = self
            .sending
            .iter()
            .filter(|mid| !sending.contains(mid))
            .cloned()
            .collect();
        self.sending = sending;
        self.remote = Some(remote.clone());
        Ok(PublisherAnswer {
            sdp,
            remote,
            mapping: answer.mapping,
            tracks: answer.tracks,
            stopped_mids,
        })
    }
}

/// An answer being written.
struct Answer<'a> {
    local: &'a LocalEndpoint,
    sections: String,
    bundled: Vec<&'a str>,
    mapping: ReceiveMapping,
    meanings: HashMap<u8, Payload>,
    tracks: Vec<NegotiatedTrack>,
}

impl<'a> Answer<'a> {
    fn new(local: &'a LocalEndpoint) -> Answer<'a> {
        Answer {
            local,
            sections: String::new(),
            bundled: Vec::new(),
            mapping: ReceiveMapping::default(),
            meanings: HashMap::new(),
            tracks: Vec::new(),
        }
    }

    fn sdp(&self, local: &LocalEndpoint, version: u64) -> String {
        let mut sdp = String::with_capacity(self.sections.len() + 512);
        local.write_session(&mut sdp, 1, version, &self.bundled);
        sdp.push_str(&self.sections);
        sdp
    }

    fn section(
        &mut self,
        section: &Section<'a>,
        decide: &mut dyn FnMut(&OfferedTrack) -> TrackDecision,
    ) -> Result<(), NegotiationError> {
        let kind = match section.kind {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            "application" if !section.is_rejected() && section.protocol.ends_with("DTLS/SCTP") => {
                let first = self.bundled.is_empty();
                self.bundled.push(section.mid);
                self.local
                    .write_data_section(&mut self.sections, section.mid, "passive", first);
                return Ok(());
            }
            _ => {
                self.reject(section);
                return Ok(());
            }
        };
        let formats = known_formats(section);
        if section.is_rejected() || formats.is_empty() {
            self.reject(section);
            return Ok(());
        }
        if !section.has("rtcp-mux") {
            return Err(NegotiationError::Missing("a=rtcp-mux in a media m-line"));
        }
        let offered = offered_track(section, kind, &formats);
        let decision = if section.direction().sends() {
            decide(&offered)
        } else {
            TrackDecision::Refuse
        };
        self.media(section, kind, formats, offered, decision)
    }

    fn reject(&mut self, section: &Section<'a>) {
        let format = section.formats.first().unwrap_or(&"0");
        let _ = write!(
            self.sections,
            "m={} 0 {} {format}\r\nc=IN IP4 0.0.0.0\r\na=mid:{}\r\na=inactive\r\n",
            section.kind, section.protocol, section.mid
        );
    }

    fn media(
        &mut self,
        section: &Section<'a>,
        kind: MediaKind,
        mut formats: Vec<Format<'a>>,
        offered: OfferedTrack,
        decision: TrackDecision,
    ) -> Result<(), NegotiationError> {
        if let TrackDecision::Accept { preferred, red, .. } = decision {
            if let Some(preferred) = preferred {
                formats.sort_by_key(|format| format.payload != Payload::Media(preferred));
            }
            // What stands first is what the client sends.
            formats.sort_by_key(|format| format.payload != Payload::Red);
            formats.retain(|format| red || format.payload != Payload::Red);
        }
        let payload_types: Vec<String> = formats
            .iter()
            .map(|format| format.payload_type.to_string())
            .collect();
        let _ = write!(
            self.sections,
            "m={} 9 {} {}\r\nc=IN IP4 0.0.0.0\r\na=mid:{}\r\n",
            section.kind,
            section.protocol,
            payload_types.join(" "),
            section.mid
        );
        self.local.write_transport(&mut self.sections, "passive");
        if self.bundled.is_empty() {
            self.local.write_candidates(&mut self.sections);
        }
        self.bundled.push(section.mid);
        let accepted = !matches!(decision, TrackDecision::Refuse);
        let direction = if accepted { "recvonly" } else { "inactive" };
        let _ = write!(
            self.sections,
            "a={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n"
        );
        for format in &formats {
            self.format(section, format, decision);
        }
        self.extensions(section, kind, accepted);
        if accepted {
            self.simulcast(&offered.source.rids, section);
            self.learn(&formats)?;
            let codecs = media_codecs(&formats);
            self.tracks.push(NegotiatedTrack {
                mid: offered.mid,
                kind,
                cid: offered.track_id,
                source: offered.source,
                codecs,
            });
        }
        Ok(())
    }

    fn format(&mut self, section: &Section<'a>, format: &Format<'a>, decision: TrackDecision) {
        let number = format.payload_type;
        let _ = write!(self.sections, "a=rtpmap:{number} {}\r\n", format.rtpmap);
        let Payload::Media(codec) = format.payload else {
            let fmtp = format.fmtp.unwrap_or("");
            let _ = write!(self.sections, "a=fmtp:{number} {fmtp}\r\n");
            return;
        };
        let fmtp = match (codec, decision) {
            (Codec::Opus, TrackDecision::Accept { stereo, dtx, .. }) => {
                Some(opus_parameters(format.fmtp.unwrap_or(""), stereo, dtx))
            }
            _ => format.fmtp.map(str::to_owned),
        };
        if let Some(fmtp) = fmtp {
            let _ = write!(self.sections, "a=fmtp:{number} {fmtp}\r\n");
        }
        for feedback in codecs::feedback(codec) {
            if codecs::takes_feedback(section, format, feedback) {
                let _ = write!(self.sections, "a=rtcp-fb:{number} {feedback}\r\n");
            }
        }
    }

    fn extensions(&mut self, section: &Section<'a>, kind: MediaKind, accepted: bool) {
        for value in section.values("extmap") {
            let mut words = value.split_ascii_whitespace();
            let (Some(id), Some(name)) = (words.next(), words.next()) else {
                continue;
            };
            // A direction may stand behind the id.
            let number = id.split('/').next().and_then(|id| id.parse::<u8>().ok());
            let (Some(number), Some(extension)) = (number, extensions::by_name(name)) else {
                continue;
            };
            if number == 0 || !extensions::wanted(extension, kind) {
                continue;
            }
            let _ = write!(self.sections, "a=extmap:{number} {name}\r\n");
            if accepted && !self.mapping.extensions.contains(&(number, extension)) {
                self.mapping.extensions.push((number, extension));
            }
        }
    }

    fn simulcast(&mut self, rids: &[String], section: &Section<'a>) {
        if rids.is_empty() {
            return;
        }
        // In the order of the offer.
        let order: Vec<&str> = simulcast_rids(section);
        for rid in &order {
            let _ = write!(self.sections, "a=rid:{rid} recv\r\n");
        }
        let _ = write!(self.sections, "a=simulcast:recv {}\r\n", order.join(";"));
    }

    /// One payload type has one meaning in a bundle (RFC 8843, section 9.1.1).
    fn learn(&mut self, formats: &[Format<'a>]) -> Result<(), NegotiationError> {
        for format in formats {
            match self.meanings.insert(format.payload_type, format.payload) {
                None => {
                    let pair = (format.payload_type, format.payload);
                    self.mapping.payload_types.push(pair);
                }
                Some(known) if known == format.payload => {}
                Some(_) => {
                    let number = format.payload_type;
                    let text = format!("payload type {number} has two meanings in the bundle");
                    return Err(NegotiationError::Malformed(text));
                }
            }
        }
        Ok(())
    }
}

fn media_codecs(formats: &[Format<'_>]) -> Vec<Codec> {
    formats
        .iter()
        .filter_map(|format| match format.payload {
            Payload::Media(codec) => Some(codec),
            Payload::Rtx(_) | Payload::Red => None,
        })
        .collect()
}

fn opus_parameters(offered: &str, stereo: bool, dtx: bool) -> String {
    let mut parameters: Vec<&str> = offered
        .split(';')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .filter(|pair| {
            !["stereo", "usedtx"]
                .iter()
                .any(|name| pair.starts_with(name))
        })
        .collect();
    if fmtp_value(offered, "useinbandfec").is_none() {
        parameters.push("useinbandfec=1");
    }
    if stereo {
        parameters.push("stereo=1");
    }
    if dtx {
        parameters.push("usedtx=1");
    }
    parameters.join(";")
}

fn offered_track(section: &Section<'_>, kind: MediaKind, formats: &[Format<'_>]) -> OfferedTrack {
    let msid = section.value("msid").or_else(|| {
        section
            .values("ssrc")
            .filter_map(|value| value.split_once(' '))
            .find_map(|(_, attribute)| attribute.strip_prefix("msid:"))
    });
    let (stream_id, track_id) = msid
        .and_then(|msid| msid.split_once(' '))
        .unwrap_or((msid.unwrap_or(""), ""));
    let mut rids: Vec<String> = simulcast_rids(section)
        .into_iter()
        .map(str::to_owned)
        .collect();
    sort_layers(&mut rids);
    let ssrcs = if rids.is_empty() {
        declared_ssrcs(section)
    } else {
        Vec::new()
    };
    OfferedTrack {
        mid: section.mid.to_owned(),
        kind,
        stream_id: stream_id.to_owned(),
        track_id: track_id.trim().to_owned(),
        codecs: media_codecs(formats),
        source: TrackSource {
            mid: section.mid.to_owned(),
            rids,
            ssrcs,
        },
    }
}

/// The RIDs that the client sends (RFC 8853), in its order. Without a=simulcast there are none.
fn simulcast_rids<'a>(section: &Section<'a>) -> Vec<&'a str> {
    let Some(simulcast) = section.value("simulcast") else {
        return Vec::new();
    };
    let mut words = simulcast.split_ascii_whitespace();
    while let Some(word) = words.next() {
        if word != "send" {
            continue;
        }
        let streams = words.next().unwrap_or("").split(';');
        // Alternatives stand behind commas, a tilde means paused for now.
        return streams
            .filter_map(|stream| stream.split(',').next())
            .map(|rid| rid.trim_start_matches('~'))
            .filter(|rid| !rid.is_empty() && rid.len() <= 16)
            .take(MAX_LAYERS)
            .collect();
    }
    Vec::new()
}

/// Lowest layer first: LiveKit's clients call them q, h and f; others list the lowest first.
fn sort_layers(rids: &mut [String]) {
    let rank = |rid: &str| ["q", "h", "f"].iter().position(|known| *known == rid);
    if rids.iter().all(|rid| rank(rid).is_some()) {
        rids.sort_by_key(|rid| rank(rid));
    }
}

/// `(media, retransmission)` of each layer, by the groups FID (RFC 4588) and SIM.
fn declared_ssrcs(section: &Section<'_>) -> Vec<(u32, Option<u32>)> {
    let groups: Vec<(&str, Vec<u32>)> = section
        .values("ssrc-group")
        .filter_map(|value| {
            let (semantics, ssrcs) = value.split_once(' ')?;
            let ssrcs = ssrcs.split(' ').filter_map(|ssrc| ssrc.parse().ok());
            Some((semantics, ssrcs.collect()))
        })
        .collect();
    let repair_of = |media: u32| {
        groups
            .iter()
            .find_map(|(semantics, ssrcs)| match ssrcs[..] {
                [first, repair] if *semantics == "FID" && first == media => Some(repair),
                _ => None,
            })
    };
    let layers: Vec<u32> = match groups.iter().find(|(semantics, _)| *semantics == "SIM") {
        Some((_, ssrcs)) => ssrcs.clone(),
        None => section
            .values("ssrc")
            .filter_map(|value| value.split_ascii_whitespace().next()?.parse().ok())
            .take(1)
            .collect(),
    };
    layers
        .into_iter()
        .take(MAX_LAYERS)
        .map(|media| (media, repair_of(media)))
        .collect()
}
