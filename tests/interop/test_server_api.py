"""`RoomService` by the published package, in both encodings: what the caller gets, and what clients see of it."""

import asyncio
import base64
import json
import time

import aiohttp
import jwt
import pytest
import pytest_asyncio
from livekit import api, rtc
from livekit.protocol import models
from livekit.protocol import rtc as wire

from client import heard_frequency, joined
from conftest import SECRET, ours
from server_api import bearer, error_of, nonce, opened, post

Reason = models.DisconnectReason


@pytest_asyncio.fixture(params=["protobuf", "json"])
async def rooms(server, request):
    """The caller's `RoomService`."""
    async with opened(server, request.param) as caller:
        yield caller.room


async def names(rooms, *wanted):
    listed = await rooms.list_rooms(api.ListRoomsRequest(names=wanted))
    return [room.name for room in listed.rooms]


# Rooms


async def test_a_room_is_made_listed_and_deleted(rooms, room):
    made = await rooms.create_room(
        api.CreateRoomRequest(name=room, empty_timeout=33, departure_timeout=7, max_participants=4, metadata="about 🎉")
    )
    assert (made.name, made.empty_timeout, made.departure_timeout) == (room, 33, 7)
    assert (made.max_participants, made.metadata, made.num_participants) == (4, "about 🎉", 0)
    assert made.sid.startswith("RM_") and made.creation_time > 0 and made.enabled_codecs
    listed = (await rooms.list_rooms(api.ListRoomsRequest(names=[room]))).rooms
    assert [(each.sid, each.metadata) for each in listed] == [(made.sid, "about 🎉")]
    assert room in await names(rooms) and await names(rooms, "nowhere") == []
    await rooms.delete_room(api.DeleteRoomRequest(room=room))
    assert await names(rooms, room) == []
    assert await error_of(rooms.delete_room(api.DeleteRoomRequest(room=room))) == ("not_found", 404)


@ours
async def test_making_a_room_again_changes_what_is_said_and_nothing_else(rooms, room):
    first = await rooms.create_room(api.CreateRoomRequest(name=room, empty_timeout=33, metadata="one"))
    second = await rooms.create_room(api.CreateRoomRequest(name=room, max_participants=9))
    assert (second.sid, second.empty_timeout, second.metadata, second.max_participants) == (first.sid, 33, "one", 9)


async def test_a_full_room_takes_nobody(rooms, meeting, room):
    await rooms.create_room(api.CreateRoomRequest(name=room, max_participants=1))
    await meeting.join("alice")
    with pytest.raises((AssertionError, aiohttp.WSServerHandshakeError)):
        await meeting.join("bob")


async def test_who_joins_a_room_made_before_gets_its_metadata(rooms, meeting, room):
    made = await rooms.create_room(api.CreateRoomRequest(name=room, metadata="prepared"))
    alice = await meeting.join("alice")
    assert (alice.joined.room.sid, alice.joined.room.metadata) == (made.sid, "prepared")


async def test_a_room_that_nobody_joins_ends(rooms, room):
    await rooms.create_room(api.CreateRoomRequest(name=room, empty_timeout=1))
    async with asyncio.timeout(20):
        while await names(rooms, room):
            await asyncio.sleep(0.2)


async def test_deleting_a_room_sends_everybody_away(rooms, meeting, room):
    alice, bob = await meeting.join_all("alice", "bob")
    await rooms.delete_room(api.DeleteRoomRequest(room=room))
    for client in (alice, bob):
        leave = await client.message("leave")
        assert (leave.reason, leave.action) == (Reason.ROOM_DELETED, wire.LeaveRequest.Action.DISCONNECT)


async def test_the_rooms_metadata_is_told_to_everybody(rooms, meeting, room):
    alice = await meeting.join("alice")
    changed = await rooms.update_room_metadata(api.UpdateRoomMetadataRequest(room=room, metadata="new"))
    assert (changed.name, changed.metadata) == (room, "new")
    await alice.message("room_update", lambda m: m.room.metadata == "new")
    absent = api.UpdateRoomMetadataRequest(room=room + "-absent", metadata="x")
    assert await error_of(rooms.update_room_metadata(absent)) == ("not_found", 404)


# Participants


