"""Real clients behind links of their own: each sees as much as its link carries."""

import asyncio
import contextlib
import time

from client import joined
from conftest import Server
from recording import BOTTOM, TOP
from screen import HIGH, LOW, screens

# A pause of this many seconds is a freeze to a viewer.
FREEZE = 0.4


def link(rate):
    return {"rate": rate, "delay": 20}


@contextlib.asynccontextmanager
async def viewer(home, cameras, rate, shown, query=""):
    """A subscriber at a home of its own: shows some of the cameras that are there, the first one large."""
    house = home()
    house.set(uplink=link(None), downlink=link(rate))
    async with joined(Server(house.url + query), cameras.room, f"viewer-{rate}{query}") as person:
        seen = await screens(person, len(cameras.names))
        for name, screen in seen.items():
            if name not in shown:
                screen.publication.set_subscribed(False)
            elif name != shown[0]:
                screen.ask(LOW)
        yield house, {name: seen[name] for name in shown}


async def keep_moving(watched, least, seconds):
    """For some seconds every picture moves, at least at this frame rate and without a freeze."""
    begin = time.monotonic()
    await asyncio.sleep(seconds)
    for screen in watched.values():
        rate, pause = screen.frame_rate(begin), screen.longest_pause(begin)
        seen = f"{screen}: {rate:.1f} frames/s, {pause:.2f} s at most without one"
        assert rate >= least and pause < FREEZE, seen


async def arriving(watched, seconds):
    """Of how many tracks something comes in every second: of one that is merely tried it does in some."""
    steady = set(watched)
    before = {name: await screen.received_bytes() for name, screen in watched.items()}
    for _ in range(seconds):
        await asyncio.sleep(1)
        now = {name: await screen.received_bytes() for name, screen in watched.items()}
        steady -= {name for name in watched if now[name] == before[name]}
        before = now
    return len(steady)


async def test_what_does_not_fit_is_paused_unless_the_client_forbids_it(server, home, cameras):
    five = cameras(server, 5)
    async with (
        viewer(home, five, 200_000, five.names) as (_, pausing),
        viewer(home, five, 200_000, five.names, "/?subscriber_allow_pause=0") as (_, steady),
    ):
        await asyncio.sleep(8)
        some, all_of_them = await asyncio.gather(arriving(pausing, 4), arriving(steady, 4))
        assert 0 < some < 5, some
        assert all_of_them == 5


async def test_a_picture_that_a_dead_link_stopped_comes_back_with_it(server, home, cameras):
    one = cameras(server, 1)
    async with viewer(home, one, 3_000_000, one.names) as (house, watched):
        (screen,) = watched.values()
        await screen.shows(TOP)
        house.set(downlink=link(0))
        begin = time.monotonic()
        await asyncio.sleep(3)
        assert screen.longest_pause(begin) > 2
        house.set(downlink=link(3_000_000))
        await screen.recovers(TOP, least=10, patience=10)
        await keep_moving(watched, least=10, seconds=3)


async def test_each_subscriber_sees_all_that_its_link_carries(server, home, cameras):
    five = cameras(server, 5)
    async with (
        viewer(home, five, 3_000_000, five.names) as (house, wide),
        viewer(home, five, 800_000, five.names) as (_, middle),
        # One picture fits here.
        viewer(home, five, 250_000, five.names[:1]) as (_, narrow),
    ):
        first, second, *_ = wide.values()
        # All five are sent to each at first, until it has said what it shows.
        await asyncio.gather(
            first.recovers(TOP, least=10, patience=10),
            *(screen.recovers(BOTTOM, least=10, patience=10) for screen in (*middle.values(), *narrow.values())),
        )
        await asyncio.gather(
            keep_moving(wide, least=10, seconds=10),
            keep_moving(middle, least=10, seconds=10),
            keep_moving(narrow, least=10, seconds=10),
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
            *(screen.recovers(TOP if screen is second else BOTTOM, least=10, patience=10) for screen in wide.values())
        )
        await keep_moving(wide, least=10, seconds=5)
