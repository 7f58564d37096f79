"""A camera before which something moves."""

import asyncio
import functools
import itertools
import time

import numpy as np
from livekit import rtc


@functools.cache
def clip(width, height, frames=20):
    """A texture that drifts under grain: enough for an encoder to use its bitrate."""
    random = np.random.default_rng(7)
    coarse = random.integers(40, 216, (height // 40 + 2, width // 40 + 2))
    texture = np.kron(coarse, np.ones((40, 40)))
    grain = random.normal(0, 6, texture.shape)
    colours = np.full(width * height // 2, 128, np.uint8).tobytes()
    pictures = []
    for index in range(frames):
        # There and back, so that the clip has no cut where it begins again.
        shift = 2 * min(index, frames - index)
        light = texture[shift : shift + height, shift : shift + width]
        light = light + np.roll(grain, 17 * index, axis=1)[:height, :width]
        data = light.clip(16, 235).astype(np.uint8).tobytes() + colours
        pictures.append(rtc.VideoFrame(width, height, rtc.VideoBufferType.I420, data))
    return pictures


async def publish_camera(person, size=(1280, 720), rate=15, codec="VP8", svc=False):
    """Publishes a camera with three layers: simulcast, or spatial ones of one stream."""
    source = rtc.VideoSource(*size)
    track = rtc.LocalVideoTrack.create_video_track("cam", source)
    options = rtc.TrackPublishOptions(
        source=rtc.TrackSource.SOURCE_CAMERA,
        video_codec=getattr(rtc.VideoCodec, codec),
        simulcast=not svc,
    )
    if svc:
        options.scalability_mode = "L3T3_KEY"

    async def film():
        for picture in itertools.cycle(clip(*size)):
            # An encoder may take the core on which it is woken: this loop shall go on meanwhile.
            await asyncio.to_thread(source.capture_frame, picture)
            await asyncio.sleep(1 / rate)

    person.tasks.append(asyncio.create_task(film()))
    return await person.room.local_participant.publish_track(track, options)


async def sent_rate(person, seconds=1.0):
    """Bits a second of video that a participant sends, over some time, all layers together."""

    async def sent():
        return sum(
            report.outbound_rtp.sent.bytes_sent
            for report in (await person.room.get_rtc_stats()).publisher_stats
            if report.WhichOneof("stats") == "outbound_rtp" and report.outbound_rtp.stream.kind == "video"
        )

    before, begin = await sent(), time.monotonic()
    await asyncio.sleep(seconds)
    return (await sent() - before) * 8 / (time.monotonic() - begin)
