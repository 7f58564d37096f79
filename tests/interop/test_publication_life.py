"""Announce, mute, offer, offer again, give up, use an m-line again: what is engine-side is what was announced."""

import pytest
from livekit.protocol import models, rtc

import session_description as sdp
from packets import number_of


async def test_announcements_that_are_given_up_cost_nothing(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    for index in range(25):
        await alice.send(add_track=alice.add_track_request(f"abandoned-{index}", "video"))
    camera = await alice.publish("cam", "video")
    await bob.receives(camera.sid)


async def test_a_track_is_found_by_its_cid_beside_one_that_was_given_up(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    await alice.announce("given-up")
    wanted = await alice.publish("wanted")
    await bob.receives(wanted.sid)


async def mute(client, track, muted):
    await client.send(mute=rtc.MuteTrackRequest(sid=track.sid, muted=muted))


async def test_a_track_that_is_muted_before_its_offer_is_silent_until_unmuted(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.announce("mic")
    await mute(alice, track, True)
    await alice.offer([sdp.data(), sdp.media("audio", "1", sdp.OPUS, msid="s mic", ssrcs=[1])])
    microphone = alice.play("audio", 1, "1")
    await meeting.until(lambda: bob.track(track.sid) and bob.track(track.sid).muted, "the news that it is muted")
    # Media of a second track flows on the same way meanwhile.
    other = await alice.publish("other", source=models.TrackSource.SCREEN_SHARE_AUDIO)
    await bob.receives(other.sid, 20)
    while_muted = microphone.number
    await mute(alice, track, False)
    heard = await bob.receives(track.sid, 10)
    assert number_of(heard[0]) >= while_muted
    assert not bob.track(track.sid).muted


async def test_a_track_announced_muted_and_unmuted_before_its_offer_is_heard(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.announce("mic", muted=True)
    await mute(alice, track, False)
    await alice.offer([sdp.data(), sdp.media("audio", "1", sdp.OPUS, msid="s mic", ssrcs=[1])])
    alice.play("audio", 1, "1")
    await bob.receives(track.sid, 10)
    await meeting.until(lambda: bob.track(track.sid) and not bob.track(track.sid).muted, "the news that it is not muted")


async def test_after_quick_mutes_the_last_one_counts(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.publish()
    await bob.receives(track.sid)
    for _ in range(10):
        await mute(alice, track, True)
        await mute(alice, track, False)
    await alice.settled()
    sent = alice.sources[0].number
    await meeting.until(lambda: number_of(bob.received(track.sid)[-1]) > sent + 10, "media after the mutes")
    assert not bob.track(track.sid).muted


async def test_a_cid_published_again_while_the_old_track_ends_is_one_track(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    first = await alice.publish("mic")
    await bob.receives(first.sid)
    await alice.send(add_track=alice.add_track_request("mic"))
    stopped = [line for line in alice.sections[1] if not line.startswith(("a=msid", "a=ssrc"))]
    stopped = ["a=inactive" if line == "a=sendonly" else line for line in stopped]
    again = sdp.media("audio", "2", sdp.OPUS, msid="s mic", ssrcs=[2])
    alice.sources[0].stop()
    await alice.offer([sdp.data(), stopped, again])
    alice.play("audio", 2, "2")

    def the_new_one():
        tracks = bob.view()["alice"].tracks
        return len(tracks) == 1 and tracks[0].sid != first.sid and tracks[0].sid

    sid = await meeting.until(the_new_one, "one track, a new one")
    await bob.receives(sid)


async def replaced(meeting, between):
    """A track takes over the m-line of another; `between` says whether an offer without either lies between."""
    alice, bob = await meeting.join_all("alice", "bob")
    first = await alice.publish("first", mid="0")
    await bob.receives(first.sid)
    if between:
        await alice.unpublish("0")
    second = await alice.announce("second")
    alice.sources[0].stop()
    await alice.offer([sdp.data(), sdp.media("audio", "0", sdp.OPUS, msid="s second", ssrcs=[2])])
    alice.play("audio", 2, "0")
    await bob.receives(second.sid)
    await meeting.until(lambda: [t.sid for t in bob.view()["alice"].tracks] == [second.sid], "the end of the first")


async def test_an_m_line_that_stopped_is_used_again_by_another_track(meeting):
    await replaced(meeting, between=True)


async def test_an_m_line_changes_its_track_in_one_offer(meeting):
    await replaced(meeting, between=False)


async def test_nobody_is_offered_a_track_of_a_hidden_participant(meeting):
    alice = await meeting.join("alice")
    hidden = await meeting.join("the-hidden-one", hidden=True)
    await hidden.send(add_track=hidden.add_track_request("mic"))
    await hidden.settled()
    if published := hidden.messages("track_published"):
        await hidden.offer([sdp.data(), sdp.media("audio", "1", sdp.OPUS, msid="s mic", ssrcs=[1])])
        hidden.play("audio", 1, "1")
    # A visible track that is published later arrives; the hidden one was not offered before it.
    visible = await meeting.join("visible")
    track = await visible.publish()
    await alice.receives(track.sid, 60)
    assert not any(alice.offered(each.track.sid) for each in published)
    assert "the-hidden-one" not in alice.view()


async def test_a_subscription_toggled_many_times_ends_as_last_wished(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.publish()
    await bob.receives(track.sid)
    for index in range(400):
        wish = rtc.UpdateSubscription(track_sids=[track.sid], subscribe=index % 2 == 1)
        await bob.send(subscription=wish)
        # Fewer at a time than a flood that ends the session.
        if index % 20 == 0:
            await bob.settled()
    await bob.settled()
    sent = alice.sources[0].number
    await meeting.until(lambda: bob.received(track.sid) and number_of(bob.received(track.sid)[-1]) > sent + 10, "media")
    assert len(bob.offers()[0]) < 64
    assert bob.closed is None and not bob.messages("leave")
