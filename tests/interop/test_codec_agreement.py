"""Nobody is sent what was not agreed on: codecs, profiles, backup codecs, stereo."""

import pytest
from livekit import rtc as sdk
from livekit.protocol import models, rtc

import session_description as sdp
from client import close_to, joined, seen_colour
from packets import Source

LAYER = [models.VideoLayer(quality=models.VideoQuality.HIGH, width=640, height=360)]
ONLY_VP8 = lambda codec, parameters: codec.split("/")[0].lower() in ("vp8", "opus", "rtx")  # noqa: E731


def h264_camera(alice, ssrc, mid):
    """SPS, PPS and an IDR picture once a second, slices between them (RFC 6184)."""
    source = Source(alice, 102, 90_000, ssrc, mid)

    async def step():
        keyframe = source.number % 17 == 0
        if keyframe:
            await source.send(b"\x67" + b"s" * 20, marker=False)
            await source.send(b"\x68" + b"p" * 8, marker=False)
        await source.send((b"\x65" if keyframe else b"\x41") + b"i" * 200)

    alice.sources.append(source.play(1 / 15, step))
    return source


@pytest.mark.parametrize("profile", ["42e01f", "42e034", "42001f", "42c01f", "640c34"])
async def test_h264_of_every_profile_that_encoders_use_is_forwarded(meeting, profile):
    alice, bob = await meeting.join_all("alice", "bob")
    codec = [rtc.SimulcastCodec(codec="h264", cid="cam")]
    track = await alice.publish("cam", "video", sdp.h264(profile), plays=False, layers=LAYER, simulcast_codecs=codec)
    taken = sdp.split(alice.last_answer)[1][-1]
    assert not sdp.rejected(taken) and sdp.direction(taken) == "recvonly"
    h264_camera(alice, 1_000, "1")
    await bob.receives(track.sid)


async def test_a_subscriber_without_the_codec_is_told_and_is_sent_none_of_it(meeting):
    alice = await meeting.join("alice")
    bob = await meeting.join("bob", accepts=ONLY_VP8)
    codec = [rtc.SimulcastCodec(codec="h264", cid="cam")]
    camera = await alice.publish("cam", "video", sdp.h264(), plays=False, layers=LAYER, simulcast_codecs=codec)
    h264_camera(alice, 1_000, "1")
    told = await bob.message("subscription_response", lambda m: m.track_sid == camera.sid)
    assert told.err == models.SubscriptionError.SE_CODEC_UNSUPPORTED
    microphone = await alice.publish("mic")
    await bob.receives(microphone.sid)
    answered = {"96", "97", "111", "63"}
    assert {str(p.payload_type) for p in bob.subscriber.packets} <= answered


async def test_a_backup_codec_is_asked_for_where_somebody_needs_it(meeting):
    alice = await meeting.join("alice")
    codecs = [rtc.SimulcastCodec(codec="vp9", cid="cam"), rtc.SimulcastCodec(codec="vp8", cid="")]
    track = await alice.publish("cam", "video", sdp.VP9 + sdp.VP8, plays=False, layers=LAYER, simulcast_codecs=codecs)
    camera = Source(alice, 98, 90_000, 1_000, "1")

    async def vp9():
        # A whole picture without layers (RFC 9628): I, B and E are set, P on all but keyframes.
        head = 0x8C | (0x40 if camera.number % 15 else 0)
        await camera.send(bytes([head, 0x80 | camera.number >> 8 & 0x7F, camera.number & 255]) + b"y" * 100)

    alice.sources.append(camera.play(1 / 15, vp9))
    bob = await meeting.join("bob", accepts=ONLY_VP8)

    def asks_for_vp8(update):
        return any(c.codec == "vp8" and any(q.enabled for q in c.qualities) for c in update.subscribed_codecs)

    await alice.message("subscribed_quality_update", asks_for_vp8)
    second = await alice.announce(
        "cam-vp8", "video", sid=track.sid, simulcast_codecs=[rtc.SimulcastCodec(codec="vp8", cid="cam-vp8")]
    )
    assert second.sid == track.sid
    await alice.offer(alice.sections + [sdp.media("video", "2", sdp.VP8, msid="s cam-vp8", ssrcs=[2_000])])
    alice.play("video", 2_000, "2")
    await meeting.until(lambda: sum(p.payload[:1] == b"\x90" for p in bob.subscriber.packets) > 5, "VP8")
    assert not [p for p in bob.subscriber.packets if p.payload_type == 98]


async def test_stereo_is_told_exactly_for_stereo_tracks(meeting):
    formats = list(sdp.OPUS)
    formats[1] += ";stereo=1;sprop-stereo=1"
    alice, bob = await meeting.join_all("alice", "bob")
    mono = await alice.publish("mono", formats=formats)
    assert "stereo=1" not in sdp.fmtp(sdp.split(alice.last_answer)[1][-1], 111).split(";")
    features = [models.AudioTrackFeature.TF_STEREO]
    stereo = await alice.publish("stereo", formats=formats, stereo=True, audio_features=features)
    assert "stereo=1" in sdp.fmtp(sdp.split(alice.last_answer)[1][-1], 111).split(";")
    await bob.receives(mono.sid)
    await bob.receives(stereo.sid)
    assert bob.track(stereo.sid).stereo and not bob.track(mono.sid).stereo
    assert "sprop-stereo=1" in sdp.fmtp(bob.offered(stereo.sid), 111).split(";")
    assert "sprop-stereo=1" not in sdp.fmtp(bob.offered(mono.sid), 111).split(";")


async def test_four_codecs_of_one_participant_are_each_seen(server, room):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        for codec in (sdk.VideoCodec.AV1, sdk.VideoCodec.VP9, sdk.VideoCodec.VP8, sdk.VideoCodec.H264):
            await alice.publish_colour((200, 40, 40), codec=codec, simulcast=False, size=(320, 180), rate=8)
            track, publication, _ = await bob.event("track_subscribed")
            colour, _ = await seen_colour(track, frames=4)
            assert close_to(colour, (200, 40, 40))
            assert publication.mime_type.lower().endswith(sdk.VideoCodec.Name(codec).lower())
