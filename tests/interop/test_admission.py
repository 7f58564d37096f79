"""Who is let in, and what those who are may do."""

import asyncio
import base64
import hmac
import time

import aiohttp
import jwt
import pytest
from livekit.protocol import models, rtc

from client import joined, token
from conftest import KEY, SECRET, ours
from signaling import AUDIO_OFFER, MICROPHONE, session, status


def signed(claims, secret=SECRET, algorithm="HS256"):
    now = int(time.time())
    base = {"iss": KEY, "sub": "alice", "exp": now + 600, "video": {"roomJoin": True, "room": "r"}}
    return jwt.encode({**base, **claims}, secret, algorithm=algorithm)


HOUR = 3_600


@pytest.mark.parametrize(
    "made, expected",
    [
        pytest.param(lambda: signed({}), 200, id="good"),
        pytest.param(lambda: None, 401, id="none"),
        pytest.param(lambda: "nonsense", 401, id="malformed"),
        pytest.param(lambda: signed({"exp": int(time.time()) - HOUR}), 401, id="expired"),
        pytest.param(lambda: signed({"nbf": int(time.time()) + HOUR}), 401, id="not yet valid"),
        pytest.param(lambda: signed({}, secret="guessed"), 401, id="wrongly signed"),
        pytest.param(lambda: signed({"iss": "stranger"}), 401, id="unknown key"),
        pytest.param(lambda: signed({}, secret=None, algorithm="none"), 401, id="unsigned"),
        pytest.param(lambda: signed({"video": {"room": "r"}}), 401, id="without roomJoin"),
        pytest.param(lambda: signed({"video": {"roomJoin": True}}), 400, id="without a room"),
        pytest.param(lambda: signed({"sub": ""}), 400, id="without an identity"),
        pytest.param(lambda: signed({"sub": "", "jti": "alice"}), 200, id="identity in jti"),
        pytest.param(lambda: signed({"exp": time.time() + 600.5, "nbf": 1.5}), 200, id="fractions"),
        pytest.param(lambda: signed({"exp": None, "nbf": None, "name": None, "attributes": None,
                                     "metadata": None, "kind": None}), 200, id="nulls"),
        pytest.param(lambda: signed({"aud": ["a", "b"], "new": {"x": 1}}), 200, id="unknown claims"),
        pytest.param(lambda: signed({"exp": "1900000000"}), 401, id="a time as text"),
        pytest.param(lambda: signed({"video": {"roomJoin": "yes", "room": "r"}}), 401, id="a grant as text"),
        pytest.param(lambda: signed({"video": [1]}), 401, id="grants as a list"),
        pytest.param(lambda: signed({}, algorithm="HS512"), 401, id="another algorithm"),
        pytest.param(lambda: signed({"metadata": "x" * (512 << 10)}), 200, id="512 KiB of metadata"),
        pytest.param(lambda: signed({"metadata": "x" * (513 << 10)}), 400, id="513 KiB of metadata"),
        pytest.param(lambda: "x" * (1 << 20), 401, id="1 MiB of nonsense"),
        pytest.param(lambda: "x" * (2 << 20), 431, id="2 MiB"),
    ],
)
async def test_a_token_is_answered_with_its_status(server, made, expected):
    assert (await status(server, "/rtc/validate", made()))[0] == expected


async def test_a_token_leads_into_its_own_room_only(server, room):
    async with joined(server, room, "alice") as alice:
        async with session(server, room, "bob", made=token("bob", room + "-other")) as bob:
            join = await bob.expect("join")
            assert join.room.name == room + "-other" and not join.other_participants
        assert not alice.room.remote_participants


def hashed(header, payload):
    """A token of exactly these texts, rightly signed."""
    def encoded(part):
        return base64.urlsafe_b64encode(part).rstrip(b"=")

    message = encoded(header) + b"." + encoded(payload)
    signature = hmac.digest(SECRET.encode(), message, "sha256")
    return (message + b"." + encoded(signature)).decode()


