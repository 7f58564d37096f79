"""Real encoders with layers (libvpx, libaom, x264) and real decoders (FFmpeg's own, dav1d)."""

import ctypes
import hashlib
import subprocess
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy

# An error that a decoder covers up is an error.
av.logging.set_level(av.logging.ERROR)

VP8, VP9, AV1 = range(3)
DECODERS = {"vp8": "vp8", "vp9": "vp9", "av1": "libdav1d", "h264": "h264"}


@dataclass(frozen=True)
class Encoding:
    """What a publisher sends: how many streams, and the layers within each."""

    name: str
    codec: str
    streams: int = 1
    spatial: int = 1
    temporal: int = 1
    # Larger layers are predicted from smaller ones in keyframes only.
    key_only: bool = False
    # VP9: references are written into every packet instead of being told by a pattern.
    flexible: bool = False

    @property
    def pattern(self):
        return {1: [0], 2: [0, 1], 3: [0, 2, 1, 2]}[self.temporal]


@dataclass
class Frame:
    """One layer of one picture."""

    spatial: int
    temporal: int
    # Pictures since the keyframe, modulo the pattern; 0 of a keyframe.
    place: int
    key: bool
    data: bytes
    # The pictures before, counted back, and whether the layer below of this one: what it is predicted from.
    back: list[int] = field(default_factory=list)
    lower: bool = False


class Plan(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("temporal", "previous", "lower", "replaces")]


def build(directory: Path) -> ctypes.CDLL:
    """Compiles encoder.c."""
    library = directory / "encoder.so"
    source = Path(__file__).with_name("encoder.c")
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-lvpx", "-laom"], check=True)
    loaded = ctypes.CDLL(library)
    loaded.encoder_open.restype = ctypes.c_void_p
    loaded.encoder_close.argtypes = [ctypes.c_void_p]
    loaded.encoder_encode.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(Plan)]
    loaded.encoder_frame.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(ctypes.c_size_t)]
    loaded.encoder_frame.restype = ctypes.POINTER(ctypes.c_uint8)
    return loaded


