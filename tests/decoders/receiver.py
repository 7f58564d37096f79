"""A subscriber as a browser is one: it asks for what is missing, puts frames together, and gives the decoder those of
which it has the references."""

from dataclasses import dataclass

import references
from layers import Decoder, Encoding, digest
from packetizers import leb128, read_leb128
from rtp import MEDIA, REPAIR, Packet, nack, nearest, picture_loss

SSRC = 70_000
# Seconds between two requests for the same packet, and after which it is given up.
ASK_AGAIN, GIVE_UP = 0.1, 0.6
# Without a picture for this many seconds while packets arrive, a PLI is sent.
PATIENCE = 1.0
# Pictures that the start of another size may go back: what was lost of it on its way to the server comes again.
LATE_START = 6


@dataclass
class Whole:
    """A frame of which all packets are there."""

    first: int
    last: int
    timestamp: int
    info: references.Info
    data: bytes
    ends_picture: bool
    references: list | None = None


class Receiver:
    def __init__(self, encoding: Encoding, truth):
        self.codec, self.truth = encoding.codec, truth
        self.reader = references.OF_CODEC[self.codec]()
        self.decoder = Decoder(self.codec)
        self.highest = self.timestamp = self.first = None
        self.packets, self.infos = {}, {}
        # Sequence number: when it was missed, and when it was asked for.
        self.missing = {}
        self.given_up = set()
        self.framed = set()
        self.frames = []
        self.decoded = set()
        self.last_picture = None
        self.last_decoded = self.last_packet = 0.0
        # What was shown: number of the picture, size.
        self.shown = []
        self.asked_keyframes = 0

    def receive(self, now: float, data: bytes):
        packet = Packet.read(data)
        number = packet.sequence
        if packet.ssrc == SSRC + 1:
            assert packet.payload_type == REPAIR[self.codec]
            number, packet.payload = int.from_bytes(packet.payload[:2], "big"), packet.payload[2:]
        else:
            assert packet.ssrc == SSRC and packet.payload_type == MEDIA[self.codec]
        if not packet.payload or (packet.ssrc != SSRC and self.highest is None):
            return
        sequence = number if self.highest is None else nearest(self.highest, number, 16)
        if self.highest is None:
            self.highest = self.first = sequence
            self.timestamp = packet.timestamp
        for jumped in range(self.highest + 1, sequence):
            self.missing[jumped] = [now, 0.0]
        self.highest = max(self.highest, sequence)
        if sequence in self.packets or sequence < self.first:
            before = self.packets.get(sequence, packet)
            assert before.payload == packet.payload, f"number {sequence} is of two packets"
            return
        self.missing.pop(sequence, None)
        if now - self.last_packet > PATIENCE / 2:
            # Nothing was sent meanwhile, so nothing could be decoded.
            self.last_decoded = now
        self.last_packet = now
        packet.sequence, packet.timestamp = sequence, nearest(self.timestamp, packet.timestamp, 32)
        self.timestamp = max(self.timestamp, packet.timestamp)
        self.packets[sequence] = packet
        self.info(sequence)
        self.frame_around(sequence)
        self.decode(now)

    def info(self, sequence):
        if self.infos.get(sequence) is None and sequence in self.packets:
            self.infos[sequence] = self.reader.read(self.packets[sequence])
        return self.infos.get(sequence)

    def starts(self, sequence) -> bool:
        """Whether a frame starts here. That of H.264 only the packet before it tells."""
        if self.codec == "h264" and not self.infos[sequence].starts:
            before = self.packets.get(sequence - 1)
            return before is not None and before.timestamp != self.packets[sequence].timestamp
        return self.infos[sequence].starts

    def frame_around(self, sequence):
        """Puts frames together that this packet may have completed."""
        first = sequence
        while (info := self.info(first)) and not self.starts(first):
            first -= 1
        if info is None:
            return
        last = first
        while (info := self.info(last)) and not info.ends:
            last += 1
            if last in self.packets and self.packets[last].timestamp != self.packets[first].timestamp:
                # The rest of it never came: another stream follows.
                return
        if info is None or first in self.framed:
            return
        self.framed.add(first)
        packets = [self.packets[number] for number in range(first, last + 1)]
        assert len({packet.timestamp for packet in packets}) == 1, "a frame has two timestamps"
        info = self.infos[first]
        self.reader.extend(info)
        infos = [self.infos[number] for number in range(first, last + 1)]
        frame = Whole(first, last, packets[0].timestamp, info, self.assemble(packets, infos), packets[-1].marker)
        self.frames.append(frame)
        if self.codec == "h264":
            # The one after it may have waited for its start.
            if last + 1 in self.packets:
                self.frame_around(last + 1)

    def assemble(self, packets, infos) -> bytes:
        if self.codec == "h264":
            return join_h264([packet.payload for packet in packets])
        if self.codec == "av1":
            return join_av1([packet.payload for packet in packets])
        return b"".join(info.body for info in infos)

    def key(self, frame):
        return frame.last if self.codec == "h264" else self.reader.key(frame.info)

    def find_references(self, frame):
        if frame.references is None:
            if self.codec == "h264":
                frame.references = [] if frame.info.key else [frame.first - 1]
            else:
                frame.references = self.reader.references(frame.info)
        return frame.references

    def decode(self, now: float):
        """Gives the decoder every picture that is whole, in order. What is late is waited for until it is given up."""
        while True:
            for frame in self.frames:
                self.find_references(frame)
            pictures = {}
            for frame in sorted(self.frames, key=lambda frame: frame.first):
                pictures.setdefault(frame.timestamp, []).append(frame)
            ready = next((picture for _, picture in sorted(pictures.items()) if self.is_ready(picture)), None)
            if ready is None:
                return
            self.show(now, ready)

    def is_ready(self, picture) -> bool:
        joined = all(one.last + 1 == other.first for one, other in zip(picture, picture[1:]))
        if not joined or not picture[-1].ends_picture:
            return False
        if any(missed < picture[0].first for missed in self.missing):
            return False
        known = self.decoded | {self.key(frame) for frame in picture}
        return all(frame.references is not None and known.issuperset(frame.references) for frame in picture)

    def show(self, now: float, picture):
        assert self.last_picture is None or picture[0].timestamp > self.last_picture, "time runs backwards"
        self.last_picture, self.last_decoded = picture[0].timestamp, now
        self.decoded |= {self.key(frame) for frame in picture}
        self.frames = [frame for frame in self.frames if frame.timestamp > picture[0].timestamp]
        self.look(self.decoder.decode([frame.data for frame in picture]))

    def finish(self):
        self.look(self.decoder.flush())

    def look(self, pictures):
        for picture in pictures:
            found = self.truth.pictures.get(digest(picture))
            where = f"shown number {len(self.shown)}, after {self.shown[-3:]}"
            assert found, f"{self.codec}: a picture with artefacts, {where}"
            if self.shown:
                number, size = self.shown[-1]
                # The start of another size may have been late on its way to the server.
                least = number + 1 if found[1] == size else number - LATE_START
                assert found[0] >= least, f"{found} is out of order, {where}"
            self.shown.append(found)

    def ask(self, now: float) -> list[bytes]:
        """RTCP for the server: what is missing, or that nothing can be decoded any more."""
        out = []
        due = []
        for sequence, times in list(self.missing.items()):
            if now - times[0] > GIVE_UP:
                del self.missing[sequence]
                self.given_up.add(sequence)
            elif now - times[1] >= ASK_AGAIN:
                times[1] = now
                due.append(sequence)
        if due:
            out.append(nack(SSRC, due[:200]))
        self.decode(now)
        stuck = now - self.last_decoded > PATIENCE and now - self.last_packet < 0.2
        if stuck and self.highest is not None:
            self.last_decoded = now
            self.asked_keyframes += 1
            out.append(picture_loss(SSRC))
        return out


