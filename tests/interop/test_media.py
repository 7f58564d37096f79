"""What one publishes, the others see and hear."""

import asyncio

import pytest
from livekit import rtc

from client import close_to, heard_frequency, joined, seen_colour

RED, GREEN, BLUE = (200, 40, 40), (40, 180, 60), (50, 60, 200)
AUDIO, VIDEO = rtc.TrackKind.KIND_AUDIO, rtc.TrackKind.KIND_VIDEO


def of_kind(kind):
    return lambda track, *_: track.kind == kind


async def test_a_tone_is_heard_at_its_frequency(server, room):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        await alice.publish_tone(440)
        track, *_ = await bob.event("track_subscribed", of_kind(AUDIO))
        assert await heard_frequency(track) == pytest.approx(440, abs=3)


async def test_a_coloured_picture_is_seen_in_its_colour(server, room):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        await alice.publish_colour(RED)
        track, *_ = await bob.event("track_subscribed", of_kind(VIDEO))
        colour, _ = await seen_colour(track)
        assert close_to(colour, RED)


async def test_who_comes_later_sees_what_is_there(server, room):
    async with joined(server, room, "alice") as alice:
        await alice.publish_colour(BLUE)
        async with joined(server, room, "bob") as bob:
            track, *_ = await bob.event("track_subscribed", of_kind(VIDEO))
            colour, _ = await seen_colour(track)
            assert close_to(colour, BLUE)


@pytest.mark.parametrize("codec", ["VP8", "H264", "VP9", "AV1"])
async def test_every_codec_passes(server, room, codec):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        await alice.publish_colour(GREEN, codec=getattr(rtc.VideoCodec, codec))
        track, publication, _ = await bob.event("track_subscribed", of_kind(VIDEO))
        colour, _ = await seen_colour(track)
        assert close_to(colour, GREEN)
        assert publication.mime_type.lower() == f"video/{codec.lower()}"


async def test_a_muted_track_is_told_and_silent_and_comes_back(server, room):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        publication = await alice.publish_tone(600)
        track, *_ = await bob.event("track_subscribed")
        await heard_frequency(track)
        publication.track.mute()
        await bob.event("track_muted")
        publication.track.unmute()
        await bob.event("track_unmuted")
        assert await heard_frequency(track) == pytest.approx(600, abs=3)


async def test_an_unpublished_track_goes_and_another_takes_its_place(server, room):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        publication = await alice.publish_tone(500)
        await bob.event("track_subscribed")
        await alice.room.local_participant.unpublish_track(publication.sid)
        await bob.event("track_unsubscribed")
        await alice.publish_tone(900)
        track, *_ = await bob.event("track_subscribed")
        assert await heard_frequency(track) == pytest.approx(900, abs=3)


async def test_without_auto_subscribe_a_track_comes_when_it_is_wanted(server, room):
    async with joined(server, room, "alice") as alice:
        options = rtc.RoomOptions(auto_subscribe=False)
        async with joined(server, room, "bob", options=options) as bob:
            await alice.publish_tone(700)
            publication, _ = await bob.event("track_published")
            assert "track_subscribed" not in bob.log
            for _ in range(2):
                publication.set_subscribed(True)
                track, *_ = await bob.event("track_subscribed")
                assert await heard_frequency(track) == pytest.approx(700, abs=3)
                publication.set_subscribed(False)
                await bob.event("track_unsubscribed")


async def test_in_a_room_of_nine_each_hears_the_eight_others(server, room):
    names = [f"p{index}" for index in range(9)]
    async with joined(server, room, *names) as people:
        await asyncio.gather(*(person.publish_tone(300 + 100 * i) for i, person in enumerate(people)))

        async def hears_all(index):
            heard = {}
            while len(heard) < 8:
                track, _, who = await people[index].event("track_subscribed")
                heard[who.identity] = track
            return {who: await heard_frequency(track) for who, track in heard.items()}

        # Two of them listen closely to everybody, all of them get everything.
        async def gets_all(index):
            got = set()
            while len(got) < 8:
                _, _, who = await people[index].event("track_subscribed")
                got.add(who.identity)

        results = await asyncio.gather(hears_all(0), hears_all(8), *(gets_all(i) for i in range(1, 8)))
        for index, heard in ((0, results[0]), (8, results[1])):
            expected = {f"p{i}": 300 + 100 * i for i in range(9) if i != index}
            assert heard == pytest.approx(expected, abs=4)


async def test_who_speaks_is_told(server, room):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        await alice.publish_tone(440)
        await bob.event("active_speakers_changed", lambda speakers: [s.identity for s in speakers] == ["alice"])
