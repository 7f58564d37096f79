//! What an SCTP packet (RFC 9260, section 3) is made of, as far as it is looked at before the
//! library reads it.

/// Bytes of the common header.
pub(super) const COMMON_HEADER: usize = 12;
/// Bytes of the header of a chunk, a parameter and an error cause: what it is, and its length.
const ITEM_HEADER: usize = 4;

/// The types of chunks (section 3.2; RFC 3758, section 3.2; RFC 6525, section 3.1).
const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const SACK: u8 = 3;
const HEARTBEAT: u8 = 4;
const ABORT: u8 = 6;
const SHUTDOWN: u8 = 7;
const SHUTDOWN_ACK: u8 = 8;
const ERROR: u8 = 9;
const COOKIE_ACK: u8 = 11;
const SHUTDOWN_COMPLETE: u8 = 14;
const RE_CONFIG: u8 = 130;

/// Bytes of the fixed fields of INIT, before its parameters (section 3.3.2).
const INIT_FIELDS: usize = 16;
/// Bytes of the fixed fields of SACK, before its lists (section 3.3.4).
const SACK_FIELDS: usize = 12;
/// Parameters that RE-CONFIG has at most (RFC 6525, section 3.1).
const RE_CONFIG_PARAMETERS: usize = 2;
/// Parameters of which the library reads something else than their length says: requested HMAC
/// algorithms (RFC 4895, section 3.3), a re-configuration response with its optional fields (RFC
/// 6525, section 4.4), and support of FORWARD-TSN (RFC 3758, section 3.1).
const REQUESTED_HMACS: u16 = 0x8004;
const RE_CONFIG_RESPONSE: u16 = 16;
const FORWARD_TSN_SUPPORTED: u16 = 0xc000;

/// A chunk: its type, and what stands behind its header.
struct Chunk<'a> {
    kind: u8,
    value: &'a [u8],
}

/// The chunks of a packet, up to the first that is not whole.
fn chunks(packet: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = packet.get(COMMON_HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let [kind, _, high, low, ..] = *rest else {
            return None;
        };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let value = rest.get(ITEM_HEADER..len)?;
        // Chunks are padded to four bytes (section 3.2).
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Chunk { kind, value })
    })
}

/// Whether a packet has a DATA chunk.
pub(super) fn has_data(packet: &[u8]) -> bool {
    chunks(packet).any(|chunk| chunk.kind == DATA)
}

/// Whether the library may read a packet. It panics where an error cause (section 3.3.10)
/// reaches beyond its chunk; and it goes on to the next chunk by what it has understood of one,
/// not by the chunk's length, so that such a cause could hide in what it has not. Peers that
/// keep to the RFCs send nothing that is refused here.
pub(super) fn is_safe(packet: &[u8]) -> bool {
    chunks(packet).all(|chunk| is_understood_whole(&chunk))
}

/// Whether the library understands a chunk up to its end. One of a type that is not listed here
/// it does so, or refuses the packet.
fn is_understood_whole(chunk: &Chunk<'_>) -> bool {
    let value = chunk.value;
    match chunk.kind {
        INIT | INIT_ACK => {
            let parameters = value.get(INIT_FIELDS..).unwrap_or_default();
            are_parameters(parameters, usize::MAX)
        }
        SACK => match value.get(..SACK_FIELDS) {
            Some(&[.., a, b, c, d]) => {
                let gaps = usize::from(u16::from_be_bytes([a, b]));
                let duplicates = usize::from(u16::from_be_bytes([c, d]));
                value.len() == SACK_FIELDS + 4 * (gaps + duplicates)
            }
            _ => false,
        },
        HEARTBEAT => are_parameters(value, 1),
        RE_CONFIG => are_parameters(value, RE_CONFIG_PARAMETERS),
        SHUTDOWN => value.len() == 4,
        SHUTDOWN_ACK | COOKIE_ACK | SHUTDOWN_COMPLETE => value.is_empty(),
        ABORT | ERROR => are_causes(value),
        _ => true,
    }
}

