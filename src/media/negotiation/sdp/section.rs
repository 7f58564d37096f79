//! One m-line with what its attributes say, by payload type where they are about one.

use crate::media::negotiation::feedback::FEEDBACK;
use crate::media::negotiation::grammar::{FormatParameters, Word};
use crate::media::negotiation::{NegotiationError, extensions};
use moim_engine::command::{Fingerprint, HeaderExtension};

/// Layers of a simulcast track.
pub(in crate::media::negotiation) const MAX_LAYERS: usize = 3;

/// Formats of one m-line. A payload type has seven bits (RFC 3550, section 5.1).
const MAX_FORMATS: usize = 128;
/// Attributes of one m-line. Those of a browser have about 250.
const MAX_ATTRIBUTES: usize = 1_024;
/// Lines about SSRCs: simulcast with retransmissions and error correction has about 40.
const MAX_SSRC_LINES: usize = 256;
/// Bytes of the parameters of one format. The longest of browsers have about 150.
const MAX_PARAMETERS: usize = 1_024;
/// RIDs that are described.
const MAX_RIDS: usize = 16;
/// Stands for a payload type that nothing is said about.
const NOTHING: u8 = u8::MAX;

/// Which way media flows, seen from who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::media::negotiation) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    pub(super) fn named(name: &str) -> Option<Direction> {
        match name {
            "sendrecv" => Some(Direction::SendRecv),
            "sendonly" => Some(Direction::SendOnly),
            "recvonly" => Some(Direction::RecvOnly),
            "inactive" => Some(Direction::Inactive),
            _ => None,
        }
    }

    pub(in crate::media::negotiation) fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    pub(in crate::media::negotiation) fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}

/// What an m-line, or the description for all of them, says of the transport. Of what is said
/// twice, the first counts.
#[derive(Debug, Default)]
pub(super) struct TransportAttributes<'a> {
    pub(super) ufrag: Option<&'a str>,
    pub(super) pwd: Option<&'a str>,
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) setup: Option<&'a str>,
}

impl<'a> TransportAttributes<'a> {
    pub(super) fn attribute(&mut self, name: &str, value: &'a str) {
        match name {
            "ice-ufrag" => self.ufrag = self.ufrag.or(Some(value)),
            "ice-pwd" => self.pwd = self.pwd.or(Some(value)),
            "setup" => self.setup = self.setup.or(Some(value)),
            "fingerprint" => {
                self.fingerprint = self.fingerprint.or_else(|| parse_fingerprint(value));
            }
            _ => {}
        }
    }
}

/// A set of the kinds of RTCP feedback that we know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::media::negotiation) struct Feedback(u8);

impl Feedback {
    fn of(kind: &str) -> Feedback {
        let known = FEEDBACK.iter().position(|known| *known == kind);
        Feedback(known.map_or(0, |index| 1 << index))
    }

    pub(in crate::media::negotiation) fn has(self, kind: &str) -> bool {
        self.0 & Feedback::of(kind).0 != 0
    }

    fn with(self, other: Feedback) -> Feedback {
        Feedback(self.0 | other.0)
    }
}

/// What is said of a payload type.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::media::negotiation) struct PayloadAttributes<'a> {
    pub(in crate::media::negotiation) rtpmap: Option<&'a str>,
    pub(in crate::media::negotiation) fmtp: Option<FormatParameters<'a>>,
    pub(in crate::media::negotiation) feedback: Feedback,
}

/// What is said of each payload type.
#[derive(Debug)]
struct PayloadTable<'a> {
    /// Where in `entries` a payload type is.
    places: [u8; MAX_FORMATS],
    entries: Vec<PayloadAttributes<'a>>,
    /// Feedback on all of them.
    feedback: Feedback,
}

