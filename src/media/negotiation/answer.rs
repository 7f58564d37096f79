//! Writing the answer to a publisher's offer, m-line by m-line.

use std::collections::HashSet;
use std::fmt::Write as _;

use super::codecs::{self, Format, known_formats};
use super::grammar::{FormatParameters, Word};
use super::layers::smallest_first;
use super::offered_track::{NegotiatedTrack, OfferedTrack, TrackDecision, TrackParameters};
use super::sdp::{Description, Section};
use super::{DataLine, LocalEndpoint, NegotiationError, extensions};
use moim_engine::codec::{Codec, MediaKind};
use moim_engine::command::{Payload, ReceiveMapping, TrackSource};

/// We are the DTLS server (RFC 5763, section 5).
const OUR_SETUP: &str = "passive";

/// An answer being written.
pub(super) struct Answer<'a> {
    local: &'a LocalEndpoint,
    offer: &'a Description<'a>,
    sections: String,
    has_candidates: bool,
    /// The tags of the offer's bundle.
    offered_bundle: HashSet<Word<'a>>,
    bundled: Vec<Word<'a>>,
    mapping: ReceiveMapping,
    /// What a payload type stands for, by its number.
    meanings: [Option<Payload>; 128],
    tracks: Vec<NegotiatedTrack>,
}

impl<'a> Answer<'a> {
    pub(super) fn new(local: &'a LocalEndpoint, offer: &'a Description<'a>) -> Answer<'a> {
        Answer {
            local,
            offer,
            sections: String::new(),
            has_candidates: false,
            offered_bundle: offer.bundled().iter().copied().collect(),
            bundled: Vec::new(),
            mapping: ReceiveMapping::default(),
            meanings: [None; 128],
            tracks: Vec::new(),
        }
    }

    /// The text.
    pub(super) fn sdp(&self, version: u64) -> String {
        let mut sdp = String::with_capacity(self.sections.len() + 512);
        self.local
            .write_session(&mut sdp, 1, version, &self.bundled);
        sdp.push_str(&self.sections);
        sdp
    }

    /// What it means for the engine, and the tracks that it takes.
    pub(super) fn outcome(self) -> (ReceiveMapping, Vec<NegotiatedTrack>) {
        (self.mapping, self.tracks)
    }

    /// Answers one m-line.
    pub(super) fn section(
        &mut self,
        section: &Section<'a>,
        decide: &mut dyn FnMut(&OfferedTrack) -> TrackDecision,
    ) -> Result<(), NegotiationError> {
        let kind = match section.kind.as_str() {
            _ if section.is_rejected() => None,
            "audio" => Some(MediaKind::Audio),
            "video" => Some(MediaKind::Video),
            "application" if section.protocol.as_str().ends_with("DTLS/SCTP") => {
                self.data(section);
                return Ok(());
            }
            _ => None,
        };
        let formats: Vec<Format<'_>> = match kind {
            Some(kind) => known_formats(section)
                .into_iter()
                .filter(|format| format.payload.codec().kind() == kind)
                .collect(),
            None => Vec::new(),
        };
        let Some(kind) = kind.filter(|_| !formats.is_empty()) else {
            self.reject(section);
            return Ok(());
        };
        if !section.rtcp_mux {
            return Err(NegotiationError::Missing("a=rtcp-mux in a media m-line"));
        }
        let offered = offered_track(section, kind, &formats);
        let decision = if self.offer.direction(section).sends() {
            decide(&offered)
        } else {
            TrackDecision::Refuse
        };
        match decision {
            TrackDecision::Refuse => {
                self.media(section, &formats, None);
                Ok(())
            }
            TrackDecision::Accept(parameters) => {
                let mut usable = formats.clone();
                usable.retain(|format| {
                    let codec = format.payload.codec();
                    !parameters.unusable.contains(&codec.mime_type())
                });
                if usable.is_empty() {
                    self.media(section, &formats, None);
                    return Ok(());
                }
                self.accept(section, usable, offered, parameters)
            }
        }
    }

