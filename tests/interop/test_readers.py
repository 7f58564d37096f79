"""Readers as liberal as the public: offers, answers, tokens and URLs as other clients write them."""

import asyncio
import time

import aiohttp
import pytest
from yarl import URL

import session_description as sdp
from packets import Source, opus, rtp
from raw_client import claims, sign
from signaling import status

LONG_MID = "a-rather-long-mid-of-32-letters!!"
REJECTED = ["m=video 0 UDP/TLS/RTP/SAVPF 0", "c=IN IP4 0.0.0.0"]
MIXED = ["a=extmap-allow-mixed"]


def audio(mid="0", **form):
    return sdp.media("audio", mid, form.pop("formats", sdp.OPUS), **{"msid": "s mic", "ssrcs": [1], **form})


def changed(lines, change):
    """The lines after `change`, which gives None for those that are left out."""
    return [new for line in lines if (new := change(line)) is not None]


def with_first(lines, *replaced):
    return [*replaced, *lines[len(replaced) :]]


CANDIDATES = [
    "a=candidate:1 1 udp 2122260223 4c5c2f22-6d1e-4ab8-9ad1-9d1a0b9a4ed5.local 53124 typ host generation 0 network-id 1",
    "a=candidate:2 1 tcp 1518280447 192.0.2.9 9 typ host tcptype active",
    "a=candidate:x 1 UDP 1 fe80::1%eth0 1 typ host",
    "a=end-of-candidates",
]
TELEPHONY = ("a=rtpmap:0 PCMU/8000", "a=rtpmap:8 PCMA/8000", "a=rtpmap:13 CN/8000", "a=rtpmap:96 OPUS/48000/2", "a=rtpmap:101 telephone-event/8000")

# Name → the m-lines, the form of the description, and how the media is marked.
OFFERS = {
    "mids are words": ([sdp.data("datachannel"), audio("audio-track_1")], {}, dict(mid="audio-track_1")),
    "a mid of 33 characters, two-byte extensions": (
        [sdp.data(), audio(LONG_MID, extensions={20: "mid", 33: "level"})],
        dict(session=MIXED),
        dict(mid=LONG_MID, mid_id=20, level_id=33, two_byte=True),
    ),
    "extension ids above 14": (
        [sdp.data(), audio(extensions={16: "mid", 99: "level"})],
        dict(session=MIXED),
        dict(mid_id=16, level_id=99, two_byte=True),
    ),
    "a rejected m-line with mid": ([[*REJECTED, "a=inactive", "a=mid:9"], sdp.data(), audio()], {}, {}),
    "a rejected m-line without mid": ([sdp.data(), REJECTED, audio()], {}, {}),
    "an m-line of unknown codecs": (
        [sdp.data(), sdp.media("video", "7", ["a=rtpmap:120 H266/90000"], msid="s v"), audio()],
        {},
        {},
    ),
    "rtx without apt": ([sdp.data(), audio(formats=[*sdp.OPUS, "a=rtpmap:120 rtx/48000", "a=fmtp:121 foo"])], {}, {}),
    "no extensions, a declared SSRC": ([sdp.data(), audio(extensions={})], {}, dict(mid=None, level_id=None)),
    "no extensions, no SSRC": ([sdp.data(), audio(extensions={}, ssrcs=[])], {}, dict(mid=None, level_id=None)),
    "no msid": ([sdp.data(), audio(msid=None)], {}, {}),
    "a stream named -": ([sdp.data(), audio(msid="- mic")], {}, {}),
    "msid in ssrc lines": (
        [sdp.data(), [*audio(msid=None, ssrcs=[]), "a=ssrc:1 cname:x", "a=ssrc:1 msid:s mic"]],
        {},
        {},
    ),
    "lines end in LF": ([sdp.data(), audio()], dict(end="\n"), {}),
    "trailing spaces": ([changed(sdp.data(), lambda x: x + " "), changed(audio(), lambda x: x + "  ")], {}, {}),
    "transport in the session": ([sdp.data(), audio()], dict(transport_in_session=True), {}),
    "sendrecv, a port and an address": (
        [sdp.data(), with_first(audio(direction="sendrecv", port=50_000), "m=audio 50000 UDP/TLS/RTP/SAVPF 111", "c=IN IP4 203.0.113.7")],
        {},
        {},
    ),
    "IPv6, bandwidth and a title": (
        [sdp.data(), with_first(audio(), "m=audio 9 UDP/TLS/RTP/SAVPF 111", "i=a title\r\nc=IN IP6 ::\r\nb=AS:256")],
        {},
        {},
    ),
    "no BUNDLE group": ([audio()], dict(group=""), {}),
    "data not bundled": ([audio(), sdp.data()], dict(group="a=group:BUNDLE 0"), {}),
    "bundle-only": ([sdp.data(), [*audio(port=0), "a=bundle-only"]], {}, {}),
    "mDNS and TCP candidates": ([sdp.data() + CANDIDATES, audio()], {}, {}),
    "setup active": ([sdp.data(), audio()], dict(setup="active"), {}),
    "Opus beside telephony": (
        [sdp.data(), audio(formats=TELEPHONY, payload_types=["0", "8", "13", "96", "101"])],
        {},
        dict(payload_type=96),
    ),
    "several fingerprints": (
        [sdp.data(), audio()],
        dict(session=["a=fingerprint:sha-512 " + ":".join(["ab"] * 64)]),
        {},
    ),
    "unknown attributes": (
        [sdp.data(), [*audio(), "a=x-google-flag:conference", "a=ssrc:1 cname:" + "x" * 2_000, "a=foo"]],
        {},
        {},
    ),
    "SCTP as of 2013": (
        [["m=application 9 DTLS/SCTP 5000", "c=IN IP4 0.0.0.0", "a=mid:d", "a=sctpmap:5000 webrtc-datachannel 1024"], audio()],
        {},
        {},
    ),
    "other names of the protocols": (
        [
            with_first(sdp.data(), "m=application 9 TCP/DTLS/SCTP webrtc-datachannel"),
            with_first(audio(), "m=audio 9 RTP/SAVPF 111"),
        ],
        {},
        {},
    ),
    "rtcp-mux-only alone": (
        [sdp.data(), changed(audio(), lambda x: "a=rtcp-mux-only" if x == "a=rtcp-mux" else x)],
        {},
        {},
    ),
}