@pytest.mark.parametrize("header, payload", [
    (b'{"alg":"HS256"}', b'{"iss":"KEY","sub":"a","sub":"b","video":{"roomJoin":true,"room":"r"}}'),
    (b'{"alg":"HS256"}', b'{"iss":"KEY","sub":"a","video":{"roomJoin":true,"room":"r","room":"s"}}'),
    (b'{"alg":"RS256"}', b'{"iss":"KEY","sub":"a","video":{"roomJoin":true,"room":"r"}}'),
    (b'{"alg":"none"}', b'{"iss":"KEY","sub":"a","video":{"roomJoin":true,"room":"r"}}'),
    (b'{"alg":"HS256","crit":["x"],"x":1}', b'{"iss":"KEY","sub":"a","video":{"roomJoin":true,"room":"r"}}'),
])
@ours
async def test_a_token_that_two_readers_may_read_differently_is_refused(server, header, payload):
    made = hashed(header, payload.replace(b"KEY", KEY.encode()))
    assert (await status(server, "/rtc/validate", made))[0] == 401


@ours
async def test_a_refreshed_token_of_any_size_resumes_its_session(server, room):
    """A browser can put the token into nothing but the URL."""
    for metadata in ("x" * (512 << 10), "\u0001" * (512 << 10)):
        async with session(server, room, "alice", can_update_own_metadata=True) as alice:
            join = await alice.expect("join")
            await alice.send(update_metadata=rtc.UpdateParticipantMetadata(metadata=metadata, name="A"))
            made = None
            # The token of the new state is sent before the answer.
            while (response := await alice.receive()).WhichOneof("message") != "request_response":
                if response.WhichOneof("message") == "refresh_token":
                    made = response.refresh_token
            assert made
            resume = f"&reconnect=1&sid={join.participant.sid}"
            async with session(server, room, "alice", made=made, query=resume) as again:
                await again.expect("reconnect")
                update = await again.expect("update")
                assert next(p for p in update.participants if p.sid == join.participant.sid).metadata == metadata
                await again.send(leave=rtc.LeaveRequest())


@ours
async def test_clients_of_one_peer_connection_are_told_so(server, room):
    code, text = await status(server, "/rtc/validate?join_request=x", token("alice", room))
    assert code == 400 and "join_request" in text


@ours
async def test_scripts_of_other_origins_may_ask(server):
    async with aiohttp.ClientSession(headers={"Origin": "https://example.com"}) as http:
        for method, path, expected in (
            ("POST", "/", 200), ("GET", "/", 200), ("GET", "/nowhere", 404), ("POST", "/nowhere", 404),
            ("GET", "/rtc/validate", 401), ("GET", "/rtc/v1", 404),
        ):
            async with http.request(method, server.http + path) as response:
                assert response.status == expected, (method, path)
                assert response.headers["Access-Control-Allow-Origin"] == "https://example.com", (method, path)
        asked = {"Access-Control-Request-Method": "POST",
                 "Access-Control-Request-Headers": "authorization,content-type"}
        for path in ("/", "/rtc/validate", "/twirp/livekit.RoomService/ListRooms", "/nowhere"):
            async with http.options(server.http + path, headers=asked) as response:
                assert response.status == 204
                assert response.headers["Access-Control-Allow-Headers"] == "authorization,content-type"
        # What needs no token is not for others.
        async with http.get(server.http + "/metrics") as response:
            assert "Access-Control-Allow-Origin" not in response.headers


@ours
async def test_newer_paths_are_not_there_and_say_so_to_scripts(server):
    for path in ("/rtc/v1", "/rtc/v1/validate"):
        code, _ = await status(server, path, signed({}))
        assert code == 404