    fn data(&mut self, section: &Section<'a>) {
        self.note_bundled(section);
        let first = !std::mem::replace(&mut self.has_candidates, true);
        let line = DataLine {
            protocol: section.protocol.as_str(),
            mid: section.mid.map(Word::as_str),
        };
        self.local
            .write_data_section(&mut self.sections, &line, OUR_SETUP, first);
    }

    fn reject(&mut self, section: &Section<'a>) {
        let format = section.formats.first().copied().map_or("0", Word::as_str);
        let _ = write!(
            self.sections,
            "m={} 0 {} {format}\r\nc=IN IP4 0.0.0.0\r\n",
            section.kind, section.protocol
        );
        if let Some(mid) = section.mid {
            let _ = write!(self.sections, "a=mid:{mid}\r\n");
        }
        self.sections.push_str("a=inactive\r\n");
    }

    fn accept(
        &mut self,
        section: &Section<'a>,
        mut formats: Vec<Format<'a>>,
        offered: OfferedTrack,
        parameters: TrackParameters,
    ) -> Result<(), NegotiationError> {
        // What stands first is what the client sends.
        order(&mut formats, parameters.preferred);
        formats.retain(|format| parameters.red || format.payload != Payload::Red);
        self.learn(&formats)?;
        self.media(section, &formats, Some(&parameters));
        for &(id, extension) in &section.extensions {
            let wanted = extensions::wanted(extension, offered.kind);
            if wanted && !self.mapping.extensions.contains(&(id, extension)) {
                self.mapping.extensions.push((id, extension));
            }
        }
        self.simulcast(section);
        self.tracks.push(NegotiatedTrack {
            mid: offered.mid,
            kind: offered.kind,
            stream_id: offered.stream_id,
            cid: offered.track_id,
            source: TrackSource {
                rids: smallest_first(section, &parameters.layers),
                ..offered.source
            },
            codecs: formats.iter().filter_map(Format::media).collect(),
        });
        Ok(())
    }