@pytest.mark.parametrize("form", OFFERS)
async def test_offers_of_every_form_are_answered_line_by_line_and_heard(meeting, form):
    sections, description, marks = OFFERS[form]
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.announce("mic")
    answer = await alice.offer(sections, **description)
    assert [sdp.kind(s) for s in sdp.split(answer)[1]] == [sdp.kind(s) for s in sections]
    mid, mid_id, level_id, two_byte = (marks.get(k, d) for k, d in (("mid", "0"), ("mid_id", 4), ("level_id", 1), ("two_byte", False)))
    source = Source(alice, marks.get("payload_type", 111), 48_000, 1, None)

    async def frame():


        extensions = {**({mid_id: mid.encode()} if mid else {}), **({level_id: b"\x10"} if level_id else {})}
        packet = rtp(source.payload_type, source.sequence, source.timestamp, 1, opus(source.number), extensions=extensions, two_byte=two_byte)
        await alice.publisher.send(packet)
        source.sequence += 1

    alice.sources.append(source.play(0.02, frame))
    await bob.receives(track.sid)


def each_video(change):
    """An answer in which the m-lines of video are what `change` makes of the offered and the answered ones."""

    def rewrite(client, offer, answer):
        session, answered = sdp.split(answer)
        offered = sdp.split(offer)[1]
        lines = [change(o, a) if sdp.kind(o) == "video" else a for o, a in zip(offered, answered)]
        return "\r\n".join([*session, *(line for section in lines for line in section)]) + "\r\n"

    return rewrite


def in_session(client, offer, answer):
    transport = ("a=ice-", "a=fingerprint", "a=setup")
    sections = [[line for line in s if not line.startswith(transport)] for s in sdp.split(answer)[1]]
    return client.subscriber.describe(sections, setup="active", transport_in_session=True)


ANSWERS = {
    "as libwebrtc writes it": lambda client, offer, answer: answer,
    "video rejected, with mid": each_video(lambda o, a: [*REJECTED, f"a=mid:{sdp.value(o, 'mid')}", "a=inactive"]),
    "video rejected, without mid": each_video(lambda o, a: REJECTED),
    "video inactive": each_video(lambda o, a: changed(a, lambda x: "a=inactive" if x == "a=recvonly" else x)),
    "no direction": lambda client, offer, answer: answer.replace("a=recvonly\r\n", ""),
    "no BUNDLE group": lambda client, offer, answer: "\r\n".join(x for x in answer.split("\r\n") if not x.startswith("a=group")),
    "transport in the session": in_session,
    "LF, none at the end": lambda client, offer, answer: answer.replace("\r\n", "\n").rstrip("\n"),
}


