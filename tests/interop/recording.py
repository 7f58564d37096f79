"""Cameras that show a recording: a real encoder's pictures, at no cost while a test looks at who receives them."""

import itertools
import os
import subprocess
from fractions import Fraction

import av
import numpy as np

from camera import clip

RATE, PICTURES = 15, 60
# By RID, lowest first: size, and bits a second that the encoder aims at.
LAYERS = {"q": ((320, 180), 80_000), "h": ((640, 360), 450_000), "f": ((1280, 720), 1_600_000)}
BOTTOM, MIDDLE, TOP = (size[0] for size, _ in LAYERS.values())


def record(directory):
    """Writes a recording as `moim-load --clip` reads it."""
    film = [
        av.VideoFrame.from_ndarray(np.frombuffer(picture.data, np.uint8).reshape(-1, TOP), "yuv420p")
        for picture in itertools.islice(itertools.cycle(clip(*LAYERS["f"][0])), PICTURES)
    ]
    for rid, ((width, height), bitrate) in LAYERS.items():
        with av.open(directory / f"{rid}.ivf", "w", format="ivf") as file:
            stream = file.add_stream("libvpx", RATE, bit_rate=bitrate, width=width, height=height)
            # As browsers configure it: a constant rate, no keyframe that is far larger than other pictures, nor one
            # that nobody asks for, but where the recording begins again.
            stream.gop_size = PICTURES
            stream.options = {
                "deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "max-intra-rate": "300",
                "minrate": str(bitrate), "maxrate": str(bitrate), "bufsize": str(bitrate),
            }
            for number, picture in enumerate(film):
                frame = picture.reformat(width, height)
                frame.pts, frame.time_base = number, Fraction(1, RATE)
                file.mux(stream.encode(frame))
            file.mux(stream.encode())


class Cameras:
    """Publishers of a recording in a room of their own."""

    def __init__(self, server, room, recording, count):
        self.room = f"{room}-0"
        self.names = [f"load-{index}" for index in range(count)]
        self.process = subprocess.Popen(
            [
                os.environ["MOIM_LOAD_BIN"], "webinar", "--participants", str(count), "--publishers", str(count),
                "--url", server.url, "--room", room, "--clip", str(recording), "--dynacast",
                "--no-audio", "--visible", "0", "--duration", "600",
            ],
            stdout=subprocess.DEVNULL,
        )

    def close(self):
        self.process.terminate()
        self.process.wait(10)
