"""Real clients behind links of their own: each sees as much as its link carries."""

import asyncio
import contextlib
import time

from camera import publish_camera
from client import joined
from conftest import Server, long
from livekit import rtc
from screen import HIGH, LOW, screens

CAMERAS = [f"camera-{index}" for index in range(5)]
TOP, BOTTOM = 1280, 320


def link(rate):
    return {"rate": rate, "delay": 20}


@contextlib.asynccontextmanager
async def viewer(home, room, rate, shown, there=CAMERAS):
    """A subscriber at a home of its own: shows some of the cameras that are there, the first one large."""
    house = home()
    house.set(uplink=link(None), downlink=link(rate))
    async with joined(Server(house.url), room, f"viewer-{rate}") as person:
        seen = await screens(person, len(there))
        for name, screen in seen.items():
            if name not in shown:
                screen.publication.set_subscribed(False)
            elif name != shown[0]:
                screen.ask(LOW)
        yield house, {name: seen[name] for name in shown}


async def keep_moving(watched, least, seconds):
    """For some seconds every picture moves, at least at this frame rate and without a freeze."""
    begin = time.monotonic()
    freezes = [await screen.freezes() for screen in watched.values()]
    await asyncio.sleep(seconds)
    for screen, before in zip(watched.values(), freezes):
        rate, pause = screen.frame_rate(begin), screen.longest_pause(begin)
        frozen = await screen.freezes() - before
        seen = f"{screen}: {rate:.1f} frames/s, {pause:.2f} s at most without one, {frozen} freezes"
        assert rate >= least and pause < 1 and frozen == 0, seen


@long
async def test_a_picture_that_a_dead_link_stopped_comes_back_with_it(server, home, room):
    async with joined(server, room, CAMERAS[0]) as camera:
        await publish_camera(camera, (640, 360))
        async with viewer(home, room, 3_000_000, CAMERAS[:1], CAMERAS[:1]) as (house, watched):
            screen = watched[CAMERAS[0]]
            await screen.shows(640)
            house.set(downlink=link(0))
            begin = time.monotonic()
            await asyncio.sleep(3)
            assert screen.longest_pause(begin) > 2
            house.set(downlink=link(3_000_000))
            await screen.shows(640, patience=10)
            await keep_moving(watched, least=5, seconds=3)


@long
async def test_each_subscriber_sees_all_that_its_link_carries(server, home, room):
    # Dynacast keeps five encoders from wanting more than two cores.
    async with joined(server, room, *CAMERAS, options=rtc.RoomOptions(dynacast=True)) as cameras:
        await asyncio.gather(*(publish_camera(camera) for camera in cameras))
        async with (
            viewer(home, room, 3_000_000, CAMERAS) as (house, wide),
            viewer(home, room, 800_000, CAMERAS) as (_, middle),
            # One picture fits here.
            viewer(home, room, 250_000, CAMERAS[:1]) as (_, narrow),
        ):
            first, second, *_ = wide.values()
            await first.shows(TOP)
            await middle[CAMERAS[0]].shows(BOTTOM)
            await asyncio.gather(
                keep_moving(wide, least=10, seconds=10),
                keep_moving(middle, least=5, seconds=10),
                keep_moving(narrow, least=5, seconds=10),
            )
            # Another one becomes the large one.
            first.ask(LOW)
            second.ask(HIGH)
            took = await asyncio.gather(first.shows(BOTTOM), second.shows(TOP))
            assert max(took) < 1, took
            # The link falls to a tenth, and comes back.
            house.set(downlink=link(300_000))
            await second.shows(BOTTOM)
            house.set(downlink=link(3_000_000))
            await asyncio.gather(
                second.shows(TOP, patience=10),
                *(screen.shows(BOTTOM, patience=10) for screen in wide.values() if screen is not second),
            )
            await keep_moving(wide, least=10, seconds=5)