def scene(number: int, width: int, height: int) -> numpy.ndarray:
    """I420 of picture `number`: a moving pattern, and a field of squares that is another one every time."""
    y, x = numpy.mgrid[0:height, 0:width] / height
    luma = 128 + 60 * numpy.sin(9 * x + number / 7) + 40 * numpy.sin(11 * y - number / 5)
    squares = numpy.random.default_rng(number).integers(0, 2, (4, 4)) * 160 + 48
    side = height // 8
    luma[side : 5 * side, side : 5 * side] = numpy.kron(squares, numpy.ones((side, side)))
    chroma = numpy.full((height // 2, width), 128 + number % 32)
    return numpy.vstack([luma, chroma]).clip(0, 255).astype(numpy.uint8)


class LayerEncoder:
    """One stream of VP8, VP9 or AV1. The encoder is told every reference, so what a frame needs is known."""

    def __init__(self, library, encoding: Encoding, width: int, height: int):
        self.library, self.encoding = library, encoding
        codec = {"vp8": VP8, "vp9": VP9, "av1": AV1}[encoding.codec]
        self.encoder = library.encoder_open(codec, width, height, encoding.spatial, encoding.temporal)
        assert self.encoder, f"{encoding.name}: the encoder does not open"
        self.since_key = 0

    def close(self):
        self.library.encoder_close(self.encoder)

    def encode(self, picture: numpy.ndarray, key: bool) -> list[Frame]:
        if key or self.since_key == 0:
            key, self.since_key = True, 0
        pattern = self.encoding.pattern
        place = self.since_key % len(pattern)
        frames = [self.plan(spatial, place, key) for spatial in range(self.encoding.spatial)]
        plans = (Plan * len(frames))(*(plan for _, plan in frames))
        count = self.library.encoder_encode(self.encoder, picture.tobytes(), key, plans)
        assert count == len(frames), f"{self.encoding.name}: {count} frames came out"
        for index, (frame, _) in enumerate(frames):
            size = ctypes.c_size_t()
            data = self.library.encoder_frame(self.encoder, index, size)
            frame.data = ctypes.string_at(data, size.value)
        self.since_key += 1
        return [frame for frame, _ in frames]

    def plan(self, spatial: int, place: int, key: bool) -> tuple[Frame, Plan]:
        """Slot 0.. hold each layer's newest frame of the lowest rate, 3.. that of the middle one, 6.. of the highest."""
        vp8, layers = self.encoding.codec == "vp8", self.encoding.spatial
        base, middle, top = (0, 1, -1) if vp8 else (spatial, 3 + spatial, 6 + spatial)
        temporal = self.encoding.pattern[place]
        lower = spatial > 0 and (key or not self.encoding.key_only)
        # A frame of the highest rate is kept only for the layer above it.
        slots = [base, middle, top if layers > 1 and spatial + 1 < layers and not self.encoding.key_only else -1]
        back = []
        if not key:
            back = [{0: len(self.encoding.pattern), 3: 1}.get(place, place)]
        previous = {0: base, 3: middle}.get(place, base)
        below = -1
        if lower:
            below = [spatial - 1, 2 + spatial, 5 + spatial][temporal]
        plan = Plan(temporal, -1 if key else previous, below, slots[temporal])
        return Frame(spatial, temporal, place, key, b"", back, lower), plan


class H264Encoder:
    """One stream of x264, each frame predicted from the one before."""

    def __init__(self, width: int, height: int):
        self.context = av.CodecContext.create("libx264", "w")
        self.context.width, self.context.height = width, height
        self.context.pix_fmt, self.context.framerate, self.context.time_base = "yuv420p", 30, Fraction(1, 30)
        self.context.thread_count, self.context.gop_size = 1, 100_000
        self.context.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "profile": "baseline",
            "forced-idr": "1",
            "crf": "26",
        }
        self.first, self.count = True, 0

    def close(self):
        self.context = None

    def encode(self, picture: numpy.ndarray, key: bool) -> list[Frame]:
        key = key or self.first
        self.first = False
        frame = av.VideoFrame.from_ndarray(picture, "yuv420p")
        frame.pts = self.count
        self.count += 1
        frame.pict_type = av.video.frame.PictureType.I if key else av.video.frame.PictureType.P
        data = b"".join(bytes(packet) for packet in self.context.encode(frame))
        assert data, "x264 keeps a picture back"
        return [Frame(0, 0, 0, key, data, [] if key else [1])]


class Decoder:
    """A decoder that takes pictures whole, and does not forgive."""

    def __init__(self, codec: str):
        self.codec = codec
        self.context = av.CodecContext.create(DECODERS[codec], "r")
        self.context.thread_count = 1
        self.context.options = {"err_detect": "explode"}

    def decode(self, layers: list[bytes]) -> list[numpy.ndarray]:
        """The pictures shown after the frames of one picture, the smallest layer first."""
        if self.codec == "av1":
            # A temporal delimiter, which RTP leaves out, before all frames of the picture.
            layers = [b"\x12\x00" + b"".join(layers)]
        with av.logging.Capture() as complaints:
            try:
                shown = [self._decode(av.Packet(data)) for data in layers]
            except av.error.FFmpegError as error:
                complaints.append(error)
        assert not complaints, f"the {self.codec} decoder complains: {complaints}"
        # Of several layers the largest is what counts.
        return shown[-1]

    def flush(self) -> list[numpy.ndarray]:
        """What the decoder has kept back."""
        return self._decode(None)

    def _decode(self, packet) -> list[numpy.ndarray]:
        return [frame.to_ndarray() for frame in self.context.decode(packet)]


def digest(picture: numpy.ndarray) -> str:
    return hashlib.blake2b(picture.tobytes() + bytes(str(picture.shape), "ascii"), digest_size=16).hexdigest()


def psnr(one: numpy.ndarray, other: numpy.ndarray) -> float:
    error = numpy.mean((one.astype(float) - other.astype(float)) ** 2)
    return 99.0 if error == 0 else 10 * numpy.log10(255**2 / error)
