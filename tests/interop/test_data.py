"""Messages: to all, to one, by topic; and what is built on them."""

import asyncio

import pytest
from livekit import rtc

from client import joined


@pytest.mark.parametrize("reliable", [True, False])
async def test_a_message_reaches_all_others_with_its_topic_and_sender(server, room, reliable):
    async with joined(server, room, "alice", "bob", "carol") as (alice, bob, carol):
        await alice.room.local_participant.publish_data(b"hello", reliable=reliable, topic="greeting")
        for other in (bob, carol):
            packet, = await other.event("data_received")
            assert (packet.data, packet.topic, packet.participant.identity) == (b"hello", "greeting", "alice")
        assert "data_received" not in alice.log


async def test_a_message_to_one_reaches_only_that_one(server, room):
    async with joined(server, room, "alice", "bob", "carol") as (alice, bob, carol):
        await alice.room.local_participant.publish_data(b"secret", destination_identities=["carol"])
        await alice.room.local_participant.publish_data(b"for all")
        packet, = await carol.event("data_received")
        assert packet.data == b"secret"
        packet, = await bob.event("data_received")
        assert packet.data == b"for all"


async def test_many_messages_arrive_whole_and_in_order(server, room):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        sent = [index.to_bytes(2, "big") * 3_000 for index in range(200)]
        for message in sent:
            await alice.room.local_participant.publish_data(message)
        received = [(await bob.event("data_received"))[0].data for _ in sent]
        assert received == sent


async def test_a_remote_procedure_is_called(server, room):
    async with joined(server, room, "alice", "bob") as (alice, bob):

        @bob.room.local_participant.register_rpc_method("shout")
        async def shout(call):
            return f"{call.caller_identity}: {call.payload.upper()}"

        answer = await alice.room.local_participant.perform_rpc(
            destination_identity="bob", method="shout", payload="hey"
        )
        assert answer == "alice: HEY"


async def test_text_and_byte_streams_pass(server, room):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        text, blob = asyncio.Future(), asyncio.Future()

        async def read_text(reader):
            text.set_result(await reader.read_all())

        async def read_bytes(reader):
            blob.set_result(b"".join([chunk async for chunk in reader]))

        bob.room.register_text_stream_handler("t", lambda reader, _: asyncio.create_task(read_text(reader)))
        bob.room.register_byte_stream_handler("b", lambda reader, _: asyncio.create_task(read_bytes(reader)))
        long = "안녕하세요 " * 10_000
        await alice.room.local_participant.send_text(long, topic="t")
        writer = await alice.room.local_participant.stream_bytes("file", topic="b")
        await writer.write(bytes(range(256)) * 500)
        await writer.aclose()
        assert await asyncio.wait_for(text, 20) == long
        assert await asyncio.wait_for(blob, 20) == bytes(range(256)) * 500
