"""Webhooks: every event, signed, in the order of its room, also to a receiver that is down for a while."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import tempfile

import pytest
from aiohttp import web
from livekit import api

from conftest import KEY, SECRET, Server, free_port, ours
from raw_client import Meeting
from server_api import opened

# The address of a receiver in the configuration of another server that runs already.
OTHER = os.environ.get("MOIM_WEBHOOK_PORT")


class Receiver:
    """Verifies what comes by the package's own verifier, and refuses all while it is told to."""

    def __init__(self, port):
        self.port, self.events, self.refused = port, [], 0
        self.status = 200
        self.arrived = asyncio.Event()
        self.verifier = api.WebhookReceiver(api.TokenVerifier(KEY, SECRET))
        self.runner = None

    async def start(self):
        application = web.Application(client_max_size=4 << 20)
        application.router.add_post("/hook", self.take)
        application.router.add_post("/elsewhere", self.take)
        self.runner = web.AppRunner(application)
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", self.port).start()

    async def stop(self):
        await self.runner.cleanup()

    async def take(self, request):
        if self.status != 200:
            self.refused += 1
            self.arrived.set()
            return web.Response(status=self.status, headers={"Location": "/elsewhere"})
        body = await request.text()
        assert request.content_type == "application/webhook+json"
        self.events.append(self.verifier.receive(body, request.headers["Authorization"]))
        self.arrived.set()
        return web.Response()

    def of(self, room):
        return [event for event in self.events if event.room.name == room]

    def names(self, room):
        return [event.event for event in self.of(room)]

    async def until(self, condition, what):
        try:
            async with asyncio.timeout(20):
                while not condition():
                    self.arrived.clear()
                    await self.arrived.wait()
        except TimeoutError:
            raise AssertionError(f"{what} did not come: {[event.event for event in self.events]}") from None


@contextlib.asynccontextmanager
async def told(more=""):
    """A server and the receiver that it tells what happens."""
    receiver = Receiver(int(OTHER) if OTHER else free_port(socket.SOCK_STREAM))
    await receiver.start()
    with contextlib.ExitStack() as stack:
        if url := os.environ.get("MOIM_URL"):
            server = Server(url)
        else:
            http, media = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
            config = stack.enter_context(tempfile.NamedTemporaryFile("w", suffix=".yaml"))
            config.write(
                f"port: {http}\nbind_addresses: ['127.0.0.1']\nkeys: {{{KEY}: {SECRET}}}\nrtc: {{udp_port: {media}}}\n"
                f"room: {{departure_timeout: 1}}\nwebhook:\n  urls: ['http://127.0.0.1:{receiver.port}/hook']\n"
                f"  api_key: {KEY}\n  retry: {{min: 20ms, max: 100ms}}\n{more}"
            )
            config.flush()
            command = [os.environ["MOIM_BIN"], "--config", config.name, "--shards", "1"]
            process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            assert any("http://" in line for line in process.stdout)
            stack.callback(process.send_signal, signal.SIGTERM)
            server = Server(f"ws://127.0.0.1:{http}", media, process.pid)
        try:
            yield server, receiver
        finally:
            await receiver.stop()


@pytest.mark.skipif("MOIM_URL" in os.environ and not OTHER, reason="the server must know the receiver")
async def test_everything_that_happens_is_told_in_order(room):
    async with told() as (server, receiver):
        meeting = Meeting(server, room)
        alice = await meeting.join("alice")
        bob = await meeting.join("bob")
        track = await alice.publish("mic")
        await bob.receives(track.sid)
        await alice.leave()
        await meeting.until(lambda: "alice" not in bob.view())
        await bob.leave()
        await receiver.until(lambda: "room_finished" in receiver.names(room), "the end of the room")
        names = receiver.names(room)
        assert names[0] == "room_started" and names[-1] == "room_finished"
        assert names.count("participant_joined") == names.count("participant_left") == 2
        assert names.index("track_published") < names.index("track_unpublished")
        events = receiver.of(room)
        assert len({event.id for event in events}) == len(events) and all(e.id.startswith("EV_") for e in events)
        assert len({event.room.sid for event in events}) == 1 and all(event.created_at > 0 for event in events)
        published = next(event for event in events if event.event == "track_published")
        assert (published.track.sid, published.participant.sid) == (track.sid, alice.sid)
        left = next(event for event in events if event.event == "participant_left")
        assert left.participant.identity == "alice"


@pytest.mark.skipif("MOIM_URL" in os.environ and not OTHER, reason="the server must know the receiver")
async def test_who_never_connected_is_told_as_such(room):
    async with told() as (server, receiver):
        meeting = Meeting(server, room)
        shy = await meeting.join("shy", active=False, answers=False)
        await shy.leave()
        await receiver.until(lambda: "participant_connection_aborted" in receiver.names(room), "the failed join")
        assert "participant_joined" not in receiver.names(room)


@ours
async def test_a_receiver_that_is_down_sees_everything_in_order_afterwards(room):
    async with told() as (server, receiver):
        await receiver.stop()
        async with opened(server, "protobuf") as caller:
            for name in (room, room + "-other"):
                for number in range(10):
                    await caller.room.create_room(api.CreateRoomRequest(name=name, metadata=str(number)))
                    await caller.room.delete_room(api.DeleteRoomRequest(room=name))
            await receiver.start()
            receiver.status = 503
            await receiver.until(lambda: receiver.refused > 4, "a further attempt")
            receiver.status = 200
            for name in (room, room + "-other"):
                await receiver.until(lambda: len(receiver.of(name)) == 20, "what happened meanwhile")
                assert receiver.names(name) == ["room_started", "room_finished"] * 10
                assert [event.room.metadata for event in receiver.of(name)] == [str(n // 2) for n in range(20)]


@ours
async def test_a_redirect_is_not_followed_and_a_refusal_not_repeated(room):
    async with told() as (server, receiver), opened(server, "protobuf") as caller:
        for status in (302, 400):
            receiver.status, receiver.refused = status, 0
            await caller.room.create_room(api.CreateRoomRequest(name=f"{room}-{status}"))
            await receiver.until(lambda: receiver.refused, "the attempt")
            receiver.status = 200
            await caller.room.delete_room(api.DeleteRoomRequest(room=f"{room}-{status}"))
            await receiver.until(lambda: receiver.of(f"{room}-{status}"), "the next event")
            assert receiver.names(f"{room}-{status}") == ["room_finished"] and receiver.refused == 1


@ours
async def test_only_what_is_wanted_is_sent(room):
    async with told("  filter_params: {include_events: [room_finished]}\n") as (server, receiver):
        async with opened(server, "protobuf") as caller:
            await caller.room.create_room(api.CreateRoomRequest(name=room))
            await caller.room.delete_room(api.DeleteRoomRequest(room=room))
            await receiver.until(lambda: receiver.of(room), "the event")
            assert receiver.names(room) == ["room_finished"]