def join_h264(payloads) -> bytes:
    out = b""
    for payload in payloads:
        kind = payload[0] & 0x1F
        if kind == 24:
            at = 1
            while at < len(payload):
                size = int.from_bytes(payload[at : at + 2], "big")
                out += b"\0\0\0\1" + payload[at + 2 : at + 2 + size]
                at += 2 + size
        elif kind == 28:
            if payload[1] & 0x80:
                out += b"\0\0\0\1" + bytes([payload[0] & 0xE0 | payload[1] & 0x1F])
            out += payload[2:]
        else:
            out += b"\0\0\0\1" + payload
    return out


def join_av1(payloads) -> bytes:
    """OBUs with size fields again, out of elements of which the first and the last may be parts."""
    elements = []
    for payload in payloads:
        head, at = payload[0], 1
        assert head & 0x30 == 0, "elements have lengths here"
        continues = bool(head & 0x80)
        while at < len(payload):
            size, at = read_leb128(payload, at)
            if continues:
                elements[-1] += payload[at : at + size]
            else:
                elements.append(payload[at : at + size])
            continues, at = False, at + size
    out = b""
    for element in elements:
        extension = element[0] >> 2 & 1
        body = element[1 + extension :]
        out += bytes([element[0] | 2]) + element[1 : 1 + extension] + leb128(len(body)) + body
    return out
