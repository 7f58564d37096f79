//! Reading session descriptions (RFC 8866) from strangers: line by line, bounded, borrowing.

use super::{NegotiationError, RemoteDescription};
use moim_engine::command::{Fingerprint, IceCredentials};

/// Bounds of a description. Two hundred tracks fit many times.
const MAX_SDP: usize = 512 << 10;
const MAX_LINE: usize = 8 << 10;
const MAX_SECTIONS: usize = 300;

/// One `a=name:value` line; the value is empty for a flag.
type Attribute<'a> = (&'a str, &'a str);

/// A whole description.
#[derive(Debug)]
pub(super) struct Description<'a> {
    attributes: Vec<Attribute<'a>>,
    pub(super) sections: Vec<Section<'a>>,
}

/// One m-line with its attributes.
#[derive(Debug)]
pub(super) struct Section<'a> {
    /// audio, video or application.
    pub(super) kind: &'a str,
    pub(super) port: &'a str,
    pub(super) protocol: &'a str,
    pub(super) formats: Vec<&'a str>,
    pub(super) mid: &'a str,
    attributes: Vec<Attribute<'a>>,
}

/// Which way media flows, seen from who wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    pub(super) fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    pub(super) fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}

impl<'a> Description<'a> {
    pub(super) fn parse(sdp: &'a str) -> Result<Description<'a>, NegotiationError> {
        if sdp.len() > MAX_SDP {
            return Err(too_large(format!("{} bytes", sdp.len()), MAX_SDP));
        }
        let mut description = Description {
            attributes: Vec::new(),
            sections: Vec::new(),
        };
        for line in sdp.lines() {
            if line.len() > MAX_LINE {
                let what = format!("a line of {} bytes", line.len());
                return Err(too_large(what, MAX_LINE));
            }
            match line.split_once('=') {
                Some(("m", value)) => description.sections.push(Section::parse(value)?),
                Some(("a", value)) => {
                    let attribute = value.split_once(':').unwrap_or((value, ""));
                    match description.sections.last_mut() {
                        Some(section) => section.add(attribute),
                        None => description.attributes.push(attribute),
                    }
                }
                Some((key, _)) if key.len() == 1 => {}
                None if line.trim().is_empty() => {}
                _ => {
                    let start: String = line.chars().take(40).collect();
                    return Err(NegotiationError::Malformed(format!("the line `{start}`")));
                }
            }
            if description.sections.len() > MAX_SECTIONS {
                return Err(too_large("m-lines".into(), MAX_SECTIONS));
            }
        }
        description.check_mids()?;
        Ok(description)
    }

    fn check_mids(&self) -> Result<(), NegotiationError> {
        let mut mids: Vec<&str> = self.sections.iter().map(|section| section.mid).collect();
        mids.sort_unstable();
        for pair in mids.windows(2) {
            if pair[0] == pair[1] {
                let text = format!("two m-lines have the mid `{}`", pair[0]);
                return Err(NegotiationError::Malformed(text));
            }
        }
        match mids.first() {
            None => Err(NegotiationError::Missing("an m-line")),
            Some(&"") => Err(NegotiationError::Missing("a=mid in an m-line")),
            Some(_) => Ok(()),
        }
    }

    /// An attribute of a section, or of the session.
    pub(super) fn value(&self, section: &Section<'a>, name: &str) -> Option<&'a str> {
        section.value(name).or_else(|| find(&self.attributes, name))
    }

    /// Credentials and fingerprint of the bundle: those of the first m-line that is in use.
    pub(super) fn remote(&self) -> Result<RemoteDescription, NegotiationError> {
        let section = self
            .sections
            .iter()
            .find(|section| !section.is_rejected())
            .ok_or(NegotiationError::Missing("an m-line that is not rejected"))?;
        let ufrag = self
            .value(section, "ice-ufrag")
            .ok_or(NegotiationError::Missing("a=ice-ufrag"))?;
        let pwd = self
            .value(section, "ice-pwd")
            .ok_or(NegotiationError::Missing("a=ice-pwd"))?;
        // RFC 8839, section 5.4.
        if !(4..=256).contains(&ufrag.len()) || !(22..=256).contains(&pwd.len()) {
            let text = "a=ice-ufrag has 4 to 256 characters, a=ice-pwd 22 to 256";
            return Err(NegotiationError::Malformed(text.into()));
        }
        let fingerprints = section.values("fingerprint");
        let fingerprint = fingerprints
            .chain(values(&self.attributes, "fingerprint"))
            .find_map(parse_fingerprint)
            .ok_or(NegotiationError::Missing("a=fingerprint with sha-256"))?;
        Ok(RemoteDescription {
            ice: IceCredentials {
                ufrag: ufrag.to_owned(),
                pwd: pwd.to_owned(),
            },
            fingerprint,
        })
    }
}

impl<'a> Section<'a> {
    fn parse(value: &'a str) -> Result<Section<'a>, NegotiationError> {
        let mut words = value.split_ascii_whitespace();
        let mut word = || {
            let text = || NegotiationError::Malformed("an m-line is cut short".into());
            words.next().ok_or_else(text)
        };
        let (kind, port, protocol) = (word()?, word()?, word()?);
        Ok(Section {
            kind,
            port,
            protocol,
            formats: words.collect(),
            mid: "",
            attributes: Vec::new(),
        })
    }

    fn add(&mut self, attribute: Attribute<'a>) {
        if attribute.0 == "mid" {
            self.mid = attribute.1.trim();
        }
        self.attributes.push(attribute);
    }

    pub(super) fn value(&self, name: &str) -> Option<&'a str> {
        find(&self.attributes, name)
    }

    pub(super) fn values(&self, name: &'static str) -> impl Iterator<Item = &'a str> {
        values(&self.attributes, name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// Port zero means rejected, unless the m-line only lives in a bundle (RFC 8843, section 6).
    pub(super) fn is_rejected(&self) -> bool {
        self.port == "0" && !self.has("bundle-only")
    }

    pub(super) fn direction(&self) -> Direction {
        for (name, _) in &self.attributes {
            match *name {
                "sendrecv" => return Direction::SendRecv,
                "sendonly" => return Direction::SendOnly,
                "recvonly" => return Direction::RecvOnly,
                "inactive" => return Direction::Inactive,
                _ => {}
            }
        }
        // RFC 8866, section 6.7.
        Direction::SendRecv
    }
}

fn find<'a>(attributes: &[Attribute<'a>], name: &str) -> Option<&'a str> {
    attributes
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.trim())
}

fn values<'a>(attributes: &[Attribute<'a>], name: &'static str) -> impl Iterator<Item = &'a str> {
    attributes
        .iter()
        .filter(move |(known, _)| *known == name)
        .map(|(_, value)| value.trim())
}

fn parse_fingerprint(value: &str) -> Option<Fingerprint> {
    let (algorithm, hex) = value.split_once(' ')?;
    if !algorithm.eq_ignore_ascii_case("sha-256") {
        return None;
    }
    let mut fingerprint = [0; 32];
    let mut parts = hex.trim().split(':');
    for byte in &mut fingerprint {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    parts.next().is_none().then_some(Fingerprint(fingerprint))
}

fn too_large(what: String, limit: usize) -> NegotiationError {
    NegotiationError::TooLarge { what, limit }
}
