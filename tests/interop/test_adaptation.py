"""What is sent follows what is shown, and how the connections do is told."""

import asyncio

from livekit import rtc as sdk
from livekit.protocol import rtc

from client import PATIENCE, heard_frequency, joined
from conftest import ours
from signaling import CAMERA, CAMERA_OFFER, session

LOW, ALL, NONE = [True, False, False], [True] * 3, [False] * 3


async def publish_camera(publisher):
    """The sid of a camera that is announced and negotiated; no media flows."""
    await publisher.send(add_track=rtc.AddTrackRequest(cid="cid", **CAMERA))
    published = await publisher.expect("track_published")
    await publisher.send(offer=rtc.SessionDescription(type="offer", sdp=CAMERA_OFFER, id=1))
    await publisher.expect("answer")
    return published.track.sid


async def asked_for(publisher):
    """The layers that the publisher is told to send next."""
    update = await publisher.expect("subscribed_quality_update")
    (codec,) = update.subscribed_codecs
    assert codec.codec == "vp8"
    assert list(codec.qualities) == list(update.subscribed_qualities)
    assert [quality.quality for quality in codec.qualities] == [0, 1, 2]
    return [quality.enabled for quality in codec.qualities]


async def test_only_the_layers_that_somebody_shows_are_asked_for(server, room):
    async with session(server, room, "alice") as alice:
        async with session(server, room, "bob") as bob:
            sid = await publish_camera(alice)
            assert await asked_for(alice) == ALL
            for width, height, layers in ((160, 90, LOW), (1280, 720, ALL)):
                await bob.send(
                    track_setting=rtc.UpdateTrackSettings(track_sids=[sid], width=width, height=height)
                )
                assert await asked_for(alice) == layers
            await bob.send(leave=rtc.LeaveRequest())
            assert await asked_for(alice) == NONE


async def test_nobody_there_means_that_nothing_need_be_sent(server, room):
    async with session(server, room, "alice") as alice:
        await publish_camera(alice)
        assert await asked_for(alice) == NONE
        async with session(server, room, "bob", query="&adaptive_stream=1"):
            assert await asked_for(alice) == LOW


async def test_a_good_connection_is_told_to_be_excellent(server, room):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        await alice.publish_tone(440)
        quality = sdk.ConnectionQuality.QUALITY_EXCELLENT
        for person in (alice, bob):
            await person.event(
                "connection_quality_changed",
                lambda who, now: who.identity == "alice" and now == quality,
            )


async def test_audio_is_sent_redundantly_unless_its_publisher_says_no(server, room):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        sizes = []
        for red in (True, False):
            publication = await alice.publish_tone(440, red=red)
            track, *_ = await bob.event("track_subscribed")
            assert abs(await heard_frequency(track) - 440) < 3
            (inbound,) = [s.inbound_rtp for s in await track.get_stats() if s.HasField("inbound_rtp")]
            assert inbound.received.packets_lost == 0
            sizes.append(inbound.inbound.bytes_received / inbound.received.packets_received)
            await alice.room.local_participant.unpublish_track(publication.sid)
        redundant, plain = sizes
        assert redundant > 1.5 * plain


async def test_a_voice_makes_a_speaker_once(server, room):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        await alice.publish_tone(440)
        is_alice = lambda speakers: [s.identity for s in speakers] == ["alice"]
        await bob.event("active_speakers_changed", is_alice)
        track = next(iter(bob.room.remote_participants.values())).track_publications
        for _ in range(3):
            await heard_frequency(next(iter(track.values())).track)
        changes = [values for name, values in list(bob.events._queue) if name == "active_speakers_changed"]
        assert all(is_alice(*values) for values in changes), changes


@ours
async def test_in_a_large_room_silence_is_not_forwarded_and_a_voice_is(server, room):
    names = [f"p{index}" for index in range(10)]
    async with joined(server, room, *names) as people:
        speaker, listener, *_ = people
        silence = 0
        await asyncio.gather(*(person.publish_tone(silence) for person in people[1:]))
        silent = [(await listener.event("track_subscribed"))[0] for _ in people[2:]]
        await speaker.publish_tone(440)
        voice, *_ = await listener.event("track_subscribed")

        async def silent_packets():
            stats = [each for track in silent for each in await track.get_stats() if each.HasField("inbound_rtp")]
            return sum(each.inbound_rtp.received.packets_received for each in stats)

        # Whoever has few tracks gets them all, silent ones too; from here on it has many.
        before = await silent_packets()
        # What was held back of a voice comes in one go, and the player runs faster until it has caught up.
        heard = [await heard_frequency(voice)]
        while abs(heard[-1] - 440) >= 3 and len(heard) < 4:
            heard.append(await heard_frequency(voice))
        assert abs(heard[-1] - 440) < 3, heard
        assert await silent_packets() == before
        (inbound,) = [s.inbound_rtp for s in await voice.get_stats() if s.HasField("inbound_rtp")]
        assert inbound.received.packets_lost == 0


async def test_a_real_publisher_stops_and_resumes_layers(server, room):
    options = sdk.RoomOptions(dynacast=True)
    async with joined(server, room, "alice", "bob", options=options) as (alice, bob):
        publication = await alice.publish_colour((50, 60, 200), size=(1280, 720))
        _, seen, _ = await bob.event("track_subscribed")

        async def active_layers():
            stats = await publication.track.get_stats()
            sent = [s.outbound_rtp.outbound for s in stats if s.HasField("outbound_rtp")]
            return sorted(stream.rid for stream in sent if stream.active)

        async def becomes(layers):
            while await active_layers() != layers:
                await asyncio.sleep(0.1)

        for quality, layers in (
            (sdk.VideoQuality.VIDEO_QUALITY_LOW, ["q"]),
            (sdk.VideoQuality.VIDEO_QUALITY_HIGH, ["f", "h", "q"]),
        ):
            seen.set_video_quality(quality)
            await asyncio.wait_for(becomes(layers), PATIENCE)
