"""Streams as real encoders and accidents make them: subscribers see one whole stream."""

import asyncio

import pytest
from livekit.protocol import models, rtc

import session_description as sdp
from packets import Camera, Microphone, Source, number_of, opus, rtp


class Packets(Source):
    """Opus packets whose sequence numbers and timestamps a test chooses."""

    async def burst(self, sequences, timestamp=lambda n: 960 * n, padding=()):
        """Sends a packet for each number, faster than in real time; gives the numbers of their payloads."""
        first = self.number
        for index, sequence in enumerate(sequences):
            body, pad = (b"", 200) if index in padding else (opus(self.number), 0)
            packet = rtp(self.payload_type, sequence, timestamp(index), self.ssrc, body, extensions=self.extensions, padding=pad)
            await self.client.publisher.send(packet)
            self.number += 1
            await asyncio.sleep(0.004)
        return set(range(first, self.number)) - {first + index for index in padding}


async def pair(meeting, **how):
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.publish(plays=False, ssrc=1, **how)
    await meeting.until(lambda: bob.offered(track.sid), "the offer of the track")
    await bob.settled()
    return alice, bob, track, Packets(alice, 111, 48_000, 1, "1")


async def arrive(meeting, client, track, numbers, most=1.0):
    """Waits until (nearly) all of these numbers have arrived at a client."""

    def arrived():
        return len(numbers & {number_of(p) for p in client.received(track.sid)}) >= most * len(numbers)

    await meeting.until(arrived, f"{len(numbers)} packets")


def whole(packets):
    """Whether the sequence numbers rise by one, each of them once."""
    first = packets[0].sequence
    offsets = sorted((p.sequence - first + 0x8000 & 0xFFFF) - 0x8000 for p in packets)
    return offsets == list(range(offsets[0], offsets[0] + len(offsets)))


async def test_the_sequence_number_wraps(meeting):
    alice, bob, track, source = await pair(meeting)
    sent = await source.burst(range(65_400, 65_700))
    await arrive(meeting, bob, track, sent, 0.99)
    assert whole(bob.received(track.sid))


async def test_jumps_of_sequence_number_and_timestamp_go_on(meeting):
    alice, bob, track, source = await pair(meeting)
    await arrive(meeting, bob, track, await source.burst(range(100, 150)), 0.9)
    ahead = await source.burst(range(20_000, 20_050), lambda n: 5_000_000 + 960 * n)
    await arrive(meeting, bob, track, ahead, 0.9)
    back = await source.burst(range(20_050, 20_100), lambda n: 1_000 + 960 * n)
    await arrive(meeting, bob, track, back, 0.9)


async def test_padding_duplicates_and_reordering_harm_nothing(meeting):
    alice, bob, track, source = await pair(meeting)
    await arrive(meeting, bob, track, await source.burst(range(100, 160), padding={10, 11, 12, 40}), 0.9)
    doubled = [n for n in range(160, 200) for _ in range(2)]
    before = len(bob.received(track.sid))
    await source.burst(doubled)
    # In fours, the last of each first.
    shuffled = await source.burst([200 + n + (3 if n % 4 == 0 else -1) for n in range(80)])
    await arrive(meeting, bob, track, shuffled)
    assert len(bob.received(track.sid)) - before == 40 + 80


async def test_the_ssrc_changes_and_changes_back(meeting):
    alice, bob, track, source = await pair(meeting)
    await arrive(meeting, bob, track, await source.burst(range(100, 150)), 0.9)
    source.ssrc = 77
    await arrive(meeting, bob, track, await source.burst(range(5, 65)), 0.9)
    source.ssrc = 1
    await arrive(meeting, bob, track, await source.burst(range(21_000, 21_060)), 0.9)
    assert len({p.ssrc for p in bob.subscriber.packets}) == 1


@pytest.mark.parametrize("declared", [False, True], ids=["no declared SSRC", "another SSRC declared"])
async def test_an_undeclared_ssrc_without_mid_is_taken(meeting, declared):
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.announce("mic")
    section = sdp.media("audio", "1", sdp.OPUS, msid="s mic", ssrcs=[5] if declared else [], extensions={})
    await alice.offer([sdp.data(), section])
    source = Packets(alice, 111, 48_000, 5, None)
    await arrive(meeting, bob, track, await source.burst(range(100, 150)), 0.8)
    source.ssrc = 6
    await arrive(meeting, bob, track, await source.burst(range(9, 59)), 0.8)


async def test_the_same_ssrc_in_two_participants_is_two_streams(meeting):
    alice, bob, carol = await meeting.join_all("alice", "bob", "carol")
    tracks = [await each.publish(ssrc=42) for each in (alice, carol)]
    for track in tracks:
        await bob.receives(track.sid, 50)
    assert bob.offered(tracks[0].sid) != bob.offered(tracks[1].sid)
    # Whose packets they are: the microphones have run for different times.
    assert {p.ssrc for p in bob.received(tracks[0].sid)}.isdisjoint({p.ssrc for p in bob.received(tracks[1].sid)})