async def test_participants_are_listed_with_their_tracks_and_hidden_ones_too(rooms, meeting, room):
    alice = await meeting.join("alice")
    await meeting.join("ghost", hidden=True)
    track = await alice.publish("mic")
    await meeting.until(lambda: alice.messages("track_published"))
    async with asyncio.timeout(10):
        while True:
            listed = (await rooms.list_participants(api.ListParticipantsRequest(room=room))).participants
            people = {each.identity: each for each in listed}
            if people["alice"].tracks:
                break
            await asyncio.sleep(0.05)
    assert set(people) == {"alice", "ghost"}
    assert people["alice"].tracks[0].sid == track.sid and people["ghost"].permission.hidden
    one = await rooms.get_participant(api.RoomParticipantIdentity(room=room, identity="alice"))
    assert (one.sid, one.state) == (alice.sid, models.ParticipantInfo.State.ACTIVE)
    nobody = api.RoomParticipantIdentity(room=room, identity="nobody")
    assert await error_of(rooms.get_participant(nobody)) == ("not_found", 404)


async def test_a_room_that_is_not_there_has_nobody_in_it(rooms, room):
    assert not (await rooms.list_participants(api.ListParticipantsRequest(room=room))).participants
    absent = api.RoomParticipantIdentity(room=room, identity="alice")
    assert await error_of(rooms.get_participant(absent)) == ("not_found", 404)
    assert await error_of(rooms.remove_participant(absent)) == ("not_found", 404)


async def test_a_participant_is_removed(rooms, meeting, room):
    alice, bob = await meeting.join_all("alice", "bob")
    await rooms.remove_participant(api.RoomParticipantIdentity(room=room, identity="bob"))
    leave = await bob.message("leave")
    assert leave.reason == Reason.PARTICIPANT_REMOVED
    await meeting.until(lambda: "bob" not in alice.view(), "the news that bob is gone")


async def test_a_track_is_muted_and_unmuted_only_when_that_is_configured(rooms, meeting, room):
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.publish("mic")
    await meeting.until(lambda: bob.track(track.sid), "the track")
    request = dict(room=room, identity="alice", track_sid=track.sid)
    muted = await rooms.mute_published_track(api.MuteRoomTrackRequest(**request, muted=True))
    assert muted.track.sid == track.sid and muted.track.muted
    told = await alice.message("mute")
    assert (told.sid, told.muted) == (track.sid, True)
    await meeting.until(lambda: bob.track(track.sid).muted, "the mute")
    unmute = rooms.mute_published_track(api.MuteRoomTrackRequest(**request, muted=False))
    assert await error_of(unmute) == ("failed_precondition", 412)
    assert bob.track(track.sid).muted


async def test_a_participant_is_changed_and_what_is_absent_stays(rooms, meeting, room):
    alice, bob = await meeting.join_all("alice", "bob")

    async def change(**what):
        return await rooms.update_participant(api.UpdateParticipantRequest(room=room, identity="alice", **what))

    info = await change(metadata="M", name="Alice A", attributes={"hand": "raised", "seat": "3"})
    assert (info.metadata, info.name, dict(info.attributes)) == ("M", "Alice A", {"hand": "raised", "seat": "3"})
    info = await change(attributes={"hand": ""})
    assert (info.metadata, info.name, dict(info.attributes)) == ("M", "Alice A", {"seat": "3"})

    def seen(who):
        return (who.metadata, who.name, dict(who.attributes)) == ("M", "Alice A", {"seat": "3"})

    await meeting.until(lambda: "alice" in bob.view() and seen(bob.view()["alice"]), "the news of alice")
    await alice.message("update", lambda m: any(p.sid == alice.sid and seen(p) for p in m.participants))
    nobody = api.UpdateParticipantRequest(room=room, identity="nobody", metadata="x")
    assert await error_of(rooms.update_participant(nobody)) == ("not_found", 404)


async def test_permissions_taken_away_take_effect_at_once(rooms, meeting, room):
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.publish("mic")
    await bob.receives(track.sid)
    permission = models.ParticipantPermission(can_subscribe=True, can_publish=False, can_publish_data=False)
    request = api.UpdateParticipantRequest(room=room, identity="alice", permission=permission)
    info = await rooms.update_participant(request)
    assert info.permission.can_subscribe and not info.permission.can_publish
    await meeting.until(lambda: not bob.track(track.sid), "the end of the track")
    await alice.message("track_unpublished", lambda m: m.track_sid == track.sid)


async def test_tracks_are_subscribed_to_in_a_participants_name(rooms, meeting, room):
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.publish("mic")
    await bob.receives(track.sid)

    async def subscribe(**what):
        await rooms.update_subscriptions(api.UpdateSubscriptionsRequest(room=room, identity="bob", **what))

    mark = bob.mark()
    await subscribe(track_sids=[track.sid], subscribe=False)
    await bob.message("offer", since=mark)
    mark = bob.mark()
    by_participant = models.ParticipantTracks(participant_sid=alice.sid, track_sids=[track.sid])
    await subscribe(participant_tracks=[by_participant], subscribe=True)
    await bob.message("offer", since=mark)