/// Whether bytes are `most` parameters (section 3.2.1) at most, which the library reads as long
/// as they are.
fn are_parameters(mut bytes: &[u8], most: usize) -> bool {
    let mut count = 0;
    while let [a, b, high, low, ..] = *bytes {
        let len = usize::from(u16::from_be_bytes([high, low]));
        let is_read_whole = match u16::from_be_bytes([a, b]) {
            FORWARD_TSN_SUPPORTED => len == ITEM_HEADER,
            RE_CONFIG_RESPONSE => len == 12,
            REQUESTED_HMACS => len.is_multiple_of(2),
            _ => true,
        };
        count += 1;
        if count > most || !is_read_whole || !(ITEM_HEADER..=bytes.len()).contains(&len) {
            return false;
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    bytes.is_empty()
}

/// Whether bytes are error causes and nothing else. The library passes over no padding between
/// two of them.
fn are_causes(mut bytes: &[u8]) -> bool {
    while let [_, _, high, low, ..] = *bytes {
        let len = usize::from(u16::from_be_bytes([high, low]));
        if !(ITEM_HEADER..=bytes.len()).contains(&len) {
            return false;
        }
        bytes = bytes.get(len..).unwrap_or_default();
    }
    bytes.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(chunks: &[(u8, &[u8])]) -> Vec<u8> {
        let mut packet = vec![0; COMMON_HEADER];
        for (kind, value) in chunks {
            packet.extend_from_slice(&[*kind, 0]);
            packet.extend_from_slice(&((ITEM_HEADER + value.len()) as u16).to_be_bytes());
            packet.extend_from_slice(value);
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        packet
    }

    #[test]
    fn data_is_found_behind_other_chunks() {
        assert!(has_data(&packet(&[(DATA, &[1])])));
        assert!(has_data(&packet(&[(3, &[1, 2, 3, 4, 5]), (DATA, &[1])])));
        assert!(!has_data(&packet(&[(3, &[0; 12])])));
        assert!(!has_data(&[]));
    }

    #[test]
    fn error_causes_end_within_their_chunk() {
        for kind in [ABORT, ERROR] {
            assert!(is_safe(&packet(&[(kind, &[])])));
            assert!(is_safe(&packet(&[(kind, &[0, 12, 0, 7, 1, 2, 3])])));
            assert!(is_safe(&packet(&[(kind, &[0, 1, 0, 4, 0, 2, 0, 4])])));
            assert!(!is_safe(&packet(&[(kind, &[0, 1, 0, 9, 1, 2, 3, 4])])));
            assert!(!is_safe(&packet(&[(kind, &[0, 1, 0, 3])])));
            assert!(!is_safe(&packet(&[(kind, &[0, 1, 0, 4, 9])])));
            let beyond = [0, 1, 0, 4, 0, 1, 1, 0];
            assert!(!is_safe(&packet(&[(DATA, &[]), (kind, &beyond)])));
        }
    }

    /// An ERROR chunk of which the cause ends beyond it, as the rest of another chunk.
    const HIDDEN: [u8; 8] = [ERROR, 0, 0, 8, 0, 1, 0, 99];

    #[test]
    fn nothing_hides_in_a_chunk() {
        let sack = [0; SACK_FIELDS];
        let init = [1; INIT_FIELDS];
        let heartbeat = [0, 1, 0, 8, 1, 2, 3, 4];
        let reset = [0, 13, 0, 18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 3, 0, 0];
        let supported = [0xc0, 0, 0, 4, 0x80, 8, 0, 6, 130, 192, 0, 0];
        let forward = [0; 8];
        for (kind, value) in [
            (SACK, &sack[..]),
            (HEARTBEAT, &heartbeat),
            (RE_CONFIG, &reset),
            (INIT, &[&init[..], &supported].concat()),
            (192, &forward),
            (SHUTDOWN, &[0; 4]),
            (COOKIE_ACK, &[]),
        ] {
            assert!(
                is_safe(&packet(&[(kind, value), (DATA, &[0; 13])])),
                "{kind}"
            );
            let hiding = [value, &HIDDEN].concat();
            // As a parameter it would have a length that fits.
            let is_parameter = matches!(kind, INIT | RE_CONFIG);
            let is_list = kind == 192;
            assert!(
                is_parameter || is_list || !is_safe(&packet(&[(kind, &hiding)])),
                "{kind}"
            );
        }
        let long_response = [&[0, 16, 0, 20][..], &[0; 8], &HIDDEN].concat();
        assert!(!is_safe(&packet(&[(RE_CONFIG, &long_response)])));
        let long_supported = [&init[..], &[0xc0, 0, 0, 12], &HIDDEN].concat();
        assert!(!is_safe(&packet(&[(INIT, &long_supported)])));
    }
}