async def test_a_new_track_takes_over_the_ssrc_of_one_that_has_ended(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    first = await alice.publish("one", mid="0", ssrc=42)
    await bob.receives(first.sid)
    await alice.unpublish("0")
    second = await alice.publish("two", mid="1", ssrc=42, source=models.TrackSource.SCREEN_SHARE_AUDIO)
    await bob.receives(second.sid, 50)


async def test_media_that_comes_before_its_offer_out_of_order_is_heard(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    await alice.open_data()
    track = await alice.announce("mic")
    source = Packets(alice, 111, 48_000, 9, "1")
    order = [65_430 + n for n in (3, 2, 1, 0, 4, 5, 6, 7, 8, 9)] + list(range(65_440, 65_640))
    sending = asyncio.create_task(source.burst(order))
    await alice.offer([*alice.sections, sdp.media("audio", "1", sdp.OPUS, msid="s mic", ssrcs=[9])])
    await sending
    last = await source.burst(range(65_640, 65_700))
    await arrive(meeting, bob, track, last, 0.95)


async def test_video_goes_on_whole_when_its_ssrc_changes(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    track = await alice.publish("cam", "video", plays=False)
    camera = Camera(alice, 1_000, "1", rate=60)
    alice.sources.append(camera)
    camera.sequence = 65_500
    await bob.receives(track.sid, 60)
    camera.ssrc, camera.sequence, camera.timestamp, camera.answered = 3, 7, 4_000_000_000, 0
    camera.keyframes, changed_at = 0, camera.number
    await meeting.until(lambda: number_of_last(bob, track) > changed_at + 60, "video of the new SSRC")
    packets = sorted(bob.received(track.sid), key=lambda p: p.at)
    assert whole(packets)
    steps = [(b.timestamp - a.timestamp) & 0xFFFFFFFF for a, b in zip(packets, packets[1:])]
    assert max(steps) < 3 * 90_000


def number_of_last(client, track):
    return number_of(client.received(track.sid)[-1])


SIMULCAST = {
    "q;h;f": dict(rids="qhf"),
    "largest first": dict(rids="qhf", order="fhq"),
    "two of the middle names": dict(rids="hf"),
    "one": dict(rids="f"),
    "numbers": dict(rids="012"),
    "numbers, largest first": dict(rids="210", order="012"),
    "a=rid in another order": dict(rids="qhf", lines="hfq"),
    "the middle one never comes": dict(rids="qhf", absent="h"),
    "the lowest never comes": dict(rids="qhf", absent="q"),
    "the highest never comes": dict(rids="qhf", absent="f"),
}
SIZES = [(320, 180), (640, 360), (1280, 720)]


@pytest.mark.parametrize("form", SIMULCAST)
async def test_each_viewer_of_simulcast_gets_the_layer_of_its_size(meeting, form):
    rids, order, lines, absent = (SIMULCAST[form].get(k) for k in ("rids", "order", "lines", "absent"))
    sizes = SIZES if len(rids) == 3 else SIZES[-len(rids) :]
    alice, low, high = await meeting.join_all("alice", "low", "high")
    layers = [models.VideoLayer(quality=q, width=w, height=h, rid=rid) for q, ((w, h), rid) in enumerate(zip(sizes, rids))]
    extra = [f"a=rid:{rid} send" for rid in lines or order or rids] + [f"a=simulcast:send {';'.join(order or rids)}"]
    codec = [rtc.SimulcastCodec(codec="vp8", cid="cam", layers=layers)]
    width, height = sizes[-1]
    track = await alice.publish("cam", "video", extra=extra, plays=False, layers=layers, width=width, height=height, simulcast_codecs=codec)
    sent = [rid for rid in rids if rid != absent]
    for index, rid in enumerate(sent):
        alice.sources.append(Camera(alice, 100 + index, "1", rid, size=200 * (index + 1)))
    for viewer, (width, height) in ((low, sizes[0]), (high, sizes[-1])):
        await meeting.until(lambda viewer=viewer: viewer.track(track.sid), "the track")
        await viewer.send(track_setting=rtc.UpdateTrackSettings(track_sids=[track.sid], width=width, height=height))

    def shows(viewer, index):
        last = [len(p.payload) for p in viewer.received(track.sid)[-8:]]
        return len(last) == 8 and {size // 200 for size in last} == {index}

    await meeting.until(lambda: shows(low, 1), "the smallest layer")
    await meeting.until(lambda: shows(high, len(sent)), "the largest layer")


async def test_a_voice_that_is_subscribed_alone_is_heard_however_loud_others_are(meeting):
    people = [await meeting.join(f"p{index}", query="&auto_subscribe=0") for index in range(12)]
    tracks = []
    for index, person in enumerate(people[:8]):
        tracks.append(await person.publish(plays=False))
        level = 20 if index < 7 else 32
        person.sources.append(Microphone(person, 1_000, "1", level))
    quiet, listener = people[7], people[11]
    await meeting.until(lambda: listener.track(tracks[7].sid), "the track")
    # The loud ones have been heard of when one of them is an active speaker.
    await listener.message("speakers_changed")
    await listener.send(subscription=rtc.UpdateSubscription(track_sids=[tracks[7].sid], subscribe=True))
    await listener.receives(tracks[7].sid, 50)
    sent = quiet.sources[0].number
    await meeting.until(lambda: number_of_last(listener, tracks[7]) > sent + 50, "media")
