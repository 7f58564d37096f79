"""Who is there, what they are like, and in which order that is told."""

import asyncio
import os
import signal
import subprocess
import sys
import time

from livekit import rtc
from livekit.protocol import rtc as wire

from client import joined, token
from conftest import ours
from signaling import session


async def test_events_come_in_order(server, room):
    async with joined(server, room, "alice") as alice:
        async with joined(server, room, "bob") as bob:
            publication = await bob.publish_tone(440)
            await alice.event("track_subscribed")
            await bob.room.local_participant.unpublish_track(publication.sid)
            await alice.event("track_unpublished")
        await alice.event("participant_disconnected", lambda who: who.identity == "bob")
        of_interest = [name for name in alice.log if name.startswith(("participant_conn", "participant_disc", "track_"))]
        assert of_interest == [
            "participant_connected",
            "track_published",
            "track_subscribed",
            "track_unsubscribed",
            "track_unpublished",
            "participant_disconnected",
        ]


async def test_metadata_name_and_attributes_are_seen_by_the_others(server, room):
    async with joined(server, room, "alice", "bob", can_update_own_metadata=True) as (alice, bob):
        local = alice.room.local_participant
        await local.set_metadata("m1")
        who, _, metadata = await bob.event("participant_metadata_changed")
        assert (who.identity, metadata) == ("alice", "m1")
        await local.set_name("Alice A")
        await bob.event("participant_name_changed", lambda who, *_: who.name == "Alice A")
        await local.set_attributes({"hand": "raised"})
        changed, who = await bob.event("participant_attributes_changed")
        assert changed == {"hand": "raised"} and who.attributes == {"hand": "raised"}


async def test_the_older_session_of_an_identity_gives_way(server, room):
    async with joined(server, room, "alice") as first:
        async with joined(server, room, "alice"):
            reason, = await first.event("disconnected")
            assert reason == rtc.DisconnectReason.DUPLICATE_IDENTITY


async def test_who_is_hidden_is_not_seen(server, room):
    async with joined(server, room, "alice") as alice:
        async with joined(server, room, "ghost", hidden=True) as ghost:
            assert "alice" in ghost.room.remote_participants
            async with joined(server, room, "bob"):
                await alice.event("participant_connected", lambda who: who.identity == "bob")
            assert "ghost" not in alice.room.remote_participants


@ours
async def test_a_killed_client_frees_its_seat_within_20_seconds(server, room):
    program = (
        "import asyncio, sys\nfrom livekit import rtc\n"
        "async def main():\n    room = rtc.Room()\n"
        "    await room.connect(sys.argv[1], sys.argv[2])\n    await asyncio.sleep(600)\n"
        "asyncio.run(main())"
    )
    async with joined(server, room, "alice") as alice:
        process = subprocess.Popen([sys.executable, "-c", program, server.url, token("victim", room)])
        try:
            await alice.event("participant_connected", lambda who: who.identity == "victim")
            os.kill(process.pid, signal.SIGKILL)
            killed = time.monotonic()
            await asyncio.wait_for(alice.event("participant_disconnected"), 20)
            assert time.monotonic() - killed < 20
        finally:
            process.kill()
            process.wait()


async def test_resuming_a_session_that_is_gone_is_answered_with_reconnect(server, room):
    query = "&reconnect=1&sid=PA_unknown"
    async with session(server, room, "ann", query=query) as ann:
        leave = await ann.expect("leave")
        assert leave.action == wire.LeaveRequest.RECONNECT
