"""Reliable data to receivers that do not keep up: who sends is slowed, and nobody loses anything or leaves."""

import asyncio
import contextlib
import hashlib
import os
import time

from livekit import rtc

from client import joined
from conftest import Server

SIZE = 20_000_000
# Seconds without a frame of audio that a listener calls a gap, not a click.
GAP = 1.5


def take_file(person):
    """The size and SHA-256 of the next file that a participant is sent."""
    taken = asyncio.get_running_loop().create_future()

    async def read(reader):
        digest, size = hashlib.sha256(), 0
        async for chunk in reader:
            digest.update(chunk)
            size += len(chunk)
        taken.set_result((size, digest.hexdigest()))

    handler = lambda reader, _: person.tasks.append(asyncio.create_task(read(reader)))
    person.room.register_byte_stream_handler("file", handler)
    return taken


async def listen(person):
    """Notes when each frame of audio comes."""
    track, _, _ = await person.event("track_subscribed")
    times = []

    async def note():
        async for _ in rtc.AudioStream(track):
            times.append(time.monotonic())

    person.tasks.append(asyncio.create_task(note()))
    while not times:
        await asyncio.sleep(0.05)
    return times


@contextlib.asynccontextmanager
async def behind_link(home, room, identity, **downlink):
    """A participant with a link of its own, and the link."""
    house = home()
    house.set(uplink={"delay": 20}, downlink={"delay": 20, **downlink})
    async with joined(Server(house.url), room, identity) as person:
        yield person, house


async def test_a_file_reaches_all_three_whole_though_one_has_six_megabits(server, room, home, tmp_path):
    contents = os.urandom(SIZE)
    path = tmp_path / "file.bin"
    path.write_bytes(contents)
    async with (
        joined(server, room, "alice", "bob", "carol") as (alice, bob, carol),
        behind_link(home, room, "dave", rate=6_000_000) as (dave, _),
    ):
        await alice.publish_tone(600)
        heard = await listen(dave)
        files = [take_file(person) for person in (bob, carol, dave)]
        begin = time.monotonic()
        await alice.room.local_participant.send_file(str(path), topic="file")
        sending = time.monotonic() - begin
        arrived = await asyncio.wait_for(asyncio.gather(*files), 60)
        assert arrived == [(SIZE, hashlib.sha256(contents).hexdigest())] * 3
        # 27 s at 6 Mbit/s, of which the server keeps about a second's worth for the slow one.
        assert sending > 15, f"the sender was done after {sending:.1f} s: it was not slowed"
        during = [at for at in heard if at >= begin]
        gap = max(after - before for before, after in zip(during, during[1:]))
        assert gap < GAP, f"{gap:.2f} s without sound"
        for person in (alice, bob, carol, dave):
            assert "disconnected" not in person.log


async def test_one_whom_nothing_reaches_holds_up_the_others_only_briefly_and_is_served_again(server, room, home):
    async with (
        joined(server, room, "alice", "bob") as (alice, bob),
        behind_link(home, room, "dave") as (dave, house),
    ):
        await alice.publish_tone(600)
        await listen(dave)
        taken = take_file(bob)
        house.set(downlink={"delay": 20, "loss": 1.0})
        contents = os.urandom(SIZE // 4)
        begin = time.monotonic()
        writer = await alice.room.local_participant.stream_bytes("file", topic="file", total_size=len(contents))
        await writer.write(contents)
        await writer.aclose()
        size, digest = await asyncio.wait_for(taken, 40)
        took = time.monotonic() - begin
        assert (size, digest) == (len(contents), hashlib.sha256(contents).hexdigest())
        # Its client connects again and again meanwhile, and holds up the others for two seconds each time.
        assert took < 25, f"the others waited {took:.1f} s"
        house.set(downlink={"delay": 20})
        for number in range(60):
            await alice.room.local_participant.publish_data(b"again %d" % number, topic="again")
            with contextlib.suppress(asyncio.QueueEmpty):
                while True:
                    name, values = dave.events.get_nowait()
                    if name == "data_received" and values[0].topic == "again":
                        return
            await asyncio.sleep(0.5)
        raise AssertionError("nothing reaches dave any more")
