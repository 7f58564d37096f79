"""Transfers while others join, and the streams and calls of an SDK."""

import asyncio

from livekit.protocol import models

from client import joined
from raw_client import PATIENCE


def chunk(index):
    return models.DataPacket(stream_chunk=models.DataStream.Chunk(stream_id="f", chunk_index=index, content=b"z" * 15_000))


def chunks(client):
    return [p.stream_chunk.chunk_index for p in client.data() if p.HasField("stream_chunk")]


async def test_who_joins_during_a_transfer_gets_in_stays_and_gets_data(meeting):
    alice, bob = await meeting.join_all("alice", "bob")
    await alice.open_data()
    channel = alice.publisher.channels["_reliable"]
    index = 0

    async def transfer():
        nonlocal index
        while True:
            if channel.bufferedAmount < 200_000:
                alice.send_data(chunk(index))
                index += 1
            await asyncio.sleep(0.002)

    sending = asyncio.create_task(transfer())
    await meeting.until(lambda: len(chunks(bob)) > 20, "the transfer")
    newcomers = []
    for number in range(3):
        newcomer = await meeting.join(f"late-{number}", active=False, answers=False)
        newcomers.append(newcomer)
        offer = await newcomer.message("offer")
        # A slow network: much is sent before it answers.
        sent = index
        await meeting.until(lambda: index > sent + 40, "the transfer", patience=30)
        newcomer.answers = True
        await newcomer.answer(offer)
        await newcomer.is_active()
    sending.cancel()
    alice.send_data(models.DataPacket(user=models.UserPacket(payload=b"end")))
    for each in (bob, *newcomers):
        await meeting.until(lambda: any(p.user.payload == b"end" for p in each.data()), "the end", patience=30)
        assert each.closed is None and not each.messages("leave")
    assert chunks(bob) == list(range(index))


async def test_a_text_of_a_megabyte_and_calls_arrive(server, room):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        text = "안녕하세요 🎉 " * 40_000
        done = asyncio.get_running_loop().create_future()

        def take(reader, identity):
            async def read():
                done.set_result(await reader.read_all())

            bob.tasks.append(asyncio.create_task(read()))

        bob.room.register_text_stream_handler("text", take)

        @bob.room.local_participant.register_rpc_method("echo")
        async def echo(data):
            return data.payload

        await alice.room.local_participant.send_text(text, topic="text")
        assert await asyncio.wait_for(done, 3 * PATIENCE) == text
        big = "x" * 14_000
        call = alice.room.local_participant.perform_rpc(destination_identity="bob", method="echo", payload=big)
        assert await asyncio.wait_for(call, PATIENCE) == big
