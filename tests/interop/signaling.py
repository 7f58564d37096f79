"""The protocol by hand, for what an SDK would not do."""

import asyncio
import contextlib

import aiohttp
from livekit.protocol import models, rtc

from client import token

PATIENCE = 10


class Session:
    """One WebSocket; answers pings by itself saying nothing."""

    def __init__(self, socket):
        self.socket = socket

    async def send(self, **message):
        await self.socket.send_bytes(rtc.SignalRequest(**message).SerializeToString())

    async def receive(self):
        """The next response; None when the session has ended."""
        message = await asyncio.wait_for(self.socket.receive(), PATIENCE)
        if message.type != aiohttp.WSMsgType.BINARY:
            return None
        response = rtc.SignalResponse()
        response.ParseFromString(message.data)
        return response

    async def expect(self, kind, check=lambda _: True):
        """The next response of a kind for which `check` holds."""
        while (response := await self.receive()) is not None:
            if response.WhichOneof("message") == kind and check(getattr(response, kind)):
                return getattr(response, kind)
        raise AssertionError(f"the session ended before a {kind}")


@contextlib.asynccontextmanager
async def session(server, room, identity, made=None, query="", **grants):
    """A session that has joined."""
    made = made or token(identity, room, **grants)
    async with aiohttp.ClientSession() as http:
        url = f"{server.url}/rtc?access_token={made}&protocol=16&auto_subscribe=1{query}"
        async with http.ws_connect(url, autoclose=True, max_msg_size=0) as socket:
            yield Session(socket)


async def status(server, path, made=None, headers=None):
    """Status and text of a plain request with a token."""
    async with aiohttp.ClientSession() as http:
        query = {} if made is None else {"access_token": made}
        async with http.get(server.http + path, params=query, headers=headers) as response:
            return response.status, await response.text()


async def metrics(server):
    """The values of /metrics, summed over their labels."""
    _, text = await status(server, "/metrics")
    values = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            name = name.split("{")[0]
            values[name] = values.get(name, 0) + float(value)
    return values


MICROPHONE = dict(type=models.TrackType.AUDIO, source=models.TrackSource.MICROPHONE)

AUDIO_OFFER = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=mid:0
a=ice-ufrag:abcd
a=ice-pwd:0123456789012345678901
a=fingerprint:sha-256 {fingerprint}
a=setup:actpass
a=sendonly
a=msid:s cid
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=ssrc:42 cname:x
""".format(fingerprint=":".join(["AB"] * 32)).replace("\n", "\r\n")

CAMERA = dict(
    type=models.TrackType.VIDEO,
    source=models.TrackSource.CAMERA,
    width=1280,
    height=720,
    layers=[
        models.VideoLayer(quality=quality, width=width, height=height)
        for quality, width, height in ((0, 320, 180), (1, 640, 360), (2, 1280, 720))
    ],
)

CAMERA_OFFER = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0
m=video 9 UDP/TLS/RTP/SAVPF 96
c=IN IP4 0.0.0.0
a=mid:0
a=ice-ufrag:abcd
a=ice-pwd:0123456789012345678901
a=fingerprint:sha-256 {fingerprint}
a=setup:actpass
a=sendonly
a=msid:s cid
a=rtcp-mux
a=rtpmap:96 VP8/90000
a=rid:q send
a=rid:h send
a=rid:f send
a=simulcast:send q;h;f
""".format(fingerprint=":".join(["AB"] * 32)).replace("\n", "\r\n")
