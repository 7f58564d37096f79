"""Participants made by hand: signaling in protobuf, SDP as text, RTP byte by byte.

For what an SDK would not do, and for seeing exactly what the server sends. Everything that happens wakes those
that wait, so that a test waits for a condition and never for a time.
"""

import asyncio
import contextlib
import json
import time

import aiohttp
import jwt
from livekit.protocol import models, rtc
from yarl import URL

import session_description as sdp
from conftest import KEY, SECRET
from packets import Camera, Microphone
from peer_connection import PeerConnection

PATIENCE = 10
KINDS = {"audio": (models.TrackType.AUDIO, models.TrackSource.MICROPHONE), "video": (models.TrackType.VIDEO, models.TrackSource.CAMERA)}


def claims(identity, room, more=None, **grants):
    now = int(time.time())
    video = {"roomJoin": True, "room": room, **grants}
    return {"iss": KEY, "sub": identity, "nbf": now - 5, "exp": now + 600, "video": video, **(more or {})}


def sign(content, headers=None):
    return jwt.encode(content, SECRET, algorithm="HS256", headers=headers)


class Meeting:
    """The participants of one room, gone at the end."""

    def __init__(self, server, room):
        self.server, self.room = server, room
        self.clients = []
        self.waiting = set()

    def changed(self, *_):
        """Has every condition looked at again."""
        for waiting in self.waiting:
            waiting.set()

    async def until(self, condition, what="a condition", patience=PATIENCE):
        """What the condition gives, once that is true."""
        changed = asyncio.Event()
        self.waiting.add(changed)
        try:
            async with asyncio.timeout(patience):
                while not (held := condition()):
                    changed.clear()
                    await changed.wait()
                return held
        except TimeoutError:
            raise AssertionError(f"{what} did not come within {patience} s") from None
        finally:
            self.waiting.discard(changed)

    async def join(self, identity, active=True, **options):
        """A participant that has joined, and whose subscriber connection is up if `active`."""
        client = Client(self, identity, **options)
        self.clients.append(client)
        await client.peers_ready()
        await client.connect()
        client.joined = await client.message("join")
        client.sid = client.joined.participant.sid
        if active:
            await client.is_active()
        return client

    async def join_all(self, *identities, **options):
        return [await self.join(identity, **options) for identity in identities]

    async def close(self):
        await asyncio.gather(*(client.close() for client in self.clients))


