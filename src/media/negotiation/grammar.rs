//! What a stranger's text must be before it may stand in a description that we write.
//!
//! Each type can only be made from text that its grammar allows, and the writers of offers and
//! answers take nothing else, so no text of a client can end a line or add a word to it.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Characters of an `a=msid` identifier and appdata (RFC 8830, section 2).
const MAX_SDP_TOKEN: usize = 64;
/// Characters of an identification tag: what the MID header extension carries at most (RFC 8285,
/// section 4.3).
const MAX_MID: usize = 255;
/// Characters of a `rid-id`: what one-byte header extensions carry at most (RFC 8285,
/// section 4.2).
const MAX_RID: usize = 16;
/// Characters of the media type, a format and the protocol of an m-line. The longest that is
/// registered has 22.
const MAX_WORD: usize = 64;

/// A token (RFC 8866, section 9) of 1 to 64 characters, of our own making.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SdpToken(String);

impl SdpToken {
    /// Takes text that is a token already.
    pub fn new(text: &str) -> Option<SdpToken> {
        (text.len() <= MAX_SDP_TOKEN && is_token(text)).then(|| SdpToken(text.to_owned()))
    }

    /// The id of the media stream that groups tracks of a participant under a name of its
    /// client's choice: `participant|name`, as the protocol has it. Other characters than those
    /// of a token are written `%XX`; of a name that is too long then, the start and a hash are.
    /// Different names stay different.
    pub fn group_stream(participant_sid: &str, name: &str) -> SdpToken {
        SdpToken::joined(participant_sid, &encode_name(name))
    }

    /// The id of a stream for a track alone: `participant|track`.
    pub fn track_stream(participant_sid: &str, track_sid: &str) -> SdpToken {
        SdpToken::joined(participant_sid, &encode(track_sid))
    }

