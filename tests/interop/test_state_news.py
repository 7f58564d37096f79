"""News is a state: after any gap, and however late somebody comes, a client knows what the server knows."""

import pytest
from livekit.protocol import models, rtc

FEATURE = models.AudioTrackFeature


def told_of(client, track, allowed, since=0):
    return client.messages("subscription_permission_update", lambda m: (m.track_sid, m.allowed) == (track.sid, allowed), since)


async def is_told(client, track, allowed, since=0):
    what = f"allowed={allowed} for {client.identity}"
    await client.meeting.until(lambda: told_of(client, track, allowed, since), what)


async def permit(client, everybody, *identities):
    named = [rtc.TrackPermission(participant_identity=each, all_tracks=True) for each in identities]
    await client.send(subscription_permission=rtc.SubscriptionPermission(all_participants=everybody, track_permissions=named))


async def test_a_resume_tells_who_left_who_came_and_what_ended(meeting):
    alice, bob, carol = await meeting.join_all("alice", "bob", "carol")
    track = await carol.publish()
    await meeting.until(lambda: alice.track(track.sid) and "bob" in alice.view(), "the news of bob and carol")
    await alice.drop()
    await bob.leave()
    dave = await meeting.join("dave")
    await carol.unpublish("1")
    await meeting.until(lambda: not dave.view()["carol"].tracks and "bob" not in dave.view(), "dave's view")
    mark = await alice.resume()
    assert alice.log[mark][0] == "reconnect"
    await meeting.until(lambda: set(alice.view()) == {"carol", "dave"}, "the view after the resume")
    await meeting.until(lambda: not alice.view()["carol"].tracks, "the end of carol's track")


async def test_features_and_sizes_that_change_are_told_to_all_and_to_newcomers(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    microphone = await alice.publish("mic", audio_features=[FEATURE.TF_ECHO_CANCELLATION])
    await meeting.until(lambda: bob.track(microphone.sid), "the microphone")
    assert list(bob.track(microphone.sid).audio_features) == [FEATURE.TF_ECHO_CANCELLATION]
    features = [FEATURE.TF_ENHANCED_NOISE_CANCELLATION, FEATURE.TF_STEREO]
    await alice.send(update_audio_track=rtc.UpdateLocalAudioTrack(track_sid=microphone.sid, features=features))
    await meeting.until(lambda: set(bob.track(microphone.sid).audio_features) == set(features), "the features")
    camera = await alice.publish("cam", "video", width=640, height=360)
    await meeting.until(lambda: bob.track(camera.sid), "the camera")
    await alice.send(update_video_track=rtc.UpdateLocalVideoTrack(track_sid=camera.sid, width=1280, height=720))
    await meeting.until(lambda: bob.track(camera.sid).width == 1280, "the size")
    late = await meeting.join("late")
    assert set(late.track(microphone.sid).audio_features) == set(features)
    assert (late.track(camera.sid).width, late.track(camera.sid).height) == (1280, 720)


async def test_who_may_not_subscribe_is_told_whenever_that_begins(meeting):
    alice, carol = await meeting.join_all("alice", "carol")
    bob = await meeting.join("bob", query="&auto_subscribe=0")
    await permit(alice, False, "carol")
    track = await alice.publish()
    await carol.receives(track.sid)
    await meeting.until(lambda: bob.track(track.sid), "the news of the track")
    await bob.send(subscription=rtc.UpdateSubscription(track_sids=[track.sid], subscribe=True))
    await is_told(bob, track, False)
    mark = bob.mark()
    await permit(alice, True)
    await bob.receives(track.sid)
    await is_told(bob, track, True, mark)
    marks = carol.mark(), bob.mark()
    await permit(alice, False)
    await is_told(carol, track, False, marks[0])
    await is_told(bob, track, False, marks[1])
    dave = await meeting.join("dave")
    await is_told(dave, track, False)
    # Media to somebody who may flows on, none of it to those who may not.
    await permit(alice, False, "dave")
    start = len(bob.received(track.sid)), len(carol.received(track.sid))
    await dave.receives(track.sid, 20)
    assert (len(bob.received(track.sid)), len(carol.received(track.sid))) == start


@pytest.mark.parametrize("how", ["falls silent", "mutes", "unpublishes", "leaves"])
async def test_who_spoke_and_stopped_is_not_left_as_speaking(meeting, how, request):
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.publish()
    alice.sources[0].level = 10

    def speaks(active):
        return lambda m: any(s.sid == alice.sid and s.active == active for s in m.speakers)

    await bob.message("speakers_changed", speaks(True))
    mark = bob.mark()
    if how == "falls silent":
        alice.sources[0].level = 127
    elif how == "mutes":
        alice.sources[0].stop()
        await alice.send(mute=rtc.MuteTrackRequest(sid=track.sid, muted=True))
    elif how == "unpublishes":
        await alice.unpublish("1")
    else:
        await alice.leave()
        await meeting.until(lambda: "alice" not in bob.view(), "the departure")
        return
    await bob.message("speakers_changed", speaks(False), mark)


async def test_a_client_that_was_killed_and_comes_back_is_first_gone_then_there(meeting):
    bob, alice = await meeting.join_all("bob", "alice")
    track = await alice.publish()
    await bob.receives(track.sid)
    await alice.drop()
    mark = bob.mark()
    again = await meeting.join("alice")
    track = await again.publish()
    await bob.receives(track.sid)
    news = [(p.sid, p.state) for u in bob.messages("update", since=mark) for p in u.participants if p.identity == "alice"]
    gone = news.index((alice.sid, models.ParticipantInfo.State.DISCONNECTED))
    assert gone < [sid for sid, _ in news].index(again.sid)
    for _ in range(4):
        again = await meeting.join("alice")
    await meeting.until(lambda: "alice" in bob.view() and bob.view()["alice"].sid == again.sid, "the last alice")
    late = await meeting.join("late")
    assert [p.sid for p in late.joined.other_participants if p.identity == "alice"] == [again.sid]


async def test_who_has_joined_is_announced_before_its_media_connection_is_up(meeting):
    alice = await meeting.join("alice")
    bob = await meeting.join("bob", active=False, answers=False)
    await meeting.until(lambda: "bob" in alice.view(), "the news of bob")
    await bob.socket.close()
    await meeting.until(lambda: "bob" not in alice.view(), "the departure of bob", 25)