# Data


async def test_data_reaches_those_it_is_for(rooms, meeting, room):
    alice, bob = await meeting.join_all("alice", "bob")

    async def send(text, kind=models.DataPacket.Kind.RELIABLE, **what):
        await rooms.send_data(api.SendDataRequest(room=room, data=text, kind=kind, **what))

    await send(b"to all", topic="news")
    await send(b"to bob", destination_identities=["bob"])
    await send(b"to alice's sid", destination_sids=[alice.sid])
    await send(b"last")

    def texts(client):
        return [packet.user.payload for packet in client.data()]

    await meeting.until(lambda: b"last" in texts(alice) and b"last" in texts(bob), "the data")
    assert texts(alice) == [b"to all", b"to alice's sid", b"last"]
    assert texts(bob) == [b"to all", b"to bob", b"last"]
    first = alice.data()[0]
    assert (first.user.topic, first.participant_identity) == ("news", "")
    await send(b"lossy", kind=models.DataPacket.Kind.LOSSY)
    await meeting.until(lambda: b"lossy" in texts(alice), "lossy data")


async def test_a_message_that_is_sent_twice_arrives_once(server, meeting, room):
    alice = await meeting.join("alice")
    twice, caller = nonce(), bearer(room_admin=True, room=room)

    async def send(text, key):
        body = {"room": room, "data": base64.b64encode(text).decode(), "nonce": base64.b64encode(key).decode()}
        return await post(server, "SendData", json.dumps(body), caller)

    for text, key in ((b"one", twice), (b"one", twice), (b"two", nonce()), (b"three", b""), (b"three", b""), (b"last", b"")):
        assert (await send(text, key))[0] == 200
    await meeting.until(lambda: any(p.user.payload == b"last" for p in alice.data()), "the data")
    assert [p.user.payload for p in alice.data()] == [b"one", b"two", b"three", b"three", b"last"]
    status, _, answer = await send(b"x", b"short")
    assert (status, answer["code"]) == (400, "invalid_argument")


# Calls


async def call(server, room, identity, **what):
    body = {"room": room, "destination_identity": identity, **what}
    status, _, answer = await post(server, "PerformRpc", json.dumps(body), bearer(room_admin=True, room=room))
    return status, answer


async def test_a_participants_method_is_called(server, room):
    async with joined(server, room, "alice", "bob") as (alice, bob):

        async def greet(data):
            return f"hello {data.payload}, within {data.response_timeout:.0f} s"

        async def fail(data):
            raise rtc.RpcError(4711, "not today", "because")

        bob.room.local_participant.register_rpc_method("greet", greet)
        bob.room.local_participant.register_rpc_method("fail", fail)
        assert await call(server, room, "bob", method="greet", payload="caller") == (200, {"payload": "hello caller, within 10 s"})
        status, answer = await call(server, room, "bob", method="fail")
        assert (status, answer["code"]) == (500, "internal") and "4711: not today: because" in answer["msg"]
        status, answer = await call(server, room, "bob", method="absent")
        assert (status, answer["code"]) == (400, "invalid_argument") and "1400" in answer["msg"]
        status, answer = await call(server, room, "bob", method="greet", payload="x" * 15_361)
        assert status == 400


async def test_a_call_that_nobody_takes_ends(server, meeting, room):
    alice = await meeting.join("alice")
    status, answer = await call(server, room, "alice", method="greet", payload="x")
    assert (status, answer["code"]) == (408, "canceled") and "1501" in answer["msg"]
    request = next(p.rpc_request for p in alice.data() if p.HasField("rpc_request"))
    assert (request.method, request.payload, request.version) == ("greet", "x", 1)
    status, answer = await call(server, room, "", method="greet")
    assert (status, answer["code"]) == (400, "invalid_argument")


@ours
async def test_a_call_of_somebody_who_is_not_there_is_not_found(server, meeting, room):
    await meeting.join("alice")
    assert (await call(server, room, "nobody", method="greet"))[0] == 404
    assert (await call(server, room + "-absent", "nobody", method="greet"))[0] == 404


# Moves


