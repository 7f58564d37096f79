"""What a client shows of a received video track: every decoded frame, when it came and how wide it is."""

import asyncio
import time
from dataclasses import dataclass

from livekit import rtc

from client import PATIENCE

LOW, MEDIUM, HIGH = (
    getattr(rtc.VideoQuality, f"VIDEO_QUALITY_{quality}") for quality in ("LOW", "MEDIUM", "HIGH")
)


@dataclass
class Frame:
    at: float
    width: int


class Screen:
    """Shows one track; it is shown large until something else is asked for."""

    def __init__(self, person, track, publication, owner):
        self.publication = publication
        self.owner, self.viewer = owner.identity, person.room.local_participant.identity
        self.track = track
        self.frames = []
        self.shown = asyncio.Condition()
        person.tasks.append(asyncio.create_task(self._show()))

    async def _show(self):
        async for event in rtc.VideoStream(self.track):
            async with self.shown:
                self.frames.append(Frame(time.monotonic(), event.frame.width))
                self.shown.notify_all()

    def ask(self, quality):
        """What an app asks for when it shows the track larger or smaller."""
        self.publication.set_video_quality(quality)

    async def shows(self, width, patience=PATIENCE):
        """Waits for a frame of this width among those to come; seconds until it came."""
        begin = time.monotonic()
        already = len(self.frames)

        def came():
            return any(frame.width == width for frame in self.frames[already:])

        async with self.shown:
            try:
                await asyncio.wait_for(self.shown.wait_for(came), patience)
            except asyncio.TimeoutError:
                recent = [frame.width for frame in self.frames[-5:]]
                raise AssertionError(f"{self} did not become {width} wide; lately {recent}") from None
        return time.monotonic() - begin

    async def recovers(self, width, least, patience):
        """Waits until it has this width and this frame rate for a second; seconds until that second begins."""
        begin = time.monotonic()
        while True:
            await asyncio.sleep(0.1)
            second = self.since(max(begin, time.monotonic() - 1))
            if len(second) >= least and all(frame.width == width for frame in second):
                return second[0].at - begin
            passed = time.monotonic() - begin
            assert passed < patience + 1, f"{self} is not {width} wide with {least} frames/s after {passed:.1f} s"

    def since(self, begin):
        return [frame for frame in self.frames if frame.at >= begin]

    def frame_rate(self, begin):
        """Frames a second from a moment until now."""
        return len(self.since(begin)) / (time.monotonic() - begin)

    def longest_pause(self, begin):
        """The longest time without a new frame from a moment until now."""
        times = [begin, *(frame.at for frame in self.since(begin)), time.monotonic()]
        return max(after - before for before, after in zip(times, times[1:]))

    async def received_bytes(self):
        """Bytes of media that getStats has counted."""
        return await self._inbound("bytes_received")

    async def _inbound(self, name):
        for report in await self.track.get_stats():
            if report.WhichOneof("stats") == "inbound_rtp":
                return getattr(report.inbound_rtp.inbound, name)
        return 0

    def __repr__(self):
        return f"the picture of {self.owner} at {self.viewer}"


async def screens(person, count):
    """Shows the next video tracks that are subscribed to, by whose they are."""
    found = {}
    while len(found) < count:
        track, publication, owner = await person.event(
            "track_subscribed", lambda track, *_: track.kind == rtc.TrackKind.KIND_VIDEO
        )
        found[owner.identity] = Screen(person, track, publication, owner)
    return found
