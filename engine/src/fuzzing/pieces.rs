//! Several packets from one input.

/// The pieces of an input, each after a byte that gives its length: so one input is several
/// packets of a stream, which parsers with a state see in turn.
pub(crate) fn pieces(mut input: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&len, rest) = input.split_first()?;
        let (piece, rest) = rest.split_at(usize::from(len).min(rest.len()));
        input = rest;
        Some(piece)
    })
}
