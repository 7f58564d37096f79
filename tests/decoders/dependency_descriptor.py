"""The dependency descriptor as an encoder writes it and a receiver reads it (AV1 RTP specification, appendix A).

Written apart from the server's own on purpose: two readings of the specification check each other.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Template:
    spatial: int
    temporal: int
    # What the frame is to each decode target: "-", "D", "S" or "R".
    indications: str
    # How many frames back those are that it is predicted from, and the former one of each chain.
    differences: tuple[int, ...]
    chains: tuple[int, ...]


@dataclass
class Descriptor:
    starts: bool
    ends: bool
    frame_number: int
    template: Template
    key: bool
    # Which decode targets are sent, where the packet says so: the lowest bit is the first target.
    active: int | None = None


@dataclass
class Structure:
    offset: int
    templates: list[Template]
    targets: int
    chains: int
    # Pixels of each spatial layer.
    sizes: list[tuple[int, int]] = field(default_factory=list)


class Writer:
    def __init__(self):
        self.digits = ""

    def bits(self, value, count):
        if count:
            self.digits += f"{value:0{count}b}"

    def non_symmetric(self, value, values):
        width = values.bit_length()
        short = (1 << width) - values
        if value < short:
            self.bits(value, width - 1)
        else:
            self.bits(value + short, width)

    def bytes(self):
        digits = self.digits + "0" * (-len(self.digits) % 8)
        return int(digits, 2).to_bytes(len(digits) // 8, "big")


class Reader:
    def __init__(self, data):
        self.digits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
        self.at = 0

    def bits(self, count):
        digits = self.digits[self.at : self.at + count]
        assert len(digits) == count, "the descriptor ends too early"
        self.at += count
        return int(digits or "0", 2)

    def non_symmetric(self, values):
        width = values.bit_length()
        short = (1 << width) - values
        value = self.bits(width - 1)
        return value if value < short else (value << 1 | self.bits(1)) - short


LETTERS = "-DSR"


def write(starts, ends, structure, template, frame_number, with_structure) -> bytes:
    out = Writer()
    out.bits(starts, 1)
    out.bits(ends, 1)
    out.bits((structure.templates.index(template) + structure.offset) % 64, 6)
    out.bits(frame_number % 65536, 16)
    if with_structure:
        out.bits(0b10000, 5)
        write_structure(out, structure)
    return out.bytes()


def write_structure(out, structure):
    templates = structure.templates
    out.bits(structure.offset, 6)
    out.bits(structure.targets - 1, 5)
    for this, following in zip(templates, templates[1:]):
        out.bits(2 if following.spatial > this.spatial else int(following.temporal > this.temporal), 2)
    out.bits(3, 2)
    for template in templates:
        for letter in template.indications:
            out.bits(LETTERS.index(letter), 2)
    for template in templates:
        for difference in template.differences:
            out.bits(0b10000 | difference - 1, 5)
        out.bits(0, 1)
    out.non_symmetric(structure.chains, structure.targets + 1)
    if structure.chains:
        for target in range(structure.targets):
            out.non_symmetric(target * structure.chains // structure.targets, structure.chains)
        for template in templates:
            for distance in template.chains:
                out.bits(distance, 4)
    out.bits(1, 1)
    for width, height in structure.sizes:
        out.bits(width - 1, 16)
        out.bits(height - 1, 16)


class DescriptorReader:
    """Reads the descriptors of one stream of packets; the structure comes with a keyframe."""

    def __init__(self):
        self.structure = None

    def read(self, data: bytes) -> Descriptor | None:
        """Nothing before the first structure."""
        bits = Reader(data)
        starts, ends, number, frame_number = bits.bits(1), bits.bits(1), bits.bits(6), bits.bits(16)
        key, active = False, None
        if len(data) > 3:
            with_structure, with_active, *custom = (bits.bits(1) for _ in range(5))
            assert not any(custom), "the encoder of this test keeps to its templates"
            if with_structure:
                self.structure, key = read_structure(bits), True
                active = (1 << self.structure.targets) - 1
            if with_active:
                active = bits.bits(self.structure.targets)
        if self.structure is None:
            return None
        template = self.structure.templates[(number - self.structure.offset) % 64]
        return Descriptor(bool(starts), bool(ends), frame_number, template, key, active)


def read_structure(bits) -> Structure:
    offset, targets = bits.bits(6), bits.bits(5) + 1
    layers, spatial, temporal = [], 0, 0
    while True:
        layers.append((spatial, temporal))
        step = bits.bits(2)
        if step == 3:
            break
        spatial, temporal = (spatial + 1, 0) if step == 2 else (spatial, temporal + step)
    indications = ["".join(LETTERS[bits.bits(2)] for _ in range(targets)) for _ in layers]
    differences = []
    for _ in layers:
        found = []
        while bits.bits(1):
            found.append(bits.bits(4) + 1)
        differences.append(tuple(found))
    chains = bits.non_symmetric(targets + 1)
    distances = [()] * len(layers)
    if chains:
        for _ in range(targets):
            bits.non_symmetric(chains)
        distances = [tuple(bits.bits(4) for _ in range(chains)) for _ in layers]
    sizes = []
    if bits.bits(1):
        sizes = [(bits.bits(16) + 1, bits.bits(16) + 1) for _ in range(spatial + 1)]
    templates = [Template(*layer, *rest) for layer, *rest in zip(layers, indications, differences, distances)]
    return Structure(offset, templates, targets, chains, sizes)


def structure_of(encoding, sizes) -> Structure:
    """The templates of all frames that an encoding has, each once, in the order that the format demands."""
    pattern, layers = encoding.pattern, encoding.spatial
    templates = []
    for spatial in range(layers):
        found = {template_of(encoding, spatial, place, key) for place in range(len(pattern)) for key in (False, True) if place == 0 or not key}
        templates += sorted(found, key=lambda template: (template.temporal, template.differences))
    return Structure(5, templates, layers * encoding.temporal, layers, sizes)


def template_of(encoding, spatial, place, key) -> Template:
    pattern, layers = encoding.pattern, encoding.spatial
    temporal, independent = pattern[place], encoding.key_only and not key
    differences = []
    if not key:
        back = {0: len(pattern), 3: 1}.get(place, place)
        differences.append(back * layers)
    if spatial > 0 and not independent:
        differences.append(1)
    indications = ""
    for target_spatial in range(layers):
        for target_temporal in range(encoding.temporal):
            if temporal > target_temporal or spatial > target_spatial:
                indications += "-"
            elif spatial < target_spatial:
                indications += "-" if independent else "S" if key else "R"
            else:
                indications += "D" if 0 < temporal == target_temporal else "S"
    # Each chain has the frames of the lowest rate of one size, and those below that they need.
    chains = []
    for chain in range(layers):
        former = (place or len(pattern)) * layers + spatial - chain
        if key:
            former = 1 if 0 < spatial <= chain else spatial - chain if spatial > chain else 0
        elif 0 < spatial and temporal == 0 and not independent:
            former = 1 if spatial <= chain else spatial - chain
        elif 0 < spatial and temporal == 0 and independent and spatial > chain:
            former = spatial - chain
        chains.append(former)
    return Template(spatial, temporal, indications, tuple(differences), tuple(chains))