impl<'a> PayloadTable<'a> {
    fn get(&self, payload_type: u8) -> PayloadAttributes<'a> {
        let place = self.places.get(usize::from(payload_type));
        let entry = place.and_then(|place| self.entries.get(usize::from(*place)));
        let entry = entry.copied().unwrap_or_default();
        PayloadAttributes {
            feedback: entry.feedback.with(self.feedback),
            ..entry
        }
    }

    fn entry(&mut self, payload_type: &str) -> Option<&mut PayloadAttributes<'a>> {
        let number: usize = payload_type.parse().ok()?;
        let place = self.places.get_mut(number)?;
        if *place == NOTHING {
            *place = self.entries.len() as u8;
            self.entries.push(PayloadAttributes::default());
        }
        self.entries.get_mut(usize::from(*place))
    }
}

/// A stream of simulcast, as `a=rid` describes it (RFC 8851).
#[derive(Debug, Clone, Copy)]
pub(in crate::media::negotiation) struct RidAttributes<'a> {
    pub(in crate::media::negotiation) id: &'a str,
    /// The most that it has: pixels of a picture, else bits a second.
    pub(in crate::media::negotiation) limit: Option<u64>,
}

/// What `a=ssrc` and `a=ssrc-group` say.
#[derive(Debug, Default)]
pub(in crate::media::negotiation) struct SsrcAttributes {
    lines: usize,
    /// The one that is named first.
    first: Option<u32>,
    /// Those of a simulcast track, lowest layer first.
    simulcast: Vec<u32>,
    /// `(media, retransmission)` (RFC 4588).
    repairs: Vec<(u32, u32)>,
}

impl SsrcAttributes {
    /// `(media, retransmission)` of each layer.
    pub(in crate::media::negotiation) fn layers(&self) -> Vec<(u32, Option<u32>)> {
        let media = if self.simulcast.is_empty() {
            self.first.as_slice()
        } else {
            &self.simulcast
        };
        let repair_of = |media: u32| {
            let found = self.repairs.iter().find(|(first, _)| *first == media);
            found.map(|(_, repair)| *repair)
        };
        media.iter().map(|&ssrc| (ssrc, repair_of(ssrc))).collect()
    }
}

/// One m-line with its attributes. Of what is said twice, the first counts.
#[derive(Debug)]
pub(in crate::media::negotiation) struct Section<'a> {
    /// audio, video or application.
    pub(in crate::media::negotiation) kind: Word<'a>,
    pub(in crate::media::negotiation) protocol: Word<'a>,
    pub(in crate::media::negotiation) formats: Vec<Word<'a>>,
    pub(in crate::media::negotiation) mid: Option<Word<'a>>,
    pub(in crate::media::negotiation) rtcp_mux: bool,
    pub(in crate::media::negotiation) msid: Option<&'a str>,
    /// `(id, which)` of the header extensions that we know.
    pub(in crate::media::negotiation) extensions: Vec<(u8, HeaderExtension)>,
    pub(in crate::media::negotiation) ssrcs: SsrcAttributes,
    pub(in crate::media::negotiation) rids: Vec<RidAttributes<'a>>,
    /// The RIDs of simulcast that are sent (RFC 8853), in the order of the line.
    pub(in crate::media::negotiation) simulcast: Vec<Word<'a>>,
    pub(super) transport: TransportAttributes<'a>,
    pub(super) direction: Option<Direction>,
    port_is_zero: bool,
    bundle_only: bool,
    payloads: PayloadTable<'a>,
    attributes: usize,
}