    /// Writes an m-line of media, inactive without parameters.
    fn media(
        &mut self,
        section: &Section<'a>,
        formats: &[Format<'a>],
        parameters: Option<&TrackParameters>,
    ) {
        let _ = write!(self.sections, "m={} 9 {}", section.kind, section.protocol);
        for format in formats {
            let _ = write!(self.sections, " {}", format.payload_type);
        }
        self.sections.push_str("\r\nc=IN IP4 0.0.0.0\r\n");
        if let Some(mid) = section.mid {
            let _ = write!(self.sections, "a=mid:{mid}\r\n");
        }
        self.note_bundled(section);
        self.local.write_transport(&mut self.sections, OUR_SETUP);
        if !std::mem::replace(&mut self.has_candidates, true) {
            self.local.write_candidates(&mut self.sections);
        }
        let direction = if parameters.is_some() {
            "recvonly"
        } else {
            "inactive"
        };
        let _ = write!(
            self.sections,
            "a={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n"
        );
        let mut kind = MediaKind::Video;
        for format in formats {
            kind = format.payload.codec().kind();
            self.format(section, format, parameters);
        }
        for &(id, extension) in &section.extensions {
            if extensions::wanted(extension, kind) {
                let name = extensions::name(extension);
                let _ = write!(self.sections, "a=extmap:{id} {name}\r\n");
            }
        }
    }

    fn format(
        &mut self,
        section: &Section<'a>,
        format: &Format<'a>,
        parameters: Option<&TrackParameters>,
    ) {
        let number = format.payload_type;
        let _ = write!(self.sections, "a=rtpmap:{number} {}\r\n", format.rtpmap);
        let offered = format.fmtp.filter(|fmtp| !fmtp.is_empty());
        match (format.payload, parameters) {
            (Payload::Media(Codec::Opus), Some(parameters)) => {
                let opus = opus_parameters(offered, parameters);
                let _ = write!(self.sections, "a=fmtp:{number} {opus}\r\n");
            }
            _ => {
                if let Some(fmtp) = offered {
                    let _ = write!(self.sections, "a=fmtp:{number} {fmtp}\r\n");
                }
            }
        }
        let Some(codec) = format.media() else {
            return;
        };
        for feedback in codecs::feedback(codec) {
            if codecs::takes_feedback(section, format, feedback) {
                let _ = write!(self.sections, "a=rtcp-fb:{number} {feedback}\r\n");
            }
        }
    }

    /// In the order of the offer.
    fn simulcast(&mut self, section: &Section<'a>) {
        for rid in &section.simulcast {
            let _ = write!(self.sections, "a=rid:{rid} recv\r\n");
        }
        for (index, rid) in section.simulcast.iter().enumerate() {
            let start = if index == 0 { "a=simulcast:recv " } else { ";" };
            let _ = write!(self.sections, "{start}{rid}");
        }
        if !section.simulcast.is_empty() {
            self.sections.push_str("\r\n");
        }
    }

    /// The answer's bundle has no other tags than the offer's (RFC 9143, section 7.3.2).
    fn note_bundled(&mut self, section: &Section<'a>) {
        let mid = section.mid.filter(|mid| self.offered_bundle.contains(mid));
        self.bundled.extend(mid);
    }

    /// One payload type has one meaning in a bundle (RFC 9143, section 10.1.2).
    fn learn(&mut self, formats: &[Format<'a>]) -> Result<(), NegotiationError> {
        for format in formats {
            let number = format.payload_type;
            let Some(meaning) = self.meanings.get_mut(usize::from(number)) else {
                continue;
            };
            match *meaning {
                None => {
                    *meaning = Some(format.payload);
                    self.mapping.payload_types.push((number, format.payload));
                }
                Some(known) if known == format.payload => {}
                Some(_) => {
                    let text = format!("payload type {number} has two meanings in the bundle");
                    return Err(NegotiationError::Malformed(text));
                }
            }
        }
        Ok(())
    }
}

/// Puts first what is to be used: redundant audio, the preferred codec or the one that the client
/// lists first, and of its formats the one that most subscribers decode. G.711 is for those that
/// have nothing else.
fn order(formats: &mut [Format<'_>], preferred: Option<Codec>) {
    let is_narrow = |codec: Codec| matches!(codec, Codec::Pcmu | Codec::Pcma);
    let favourite = || {
        let mut media = formats.iter().filter_map(Format::media);
        media
            .clone()
            .find(|codec| !is_narrow(*codec))
            .or(media.next())
    };
    let Some(first) = preferred.or_else(favourite) else {
        return;
    };
    formats.sort_by_key(|format| {
        let codec = format.payload.codec();
        let is_same = codec.mime_type() == first.mime_type();
        let reach = if is_same { codecs::reach(codec) } else { 0 };
        (
            format.payload != Payload::Red,
            matches!(format.payload, Payload::Rtx(_)),
            preferred != Some(codec),
            !is_same,
            is_narrow(codec),
            reach,
        )
    });
}

fn opus_parameters(offered: Option<FormatParameters<'_>>, parameters: &TrackParameters) -> String {
    let is_ours = |parameter: &&str| {
        let name = parameter.split('=').next().unwrap_or("").trim();
        ["stereo", "usedtx"].contains(&name)
    };
    let mut chosen: Vec<&str> = offered
        .iter()
        .flat_map(|offered| offered.iter())
        .filter(|parameter| !is_ours(parameter))
        .collect();
    if offered.is_none_or(|offered| offered.value("useinbandfec").is_none()) {
        chosen.push("useinbandfec=1");
    }
    if parameters.stereo {
        chosen.push("stereo=1");
    }
    if parameters.dtx {
        chosen.push("usedtx=1");
    }
    chosen.join(";")
}

fn offered_track(section: &Section<'_>, kind: MediaKind, formats: &[Format<'_>]) -> OfferedTrack {
    let msid = section.msid.unwrap_or("");
    let (stream_id, track_id) = msid.split_once(' ').unwrap_or((msid, ""));
    let rids = smallest_first(section, &[]);
    let ssrcs = if rids.is_empty() {
        section.ssrcs.layers()
    } else {
        Vec::new()
    };
    let mid = section.mid.map_or("", Word::as_str);
    OfferedTrack {
        mid: mid.to_owned(),
        kind,
        stream_id: stream_id.to_owned(),
        track_id: track_id.trim().to_owned(),
        codecs: formats.iter().filter_map(Format::media).collect(),
        source: TrackSource {
            mid: mid.to_owned(),
            rids,
            ssrcs,
        },
    }
}
