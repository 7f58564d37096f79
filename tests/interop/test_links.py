"""Real clients behind links of their own: each sees as much as its link carries."""

import asyncio
import contextlib
import time

from camera import publish_camera
from client import joined
from conftest import Server
from screen import LOW, screens

CAMERAS = [f"camera-{index}" for index in range(5)]


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
            await keep_moving(watched, least=10, seconds=3)
