"""A picture comes in the size that was asked for, whatever it is encoded with."""

import asyncio
import time

import pytest

from camera import publish_camera, sent_rate
from client import joined
from conftest import Server
from livekit import rtc
from recording import BOTTOM, MIDDLE, TOP
from screen import HIGH, LOW, MEDIUM, screens


@pytest.mark.parametrize(
    "codec, low, medium",
    # The SDK's simulcast layers have their own sizes, spatial layers halve the width.
    [("VP8", 320, 640), ("H264", 320, 640), ("VP9", 240, 480), ("AV1", 240, 480)],
)
async def test_the_quality_that_is_asked_for_changes_the_size(server, room, codec, low, medium):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        await publish_camera(alice, (960, 540), codec=codec, svc=codec in ("VP9", "AV1"))
        screen = (await screens(bob, 1))["alice"]
        await screen.shows(960)
        for quality, width in ((LOW, low), (HIGH, 960), (MEDIUM, medium), (HIGH, 960)):
            screen.ask(quality)
            await screen.shows(width)


async def test_a_camera_that_sends_all_changes_its_size_at_once(server, cameras):
    one = cameras(server, 1)
    async with joined(server, one.room, "bob") as bob:
        (screen,) = (await screens(bob, 1)).values()
        await screen.shows(TOP)
        # Dynacast has not stopped any layer yet.
        for quality, width in ((LOW, BOTTOM), (HIGH, TOP), (MEDIUM, MIDDLE), (HIGH, TOP)):
            screen.ask(quality)
            took = await screen.shows(width)
            assert took < 1, f"{width} wide after {took:.2f} s"


async def test_a_camera_that_all_show_small_sends_little_and_all_again_when_one_enlarges(server, home, cameras):
    house = home()
    one = cameras(Server(house.url), 1)
    async with joined(server, one.room, "bob", "carol") as viewers:
        bob, carol = [screen for viewer in viewers for screen in (await screens(viewer, 1)).values()]
        await asyncio.gather(bob.shows(TOP), carol.shows(TOP))
        full = await house.sends(2)
        assert full > 1_800_000
        for screen in (bob, carol):
            screen.ask(LOW)
        end = time.monotonic() + 6
        while (rate := await house.sends(0.3)) >= 250_000:
            assert time.monotonic() < end, f"{rate:.0f} bit/s are sent"
        await asyncio.gather(bob.shows(BOTTOM), carol.shows(BOTTOM))

        async def again():
            await asyncio.sleep(0.5)
            return await house.sends(0.5)

        carol.ask(HIGH)
        took, rate = await asyncio.gather(carol.shows(TOP), again())
        assert took < 1, f"{took:.2f} s"
        assert rate > 0.75 * full, f"{rate:.0f} of {full:.0f} bit/s"


async def test_a_real_encoder_whom_all_show_small_sends_little_and_all_again_when_one_enlarges(server, room):
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
    """Waits until a participant sends less video than this, bit/s, for this many seconds."""
    end = time.monotonic() + within
    while (rate := await sent_rate(person, 0.3)) >= bound:
        assert time.monotonic() < end, f"{rate:.0f} bit/s are sent"
