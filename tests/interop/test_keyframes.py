"""Keyframes are asked for when somebody needs one, and only then."""

import asyncio

from livekit.protocol import models, rtc

from packets import Camera, number_of, picture

SCREEN = dict(source=models.TrackSource.SCREEN_SHARE, width=1920, height=1080)


class Still(Camera):
    """A screen on which nothing moves: it sends a picture when a keyframe is asked for, and else nothing."""

    def __init__(self, client, ssrc, mid):
        super().__init__(client, ssrc, mid, rate=0)
        self.task = asyncio.create_task(self._encode())

    async def _encode(self):
        while True:
            await self.client.meeting.until(lambda: self.number == 0 or self.requests > self.answered, "a request", patience=90)
            await self.frame()
            self.timestamp += 9_000


async def screen(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.publish("screen", "video", plays=False, layers=[models.VideoLayer(quality=2, width=1920, height=1080)], **SCREEN)
    still = Still(alice, 1_000, "1")
    alice.sources.append(still)
    await bob.receives(track.sid, 1)
    return track, still


async def test_a_newcomer_to_a_track_that_is_silent_sees_it_within_a_second(meeting):
    track, still = await screen(meeting)
    # As long as it takes for a silent stream to be forgotten where that is done.
    await asyncio.sleep(12)
    requests = still.requests
    late = await meeting.join("late")
    await late.receives(track.sid, 1, patience=3)
    assert still.requests > requests


async def test_a_screen_that_is_hidden_and_shown_again_is_seen_at_once(meeting):
    track, still = await screen(meeting)
    late = await meeting.join("late")
    await late.receives(track.sid, 1)
    settings = rtc.UpdateTrackSettings(track_sids=[track.sid], width=1920, height=1080, quality=models.VideoQuality.HIGH)
    hidden = rtc.UpdateTrackSettings(track_sids=[track.sid], disabled=True)
    await late.send(track_setting=hidden)
    await late.settled()
    # Nothing is sent for longer than the pauses of a slow camera.
    await asyncio.sleep(3)
    seen = len(late.received(track.sid))
    await late.send(track_setting=settings)
    await late.receives(track.sid, seen + 1, patience=3)


async def test_slides_of_one_picture_in_2_5_s_arrive_each_without_a_keyframe_asked_for(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.publish("slides", "video", plays=False, **SCREEN)
    slides = Camera(alice, 1_000, "1", rate=5)
    alice.sources.append(slides)
    await bob.receives(track.sid, 10)
    slides.play(2.5, slides.frame)
    start, keyframes = slides.number, slides.keyframes
    await meeting.until(lambda: slides.number == start + 6 and number_of(bob.received(track.sid)[-1]) >= start + 5, "slides", 30)
    assert slides.keyframes == keyframes
    seen = {number_of(packet) for packet in bob.received(track.sid)}
    assert set(range(start, start + 6)) <= seen
    assert not bob.messages("stream_state_update")


async def test_a_keyframe_is_asked_for_on_the_stream_that_lacks_one(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.publish("cam", "video")
    await bob.receives(track.sid)
    camera = alice.sources[0]
    requests, keyframes = camera.requests, camera.keyframes
    late = await meeting.join("late")
    first = (await late.receives(track.sid, 1))[0]
    assert first.payload == picture(True, number_of(first))
    assert camera.requests > requests and camera.keyframes > keyframes
