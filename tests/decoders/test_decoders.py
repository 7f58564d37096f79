"""What subscribers get is decodable, by real decoders: every picture that they show is, to the last bit, the one that
a decoder shows that got everything from the publisher."""

import os
import statistics

import pytest

from layers import Encoding, build
from meeting import Meeting

ENCODINGS = [
    Encoding("VP8 simulcast, three frame rates", "vp8", streams=3, temporal=3),
    Encoding("VP8, three frame rates", "vp8", temporal=3),
    Encoding("H.264 simulcast", "h264", streams=3),
    Encoding("VP9 L1T3", "vp9", temporal=3),
    Encoding("VP9 L2T2", "vp9", spatial=2, temporal=2),
    Encoding("VP9 L3T3, flexible mode", "vp9", spatial=3, temporal=3, flexible=True),
    Encoding("VP9 L3T3_KEY", "vp9", spatial=3, temporal=3, key_only=True),
    Encoding("AV1 simulcast, three frame rates", "av1", streams=2, temporal=3),
    Encoding("AV1 L2T2", "av1", spatial=2, temporal=2),
    Encoding("AV1 L2T2_KEY", "av1", spatial=2, temporal=2, key_only=True),
]

# A seed is a second or two; who has minutes may try more of them.
SEEDS = range(1, 21 if "MOIM_LONG_TESTS" in os.environ else 2)

each_encoding = pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("encoder"))


@pytest.fixture
def meeting(library):
    """Opens meetings, and ends them with the test."""
    opened = []

    def open_meeting(*arguments):
        opened.append(Meeting(library, *arguments))
        return opened[-1]

    yield open_meeting
    for each in opened:
        each.close()


def accident(meeting, cruel=False):
    """Something that may happen before a picture."""
    rng = meeting.rng
    chance = rng.randrange(100)
    if meeting.publisher.muted:
        if chance < 8:
            meeting.mute(False)
    elif chance == 0:
        meeting.mute(True)
    elif chance == 1 and cruel:
        meeting.publisher.restart()
    elif chance == 12 and cruel:
        meeting.darken(rng.choice([0.3, 1.5]))
    elif chance == 2:
        meeting.want(enabled=False)
    elif chance < 12:
        meeting.want(layer=rng.randrange(3), rate=rng.choice([0, 0, 5, 12]))


def play(meeting, cruel=False):
    """A while with accidents, then a while without."""
    meeting.run(200, lambda: accident(meeting, cruel))
    meeting.mute(False)
    meeting.want()
    meeting.calm()
    meeting.run(60)
    meeting.settle()


@each_encoding
@pytest.mark.parametrize("seed", SEEDS)
def test_switches_mutes_and_losses_leave_nothing_undecoded(meeting, encoding, seed):
    meeting = meeting(encoding, seed, 0.03)
    play(meeting)
    receiver = meeting.receiver
    assert not receiver.missing and not receiver.frames, "what came whole was decoded"
    assert receiver.asked_keyframes == 0, "nothing was missing"
    # A number is kept free for what may be wanted, and a packet of another layer turns out to be late.
    assert len(receiver.given_up) <= (0 if encoding.codec == "h264" else meeting.up.disturbed)
    number, size = receiver.shown[-1]
    assert number == meeting.publisher.number, "to the end"
    assert size == encoding.streams * encoding.spatial - 1, "the largest at the end"
    assert len(receiver.shown) > 100
    assert statistics.median(meeting.publisher.truth.quality) > 28, "the pictures look like what was painted"


@each_encoding
@pytest.mark.parametrize("seed", SEEDS)
def test_publisher_restarts_and_blackouts_are_recovered_from(meeting, encoding, seed):
    meeting = meeting(encoding, seed, 0.03)
    play(meeting, cruel=True)
    receiver = meeting.receiver
    number, size = receiver.shown[-1]
    assert number == meeting.publisher.number, "to the end"
    assert size == encoding.streams * encoding.spatial - 1, "the largest at the end"
    assert len(receiver.shown) > 80


def test_what_is_late_of_a_former_stream_does_not_end_the_new_one(meeting):
    meeting = meeting(ENCODINGS[1], 1, 0)
    meeting.run(20)
    late = meeting.publisher.produce()
    meeting.publisher.restart()
    meeting.run(10)
    meeting.up.send(meeting.now, late)
    meeting.run(30)
    meeting.settle()
    last = meeting.publisher.number
    assert [number for number, _ in meeting.receiver.shown][-40:] == list(range(last - 39, last + 1))


@each_encoding
def test_a_decoder_without_a_reference_is_noticed(meeting, encoding):
    """What the tests above rely on: who decodes a picture without one that it needs does not show what he should."""
    meeting = meeting(encoding, 1, 0)
    meeting.run(20)
    receiver = meeting.receiver

    def believe(frame):
        frame.references = []

    def give_up(now):
        receiver.missing.clear()
        return []

    def lose(now, datagrams):
        send(now, [datagram for datagram in datagrams if meeting.rng.random() > 0.2])

    receiver.find_references, receiver.ask = believe, give_up
    send, meeting.down.send = meeting.down.send, lose
    with pytest.raises(AssertionError, match="artefacts|complains|out of order"):
        meeting.run(100)
