//! Which layer of a simulcast track is which: its RIDs, smallest picture first.

use super::grammar::Word;
use super::sdp::{MAX_LAYERS, Section};

/// Names by which clients of the protocol call their layers, smallest first.
const USUAL_NAMES: [[&str; MAX_LAYERS]; 2] = [["q", "h", "f"], ["2", "1", "0"]];

/// A layer as its client has announced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnnouncedLayer {
    /// Its name in the SDP.
    pub rid: String,
    /// Pixels of its picture; 0 when that is not said.
    pub pixels: u64,
    /// Its place among the qualities of the track, 0 lowest.
    pub quality: u8,
}

/// The RIDs of an m-line, smallest first: by what has been announced, else by the restrictions in
/// `a=rid` (RFC 8851, section 5), else by the usual names, else as they are listed. A list says what
/// its sender prefers (RFC 8853, section 5.2), and not what is larger, but those who use names of
/// their own list the smallest first.
pub(super) fn smallest_first(section: &Section<'_>, announced: &[AnnouncedLayer]) -> Vec<String> {
    let mut rids: Vec<&str> = section
        .simulcast
        .iter()
        .copied()
        .map(Word::as_str)
        .collect();
    let by_announcement = |rid: &str| {
        let layer = announced.iter().find(|layer| layer.rid == rid)?;
        Some((layer.pixels, layer.quality))
    };
    let by_restriction = |rid: &str| {
        let described = section.rids.iter().find(|described| described.id == rid)?;
        Some((described.limit?, 0))
    };
    let _ = sort_by(&mut rids, by_announcement)
        || sort_by(&mut rids, by_restriction)
        || USUAL_NAMES.iter().any(|names| {
            let rank = |rid: &str| {
                let place = names.iter().position(|name| *name == rid)?;
                Some((place as u64, 0))
            };
            sort_by(&mut rids, rank)
        });
    rids.into_iter().map(str::to_owned).collect()
}

/// Sorts by a size, if each has one of its own. False when that is not so.
fn sort_by(rids: &mut [&str], size: impl Fn(&str) -> Option<(u64, u8)>) -> bool {
    let mut sizes: Vec<_> = rids.iter().filter_map(|rid| size(rid)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    if sizes.len() != rids.len() {
        return false;
    }
    rids.sort_by_key(|rid| size(rid));
    true
}
