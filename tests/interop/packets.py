"""RTP and RTCP packets byte by byte (RFC 3550, RFC 8285), and media sources made of them."""

import asyncio
import contextlib
import struct
import time
from dataclasses import dataclass

from session_description import LEVEL, MID, RID


def rtp(payload_type, sequence, timestamp, ssrc, payload, marker=False, extensions=None, two_byte=False, padding=0):
    first = 0x80 | (0x10 if extensions else 0) | (0x20 if padding else 0)
    second = marker << 7 | payload_type
    packet = struct.pack("!BBHII", first, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, ssrc)
    if extensions:
        body = b""
        for number, data in extensions.items():
            body += bytes([number, len(data)] if two_byte else [number << 4 | len(data) - 1]) + data
        body += bytes(-len(body) % 4)
        packet += struct.pack("!HH", 0x1000 if two_byte else 0xBEDE, len(body) // 4) + body
    return packet + payload + (bytes(padding - 1) + bytes([padding]) if padding else b"")


@dataclass
class Packet:
    """An RTP packet that arrived."""

    at: float
    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes

    @classmethod
    def parse(cls, raw):
        first, second, sequence, timestamp, ssrc = struct.unpack("!BBHII", raw[:12])
        start = 12 + 4 * (first & 15)
        if first & 0x10:
            start += 4 + 4 * struct.unpack("!H", raw[start + 2 : start + 4])[0]
        end = len(raw) - (raw[-1] if first & 0x20 else 0)
        return cls(time.monotonic(), second & 0x7F, bool(second >> 7), sequence, timestamp, ssrc, raw[start:end])


@dataclass
class Report:
    """One packet of an RTCP compound."""

    at: float
    kind: int
    format: int
    body: bytes

    @property
    def asks_for_keyframe(self):
        """A PLI or a FIR (RFC 4585, RFC 5104)."""
        return self.kind == 206 and self.format in (1, 4)

    @property
    def media_ssrc(self):
        return struct.unpack("!I", self.body[4:8])[0]


def reports(compound):
    found = []
    while len(compound) >= 4:
        first, kind, words = struct.unpack("!BBH", compound[:4])
        size = 4 * (words + 1)
        found.append(Report(time.monotonic(), kind, first & 31, compound[4:size]))
        compound = compound[size:]
    return found


def vp8(keyframe, picture, data=b"x" * 200):
    """A whole VP8 picture with a 15-bit picture id (RFC 7741)."""
    return bytes([0x90, 0x80, 0x80 | picture >> 8 & 0x7F, picture & 255]) + (b"\x10" if keyframe else b"\x11") + data


def number_of(packet):
    """The number that `opus` or `picture` wrote into a payload."""
    return struct.unpack("!I", packet.payload[-4:])[0]


def opus(number):
    return b"\x78" + b"o" * 40 + struct.pack("!I", number)


def picture(keyframe, number, size=200):
    return vp8(keyframe, number & 0x7FFF, b"x" * size + struct.pack("!I", number))


class Source:
    """Media of one SSRC. Every payload carries its number, so that a test sees which packets arrived."""

    def __init__(self, client, payload_type, clock, ssrc, mid, rid=None):
        self.client, self.payload_type, self.clock, self.ssrc = client, payload_type, clock, ssrc
        self.extensions = {MID: mid.encode()} if mid is not None else {}
        if rid:
            self.extensions[RID] = rid.encode()
        self.number = 0
        self.sequence = 100
        self.timestamp = 5_000
        self.task = None

    async def send(self, payload, extensions=(), marker=True):
        """Sends one packet; gives the number that follows."""
        every = {**self.extensions, **dict(extensions)}
        packet = rtp(self.payload_type, self.sequence, self.timestamp, self.ssrc, payload, marker, every)
        await self.client.publisher.send(packet)
        self.sequence += 1
        self.number += 1

    def play(self, interval, step):
        """Runs `step` every `interval` seconds, as a microphone or a camera does."""

        async def run():
            with contextlib.suppress(ConnectionError):
                while True:
                    await step()
                    self.timestamp += int(self.clock * interval)
                    await asyncio.sleep(interval)

        self.stop()
        self.task = asyncio.create_task(run())
        return self

    def stop(self):
        if self.task:
            self.task.cancel()


class Microphone(Source):
    """Opus of one loudness, in -dBov (RFC 6464): 127 is silence."""

    def __init__(self, client, ssrc, mid, level=20, payload_type=111):
        super().__init__(client, payload_type, 48_000, ssrc, mid)
        self.level = level
        self.play(0.02, self.frame)

    async def frame(self):
        voice = 0x80 if self.level < 100 else 0
        await self.send(opus(self.number), {LEVEL: bytes([self.level | voice])}, marker=False)


class Camera(Source):
    """VP8: a keyframe first, then one whenever a PLI or FIR names its SSRC."""

    def __init__(self, client, ssrc, mid, rid=None, rate=15, size=200, payload_type=96):
        super().__init__(client, payload_type, 90_000, ssrc, mid, rid)
        self.size = size
        self.keyframes = 0
        self.answered = 0
        if rate:
            self.play(1 / rate, self.frame)

    @property
    def requests(self):
        """How many keyframes were asked for."""
        return sum(r.asks_for_keyframe and r.media_ssrc == self.ssrc for r in self.client.publisher.reports)

    async def frame(self):
        requests = self.requests
        keyframe = self.number == 0 or requests > self.answered
        self.answered = requests
        self.keyframes += keyframe
        await self.send(picture(keyframe, self.number, self.size))