class Client:
    """One participant."""

    def __init__(self, meeting, identity, token=None, query="", path="/rtc", answers=True, accepts=None, pings=True, more_claims=None, **grants):
        self.meeting, self.identity = meeting, identity
        self.token = token or sign(claims(identity, meeting.room, more_claims, **grants))
        self.query, self.path = query, path
        self.answers = answers
        self.pings = pings
        self.accepts = accepts or (lambda codec, parameters: True)
        self.subscriber = PeerConnection(meeting.changed)
        self.publisher = PeerConnection(meeting.changed)
        self.log = []
        self.closed = None
        self.sections = []
        self.offer_id = 0
        self.candidates = {0: [], 1: []}
        self.sources = []
        self.tasks = []
        self.http = None

    async def peers_ready(self):
        await self.subscriber.gatherer.gather()
        await self.publisher.gatherer.gather()

    # Signaling

    async def connect(self, query=""):
        self.http = aiohttp.ClientSession()
        url = f"{self.meeting.server.url}{self.path}?protocol=16&sdk=js&version=2.15.0&access_token={self.token}"
        self.socket = await self.http.ws_connect(URL(url + self.query + query, encoded=True), max_msg_size=0, autoping=False)
        self.closed = None
        self.tasks.append(asyncio.create_task(self._read(self.socket)))
        if self.pings:
            self.tasks.append(asyncio.create_task(self._ping(self.socket)))

    async def drop(self):
        """Loses the WebSocket without a word, as in a tunnel."""
        for task in self.tasks:
            task.cancel()
        self.tasks.clear()
        self.socket._writer.transport.abort()
        await self.http.close()

    async def resume(self):
        """A new WebSocket for the same participant; gives the index in `log` of what is new."""
        refreshed = self.messages("refresh_token")
        self.token = refreshed[-1] if refreshed else self.token
        mark = len(self.log)
        await self.connect(f"&reconnect=1&sid={self.sid}")
        await self.message("reconnect", since=mark)
        return mark

    async def _ping(self, socket):
        while not socket.closed:
            await self.send(ping_req=rtc.Ping(timestamp=int(time.time() * 1_000)))
            await asyncio.sleep(4)

    async def _read(self, socket):
        async for message in socket:
            if message.type == aiohttp.WSMsgType.PING:
                self.log.append(("websocket ping", message.data))
                await socket.pong(message.data)
                self.meeting.changed()
            if message.type != aiohttp.WSMsgType.BINARY:
                continue
            response = rtc.SignalResponse.FromString(message.data)
            if not (kind := response.WhichOneof("message")):
                continue
            body = getattr(response, kind)
            self.log.append((kind, body))
            await self._react(kind, body)
            self.meeting.changed()
        self.closed = socket.close_code
        self.meeting.changed()

    async def _react(self, kind, body):
        if kind == "offer" and self.answers:
            await self.answer(body)
        elif kind == "answer":
            await self.publisher.start(body.sdp, self.candidates[0])
        elif kind == "trickle":
            candidate = json.loads(body.candidateInit).get("candidate")
            if candidate:
                peer = self.subscriber if body.target == rtc.SignalTarget.SUBSCRIBER else self.publisher
                self.candidates[body.target].append(candidate)
                if peer.task:
                    await peer.add_candidate(candidate)

    async def send(self, **request):
        await self.socket.send_bytes(rtc.SignalRequest(**request).SerializeToString())

    def mark(self):
        return len(self.log)

    def messages(self, kind, check=lambda _: True, since=0):
        return [body for name, body in self.log[since:] if name == kind and check(body)]

    async def message(self, kind, check=lambda _: True, since=0, patience=PATIENCE):
        """The first message of a kind that fits, also one that came already."""
        found = await self.meeting.until(lambda: self.messages(kind, check, since), f"{kind} for {self.identity}", patience)
        return found[0]

    async def settled(self):
        """Once the room has answered a request: it has handled everything that was sent before it."""
        request = 1 + len(self.log) + (self.offer_id << 16)
        await self.send(update_metadata=rtc.UpdateParticipantMetadata(request_id=request))
        await self.message("request_response", lambda answer: answer.request_id == request)

    # What it knows of the room

    def view(self):
        """Identity to ParticipantInfo of the others, from all messages so far."""
        known = {p.identity: p for p in self.joined.other_participants}
        for update in self.messages("update"):
            for participant in update.participants:
                if participant.state == models.ParticipantInfo.State.DISCONNECTED:
                    if participant.identity in known and known[participant.identity].sid == participant.sid:
                        del known[participant.identity]
                else:
                    known[participant.identity] = participant
        known.pop(self.identity, None)
        return known

    def track(self, sid):
        """TrackInfo of another participant's track."""
        return next((t for p in self.view().values() for t in p.tracks if t.sid == sid), None)

    async def is_active(self):
        await self.meeting.until(lambda: self.subscriber.connected and "_reliable" in self.subscriber.channels, f"the connection of {self.identity}")

    # The subscriber's connection

    def answer_sdp(self, offer):
        return self.subscriber.describe(sdp.answer(sdp.split(offer.sdp)[1], self.accepts), setup="active")

    async def answer(self, offer, text=None):
        text = text or self.answer_sdp(offer)
        await self.subscriber.start(offer.sdp, self.candidates[1])
        await self.send(answer=rtc.SessionDescription(type="answer", sdp=text, id=offer.id))

    def offers(self):
        """The m-lines of each offer, the newest first."""
        return [sdp.split(offer.sdp)[1] for offer in reversed(self.messages("offer"))]

    def offered(self, track_sid):
        """The m-line that sends a track; None when no offer has one."""
        return next((s for sections in self.offers() for s in sections if track_sid in (sdp.value(s, "msid") or "")), None)

    def received(self, track_sid, since=0.0):
        """The RTP packets of a track with a payload."""
        section = self.offered(track_sid)
        ssrc = int(sdp.values(section, "ssrc")[0].split(" ")[0]) if section else None
        return [p for p in self.subscriber.packets if p.ssrc == ssrc and p.payload and p.at >= since]

    async def receives(self, track_sid, count=5, since=0.0, patience=PATIENCE):
        """Waits for media of a track."""
        await self.meeting.until(lambda: len(self.received(track_sid, since)) >= count, f"media of {track_sid} at {self.identity}", patience)
        return self.received(track_sid, since)

    # The publisher's connection

    async def announce(self, cid, kind="audio", **request):
        """Asks for a track; gives its TrackInfo."""
        mark = self.mark()
        await self.send(add_track=self.add_track_request(cid, kind, **request))
        return (await self.message("track_published", lambda m: m.cid == cid, mark)).track

    def add_track_request(self, cid, kind="audio", **request):
        track_type, source = KINDS[kind]
        return rtc.AddTrackRequest(**{"cid": cid, "type": track_type, "source": source, "name": cid, **request})

    async def offer(self, sections=None, text=None, connected=True, **form):
        """Offers m-lines; gives the answer's text."""
        self.sections = self.sections if sections is None else sections
        self.offer_id += 1
        self.publisher.open_channels()
        text = text or self.publisher.describe(self.sections, **form)
        mark = self.mark()
        await self.send(offer=rtc.SessionDescription(type="offer", sdp=text, id=self.offer_id))
        answer = (await self.message("answer", since=mark)).sdp
        if connected:
            await self.meeting.until(lambda: self.publisher.connected, f"the publisher connection of {self.identity}")
        return answer

    async def open_data(self):
        """A publisher connection with data channels alone, both of them open."""
        await self.offer(self.sections + [sdp.data()])
        channel = self.publisher.channels["_reliable"]
        await self.meeting.until(lambda: channel.readyState == "open", "the data channel")

    def send_data(self, packet, label="_reliable"):
        self.publisher.channels[label].send(packet.SerializeToString())

    def data(self):
        """The data packets that arrived."""
        return [models.DataPacket.FromString(raw) for _, raw in self.subscriber.messages + self.publisher.messages]

    async def publish(self, cid="mic", kind="audio", formats=None, mid=None, ssrc=None, extra=(), plays=True, **request):
        """Announces, offers, connects and plays one track."""
        number = 1 + sum(sdp.kind(s) != "application" for s in self.sections)
        mid, ssrc = mid or str(number), ssrc or 1_000 * number
        info = await self.announce(cid, kind, **request)
        formats = formats or (sdp.OPUS if kind == "audio" else sdp.VP8)
        section = sdp.media(kind, mid, formats, msid=f"stream {cid}", ssrcs=[ssrc], extra=extra)
        base = self.sections or [sdp.data()]
        self.last_answer = await self.offer([*base, section])
        if plays:
            self.play(kind, ssrc, mid)
        return info

    def play(self, kind, ssrc, mid, **how):
        source = (Microphone if kind == "audio" else Camera)(self, ssrc, mid, **how)
        self.sources.append(source)
        return source

    async def unpublish(self, mid):
        """Stops an m-line, as removeTrack does."""
        kept = []
        for section in self.sections:
            if sdp.value(section, "mid") == mid:
                section = [line for line in section if not line.startswith(("a=msid:", "a=ssrc:"))]
                section = ["a=inactive" if line == "a=sendonly" else line for line in section]
            kept.append(section)
        for source in self.sources:
            if source.extensions.get(sdp.MID) == mid.encode():
                source.stop()
        await self.offer(kept)

    async def leave(self):
        await self.send(leave=rtc.LeaveRequest(reason=models.DisconnectReason.CLIENT_INITIATED))
        await self.close()

    async def close(self):
        for source in self.sources:
            source.stop()
        for task in self.tasks:
            task.cancel()
        if self.http:
            with contextlib.suppress(Exception):
                await asyncio.wait_for(self.socket.close(), 1)
            await self.http.close()
        await asyncio.gather(self.subscriber.close(), self.publisher.close())
