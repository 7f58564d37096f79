"""The configuration of a running server: what is changed in the file counts after SIGHUP, and nobody notices."""

import asyncio
import os
import signal

import aiohttp
import jwt
import pytest

from conftest import configuration, ours, started
from raw_client import Meeting, claims

pytestmark = ours

OLD, NEW = "o" * 32, "n" * 32


def token(key, secret, room):
    return jwt.encode({**claims("ada", room), "iss": key}, secret, algorithm="HS256")


async def status(server, key, secret, room="r"):
    async with aiohttp.ClientSession() as http, http.get(f"{server.http}/rtc/validate", params={"access_token": token(key, secret, room)}) as answer:
        return answer.status


async def becomes(server, wanted, **of):
    async with asyncio.timeout(10):
        while await status(server, **of) != wanted:
            pass


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "moim.yaml"
    path.write_text(configuration(keys=f"{{old: {OLD}}}"))
    return path


async def test_keys_change_at_once_and_the_meeting_goes_on(file):
    with started(str(file)) as server:
        meeting = Meeting(server, "weekly")
        alice, bob = [await meeting.join(name, token=jwt.encode({**claims(name, "weekly"), "iss": "old"}, OLD, algorithm="HS256")) for name in ("alice", "bob")]
        track = await alice.publish()
        await bob.receives(track.sid)
        file.write_text(file.read_text().replace(f"{{old: {OLD}}}", f"{{new: {NEW}}}"))
        os.kill(server.pid, signal.SIGHUP)
        await becomes(server, 200, key="new", secret=NEW)
        assert await status(server, "old", OLD) == 401
        before = len(bob.received(track.sid))
        await bob.receives(track.sid, before + 50)
        numbers = [packet.sequence for packet in bob.received(track.sid)]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "every packet has come"
        await meeting.close()


async def test_a_file_that_cannot_be_read_changes_nothing(file):
    good = file.read_text()
    with started(str(file)) as server:
        for bad in (good + "no such key: 1\n", good.replace("port:", "port: many #"), "keys: [", ""):
            file.write_text(bad)
            os.kill(server.pid, signal.SIGHUP)
        # Signals are taken in order: when this one has counted, the others have.
        file.write_text(good.replace("{old:", f"{{new: {NEW}, old:"))
        os.kill(server.pid, signal.SIGHUP)
        await becomes(server, 200, key="new", secret=NEW)
        assert await status(server, "old", OLD) == 200