@ours
async def test_a_participant_is_moved_with_its_tracks(rooms, server, room):
    there = room + "-there"
    async with joined(server, room, "alice", "carol") as (alice, carol), joined(server, there, "bob") as bob:
        await alice.publish_tone(660)
        await carol.event("track_subscribed")
        await rooms.move_participant(api.MoveParticipantRequest(room=room, identity="alice", destination_room=there))
        await carol.event("participant_disconnected", lambda who: who.identity == "alice")
        await bob.event("participant_connected", lambda who: who.identity == "alice")
        track, _, who = await bob.event("track_subscribed")
        assert who.identity == "alice" and abs(await heard_frequency(track) - 660) < 10
        assert "bob" in alice.room.remote_participants and "carol" not in alice.room.remote_participants
        listed = (await rooms.list_participants(api.ListParticipantsRequest(room=room))).participants
        assert [each.identity for each in listed] == ["carol"]


@ours
async def test_a_moved_client_is_told_where_and_given_a_token(rooms, server, meeting, room):
    there = room + "-there"
    alice = await meeting.join("alice")
    await rooms.move_participant(api.MoveParticipantRequest(room=room, identity="alice", destination_room=there))
    moved = await alice.message("room_moved")
    assert moved.room.name == there and moved.participant.sid == alice.sid
    claims = jwt.decode(moved.token, SECRET, algorithms=["HS256"])
    assert (claims["sub"], claims["video"]["room"], claims["video"]["roomJoin"]) == ("alice", there, True)
    leave = await alice.message("leave")
    assert leave.action == wire.LeaveRequest.Action.RECONNECT
    nobody = api.MoveParticipantRequest(room=room, identity="nobody", destination_room=there)
    assert await error_of(rooms.move_participant(nobody)) == ("not_found", 404)


async def test_nobody_is_moved_to_where_it_is(rooms, meeting, room):
    await meeting.join("alice")
    for ask, request in (
        (rooms.move_participant, api.MoveParticipantRequest), (rooms.forward_participant, api.ForwardParticipantRequest),
    ):
        call = ask(request(room=room, identity="alice", destination_room=room))
        assert await error_of(call) == ("invalid_argument", 400)


@ours
async def test_a_token_is_revoked_with_a_removal(rooms, server, meeting, room):
    alice = await meeting.join("alice")
    now = int(time.time())
    request = api.RoomParticipantIdentity(room=room, identity="alice", revoke_token_ts=now - 60)
    await rooms.remove_participant(request)
    await alice.message("leave")
    again = await meeting.join("alice")
    request = api.RoomParticipantIdentity(room=room, identity="alice", revoke_token_ts=now + 60)
    await rooms.remove_participant(request)
    await again.message("leave")
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await meeting.join("alice")
    await meeting.join("bob")


# Refusals


async def test_each_method_wants_its_grant(server, room):
    mine = {"room": room}
    person = {**mine, "identity": "alice"}
    wanted = {
        "CreateRoom": ({"name": room}, {"room_create": True}),
        "ListRooms": ({}, {"room_list": True}),
        "DeleteRoom": (mine, {"room_create": True}),
        **{
            name: (person, {"room_admin": True, "room": room})
            for name in (
                "ListParticipants", "GetParticipant", "RemoveParticipant", "MutePublishedTrack", "UpdateParticipant",
                "UpdateSubscriptions", "SendData", "UpdateRoomMetadata", "PerformRpc",
            )
        },
        **{
            name: ({**person, "destination_room": "there"}, {"room_admin": True, "room": room, "destination_room": "there"})
            for name in ("ForwardParticipant", "MoveParticipant")
        },
    }
    every = {"room_create": True, "room_list": True, "room_admin": True, "room": room, "destination_room": "there"}
    for method, (body, grants) in wanted.items():
        too_few = [{name: value for name, value in every.items() if name != missing} for missing in grants]
        elsewhere = [{**every, "room": "elsewhere"}] if "room" in grants else []
        for grants in [{"room_join": True, "room": room}, *too_few, *elsewhere]:
            status, _, answer = await post(server, method, json.dumps(body), bearer(**grants))
            assert (status, answer["code"]) == (401, "unauthenticated"), (method, grants, answer)
        status, _, answer = await post(server, method, json.dumps(body))
        assert (status, answer) == (401, {"code": "unauthenticated", "msg": "permissions denied"}), method


async def test_bad_tokens_are_unauthenticated(server):
    for header in ("Bearer x.y.z", "Bearer ", "Basic abc", "Bearer " + "a" * 5_000):
        status, _, _ = await post(server, "ListRooms", headers={"Authorization": header})
        assert status == 401, header