impl<'a> Section<'a> {
    pub(super) fn parse(value: &'a str) -> Result<Section<'a>, NegotiationError> {
        let mut words = value.split_ascii_whitespace();
        let malformed = || NegotiationError::Malformed("an m-line is not as it should be".into());
        let kind = words.next().and_then(Word::token).ok_or_else(malformed)?;
        let port = words.next().ok_or_else(malformed)?;
        let protocol = words
            .next()
            .and_then(Word::protocol)
            .ok_or_else(malformed)?;
        let mut formats = Vec::new();
        for word in words {
            if formats.len() == MAX_FORMATS {
                return Err(NegotiationError::too_large(
                    "too many formats in an m-line".into(),
                    MAX_FORMATS,
                ));
            }
            formats.push(Word::token(word).ok_or_else(malformed)?);
        }
        Ok(Section {
            kind,
            protocol,
            formats,
            mid: None,
            rtcp_mux: false,
            msid: None,
            extensions: Vec::new(),
            ssrcs: SsrcAttributes::default(),
            rids: Vec::new(),
            simulcast: Vec::new(),
            transport: TransportAttributes::default(),
            direction: None,
            port_is_zero: port.parse() == Ok(0u16),
            bundle_only: false,
            payloads: PayloadTable {
                places: [NOTHING; MAX_FORMATS],
                entries: Vec::new(),
                feedback: Feedback::default(),
            },
            attributes: 0,
        })
    }

    pub(super) fn attribute(
        &mut self,
        name: &'a str,
        value: &'a str,
    ) -> Result<(), NegotiationError> {
        self.attributes += 1;
        if self.attributes > MAX_ATTRIBUTES {
            return Err(NegotiationError::too_large(
                "too many attributes in an m-line".into(),
                MAX_ATTRIBUTES,
            ));
        }
        match name {
            "mid" => self.set_mid(value)?,
            // RFC 8858: without `a=rtcp-mux` it stands for that as well.
            "rtcp-mux" | "rtcp-mux-only" => self.rtcp_mux = true,
            "bundle-only" => self.bundle_only = true,
            "msid" => self.msid = self.msid.or(Some(value)),
            "rtpmap" | "fmtp" | "rtcp-fb" => self.payload_attribute(name, value)?,
            "extmap" => self.extension(value),
            "ssrc" | "ssrc-group" => self.ssrc(name, value)?,
            "rid" => self.rid(value),
            "simulcast" => self.set_simulcast(value)?,
            _ => match Direction::named(name) {
                Some(direction) => self.direction = self.direction.or(Some(direction)),
                None => self.transport.attribute(name, value),
            },
        }
        Ok(())
    }

    fn set_mid(&mut self, value: &'a str) -> Result<(), NegotiationError> {
        let malformed = || NegotiationError::Malformed("a=mid is not a token".into());
        let mid = Word::mid(value).ok_or_else(malformed)?;
        self.mid = self.mid.or(Some(mid));
        Ok(())
    }

    fn payload_attribute(&mut self, name: &str, value: &'a str) -> Result<(), NegotiationError> {
        let Some((payload_type, value)) = value.split_once(' ') else {
            return Ok(());
        };
        let value = value.trim_start();
        if name != "rtcp-fb" && value.len() > MAX_PARAMETERS {
            let what = format!("parameters of {} bytes", value.len());
            return Err(NegotiationError::too_large(what, MAX_PARAMETERS));
        }
        if name == "rtcp-fb" && payload_type == "*" {
            self.payloads.feedback = self.payloads.feedback.with(Feedback::of(value));
            return Ok(());
        }
        let Some(entry) = self.payloads.entry(payload_type) else {
            return Ok(());
        };
        match name {
            "rtpmap" => entry.rtpmap = entry.rtpmap.or(Some(value)),
            "fmtp" => entry.fmtp = entry.fmtp.or(Some(FormatParameters::new(value))),
            _ => entry.feedback = entry.feedback.with(Feedback::of(value)),
        }
        Ok(())
    }

    fn extension(&mut self, value: &str) {
        let mut words = value.split_ascii_whitespace();
        // A direction may stand behind the id.
        let id = words
            .next()
            .and_then(|id| id.split('/').next()?.parse::<u8>().ok());
        let extension = words.next().and_then(extensions::by_name);
        let (Some(id), Some(extension)) = (id, extension) else {
            return;
        };
        let is_new = |known: &(u8, HeaderExtension)| known.0 != id && known.1 != extension;
        if id != 0 && self.extensions.iter().all(is_new) {
            self.extensions.push((id, extension));
        }
    }

    fn ssrc(&mut self, name: &str, value: &'a str) -> Result<(), NegotiationError> {
        self.ssrcs.lines += 1;
        if self.ssrcs.lines > MAX_SSRC_LINES {
            return Err(NegotiationError::too_large(
                "too many SSRCs in an m-line".into(),
                MAX_SSRC_LINES,
            ));
        }
        let Some((first, rest)) = value.split_once(' ') else {
            return Ok(());
        };
        if name == "ssrc" {
            let ssrc = first.parse().ok();
            self.ssrcs.first = self.ssrcs.first.or(ssrc);
            if let Some(msid) = rest.trim_start().strip_prefix("msid:") {
                self.msid = self.msid.or(Some(msid));
            }
            return Ok(());
        }
        let ssrcs = rest.split_ascii_whitespace().map(|ssrc| ssrc.parse().ok());
        match first {
            "FID" => {
                let pair: Option<Vec<u32>> = ssrcs.take(3).collect();
                if let Some([media, repair]) = pair.as_deref() {
                    self.ssrcs.repairs.push((*media, *repair));
                }
            }
            "SIM" if self.ssrcs.simulcast.is_empty() => {
                self.ssrcs.simulcast = ssrcs.flatten().take(MAX_LAYERS).collect();
            }
            _ => {}
        }
        Ok(())
    }

    fn rid(&mut self, value: &'a str) {
        let mut words = value.split_ascii_whitespace();
        let (Some(id), Some("send")) = (words.next(), words.next()) else {
            return;
        };
        if self.rids.len() < MAX_RIDS {
            let restrictions = FormatParameters::new(words.next().unwrap_or(""));
            let number = |name| restrictions.value(name)?.parse::<u64>().ok();
            let pixels = number("max-width").zip(number("max-height"));
            let limit = pixels
                .map(|(width, height)| width.saturating_mul(height))
                // Macroblocks of 256 pixels (RFC 8851, section 5).
                .or_else(|| Some(number("max-fs")?.saturating_mul(256)))
                .or_else(|| number("max-width"))
                .or_else(|| number("max-height"))
                .or_else(|| number("max-br"));
            self.rids.push(RidAttributes { id, limit });
        }
    }

    fn set_simulcast(&mut self, value: &'a str) -> Result<(), NegotiationError> {
        let mut words = value.split_ascii_whitespace();
        if words.find(|word| *word == "send").is_none() || !self.simulcast.is_empty() {
            return Ok(());
        }
        for stream in words.next().unwrap_or("").split(';').take(MAX_LAYERS) {
            // Alternatives stand behind commas, a tilde means paused for now.
            let rid = stream.split(',').next().unwrap_or("");
            let rid = rid.trim_start_matches('~');
            let malformed =
                || NegotiationError::Malformed("a=simulcast has what is not a rid-id".into());
            let rid = Word::rid(rid).ok_or_else(malformed)?;
            if !self.simulcast.contains(&rid) {
                self.simulcast.push(rid);
            }
        }
        Ok(())
    }

    /// What is said of a payload type.
    pub(in crate::media::negotiation) fn payload(&self, payload_type: u8) -> PayloadAttributes<'a> {
        #[cfg(test)]
        super::work::done(1);
        self.payloads.get(payload_type)
    }

    /// The formats that are payload types, in the order of the line.
    pub(in crate::media::negotiation) fn payload_types(&self) -> impl Iterator<Item = u8> {
        let number = |format: &Word<'_>| format.as_str().parse().ok();
        self.formats
            .iter()
            .filter_map(number)
            .filter(|number| *number < MAX_FORMATS as u8)
    }

    /// Port zero means rejected, unless the m-line only lives in a bundle (RFC 9143, section 6).
    pub(in crate::media::negotiation) fn is_rejected(&self) -> bool {
        self.port_is_zero && !self.bundle_only
    }
}

fn parse_fingerprint(value: &str) -> Option<Fingerprint> {
    let (algorithm, hex) = value.split_once(' ')?;
    if !algorithm.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut fingerprint = [0; 32];
    let mut parts = hex.trim().split(':');
    for byte in &mut fingerprint {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(Fingerprint(fingerprint))
}