    /// The id of a track.
    pub fn track(track_sid: &str) -> SdpToken {
        let encoded = match encode(track_sid) {
            empty if empty.is_empty() => CUT.to_owned(),
            encoded => encoded,
        };
        SdpToken(shorten(encoded, MAX_SDP_TOKEN))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn joined(participant_sid: &str, rest: &str) -> SdpToken {
        // Half of it at most, which server-made ids do not come near.
        let participant = shorten(encode(participant_sid), MAX_SDP_TOKEN / 2);
        let left = MAX_SDP_TOKEN - participant.len() - 1;
        SdpToken(format!("{participant}|{}", shorten(rest.to_owned(), left)))
    }
}

impl fmt::Display for SdpToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A stream's name that clients cannot take for the id of a track, which begins with `TR`.
fn encode_name(name: &str) -> String {
    match name.strip_prefix('T') {
        Some(rest) if rest.starts_with('R') => format!("%54{}", encode(rest)),
        _ => encode(name),
    }
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        if is_token_char(byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Stands in place of text that is left out; no encoded text has it in it.
const CUT: &str = "%~";

/// Cuts encoded text to a length, and puts a hash of the whole at its end.
fn shorten(encoded: String, max: usize) -> String {
    if encoded.len() <= max {
        return encoded;
    }
    let mut hasher = DefaultHasher::new();
    encoded.hash(&mut hasher);
    let hash = format!("{CUT}{:016x}", hasher.finish());
    // Encoded text is ASCII.
    let kept = &encoded[..max.saturating_sub(hash.len())];
    format!("{kept}{hash}")
}

/// A word of a client's description that may be written back to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Word<'a>(&'a str);

impl<'a> Word<'a> {
    /// A media type or format: a token.
    pub(super) fn token(text: &'a str) -> Option<Word<'a>> {
        (text.len() <= MAX_WORD && is_token(text)).then_some(Word(text))
    }

    /// A protocol: tokens with slashes between them.
    pub(super) fn protocol(text: &'a str) -> Option<Word<'a>> {
        (text.len() <= MAX_WORD && text.split('/').all(is_token)).then_some(Word(text))
    }

    /// An identification tag (RFC 5888, section 9.1).
    pub(super) fn mid(text: &'a str) -> Option<Word<'a>> {
        (text.len() <= MAX_MID && is_token(text)).then_some(Word(text))
    }

    /// A `rid-id` (RFC 8851, section 10).
    pub(super) fn rid(text: &'a str) -> Option<Word<'a>> {
        let is_rid_char = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let is_rid = (1..=MAX_RID).contains(&text.len()) && text.bytes().all(is_rid_char);
        is_rid.then_some(Word(text))
    }

    pub(super) fn as_str(self) -> &'a str {
        self.0
    }
}

impl fmt::Display for Word<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// The parameters of a format as a client wrote them (RFC 8866, section 6.15), without those that
/// hold other than visible ASCII characters and spaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FormatParameters<'a>(&'a str);

impl<'a> FormatParameters<'a> {
    pub(super) fn new(text: &'a str) -> FormatParameters<'a> {
        FormatParameters(text)
    }

    /// Each `name=value`, or what else stands between semicolons.
    pub(super) fn iter(self) -> impl Iterator<Item = &'a str> {
        let is_plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        self.0
            .split(';')
            .map(str::trim)
            .filter(move |parameter| !parameter.is_empty() && parameter.bytes().all(is_plain))
    }

    /// The value of one parameter.
    pub(super) fn value(self, name: &str) -> Option<&'a str> {
        self.iter()
            .filter_map(|parameter| parameter.split_once('='))
            .find(|(known, _)| known.trim().eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    pub(super) fn is_empty(self) -> bool {
        self.iter().next().is_none()
    }
}

impl fmt::Display for FormatParameters<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, parameter) in self.iter().enumerate() {
            let semicolon = if index == 0 { "" } else { ";" };
            write!(f, "{semicolon}{parameter}")?;
        }
        Ok(())
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_char)
}

/// `token-char` of RFC 8866, section 9.
fn is_token_char(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x27 | 0x2a..=0x2b | 0x2d..=0x2e | 0x30..=0x39 | 0x41..=0x5a | 0x5e..=0x7e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng, rngs::SmallRng};
    use std::collections::HashMap;

    #[test]
    fn names_that_are_tokens_stay_as_they_are() {
        assert_eq!(
            SdpToken::group_stream("PA_1", "camera").as_str(),
            "PA_1|camera"
        );
        assert_eq!(SdpToken::track_stream("PA_1", "TR_2").as_str(), "PA_1|TR_2");
        assert_eq!(SdpToken::group_stream("PA_1", "a|b").as_str(), "PA_1|a|b");
        assert_eq!(
            SdpToken::group_stream("PA_1", "TR_2").as_str(),
            "PA_1|%54R_2"
        );
    }

    /// Any text becomes a token of 1 to 64 characters that begins with the participant's id, and
    /// no two texts become the same one.
    #[test]
    fn any_name_becomes_a_token_of_its_own() {
        const PIECES: [&str; 16] = [
            "a",
            "TR_",
            "|",
            "%",
            "%20",
            " ",
            "\r\na=inactive",
            "\n",
            "\0",
            "화상 회의",
            "\u{2028}",
            "🎥",
            "%~",
            "\"",
            "a=ice-ufrag:x",
            "weekly",
        ];
        let seed = 20;
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut seen: HashMap<String, String> = HashMap::new();
        for round in 0..20_000 {
            let count = if round % 100 == 0 {
                5_000
            } else {
                rng.random_range(0..24)
            };
            let name: String = (0..count)
                .map(|_| PIECES[rng.random_range(0..PIECES.len())])
                .collect();
            let token = SdpToken::group_stream("PA_abcdefghijkl", &name);
            let text = token.as_str();
            assert!(
                SdpToken::new(text).is_some(),
                "seed {seed}: {name:?} as {text:?}"
            );
            let (participant, rest) = text.split_once('|').unwrap();
            assert_eq!(participant, "PA_abcdefghijkl");
            assert!(
                !rest.starts_with("TR"),
                "seed {seed}: {name:?} looks like a track"
            );
            let known = seen.entry(text.to_owned()).or_insert_with(|| name.clone());
            assert_eq!(*known, name, "seed {seed}: both are {text}");
        }
    }

    #[test]
    fn rids_and_mids_follow_their_grammar() {
        for good in ["q", "hi-res_1", "0123456789abcdef"] {
            assert!(Word::rid(good).is_some());
        }
        for bad in ["", "a b", "q;h", "0123456789abcdefg", "é", "a\r"] {
            assert!(Word::rid(bad).is_none(), "{bad}");
        }
        assert!(Word::mid(&"m".repeat(256)).is_none());
        assert!(Word::mid("a-rather-long-mid-of-32-letters!!").is_some());
        assert!(Word::protocol("UDP/TLS/RTP/SAVPF").is_some());
        for bad in ["", "/", "UDP//TLS", "UDP /TLS", "UDP\r"] {
            assert!(Word::protocol(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn parameters_with_other_characters_are_left_out() {
        let parameters = FormatParameters::new("minptime=10; useinbandfec=1;x=\ra;;y=é; stereo=1 ");
        assert_eq!(
            parameters.to_string(),
            "minptime=10;useinbandfec=1;stereo=1"
        );
        assert_eq!(parameters.value("USEINBANDFEC"), Some("1"));
        assert_eq!(parameters.value("x"), None);
    }
}