async def test_what_is_no_call_is_a_bad_route(server):
    caller = bearer(room_list=True)
    for changed in (
        {"method": "Nope"}, {"verb": "GET", "body": None}, {"headers": {**caller, "Content-Type": "text/plain"}},
    ):
        status, _, answer = await post(server, **{"method": "ListRooms", "headers": caller, **changed})
        assert (status, answer["code"]) == (404, "bad_route"), changed
        assert answer["meta"]["twirp_invalid_route"].startswith((changed.get("verb", "POST")) + " /twirp/livekit.RoomService/")


async def test_malformed_bodies_are_malformed(server):
    caller = bearer(room_list=True)
    for body in ("", "{", "[]", '{"names": 3}', '{"names": [', "[" * 100_000):
        status, _, answer = await post(server, "ListRooms", body, caller)
        assert (status, answer["code"]) == (400, "malformed"), body[:20]
    binary = {**caller, "Content-Type": "application/protobuf"}
    status, _, answer = await post(server, "ListRooms", b"\x0a\xff\xff", binary)
    assert (status, answer["code"]) == (400, "malformed")


async def test_json_is_read_as_protobuf_has_it(server, room):
    caller = bearer(room_create=True, room_list=True, room_admin=True, room=room)
    for spelled in (
        {"empty_timeout": 31, "max_participants": "5"}, {"emptyTimeout": "31", "maxParticipants": 5},
        {"emptyTimeout": 31.0, "maxParticipants": 5, "metadata": None, "unknown": {"a": [1]}},
    ):
        status, _, made = await post(server, "CreateRoom", json.dumps({"name": room, **spelled}), caller)
        assert status == 200, made
        assert (made["empty_timeout"], made["max_participants"]) == (31, 5), spelled
    # Names as in the .proto files, defaults too, and 64 bits as text.
    assert made["num_participants"] == 0 and isinstance(made["creation_time"], str) and made["metadata"] == ""
    for kind in ("LOSSY", 1, "RELIABLE", 0):
        body = json.dumps({"room": room, "data": "aGk=", "kind": kind})
        assert (await post(server, "SendData", body, caller))[0] == 200, kind


async def test_limits_are_named(rooms, meeting, room):
    await meeting.join("alice")
    big, invalid = "x" * ((512 << 10) + 1), ("invalid_argument", 400)
    assert await error_of(rooms.create_room(api.CreateRoomRequest(name=room, metadata=big))) == invalid
    assert await error_of(rooms.update_room_metadata(api.UpdateRoomMetadataRequest(room=room, metadata=big))) == invalid
    for what in ({"metadata": big}, {"name": "x" * 257}, {"attributes": {"a": "x" * (64 << 10)}}):
        request = api.UpdateParticipantRequest(room=room, identity="alice", **what)
        assert await error_of(rooms.update_participant(request)) == invalid


@ours
async def test_names_are_bounded_and_a_body_too(rooms, server, room):
    for name in ("", "x" * 257, "a\nb"):
        assert await error_of(rooms.create_room(api.CreateRoomRequest(name=name))) == ("invalid_argument", 400)
    status, _, answer = await post(server, "CreateRoom", b" " * (5 << 20), bearer(room_create=True))
    assert (status, answer["code"]) == (400, "malformed")


@ours
async def test_a_service_that_is_not_here_says_so(server):
    for service in ("livekit.Egress", "livekit.Ingress", "livekit.SIP"):
        status, _, answer = await post(server, "List", service=service, headers=bearer(room_record=True))
        assert (status, answer["code"]) == (501, "unimplemented") and service in answer["msg"]
    status, _, answer = await post(server, "Do", service="livekit.Unheard")
    assert (status, answer["code"]) == (404, "bad_route")


async def test_scripts_of_any_page_may_call(server):
    asked = {"Origin": "https://example.com", "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    status, headers, _ = await post(server, "ListRooms", None, asked, verb="OPTIONS")
    assert status < 300 and headers["Access-Control-Allow-Origin"] in ("*", "https://example.com")
    assert "authorization" in headers["Access-Control-Allow-Headers"].lower()
    _, headers, _ = await post(server, "ListRooms", headers={"Origin": "https://example.com"})
    assert headers["Access-Control-Allow-Origin"] in ("*", "https://example.com")


async def test_a_double_slash_is_one(server):
    caller = bearer(room_list=True)
    assert (await post(server, "ListRooms", headers=caller, path="//twirp"))[0] == 200


@ours
async def test_a_prefix_that_a_proxy_passes_on_is_left_out(server, room):
    async with opened(server, "protobuf", "/meet") as caller:
        assert await names(caller.room, room) == []
