//! Reading session descriptions (RFC 8866) from strangers: borrowing, bounded, and each line once,
//! so that the work is linear in the size of the text.

mod section;
#[cfg(test)]
pub(super) mod work;

use section::TransportAttributes;
pub(super) use section::{Direction, MAX_LAYERS, Section};

use super::grammar::Word;
use super::{NegotiationError, RemoteDescription};
use moim_engine::command::IceCredentials;

/// Bytes of a description. Two hundred tracks of a browser fit.
const MAX_SDP: usize = 512 << 10;
/// Bytes of a line.
const MAX_LINE: usize = 8 << 10;
/// M-lines: one for each of two tracks of a hundred publishers, and as many that are rejected.
const MAX_SECTIONS: usize = 300;
/// Attributes before the first m-line.
const MAX_SESSION_ATTRIBUTES: usize = 1_024;
/// Identification tags of the bundle: not more than there can be m-lines.
const MAX_BUNDLED: usize = MAX_SECTIONS;

/// A whole description.
#[derive(Debug, Default)]
pub(super) struct Description<'a> {
    transport: TransportAttributes<'a>,
    direction: Option<Direction>,
    bundled: Vec<Word<'a>>,
    attributes: usize,
    pub(super) sections: Vec<Section<'a>>,
}

impl<'a> Description<'a> {
    /// Reads an offer, in which m-lines are told apart by their identification tags.
    pub(super) fn offer(sdp: &'a str) -> Result<Description<'a>, NegotiationError> {
        let description = Description::parse(sdp)?;
        description.check_mids()?;
        Ok(description)
    }

    /// Reads an answer, in which m-lines are told apart by their places (RFC 3264, section 6).
    pub(super) fn answer(sdp: &'a str) -> Result<Description<'a>, NegotiationError> {
        Description::parse(sdp)
    }

    fn parse(sdp: &'a str) -> Result<Description<'a>, NegotiationError> {
        if sdp.len() > MAX_SDP {
            return Err(NegotiationError::too_large(
                format!("{} bytes", sdp.len()),
                MAX_SDP,
            ));
        }
        let mut description = Description::default();
        for line in sdp.split('\n') {
            #[cfg(test)]
            work::done(1 + line.len());
            if line.len() > MAX_LINE {
                let what = format!("a line of {} bytes", line.len());
                return Err(NegotiationError::too_large(what, MAX_LINE));
            }
            description.line(line.trim_end())?;
        }
        if description.sections.is_empty() {
            return Err(NegotiationError::Missing("an m-line"));
        }
        Ok(description)
    }

    fn line(&mut self, line: &'a str) -> Result<(), NegotiationError> {
        match line.split_once('=') {
            Some(("m", value)) => {
                if self.sections.len() == MAX_SECTIONS {
                    return Err(NegotiationError::too_large(
                        "too many m-lines".into(),
                        MAX_SECTIONS,
                    ));
                }
                self.sections.push(Section::parse(value)?);
            }
            Some(("a", value)) => {
                let (name, value) = value.split_once(':').unwrap_or((value, ""));
                match self.sections.last_mut() {
                    Some(section) => section.attribute(name, value.trim())?,
                    None => self.attribute(name, value.trim())?,
                }
            }
            Some((key, _)) if key.len() == 1 => {}
            None if line.is_empty() => {}
            _ => {
                let start: String = line.chars().take(40).collect();
                return Err(NegotiationError::Malformed(format!("the line `{start}`")));
            }
        }
        Ok(())
    }

    fn attribute(&mut self, name: &'a str, value: &'a str) -> Result<(), NegotiationError> {
        self.attributes += 1;
        if self.attributes > MAX_SESSION_ATTRIBUTES {
            let what = "too many attributes before the first m-line".into();
            return Err(NegotiationError::too_large(what, MAX_SESSION_ATTRIBUTES));
        }
        match name {
            "group" => {
                let mut words = value.split_ascii_whitespace();
                if words.next() == Some("BUNDLE") {
                    let left = MAX_BUNDLED.saturating_sub(self.bundled.len());
                    self.bundled.extend(words.filter_map(Word::mid).take(left));
                }
            }
            _ => match Direction::named(name) {
                Some(direction) => self.direction = self.direction.or(Some(direction)),
                None => self.transport.attribute(name, value),
            },
        }
        Ok(())
    }

    /// M-lines that are in use need different tags, of which one may be left out where there is
    /// only one.
    fn check_mids(&self) -> Result<(), NegotiationError> {
        let mut mids: Vec<&str> = self
            .sections
            .iter()
            .filter_map(|section| section.mid.map(Word::as_str))
            .collect();
        mids.sort_unstable();
        if let Some(pair) = mids.windows(2).find(|pair| pair[0] == pair[1]) {
            let text = format!("two m-lines have the mid `{}`", pair[0]);
            return Err(NegotiationError::Malformed(text));
        }
        let in_use = self
            .sections
            .iter()
            .filter(|section| !section.is_rejected());
        let untagged = in_use.clone().any(|section| section.mid.is_none());
        if untagged && in_use.count() > 1 {
            return Err(NegotiationError::Missing("a=mid in an m-line"));
        }
        Ok(())
    }

    /// The identification tags that share one transport (RFC 9143).
    pub(super) fn bundled(&self) -> &[Word<'a>] {
        &self.bundled
    }

    /// Which way media flows on an m-line, seen from who wrote it (RFC 8866, section 6.7).
    pub(super) fn direction(&self, section: &Section<'a>) -> Direction {
        let declared = section.direction.or(self.direction);
        declared.unwrap_or(Direction::SendRecv)
    }

    /// `a=setup` of an m-line, or of all.
    pub(super) fn setup(&self, section: &Section<'a>) -> Option<&'a str> {
        section.transport.setup.or(self.transport.setup)
    }

    /// Credentials and fingerprint of the bundle: those of the first m-line that is in use.
    pub(super) fn remote(&self) -> Result<RemoteDescription, NegotiationError> {
        let section = self
            .sections
            .iter()
            .find(|section| !section.is_rejected())
            .ok_or(NegotiationError::Missing("an m-line that is not rejected"))?;
        let (own, all) = (&section.transport, &self.transport);
        let ufrag = own.ufrag.or(all.ufrag);
        let ufrag = ufrag.ok_or(NegotiationError::Missing("a=ice-ufrag"))?;
        let pwd = own.pwd.or(all.pwd);
        let pwd = pwd.ok_or(NegotiationError::Missing("a=ice-pwd"))?;
        // RFC 8839, section 5.4.
        if !(4..=256).contains(&ufrag.len()) || !(22..=256).contains(&pwd.len()) {
            let text = "a=ice-ufrag has 4 to 256 characters, a=ice-pwd 22 to 256";
            return Err(NegotiationError::Malformed(text.into()));
        }
        let fingerprint = own.fingerprint.or(all.fingerprint);
        let fingerprint =
            fingerprint.ok_or(NegotiationError::Missing("a=fingerprint with sha-256"))?;
        Ok(RemoteDescription {
            ice: IceCredentials {
                ufrag: ufrag.to_owned(),
                pwd: pwd.to_owned(),
            },
            fingerprint,
        })
    }
}
