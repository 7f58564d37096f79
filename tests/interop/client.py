"""Participants made of the `livekit` package, and what they see and hear."""

import asyncio
import contextlib

import numpy as np
from livekit import api, rtc

from conftest import KEY, SECRET

RATE = 48_000
PATIENCE = 20


def token(identity, room, ttl=None, **grants):
    made = api.AccessToken(KEY, SECRET).with_identity(identity).with_name(identity)
    if ttl is not None:
        made = made.with_ttl(ttl)
    return made.with_grants(api.VideoGrants(**{"room_join": True, "room": room, **grants})).to_jwt()


class Participant:
    """One participant; events go into queues, so that a test waits for what it expects."""

    def __init__(self):
        self.room = rtc.Room()
        self.events = asyncio.Queue()
        self.log = []
        self.tasks = []
        for name in (
            "participant_connected", "participant_disconnected", "track_published", "track_unpublished",
            "track_subscribed", "track_unsubscribed", "track_muted", "track_unmuted", "data_received",
            "participant_metadata_changed", "participant_name_changed", "participant_attributes_changed",
            "active_speakers_changed", "connection_quality_changed", "disconnected",
        ):
            self.room.on(name, self._recorder(name))

    def _recorder(self, name):
        def record(*values):
            self.log.append(name)
            self.events.put_nowait((name, values))

        return record

    async def event(self, name, check=lambda *_: True):
        """The next event of this name for which `check` holds; others are passed over."""

        async def wait():
            while True:
                seen, values = await self.events.get()
                if seen == name and check(*values):
                    return values

        return await asyncio.wait_for(wait(), PATIENCE)

    async def publish_tone(self, frequency, name="mic", red=True):
        source = rtc.AudioSource(RATE, 1)
        track = rtc.LocalAudioTrack.create_audio_track(name, source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, red=red)

        async def play():
            at = 0
            while True:
                wave = np.sin(2 * np.pi * frequency * (np.arange(480) + at) / RATE) * 12_000
                at += 480
                frame = rtc.AudioFrame(wave.astype(np.int16).tobytes(), RATE, 1, 480)
                await source.capture_frame(frame)

        publication = await self.room.local_participant.publish_track(track, options)
        self.tasks.append(asyncio.create_task(play()))
        return publication

    async def publish_colour(self, colour, codec=None, simulcast=True, size=(640, 360), rate=15):
        width, height = size
        source = rtc.VideoSource(width, height)
        track = rtc.LocalVideoTrack.create_video_track("cam", source)
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_CAMERA, simulcast=simulcast)
        if codec is not None:
            options.video_codec = codec

        async def show():
            pixels = np.empty((height, width, 4), np.uint8)
            pixels[:] = (*colour, 255)
            frame = rtc.VideoFrame(width, height, rtc.VideoBufferType.RGBA, pixels.tobytes())
            while True:
                source.capture_frame(frame)
                await asyncio.sleep(1 / rate)

        self.tasks.append(asyncio.create_task(show()))
        return await self.room.local_participant.publish_track(track, options)

    async def close(self):
        for task in self.tasks:
            task.cancel()
        await self.room.disconnect()


@contextlib.asynccontextmanager
async def joined(server, room, *identities, options=None, **grants):
    """Participants in a room, gone at the end."""
    people = [Participant() for _ in identities]
    try:
        for person, identity in zip(people, identities):
            await person.room.connect(server.url, token(identity, room, **grants), options or rtc.RoomOptions())
        yield people if len(people) > 1 else people[0]
    finally:
        await asyncio.gather(*(person.close() for person in people))


# The part of a second's power that a tone has at least. Where packets came late, the receiver stretches
# what it has, and the power is spread over other frequencies.
STEADY = 0.95


def loudest(second):
    """The loudest frequency of a second of samples, and its part of the power."""
    power = np.abs(np.fft.rfft(second * np.hanning(second.size))) ** 2
    peak = int(np.argmax(power))
    return float(peak), power[max(peak - 4, 0) : peak + 5].sum() / power.sum()


async def heard_frequency(track):
    """The loudest frequency of the first second of a track, once it is loud, that is a steady tone; if none
    is, of the last one."""
    stream = rtc.AudioStream(track)
    frequency = None

    async def listen():
        nonlocal frequency
        samples, heard = np.zeros(0), 0
        async for event in stream:
            frame = event.frame
            data = np.frombuffer(frame.data, np.int16)[:: frame.num_channels].astype(float)
            if heard or np.abs(data).mean() > 500:
                samples = np.concatenate([samples, data])[-frame.sample_rate :]
                heard += data.size
            # The first half second is left out; then each half second is looked at.
            if heard > 1.5 * frame.sample_rate:
                heard -= frame.sample_rate / 2
                frequency, part = loudest(samples)
                if part > STEADY:
                    return

    try:
        await asyncio.wait_for(listen(), PATIENCE)
    except TimeoutError:
        if frequency is None:
            raise
    finally:
        await stream.aclose()
    return frequency


async def seen_colour(track, frames=10):
    """The mean colour of the last of some frames, and their size."""
    stream = rtc.VideoStream(track)

    async def watch():
        count = 0
        async for event in stream:
            count += 1
            if count == frames:
                return event.frame.convert(rtc.VideoBufferType.RGBA)

    try:
        frame = await asyncio.wait_for(watch(), PATIENCE)
    finally:
        await stream.aclose()
    pixels = np.frombuffer(frame.data, np.uint8).reshape(frame.height, frame.width, 4)
    return pixels.mean((0, 1))[:3], (frame.width, frame.height)


def close_to(seen, sent):
    """Video coding moves a colour a little."""
    return bool(np.all(np.abs(np.array(seen) - np.array(sent)) < 14))