@ours
async def test_the_51st_seat_is_refused_in_words(server, room):
    async with asyncio.timeout(60):
        opened = []
        try:
            for index in range(50):
                context = session(server, room, f"p{index}")
                opened.append(context)
                await (await context.__aenter__()).expect("join")
            code, text = await status(server, "/rtc/validate", token("late", room))
            assert code == 403 and "50 of 50 seats" in text
            # Who comes back under an identity that is there gives up the older seat.
            assert (await status(server, "/rtc/validate", token("p7", room)))[0] == 200
        finally:
            for context in opened:
                await context.__aexit__(None, None, None)


async def publish_by_hand(server, room, **grants):
    """Announces a microphone and offers it whatever the announcement is answered with."""
    async with session(server, room, "mallory", **grants) as mallory:
        await mallory.expect("join")
        await mallory.send(add_track=rtc.AddTrackRequest(cid="cid", **MICROPHONE))
        await mallory.send(offer=rtc.SessionDescription(type="offer", sdp=AUDIO_OFFER, id=1))
        return await mallory.expect("answer")


@ours
async def test_who_may_not_publish_cannot_by_sdp_either(server, room):
    async with joined(server, room, "alice") as alice:
        answer = await publish_by_hand(server, room, can_publish=False)
        assert "a=inactive" in answer.sdp and "a=recvonly" not in answer.sdp
        async with joined(server, room, "bob") as bob:
            await bob.publish_tone(300)
            _, _, who = await alice.event("track_subscribed")
            assert who.identity == "bob"


async def test_who_may_publish_does(server, room):
    answer = await publish_by_hand(server, room)
    assert "a=recvonly" in answer.sdp


@ours
async def test_only_granted_sources_may_be_published(server, room):
    answer = await publish_by_hand(server, room, can_publish_sources=["camera"])
    assert "a=inactive" in answer.sdp and "a=recvonly" not in answer.sdp
    answer = await publish_by_hand(server, room, can_publish_sources=["microphone"])
    assert "a=recvonly" in answer.sdp


@ours
async def test_sources_that_are_unknown_grant_nothing(server, room):
    answer = await publish_by_hand(server, room, can_publish_sources=["everything"])
    assert "a=inactive" in answer.sdp and "a=recvonly" not in answer.sdp


async def test_who_may_not_send_data_reaches_nobody(server, room):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        async with joined(server, room, "mute", can_publish_data=False) as mute:
            try:
                await mute.room.local_participant.publish_data(b"let me")
            except Exception:
                pass  # The SDK may refuse by itself.
            await bob.room.local_participant.publish_data(b"after")
            packet, = await alice.event("data_received")
            assert packet.data == b"after"


async def test_who_may_not_subscribe_gets_nothing(server, room):
    async with joined(server, room, "alice") as alice:
        await alice.publish_tone(300)
        async with session(server, room, "deaf", can_subscribe=False) as deaf:
            join = await deaf.expect("join")
            assert not join.subscriber_primary and len(join.other_participants) == 1
            # Others hear of a track when its media is negotiated, which may be after this join.
            tracks = join.other_participants[0].tracks
            if not tracks:
                update = await deaf.expect("update", lambda u: any(p.tracks for p in u.participants))
                tracks = next(p.tracks for p in update.participants if p.tracks)
            await deaf.send(subscription=rtc.UpdateSubscription(
                track_sids=[tracks[0].sid], subscribe=True))
            await deaf.send(ping_req=rtc.Ping(timestamp=7))
            seen = []
            while (response := await deaf.receive()).WhichOneof("message") != "pong_resp":
                seen.append(response.WhichOneof("message"))
            assert "offer" not in seen


async def test_a_publisher_says_who_may_see_its_tracks(server, room):
    async with joined(server, room, "alice", "bob", "carol") as (alice, bob, carol):
        alice.room.local_participant.set_track_subscription_permissions(
            allow_all_participants=False,
            participant_permissions=[
                __import__("livekit").rtc.ParticipantTrackPermission(participant_identity="bob", allow_all=True)
            ],
        )
        await alice.publish_tone(300)
        await bob.event("track_subscribed")
        await bob.room.local_participant.publish_data(b"now")
        await carol.event("data_received")
        assert "track_subscribed" not in carol.log
