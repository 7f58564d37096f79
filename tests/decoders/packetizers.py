"""Frames into RTP payloads: RFC 7741 (VP8), RFC 9628 (VP9), RFC 6184 (H.264), the AV1 RTP specification."""

from layers import Encoding, Frame

# Small, so that frames of small pictures have several packets.
MTU = 350


def pieces(data: bytes, size: int = MTU) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def vp8(frame: Frame, picture_id: int, tl0: int) -> list[bytes]:
    """Picture id of 15 bits, TL0PICIDX, and the layer with the bit that says it needs the lowest one only."""
    sync = frame.temporal > 0 and frame.place != 3
    head = bytes([0xE0, 0x80 | picture_id >> 8, picture_id & 0xFF, tl0, frame.temporal << 6 | sync << 5])
    return [bytes([0x90 if index == 0 else 0x80]) + head + piece for index, piece in enumerate(pieces(frame.data))]


def vp9(encoding: Encoding, frame: Frame, picture_id: int, tl0: int, sizes) -> list[bytes]:
    not_for_upper = frame.spatial + 1 == encoding.spatial or (encoding.key_only and not frame.key)
    flags = 0xA0 | (not frame.key) << 6 | encoding.flexible << 4 | not_for_upper
    head = bytes([0x80 | picture_id >> 8, picture_id & 0xFF])
    # Higher rates never look back past a frame of a lower one, so each is a point to switch up.
    head += bytes([frame.temporal << 5 | 0x10 | frame.spatial << 1 | frame.lower])
    if not encoding.flexible:
        head += bytes([tl0])
    elif not frame.key:
        head += bytes([back << 1 | (index + 1 < len(frame.back)) for index, back in enumerate(frame.back)])
    structure = frame.key and frame.spatial == 0
    packets, parts = [], pieces(frame.data)
    for index, piece in enumerate(parts):
        first, last = index == 0, index + 1 == len(parts)
        announces = structure and first
        payload = bytes([flags | first << 3 | last << 2 | announces << 1]) + head
        packets.append(payload + (vp9_structure(encoding, sizes) if announces else b"") + piece)
    return packets


def vp9_structure(encoding: Encoding, sizes) -> bytes:
    """Sizes of the spatial layers, and where frames do not say it themselves, the pattern of the temporal ones."""
    out = bytes([encoding.spatial - 1 << 5 | 0x10 | (not encoding.flexible) << 3])
    out += b"".join(width.to_bytes(2, "big") + height.to_bytes(2, "big") for width, height in sizes)
    if not encoding.flexible:
        pattern = encoding.pattern
        out += bytes([len(pattern)])
        for place, temporal in enumerate(pattern):
            out += bytes([temporal << 5 | 0x10 | 1 << 2, {0: len(pattern), 3: 1}.get(place, place)])
    return out


def h264(frame: Frame) -> list[bytes]:
    """Parameter sets in a STAP-A, large slices as FU-As."""
    units = [unit.rstrip(b"\0") for unit in frame.data.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
    heads = [unit for unit in units if unit[0] & 0x1F in (7, 8)]
    packets = []
    if heads:
        packets.append(b"\x78" + b"".join(len(unit).to_bytes(2, "big") + unit for unit in heads))
    for unit in units:
        if unit in heads:
            continue
        if len(unit) <= MTU:
            packets.append(unit)
            continue
        indicator, kind, parts = unit[0] & 0xE0 | 28, unit[0] & 0x1F, pieces(unit[1:])
        for index, part in enumerate(parts):
            ends = (index == 0) << 7 | (index + 1 == len(parts)) << 6
            packets.append(bytes([indicator, ends | kind]) + part)
    return packets


def leb128(value: int) -> bytes:
    out = []
    while True:
        out.append(value & 0x7F | (value > 0x7F) << 7)
        value >>= 7
        if value == 0:
            return bytes(out)


def read_leb128(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not data[at - 1] & 0x80:
            return value, at


def obus(data: bytes):
    """The OBUs of a frame without their size fields; temporal delimiters do not travel."""
    at = 0
    while at < len(data):
        header, extension = data[at], data[at] >> 2 & 1
        assert header & 2, "the encoder writes sizes"
        size, start = read_leb128(data, at + 1 + extension)
        if header >> 3 & 0x0F != 2:
            yield bytes([header & ~2]) + data[at + 1 : at + 1 + extension] + data[start : start + size]
        at = start + size


def av1(frame: Frame) -> list[bytes]:
    """Every OBU element with its length in front of it (W is 0)."""
    packets, body, continued = [], b"", False

    def done(continues):
        nonlocal body, continued
        new_sequence = frame.key and frame.spatial == 0 and not packets
        packets.append(bytes([continued << 7 | continues << 6 | new_sequence << 3]) + body)
        body, continued = b"", continues

    for obu in obus(frame.data):
        while obu:
            room = MTU - len(body) - 2
            if room < 16:
                done(False)
                continue
            part, obu = obu[:room], obu[room:]
            body += leb128(len(part)) + part
            if obu:
                done(True)
    done(False)
    return packets
