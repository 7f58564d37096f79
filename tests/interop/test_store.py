"""What outlives the process: the audit log, rooms made by request, the usage of meetings."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess

import aiohttp
import pytest
from livekit import api

from conftest import KEY, SECRET, configuration, ours, started
from raw_client import Meeting

pytestmark = ours


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "moim.yaml"
    path.write_text(configuration(f"store: {{path: '{tmp_path}/moim.db'}}\n"))
    return path


def moim(file, *command):
    """What a command prints, and its exit code."""
    done = subprocess.run([os.environ["MOIM_BIN"], *command, "--config", str(file)], capture_output=True, text=True, timeout=20)
    return done.stdout + done.stderr, done.returncode


def calls(server):
    return api.LiveKitAPI(server.http, KEY, SECRET)


async def test_rooms_are_there_after_a_restart_and_calls_in_the_log(file):
    with started(str(file)) as server:
        async with calls(server) as rooms:
            await rooms.room.create_room(api.CreateRoomRequest(name="weekly", metadata="m", max_participants=7, empty_timeout=600))
            await rooms.room.create_room(api.CreateRoomRequest(name="gone"))
            await rooms.room.delete_room(api.DeleteRoomRequest(room="gone"))
            with pytest.raises(api.TwirpError):
                await rooms.room.remove_participant(api.RoomParticipantIdentity(room="weekly", identity="ada"))
            await rooms.room.list_rooms(api.ListRoomsRequest())
        async with aiohttp.ClientSession() as http:
            for path, text in ("healthz", "alive"), ("readyz", "ready"):
                async with http.get(f"{server.http}/{path}") as answer:
                    assert (answer.status, await answer.text()) == (200, text + "\n")
            async with http.get(f"{server.http}/metrics") as answer:
                assert "moim_store_lost_total 0\n" in await answer.text()
    entries = [json.loads(line) for line in moim(file, "audit", "export")[0].splitlines()]
    assert [(e["action"], e["room"], e["outcome"], e["person"]["subject"]) for e in entries] == [
        ("RoomService.CreateRoom", "weekly", "ok", ""),
        ("RoomService.CreateRoom", "gone", "ok", ""),
        ("RoomService.DeleteRoom", "gone", "ok", ""),
        ("RoomService.RemoveParticipant", "weekly", "not_found", "ada"),
    ]
    assert {(e["person"]["actor"], e["person"]["origin"]) for e in entries} == {(KEY, "127.0.0.1")}
    with started(str(file)) as server:
        async with calls(server) as rooms:
            (room,) = (await rooms.room.list_rooms(api.ListRoomsRequest())).rooms
            assert (room.name, room.metadata, room.max_participants, room.empty_timeout) == ("weekly", "m", 7, 600)


# KILLS=100 for a long run.
async def test_a_kill_in_the_middle_of_writes_loses_nothing_that_was_acknowledged(file):
    acknowledged = set()
    for life in range(int(os.environ.get("KILLS", "5"))):
        with started(str(file), killed=True) as server:
            done = []

            async def create(index):
                name = f"{life}-{index}"
                async with calls(server) as rooms:
                    await rooms.room.create_room(api.CreateRoomRequest(name=name, empty_timeout=3600))
                acknowledged.add(name)
                done.append(name)
                if len(done) == 10:
                    os.kill(server.pid, signal.SIGKILL)

            await asyncio.gather(*(create(index) for index in range(30)), return_exceptions=True)
        said, code = moim(file, "audit", "verify")
        assert code == 0 and int(said.split()[0]) >= len(acknowledged), said
    with started(str(file)) as server:
        async with calls(server) as rooms:
            there = {room.name for room in (await rooms.room.list_rooms(api.ListRoomsRequest())).rooms}
    assert acknowledged <= there


async def test_a_changed_byte_is_found_and_a_copy_restores(file, tmp_path):
    with started(str(file)) as server:
        async with calls(server) as rooms:
            for index in range(5):
                await rooms.room.create_room(api.CreateRoomRequest(name=f"r{index}"))
            assert moim(file, "backup", f"{tmp_path}/copy.db")[1] == 0
            assert moim(file, "restore", f"{tmp_path}/copy.db")[1] != 0, "the store exists"
    with sqlite3.connect(tmp_path / "moim.db") as store:
        store.execute("UPDATE audit SET room = 'r9' WHERE seq = 3")
    said, code = moim(file, "audit", "verify")
    assert code != 0 and "broken at entry 3" in said
    for name in ("moim.db", "moim.db-wal", "moim.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    assert moim(file, "restore", f"{tmp_path}/copy.db")[1] == 0
    assert moim(file, "audit", "verify")[1] == 0


async def test_usage_is_counted_and_a_person_can_be_forgotten(file):
    with started(str(file)) as server:
        meeting = Meeting(server, "weekly")
        await meeting.join_all("ada", "bob")
        await meeting.close()
    (month,) = json.loads(moim(file, "usage")[0])
    assert (month["meetings"], month["participants"], month["peak"]) == (1, 2, 2)
    assert 0 < month["participant_minutes"] < 1
    assert moim(file, "usage", "--by-room", "--csv")[0].splitlines()[1].startswith(f'{month["month"]},"weekly",1,2,')
    assert moim(file, "forget", "--identity", "ada")[0].strip() == "deleted from 1 entries"
    with sqlite3.connect(file.parent / "moim.db") as store:
        assert {row[0] for row in store.execute("SELECT identity FROM attendance")} == {None, "bob"}
