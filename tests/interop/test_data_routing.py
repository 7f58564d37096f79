"""Who gets data, and in whose name."""

import asyncio

import pytest
from livekit.protocol import models, rtc

USER = models.UserPacket
END = b"end"


def payloads(client):
    return [p.user.payload for p in client.data() if p.HasField("user")]


async def after_the_end(meeting, sender, *receivers):
    """Sends a last message to all; data channels keep the order, so that what came before it has come then."""
    sender.send_data(models.DataPacket(user=USER(payload=END)))
    await meeting.until(lambda: all(END in payloads(each) for each in receivers), "the last message")


DESTINATIONS = {
    "in DataPacket": lambda bob: models.DataPacket(destination_identities=["bob"], user=USER(payload=b"x")),
    "in UserPacket by identity": lambda bob: models.DataPacket(user=USER(payload=b"x", destination_identities=["bob"])),
    "in UserPacket by sid": lambda bob: models.DataPacket(user=USER(payload=b"x", destination_sids=[bob.sid])),
    "in both": lambda bob: models.DataPacket(
        destination_identities=["bob"], user=USER(payload=b"x", destination_identities=["bob"], destination_sids=[bob.sid])
    ),
}


@pytest.mark.parametrize("form", DESTINATIONS)
async def test_a_message_reaches_exactly_those_it_is_addressed_to(meeting, form, request):
    alice, bob, carol = await meeting.join_all("alice", "bob", "carol")
    await alice.open_data()
    alice.send_data(DESTINATIONS[form](bob))
    await after_the_end(meeting, alice, bob, carol)
    assert payloads(bob) == [b"x", END]
    assert payloads(carol) == [END]


async def test_a_message_to_nobody_who_is_there_reaches_nobody(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    await alice.open_data()
    alice.send_data(models.DataPacket(destination_identities=["nobody"], user=USER(payload=b"x")))
    await after_the_end(meeting, alice, bob)
    assert payloads(bob) == [END]


async def test_a_participant_without_can_subscribe_gets_data_and_answers_to_its_calls(meeting):
    alice = await meeting.join("alice")
    bob = await meeting.join("bob", active=False, canSubscribe=False)
    await alice.open_data()
    await bob.open_data()
    bob.send_data(models.DataPacket(user=USER(payload=b"from bob")))
    await meeting.until(lambda: b"from bob" in payloads(alice), "a message of bob")
    answer = models.RpcResponse(request_id="1", payload="answer")
    alice.send_data(models.DataPacket(destination_identities=["bob"], rpc_response=answer))
    await after_the_end(meeting, alice, bob)
    assert answer in [p.rpc_response for p in bob.data()]


async def test_data_of_a_hidden_participant_does_not_name_it(meeting):
    alice = await meeting.join("alice")
    hidden = await meeting.join("the-hidden-one", hidden=True)
    await hidden.open_data()
    hidden.send_data(models.DataPacket(stream_header=models.DataStream.Header(stream_id="s", topic="t")))
    await after_the_end(meeting, hidden, alice)
    for packet in alice.data():
        named = (packet.participant_identity, packet.participant_sid, packet.user.participant_identity, packet.user.participant_sid)
        assert not any(named)
    assert "the-hidden-one" not in alice.view()


async def test_a_greeting_sent_the_moment_a_newcomer_is_announced_arrives(meeting):
    alice = await meeting.join("alice")
    await alice.open_data()
    for index in range(6):
        name, greeting = f"newcomer-{index}", f"welcome-{index}".encode()
        joining = asyncio.create_task(meeting.join(name, active=False))
        await meeting.until(lambda: name in alice.view(), "the news of a newcomer")
        alice.send_data(models.DataPacket(destination_identities=[name], user=USER(payload=greeting)))
        newcomer = await joining
        await meeting.until(lambda: greeting in payloads(newcomer), greeting)


async def test_messages_of_every_size_arrive_whole(meeting):
    alice, bob = await meeting.join_all("alice", "b" * 200)
    await alice.open_data()
    sizes = (0, 1, 1_200, 15_000, 60_000, 64_000, 65_000)
    for size in sizes:
        alice.send_data(models.DataPacket(user=USER(payload=bytes([size % 251]) * size, topic=str(size))))
    await after_the_end(meeting, alice, bob)
    received = {p.user.topic: p.user.payload for p in bob.data() if p.user.topic}
    assert received == {str(size): bytes([size % 251]) * size for size in sizes}


async def test_a_message_that_is_too_large_harms_nobody(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    await alice.open_data()
    alice.send_data(models.DataPacket(user=USER(payload=b"x" * 200_000)))
    await after_the_end(meeting, alice, bob)
    assert not alice.messages("leave") and not bob.messages("leave")


async def test_a_request_for_a_data_track_is_answered(meeting):
    alice = await meeting.join("alice")
    await alice.send(publish_data_track_request=rtc.PublishDataTrackRequest(pub_handle=1, name="telemetry"))
    await alice.settled()
    refusals = alice.messages("request_response", lambda m: m.HasField("publish_data_track"))
    assert alice.messages("publish_data_track_response") or refusals
