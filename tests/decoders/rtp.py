"""RTP and RTCP as clients write and read them (RFC 3550, 4585, 4588, 8285)."""

import struct
from dataclasses import dataclass

MEDIA = {"vp8": 96, "vp9": 98, "h264": 108, "av1": 35}
REPAIR = {"vp8": 97, "vp9": 99, "h264": 109, "av1": 36}


def nearest(highest: int, value: int, bits: int) -> int:
    """The number nearest to `highest` that ends in `value`."""
    span = 1 << bits
    return highest + (value - highest + span // 2) % span - span // 2


@dataclass
class Packet:
    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    extensions: dict[int, bytes]
    payload: bytes

    def write(self) -> bytes:
        # The two-byte form, when something is too long for the other one.
        long = any(len(data) > 16 for data in self.extensions.values())
        block = b""
        for number, data in self.extensions.items():
            block += bytes([number, len(data)] if long else [number << 4 | len(data) - 1]) + data
        block += bytes(-len(block) % 4)
        head = struct.pack(
            ">BBHIIHH",
            0x90,
            self.marker << 7 | self.payload_type,
            self.sequence & 0xFFFF,
            self.timestamp & 0xFFFFFFFF,
            self.ssrc,
            0x1000 if long else 0xBEDE,
            len(block) // 4,
        )
        return head + block + self.payload

    @staticmethod
    def read(data: bytes) -> "Packet":
        first, second, sequence, timestamp, ssrc = struct.unpack_from(">BBHII", data)
        assert first >> 6 == 2 and first & 0x0F == 0
        at, extensions = 12, {}
        if first & 0x10:
            profile, words = struct.unpack_from(">HH", data, at)
            block = data[at + 4 : at + 4 + 4 * words]
            at += 4 + 4 * words
            extensions = read_extensions(block, profile == 0x1000)
        payload = data[at:]
        if first & 0x20:
            payload = payload[: -payload[-1]]
        return Packet(second & 0x7F, bool(second & 0x80), sequence, timestamp, ssrc, extensions, payload)


def read_extensions(block: bytes, long: bool) -> dict[int, bytes]:
    found, at = {}, 0
    while at < len(block):
        if block[at] == 0:
            at += 1
            continue
        if long:
            number, size, at = block[at], block[at + 1], at + 2
        else:
            number, size, at = block[at] >> 4, (block[at] & 0x0F) + 1, at + 1
        found[number] = block[at : at + size]
        at += size
    return found


def is_rtcp(data: bytes) -> bool:
    return 192 <= data[1] <= 223


def picture_loss(media: int) -> bytes:
    return struct.pack(">BBHII", 0x81, 206, 2, 1, media)


def nack(media: int, sequences: list[int]) -> bytes:
    items = b"".join(struct.pack(">HH", sequence & 0xFFFF, 0) for sequence in sequences)
    return struct.pack(">BBHII", 0x81, 205, 2 + len(sequences), 1, media) + items


def sender_report(ssrc: int, seconds: float, timestamp: int) -> bytes:
    whole = int(seconds)
    fraction = int((seconds - whole) * (1 << 32))
    return struct.pack(">BBHIIIIII", 0x80, 200, 6, ssrc, 3_900_000_000 + whole, fraction, timestamp & 0xFFFFFFFF, 0, 0)


def read_feedback(compound: bytes):
    """The requests in a compound packet: `("keyframe", ssrc, [])` and `("nack", ssrc, sequences)`."""
    at = 0
    while at + 4 <= len(compound):
        first, kind, words = struct.unpack_from(">BBH", compound, at)
        body = compound[at + 4 : at + 4 + 4 * words]
        at += 4 + 4 * words
        if kind == 206 and first & 0x1F == 1:
            yield "keyframe", struct.unpack_from(">I", body, 4)[0], []
        elif kind == 206 and first & 0x1F == 4:
            yield "keyframe", struct.unpack_from(">I", body, 8)[0], []
        elif kind == 205 and first & 0x1F == 1:
            missing = []
            for base, following in struct.iter_unpack(">HH", body[8:]):
                missing.append(base)
                missing += [(base + 1 + bit) & 0xFFFF for bit in range(16) if following >> bit & 1]
            yield "nack", struct.unpack_from(">I", body, 4)[0], missing
