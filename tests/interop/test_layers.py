"""A picture comes in the size that was asked for, whatever it is encoded with."""

import asyncio
import time

import pytest

from camera import publish_camera, sent_rate
from client import joined
from conftest import long
from livekit import rtc
from screen import HIGH, LOW, MEDIUM, screens


@pytest.mark.parametrize(
    "codec, low, medium",
    # The SDK's simulcast layers have their own sizes, spatial layers halve the width.
    [pytest.param("VP8", 320, 640, marks=long), ("H264", 320, 640), ("VP9", 240, 480), ("AV1", 240, 480)],
)
async def test_the_quality_that_is_asked_for_changes_the_size(server, room, codec, low, medium):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        await publish_camera(alice, (960, 540), codec=codec, svc=codec in ("VP9", "AV1"))
        screen = (await screens(bob, 1))["alice"]
        await screen.shows(960)
        for quality, width in ((LOW, low), (HIGH, 960), (MEDIUM, medium), (HIGH, 960)):
            screen.ask(quality)
            await screen.shows(width)


@long
async def test_a_publisher_whom_all_show_small_sends_little_and_all_again_when_one_enlarges(server, room):
    async with joined(server, room, "alice", options=rtc.RoomOptions(dynacast=True)) as alice:
        await publish_camera(alice, (960, 540))
        async with joined(server, room, "bob", "carol") as viewers:
            bob, carol = [(await screens(viewer, 1))["alice"] for viewer in viewers]
            await asyncio.gather(bob.shows(960), carol.shows(960))
            for screen in (bob, carol):
                screen.ask(LOW)
            await sends_less_than(alice, 250_000, within=6)
            carol.ask(HIGH)
            assert await carol.shows(960) < 1


async def sends_less_than(person, bound, within):
    """Waits until a participant sends less video than this, bits a second, for so many seconds."""
    end = time.monotonic() + within
    while (rate := await sent_rate(person, 0.3)) >= bound:
        assert time.monotonic() < end, f"{rate:.0f} bit/s are sent"
