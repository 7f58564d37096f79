"""What strangers and broken clients send: a meeting beside it notices nothing."""

import asyncio
import contextlib
import json
import os
import random
import socket
import struct

import aiohttp
import pytest
from livekit.protocol import rtc

from client import heard_frequency, joined, token
from conftest import configuration, ours, started
from signaling import metrics, session, status


@contextlib.asynccontextmanager
async def meeting_beside(server, room):
    """A meeting of two; at the end it must be as it was."""
    async with joined(server, room + "-beside", "ada", "ben") as (ada, ben):
        await ada.publish_tone(440)
        track, *_ = await ben.event("track_subscribed")
        assert await heard_frequency(track) == pytest.approx(440, abs=3)
        yield
        assert await heard_frequency(track) == pytest.approx(440, abs=3)
        await ada.room.local_participant.publish_data(b"still here")
        await ben.event("data_received")
        assert "disconnected" not in ada.log + ben.log


async def test_malformed_frames_end_only_their_own_session(server, room):
    async with meeting_beside(server, room):
        for frame in (b"\xff" * 40, b"\x0a\xff\xff\xff\x7f", os.urandom(2_000)):
            async with session(server, room, "eve") as eve:
                await eve.expect("join")
                await eve.socket.send_bytes(frame)
                while await eve.receive() is not None:
                    pass
                assert eve.socket.close_code == 1007
        async with session(server, room, "eve") as eve:
            await eve.expect("join")
            # It may be ended before all of it is sent.
            with contextlib.suppress(ConnectionError):
                await eve.socket.send_bytes(bytes(3 << 20))
            while await eve.receive() is not None:
                pass


async def test_json_is_answered_in_json(server, room):
    async with session(server, room, "alice") as alice:
        await alice.expect("join")
        await alice.socket.send_str(json.dumps({"pingReq": {"timestamp": "7"}, "newField": 1}))
        while (message := await alice.socket.receive()).type == aiohttp.WSMsgType.BINARY:
            pass
        assert json.loads(message.data)["pongResp"]["lastPingTimestamp"] == "7"


async def test_unknown_messages_are_passed_over(server, room):
    async with session(server, room, "alice") as alice:
        await alice.expect("join")
        # Field 4000, a string.
        await alice.socket.send_bytes(b"\x82\xfa\x01\x03abc")
        await alice.send(ping_req=rtc.Ping(timestamp=9))
        assert (await alice.expect("pong_resp")).last_ping_timestamp == 9


async def test_a_flood_of_messages_ends_its_session(server, room):
    async with meeting_beside(server, room):
        async with session(server, room, "eve") as eve:
            await eve.expect("join")
            with contextlib.suppress(ConnectionError):
                for _ in range(5_000):
                    await eve.send(ping_req=rtc.Ping(timestamp=1))
            with contextlib.suppress(ConnectionError):
                while await eve.receive() is not None:
                    pass
            assert eve.socket.closed


async def opened(server):
    return await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1]))


@ours
async def test_whoever_opens_connections_and_says_nothing_is_closed(server, room):
    async with meeting_beside(server, room):
        connections = [await opened(server) for _ in range(400)]
        for _, writer in connections[::2]:
            writer.write(b"GET /rtc HTTP/1.1\r\nX: ")
        async with asyncio.timeout(20):
            answers = await asyncio.gather(*(reader.read() for reader, _ in connections))
        assert all(b" 408 " in answer for answer in answers)


@ours
async def test_a_head_without_an_end_is_refused(server):
    reader, writer = await opened(server)
    with contextlib.suppress(ConnectionError):
        for _ in range(40):
            writer.write(b"X: " + b"x" * (64 << 10) + b"\r\n")
            await writer.drain()
    assert b" 431 " in await reader.read()


