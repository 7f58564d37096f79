"""What is encrypted between clients is forwarded untouched."""

import pytest
from livekit import rtc

from client import close_to, heard_frequency, joined, seen_colour


def options(key):
    return rtc.RoomOptions(e2ee=rtc.E2EEOptions(key_provider_options=rtc.KeyProviderOptions(shared_key=key)))


@pytest.mark.parametrize("codec", [rtc.VideoCodec.VP8, rtc.VideoCodec.H264, rtc.VideoCodec.VP9], ids=rtc.VideoCodec.Name)
async def test_each_codec_is_seen_with_the_key(server, room, codec):
    async with joined(server, room, "alice", "bob", options=options(b"secret")) as (alice, bob):
        await alice.publish_colour((200, 40, 40), codec=codec, simulcast=codec != rtc.VideoCodec.VP9)
        track, *_ = await bob.event("track_subscribed")
        colour, _ = await seen_colour(track, frames=6)
        assert close_to(colour, (200, 40, 40))


@pytest.mark.parametrize("red", [False, True], ids=["plain", "RED"])
async def test_audio_is_heard_with_the_key(server, room, red):
    async with joined(server, room, "alice", "bob", options=options(b"secret")) as (alice, bob):
        await alice.publish_tone(600, red=red)
        track, *_ = await bob.event("track_subscribed")
        assert await heard_frequency(track) == pytest.approx(600, abs=5)
