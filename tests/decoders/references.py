"""What a frame is predicted from, as a receiver concludes it from what the server made of the descriptors.

For each codec a class that takes frames in the order in which they become whole, and says for a frame the keys of those
that must be decoded before it; `None` while that cannot be said.
"""

from dataclasses import dataclass

from dependency_descriptor import DescriptorReader
from rtp import nearest


@dataclass
class Info:
    """The descriptor of a packet, as far as a receiver needs it."""

    starts: bool
    ends: bool
    key: bool = False
    picture_id: int = 0
    tl0: int | None = None
    spatial: int = 0
    temporal: int = 0
    sync: bool = False
    lower: bool = False
    back: tuple[int, ...] | None = None
    pattern: tuple[int, ...] | None = None
    number: int = 0
    differences: tuple[int, ...] = ()
    body: bytes = b""


class Vp8:
    """PictureIDs count by one, so a missing one is a missing picture; TL0PICIDX chains the lowest rate together."""

    def __init__(self):
        self.picture_id = self.tl0 = None
        self.whole = set()
        # By TL0PICIDX: the newest picture of each temporal layer.
        self.newest = {}

    def read(self, packet) -> Info:
        data = packet.payload
        assert data[0] & 0x80 and data[1] & 0xE0 == 0xE0, "the descriptor has lost a field"
        starts = data[0] & 0x1F == 0x10
        info = Info(starts, packet.marker, picture_id=(data[2] & 0x7F) << 8 | data[3], tl0=data[4])
        info.temporal, info.sync, info.body = data[5] >> 6, bool(data[5] & 0x20), data[6:]
        info.key = starts and not data[6] & 1
        return info

    def extend(self, info):
        """Once a frame: numbers without their ends."""
        info.picture_id = info.picture_id if self.picture_id is None else nearest(self.picture_id, info.picture_id, 15)
        info.tl0 = info.tl0 if self.tl0 is None else nearest(self.tl0, info.tl0, 8)
        self.picture_id, self.tl0 = max(self.picture_id or 0, info.picture_id), max(self.tl0 or 0, info.tl0)
        assert info.picture_id not in self.whole, "a PictureID is there twice"
        self.whole.add(info.picture_id)

    def key(self, info):
        return info.picture_id

    def references(self, info):
        picture, newest = info.picture_id, self.newest
        if info.key:
            newest[info.tl0] = [picture] * 4
            return []
        if info.temporal == 0:
            if info.tl0 - 1 not in newest:
                return None
            before = newest[info.tl0 - 1]
            newest[info.tl0] = [picture] + before[1:]
            return [before[0]]
        if info.tl0 not in newest:
            return None
        known = newest[info.tl0]
        needed = [known[0]] if info.sync else known[: info.temporal + 1]
        needed = [reference for reference in needed if reference < picture]
        if any(between not in self.whole for since in needed for between in range(since + 1, picture)):
            return None
        later = info.tl0
        while later in newest and newest[later][info.temporal] < picture:
            newest[later][info.temporal] = picture
            later += 1
        return needed


class Vp9:
    """References are counted in pictures: in each frame, or by the pattern that came with the keyframe."""

    def __init__(self):
        self.picture_id = self.tl0 = None
        self.pattern = None
        self.bases = set()

    def read(self, packet) -> Info:
        data = packet.payload
        flags, at = data[0], 1
        assert flags & 0xA0 == 0xA0 and data[1] & 0x80, "the descriptor has lost a field"
        info = Info(bool(flags & 8), bool(flags & 4), picture_id=(data[1] & 0x7F) << 8 | data[2])
        layer, at = data[3], 4
        info.temporal, info.spatial, info.lower = layer >> 5, layer >> 1 & 7, bool(layer & 1)
        info.key = not flags & 0x40
        if not flags & 0x10:
            info.tl0, at = data[at], at + 1
        elif flags & 0x40:
            back = []
            while True:
                back.append(data[at] >> 1)
                at += 1
                if not data[at - 1] & 1:
                    break
            info.back = tuple(back)
        if flags & 2:
            at = self.read_structure(data, at, info)
        info.body = data[at:]
        return info

    def read_structure(self, data, at, info):
        head = data[at]
        at += 1 + (4 * ((head >> 5) + 1) if head & 0x10 else 0)
        if head & 8:
            count, at = data[at], at + 1
            back = []
            for _ in range(count):
                references = data[at] >> 2 & 3
                back.append(data[at + 1])
                at += 1 + references
            info.pattern = tuple(back)
        return at

    def extend(self, info):
        info.picture_id = info.picture_id if self.picture_id is None else nearest(self.picture_id, info.picture_id, 15)
        self.picture_id = max(self.picture_id or 0, info.picture_id)
        if info.tl0 is not None:
            info.tl0 = info.tl0 if self.tl0 is None else nearest(self.tl0, info.tl0, 8)
            self.tl0 = max(self.tl0 or 0, info.tl0)

    def key(self, info):
        return info.picture_id, info.spatial

    def references(self, info):
        picture = info.picture_id
        if info.key and info.spatial == 0:
            self.pattern = info.pattern and (picture, info.pattern)
        back = info.back or ()
        if info.tl0 is not None:
            if not info.key:
                if info.temporal == 0 and info.tl0 - 1 not in self.bases:
                    return None
                if self.pattern is None:
                    return None
                since, pattern = self.pattern
                back = (pattern[(picture - since) % len(pattern)],)
            if info.temporal == 0:
                self.bases.add(info.tl0)
        needed = [(picture - distance, info.spatial) for distance in back]
        return needed + [(picture, info.spatial - 1)] * info.lower


class H264:
    """No descriptor: each frame needs the one before it in the order of sequence numbers."""

    def read(self, packet) -> Info:
        data = packet.payload
        kind = data[0] & 0x1F
        key = kind == 24 and data[3] & 0x1F == 7
        return Info(key, packet.marker, key)

    def extend(self, info):
        pass


class Av1:
    """The dependency descriptor counts references in frames."""

    def __init__(self):
        self.reader = DescriptorReader()
        self.number = None

    def read(self, packet) -> Info:
        descriptor = self.reader.read(packet.extensions[1])
        if descriptor is None:
            return None
        template = descriptor.template
        info = Info(descriptor.starts, descriptor.ends, descriptor.key, number=descriptor.frame_number)
        info.spatial, info.temporal, info.differences = template.spatial, template.temporal, template.differences
        info.body = packet.payload
        return info

    def extend(self, info):
        info.number = info.number if self.number is None else nearest(self.number, info.number, 16)
        self.number = max(self.number or 0, info.number)

    def key(self, info):
        return info.number

    def references(self, info):
        return [info.number - difference for difference in info.differences]


OF_CODEC = {"vp8": Vp8, "vp9": Vp9, "h264": H264, "av1": Av1}
