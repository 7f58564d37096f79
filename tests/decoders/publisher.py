"""A publisher as a browser is one: encoders that make a keyframe when asked, and packets that are sent again."""

import dependency_descriptor
import packetizers
from layers import Decoder, Encoding, H264Encoder, LayerEncoder, digest, psnr, scene
from rtp import MEDIA, REPAIR, Packet, read_feedback, sender_report

MID, RID, REPAIRED_RID, DESCRIPTOR = 1, 2, 3, 4
RIDS = ["q", "h", "f"]
# Of the largest picture. All its parts by eight are even.
WIDTH, HEIGHT = 256, 192


def size_of(layer: int, layers: int) -> tuple[int, int]:
    return WIDTH >> layers - 1 - layer, HEIGHT >> layers - 1 - layer


class Truth:
    """What a perfect decoder shows of every picture in every size, by its digest."""

    def __init__(self):
        self.pictures = {}
        self.quality = []

    def note(self, picture, number: int, size: int):
        found = digest(picture)
        assert self.pictures.setdefault(found, (number, size)) == (number, size), "two pictures look the same"


class Stream:
    """One SSRC, with its encoder and the decoders that tell the truth about it."""

    def __init__(self, library, encoding: Encoding, index: int, rng, ssrc: int):
        self.encoding, self.index, self.ssrc = encoding, index, ssrc
        width, height = size_of(index, encoding.streams)
        self.size = width, height
        self.sizes = [(width >> up, height >> up) for up in reversed(range(encoding.spatial))]
        if encoding.codec == "h264":
            self.encoder = H264Encoder(width, height)
        else:
            self.encoder = LayerEncoder(library, encoding, width, height)
        self.decoders = [Decoder(encoding.codec) for _ in range(encoding.spatial)]
        self.undelivered = [[] for _ in range(encoding.spatial)]
        # Near the ends of their ranges, so that they come around.
        self.sequence = 65_536 * 4 - rng.randrange(1, 2_000)
        self.rtx_sequence = rng.randrange(1 << 15)
        self.timestamp = (1 << 32) - rng.randrange(90_000 * 10)
        self.picture_id = (1 << 15) - rng.randrange(1, 400)
        self.tl0 = rng.randrange(256)
        self.frame_number = 65_536 - rng.randrange(1, 400)
        self.structure = dependency_descriptor.structure_of(encoding, self.sizes)
        self.wants_key = True
        self.history = {}

    def produce(self, number: int, mute: bool, truth: Truth) -> list[Packet]:
        """The packets of picture `number`."""
        self.timestamp += 3_000
        if mute:
            return []
        picture = scene(number, *self.size)
        frames = self.encoder.encode(picture, self.wants_key)
        self.wants_key = False
        self.note(frames, number, picture, truth)
        if frames[0].temporal == 0:
            self.tl0 = (self.tl0 + 1) % 256
        packets = []
        for frame in frames:
            packets += self.packets(frame)
            self.frame_number += 1
        packets[-1].marker = True
        self.picture_id = (self.picture_id + 1) % (1 << 15)
        return packets

    def note(self, frames, number, picture, truth):
        """Decodes the picture in each size, as who loses nothing."""
        for size, decoder in enumerate(self.decoders):
            needed = [frame for frame in frames if self.needs(frame, size)]
            self.undelivered[size].append(number)
            for shown in decoder.decode([frame.data for frame in needed]):
                of = self.undelivered[size].pop(0)
                truth.note(shown, of, self.index + size)
                if of == number and size + 1 == len(self.decoders):
                    truth.quality.append(psnr(shown, picture))

    def needs(self, frame, size: int) -> bool:
        return frame.spatial == size or (frame.spatial < size and (frame.key or not self.encoding.key_only))

    def packets(self, frame) -> list[Packet]:
        codec = self.encoding.codec
        if codec == "vp8":
            payloads = packetizers.vp8(frame, self.picture_id, self.tl0)
        elif codec == "vp9":
            payloads = packetizers.vp9(self.encoding, frame, self.picture_id, self.tl0, self.sizes)
        elif codec == "h264":
            payloads = packetizers.h264(frame)
        else:
            payloads = packetizers.av1(frame)
        packets = []
        for index, payload in enumerate(payloads):
            extensions = {MID: b"v"}
            if self.encoding.streams > 1:
                extensions[RID] = RIDS[self.index].encode()
            if codec == "av1":
                first, last = index == 0, index + 1 == len(payloads)
                template = dependency_descriptor.template_of(self.encoding, frame.spatial, frame.place, frame.key)
                announces = first and frame.key and frame.spatial == 0
                extensions[DESCRIPTOR] = dependency_descriptor.write(
                    first, last, self.structure, template, self.frame_number, announces
                )
            packet = Packet(MEDIA[codec], False, self.sequence, self.timestamp, self.ssrc, extensions, payload)
            self.history[self.sequence & 0xFFFF] = packet
            self.sequence += 1
            packets.append(packet)
        return packets

    def again(self, sequence: int) -> Packet | None:
        packet = self.history.get(sequence)
        if packet is None:
            return None
        extensions = dict(packet.extensions)
        rid = extensions.pop(RID, None)
        if rid:
            extensions[REPAIRED_RID] = rid
        self.rtx_sequence += 1
        payload = (packet.sequence & 0xFFFF).to_bytes(2, "big") + packet.payload
        kind, ssrc = REPAIR[self.encoding.codec], self.ssrc + 100
        return Packet(kind, packet.marker, self.rtx_sequence, packet.timestamp, ssrc, extensions, payload)


class Publisher:
    def __init__(self, library, encoding: Encoding, rng):
        self.library, self.encoding, self.rng = library, encoding, rng
        self.truth = Truth()
        self.muted = False
        self.number = 0
        self.generation = 0
        self.streams = []
        self.restart()

    def restart(self):
        """New encoders and new SSRCs: the browser's tab was closed and opened, as far as media can tell."""
        self.close()
        self.generation += 1
        first = 1_000 * self.generation
        self.streams = [
            Stream(self.library, self.encoding, index, self.rng, first + index) for index in range(self.encoding.streams)
        ]

    def close(self):
        for stream in self.streams:
            stream.encoder.close()

    def produce(self) -> list[bytes]:
        """The packets of the next picture."""
        self.number += 1
        packets = [packet for stream in self.streams for packet in stream.produce(self.number, self.muted, self.truth)]
        return [packet.write() for packet in packets]

    def reports(self, seconds: float) -> list[bytes]:
        return [sender_report(stream.ssrc, seconds, stream.timestamp) for stream in self.streams]

    def feedback(self, compound: bytes) -> list[bytes]:
        """Notes keyframe requests; gives the packets that are requested by NACK."""
        repeated = []
        for what, ssrc, missing in read_feedback(compound):
            for stream in self.streams:
                if stream.ssrc != ssrc:
                    continue
                if what == "keyframe":
                    stream.wants_key = True
                repeated += [stream.again(sequence) for sequence in missing]
        return [packet.write() for packet in repeated if packet]