async def test_a_client_that_does_not_read_is_cut_off_and_nobody_waits(server, room):
    async with meeting_beside(server, room):
        reader, writer = await opened(server)
        # A small window, so that the server's own buffers fill soon.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        made = token("sleeper", room)
        writer.write(
            f"GET /rtc?access_token={made}&protocol=16 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        await writer.drain()
        async with joined(server, room, "alice", can_update_own_metadata=True) as alice:
            big = 100_000 * "x"
            for index in range(100):
                await alice.room.local_participant.set_metadata(f"{index}{big}")
                if not alice.room.remote_participants:
                    break
        writer.close()


@contextlib.contextmanager
def limited(tmp_path, **limits):
    """A server of its own with these limits. It believes those on this machine what their address is."""
    path = tmp_path / "limited.yaml"
    limits = ", ".join(f"{name}: {value}" for name, value in limits.items())
    path.write_text(configuration(f"limit: {{{limits}}}\nroom: {{departure_timeout: 1}}\n"))
    with started(str(path)) as server:
        yield server


class Strangers:
    """WebSockets of participants, each with another name, that stay until the end."""

    def __init__(self, server, http):
        self.server, self.http, self.count = server, http, 0

    async def join(self, address, room="r"):
        """The WebSocket, or the status with which it is refused."""
        self.count += 1
        url = f"{self.server.url}/rtc?access_token={token(f'p{self.count}', room)}&protocol=16"
        try:
            return await self.http.ws_connect(url, headers={"X-Forwarded-For": address})
        except aiohttp.WSServerHandshakeError as refused:
            return refused.status

    async def joins(self, address, count, room="r"):
        return [await self.join(address, room) for _ in range(count)]


@contextlib.asynccontextmanager
async def strangers(server):
    async with aiohttp.ClientSession() as http:
        yield Strangers(server, http)


@ours
async def test_connections_are_bounded_in_all_and_from_one_address(tmp_path):
    with limited(tmp_path, num_connections=5, num_connections_per_address=3) as server:
        async with strangers(server) as eve:
            *joined, refused = await eve.joins("198.51.100.1", 4)
            assert 429 not in joined and refused == 429
            # An address that is mapped into IPv6 is the same one.
            assert await eve.join("::ffff:198.51.100.1") == 429
            # All addresses of an IPv6 network of 64 bits are one.
            *others, refused = [await eve.join(f"2001:db8::{index}:1") for index in range(3)]
            assert 503 not in others and refused == 503
            await joined[0].close()
            async with asyncio.timeout(10):
                while isinstance(await eve.join("198.51.100.1"), int):
                    pass


@ours
async def test_joins_from_one_address_have_a_rate(tmp_path):
    with limited(tmp_path, joins_per_second=1) as server:
        async with strangers(server) as eve:
            answers = await eve.joins("198.51.100.1", 30)
            # Ten at once, and one for each second that this took.
            assert answers.count(429) > 10
            assert set(answers[:10]).isdisjoint({429})
            assert await eve.join("198.51.100.2") != 429


@ours
async def test_rooms_are_bounded_and_those_that_end_make_place(tmp_path):
    with limited(tmp_path, num_rooms=2) as server:
        async with strangers(server) as eve:
            rooms = [await eve.join("198.51.100.1", room) for room in ("a", "b", "c")]
            assert 503 not in rooms[:2] and rooms[2] == 503
            assert (await status(server, "/rtc/validate", token("eve", "c")))[0] == 503
            assert await eve.join("198.51.100.1", "a") != 503
            await rooms[1].close()
            async with asyncio.timeout(30):
                while await eve.join("198.51.100.1", "c") == 503:
                    pass


def datagrams(count, seed=1):
    """Random bytes and things that look like each protocol of the media port."""
    rng = random.Random(seed)
    stun = struct.pack(">HHI12s", 1, 8, 0x2112A442, bytes(12)) + struct.pack(">HH4s", 6, 4, b"a:bc")
    dtls = bytes([22, 254, 253]) + bytes(8) + struct.pack(">H", 40) + bytes([1]) + bytes(39)
    rtp = struct.pack(">BBHII", 0x90, 111, 1, 2, 3) + b"\xbe\xde\x00\x7f" + bytes(80)
    rtcp = struct.pack(">BBHI", 0x80, 200, 6, 1) + bytes(24)
    for _ in range(count):
        kind = rng.randrange(6)
        if kind == 0:
            yield rng.randbytes(rng.randrange(1, 1_500))
        else:
            base = bytearray((stun, dtls, rtp, rtcp, stun)[kind - 1])
            for _ in range(rng.randrange(3)):
                base[rng.randrange(len(base))] = rng.randrange(256)
            yield bytes(base[: rng.randrange(1, len(base) + 1)])


async def test_100000_hostile_datagrams_change_nothing(server, room):
    if server.media_port is None:
        pytest.skip("the media port is not known")
    async with meeting_beside(server, room):
        before = server.memory()
        dropped = (await metrics(server))["moim_datagrams_dropped_total"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.setblocking(False)
            s.connect(("127.0.0.1", server.media_port))
            for index, datagram in enumerate(datagrams(100_000)):
                with contextlib.suppress(BlockingIOError):
                    s.send(datagram)
                if index % 200 == 0:
                    await asyncio.sleep(0)
            with pytest.raises(BlockingIOError):
                s.recv(1_500)
        while (await metrics(server))["moim_datagrams_dropped_total"] - dropped < 50_000:
            await asyncio.sleep(0.2)
        assert server.memory() - before < 8 << 20


async def test_200_joins_and_leaves_leave_nothing_behind(server, room):
    gauges = (
        "livekit_room_total", "livekit_participant_total", "livekit_track_published_total",
        "livekit_track_subscribed_total", "moim_transports", "moim_tracks", "moim_subscriptions",
        "moim_packet_buffers",
    )

    async def settled(target=None):
        """The gauges once they are at `target`, or do not change any more."""
        last = None
        for _ in range(100):
            values = await metrics(server)
            now = {name: values[name] for name in gauges}
            if now == target or (target is None and now == last and not now["livekit_room_total"]):
                return now, values["moim_tasks"]
            last = now
            await asyncio.sleep(0.3)
        return last, values["moim_tasks"]

    start, tasks = await settled()

    async def come_and_go(index):
        async with joined(server, room, f"p{index}") as person:
            await person.publish_tone(300)

    for batch in range(20):
        await asyncio.gather(*(come_and_go(f"{batch}-{i}") for i in range(10)))
    end, tasks_after = await settled(start)
    assert end == start
    assert tasks_after <= tasks + 3
