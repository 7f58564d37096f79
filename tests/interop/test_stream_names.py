"""A participant's text stays text: whatever it names its streams, others get well-formed offers."""

import pytest

import session_description as sdp
from client import joined

NAMES = ["weekly", "my stream", "a|b", "화상 회의", "x\r\na=inactive", "line\nend", "s" * 5_000, "\u2028separator"]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name[:16]))
async def test_a_stream_of_any_name_is_offered_well_formed(meeting, name):
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.publish(stream=name)
    await bob.receives(track.sid)
    section = bob.offered(track.sid)
    stream, _, appended = sdp.value(section, "msid").partition(" ")
    assert stream.startswith(f"{alice.sid}|") and appended == track.sid
    directions = [line for line in section if line in ("a=inactive", "a=sendonly", "a=sendrecv", "a=recvonly")]
    assert directions == ["a=sendonly"]
    assert all(line[1:2] == "=" for line in section)


async def test_libwebrtc_clients_stay_beside_a_stream_whose_name_holds_lines(server, room, meeting):
    async with joined(server, room, "ada", "ben") as (ada, ben):
        await ada.publish_tone(440)
        await ben.event("track_subscribed", lambda track, publication, who: who.identity == "ada")
        mallory = await meeting.join("mallory")
        evil = await mallory.publish("evil", stream="x y\r\na=ice-ufrag:zz\r\nbroken line")
        for each in (ada, ben):
            await each.event("track_subscribed", lambda track, publication, who: publication.sid == evil.sid)
        # Another negotiation, after the one with the name.
        await ada.publish_colour((200, 40, 40))
        await ben.event("track_subscribed", lambda track, publication, who: publication.name == "cam")
        assert not {"disconnected", "reconnecting"} & {*ada.log, *ben.log}
