"""WebSockets as proxies and other stacks open them, keep them alive and close them."""

import asyncio
import base64
import json
import os
import struct

import pytest
import pytest_asyncio
from livekit.protocol import rtc

from raw_client import claims, sign

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
UPGRADES = {
    "plain": "Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "keep-alive beside": "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
    "other case": "connection: UPGRADE\r\nupgrade: WebSocket\r\n",
    "deflate offered": "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n",
    "cookies of 6 kB": f"Connection: Upgrade\r\nUpgrade: websocket\r\nOrigin: https://meet.example\r\nCookie: a={'x' * 6_000}\r\n",
    "a subprotocol": "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: livekit\r\n",
}


class Socket:
    """A WebSocket frame by frame (RFC 6455)."""

    def __init__(self, server, room):
        self.server, self.token = server, sign(claims("raw", room))

    async def open(self, headers=UPGRADES["plain"]):
        host = self.server.http.split("//")[1]
        self.reader, self.writer = await asyncio.open_connection(*host.rsplit(":", 1))
        key = base64.b64encode(os.urandom(16)).decode()
        self.writer.write(
            f"GET /rtc?access_token={self.token}&protocol=16 HTTP/1.1\r\nHost: {host}\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Version: 13\r\n{headers}\r\n".encode()
        )
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 101")
        return self

    def send(self, opcode, data, last=True):
        mask = os.urandom(4)
        size = len(data)
        head = bytes([last << 7 | opcode])
        head += bytes([0x80 | size]) if size < 126 else struct.pack("!BH", 0x80 | 126, size) if size < 1 << 16 else struct.pack("!BQ", 0x80 | 127, size)
        self.writer.write(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    async def frame(self):
        first, second = await self.reader.readexactly(2)
        size = second & 127
        if size == 126:
            size = struct.unpack("!H", await self.reader.readexactly(2))[0]
        elif size == 127:
            size = struct.unpack("!Q", await self.reader.readexactly(8))[0]
        return first & 15, await self.reader.readexactly(size)

    async def expect(self, wanted, patience=10):
        """The payload of the next frame for which `wanted` holds, given opcode and payload."""
        async with asyncio.timeout(patience):
            while True:
                opcode, data = await self.frame()
                if wanted(opcode, data):
                    return data

    async def message(self, kind, patience=10):
        def fits(opcode, data):
            return opcode == BINARY and rtc.SignalResponse.FromString(data).WhichOneof("message") == kind

        return await self.expect(fits, patience)


@pytest_asyncio.fixture
async def socket(server, room):
    made = await Socket(server, room).open()
    await made.message("join")
    yield made
    made.writer.close()


PING_REQUEST = rtc.SignalRequest(ping_req=rtc.Ping(timestamp=5)).SerializeToString()


@pytest.mark.parametrize("form", UPGRADES)
async def test_every_form_of_the_upgrade_joins(server, room, form):
    socket = await Socket(server, room).open(UPGRADES[form])
    await socket.message("join")
    socket.writer.close()


async def test_a_message_in_fragments_with_a_ping_between(socket):
    socket.send(BINARY, PING_REQUEST[:1], last=False)
    socket.send(PING, b"hi")
    socket.send(0, PING_REQUEST[1:])
    socket.send(PONG, b"unasked")
    socket.send(BINARY, b"")
    answers = set()

    def both(opcode, data):
        if opcode == PONG:
            answers.add("pong frame")
        if opcode == BINARY and rtc.SignalResponse.FromString(data).WhichOneof("message") == "pong_resp":
            answers.add("pong response")
        return len(answers) == 2

    await socket.expect(both)


async def test_json_with_unknown_fields_is_answered_in_json(socket):
    socket.send(TEXT, json.dumps({"pingReq": {"timestamp": "7", "rtt": "3", "unknownField": {"a": 1}}}).encode())
    answer = await socket.expect(lambda opcode, data: opcode == TEXT)
    assert json.loads(answer)["pongResp"]["lastPingTimestamp"] == "7"


async def test_a_nonsense_offer_of_1_5_mb_does_not_end_the_session(socket):
    offer = rtc.SessionDescription(type="offer", sdp="x" * 1_500_000)
    socket.send(BINARY, rtc.SignalRequest(offer=offer).SerializeToString())
    socket.send(BINARY, PING_REQUEST)
    await socket.message("pong_resp")


async def test_a_close_frame_is_answered_by_one(socket):
    socket.send(CLOSE, b"")
    await socket.expect(lambda opcode, data: opcode == CLOSE)


async def test_a_client_that_sends_no_ping_is_pinged_and_stays(meeting):
    alice = await meeting.join("alice", pings=False)
    # Two pings are 20 s, longer than the 15 s after which a silent session ends.
    await meeting.until(lambda: len(alice.messages("websocket ping")) == 2, "two pings", patience=25)
    await alice.settled()
    assert alice.closed is None