@pytest.mark.parametrize("form", ANSWERS)
async def test_answers_of_every_form_are_read_and_audio_is_heard(meeting, form):
    alice = await meeting.join("alice")
    bob = await meeting.join("bob", active=False, answers=False)
    answered = 0

    async def answer_all():
        nonlocal answered
        while True:
            await meeting.until(lambda: len(bob.messages("offer")) > answered, "an offer", patience=60)
            offer = bob.messages("offer")[-1]
            answered = len(bob.messages("offer"))
            await bob.answer(offer, ANSWERS[form](bob, offer.sdp, bob.answer_sdp(offer)))

    bob.tasks.append(asyncio.create_task(answer_all()))
    await alice.publish("cam", "video", mid="5")
    microphone = await alice.publish("mic", mid="0")
    await bob.receives(microphone.sid)
    await bob.settled()
    assert bob.closed is None and not bob.messages("leave")


def video(**grant):
    return {"video": {"roomJoin": True, "room": "r", **grant}}


# Claims by the time at which they are made.
TOKENS = {
    "exp with a fraction": lambda now: dict(exp=now + 600.5),
    "nbf with a fraction": lambda now: dict(nbf=now - 1.25),
    "exp in milliseconds": lambda now: dict(exp=int(now * 1_000)),
    "exp as a float": lambda now: dict(exp=1.9e9),
    "unknown claims": lambda now: dict(iat=int(now), aud="https://x", jti="1", foo={"a": [1]}),
    "aud as a list": lambda now: dict(aud=["a", "b"]),
    "name null": lambda now: dict(name=None),
    "metadata null": lambda now: dict(metadata=None),
    "attributes null": lambda now: dict(attributes=None),
    "kind null": lambda now: dict(kind=None),
    "nbf null": lambda now: dict(nbf=None),
    "canPublishSources null": lambda now: video(canPublishSources=None),
    "canPublish null": lambda now: video(canPublish=None),
    "hidden null": lambda now: video(hidden=None),
    "unknown grants": lambda now: video(agent=True, newGrant={"x": 1}),
    "room configuration": lambda now: dict(roomConfig={"maxParticipants": 3, "agents": [{"agentName": "x"}]}, roomPreset="p"),
    "grants of other services": lambda now: dict(sip={"admin": True}, inference={"perform": True}, sha256="x"),
    "a clock 30 s behind": lambda now: dict(nbf=int(now) + 30),
    "a clock 30 s ahead": lambda now: dict(exp=int(now) - 30),
    "an identity of many scripts": lambda now: dict(sub="👩‍🚀 김 a/b%2F?&#\"'"),
    "a room in Korean": lambda now: dict(video={"roomJoin": True, "room": "회의/주간 %20?#"}),
}


@pytest.mark.parametrize("form", TOKENS)
async def test_tokens_as_back_ends_make_them_are_accepted(server, form):
    got, text = await status(server, "/rtc/validate", sign(claims("alice", "r") | TOKENS[form](time.time())))
    assert got == 200, text


REFUSED_TOKENS = {
    "an hour early": lambda now: dict(nbf=int(now) + 3_600, exp=int(now) + 7_200),
    "an hour late": lambda now: dict(exp=int(now) - 3_600),
}


@pytest.mark.parametrize("form", REFUSED_TOKENS)
async def test_tokens_out_of_their_time_are_refused(server, form):
    got, _ = await status(server, "/rtc/validate", sign(claims("alice", "r") | REFUSED_TOKENS[form](time.time())))
    assert got == 401


@pytest.mark.parametrize("headers", [{"typ": None}, {"kid": "k1"}], ids=str)
async def test_headers_of_tokens_may_lack_typ_and_name_a_key(server, headers):
    got, text = await status(server, "/rtc/validate", sign(claims("alice", "r"), headers))
    assert got == 200, text


@pytest.mark.parametrize("path", ["//rtc", "/rtc/", "/meet/rtc"])
async def test_other_paths_join(meeting, path):
    await meeting.join("alice", path=path)


ORIGIN = {"Origin": "https://meet.example"}


@pytest.mark.parametrize("method, path", [("OPTIONS", "/rtc/validate"), ("GET", "/rtc/validate"), ("POST", "/"), ("OPTIONS", "/twirp/livekit.RoomService/ListRooms")])
async def test_scripts_of_other_origins_may_ask(server, method, path):
    asked = {**ORIGIN, "Access-Control-Request-Method": "POST"} if method == "OPTIONS" else ORIGIN
    async with aiohttp.ClientSession() as http:
        async with http.request(method, URL(server.http + path, encoded=True), headers=asked) as response:
            assert response.headers.get("Access-Control-Allow-Origin") in ("*", ORIGIN["Origin"])
