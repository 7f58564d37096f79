"""Workers of agents: registered, asked, given jobs, and their agents in the room."""

import asyncio
import contextlib

import aiohttp
import pytest
from livekit import api
from livekit.protocol import agent, models

from conftest import KEY, SECRET
from raw_client import PATIENCE
from server_api import error_of, opened


class Worker:
    """A worker by hand, as the agents framework has them."""

    def __init__(self, kind=agent.JobType.JT_ROOM, takes=True, **registration):
        self.registration = agent.RegisterWorkerRequest(type=kind, version="1.0", **registration)
        self.takes, self.asked, self.jobs, self.ended = takes, [], [], []
        self.changed = asyncio.Event()

    async def send(self, **message):
        await self.socket.send_bytes(agent.WorkerMessage(**message).SerializeToString())

    async def read(self):
        async for frame in self.socket:
            message = agent.ServerMessage.FromString(frame.data)
            kind = message.WhichOneof("message")
            if kind == "register":
                self.registered = message.register
            elif kind == "availability":
                job = message.availability.job
                self.asked.append(job)
                answer = dict(job_id=job.id, available=self.takes, participant_identity=f"agent-{job.id}", participant_name="Agent")
                await self.send(availability=agent.AvailabilityResponse(**answer))
            elif kind == "assignment":
                self.jobs.append(message.assignment)
            elif kind == "termination":
                self.ended.append(message.termination.job_id)
            elif kind == "pong":
                self.pong = message.pong
            self.changed.set()

    async def until(self, condition, what):
        try:
            async with asyncio.timeout(PATIENCE):
                while not condition():
                    self.changed.clear()
                    await self.changed.wait()
        except TimeoutError:
            raise AssertionError(f"{what} did not come") from None


def token(**grants):
    return api.AccessToken(KEY, SECRET).with_identity("worker").with_grants(api.VideoGrants(**grants)).to_jwt()


@contextlib.asynccontextmanager
async def working(server, *workers):
    """Registered workers, gone at the end."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token(agent=True)}"}) as http:
        tasks = []
        for worker in workers:
            worker.socket = await http.ws_connect(f"{server.url}/agent?protocol=1")
            tasks.append(asyncio.create_task(worker.read()))
            await worker.send(register=worker.registration)
            await worker.until(lambda: hasattr(worker, "registered"), "the registration")
        yield workers if len(workers) > 1 else workers[0]
        for worker, task in zip(workers, tasks):
            await worker.socket.close()
            task.cancel()


def named(room):
    """A name of the test's own: other tests' rooms have no use for these workers."""
    return f"agent of {room}"


async def create(caller, room, **dispatch):
    dispatch = api.CreateAgentDispatchRequest(agent_name=named(room), room=room, **dispatch)
    return await caller.agent_dispatch.create_dispatch(dispatch)


async def test_a_dispatched_agent_joins_by_its_token(server, room, meeting):
    worker = Worker(agent_name=named(room))
    async with working(server, worker), opened(server, "protobuf") as caller:
        assert worker.registered.worker_id.startswith("AW_") and worker.registered.server_info.version
        made = await create(caller, room, metadata="greet them")
        await worker.until(lambda: worker.jobs, "the job")
        job = worker.jobs[0].job
        assert (job.room.name, job.agent_name, job.metadata, job.dispatch_id) == (room, named(room), "greet them", made.id)
        alice = await meeting.join("alice")
        await meeting.join(f"agent-{job.id}", token=worker.jobs[0].token)
        seen = await meeting.until(lambda: alice.view().get(f"agent-{job.id}"), "the agent")
        assert (seen.kind, seen.name) == (models.ParticipantInfo.Kind.AGENT, "Agent")
        assert seen.attributes["lk.agent_name"] == named(room)
        listed = await caller.agent_dispatch.list_dispatch(room)
        mine = next(each for each in listed if each.id == made.id)
        assert mine.agent_name == named(room)
        await caller.agent_dispatch.delete_dispatch(made.id, room)
        await worker.until(lambda: worker.ended == [job.id], "the end of the job")
        assert made.id not in [each.id for each in await caller.agent_dispatch.list_dispatch(room)]


async def test_jobs_come_for_participants_and_publishers_but_not_for_agents(server, room, meeting):
    participants = Worker(agent.JobType.JT_PARTICIPANT, agent_name=named(room))
    publishers = Worker(agent.JobType.JT_PUBLISHER, agent_name=named(room))
    async with working(server, participants, publishers), opened(server, "protobuf") as caller:
        wanted = api.RoomAgentDispatch(agent_name=named(room))
        await caller.room.create_room(api.CreateRoomRequest(name=room, agents=[wanted]))
        alice, bob = await meeting.join_all("alice", "bob")
        await participants.until(lambda: len(participants.jobs) == 2, "the participants' jobs")
        assert {each.job.participant.identity for each in participants.jobs} == {"alice", "bob"}
        assert not publishers.asked
        await bob.publish("mic")
        await publishers.until(lambda: publishers.jobs, "the publisher's job")
        assert [each.job.participant.identity for each in publishers.jobs] == ["bob"]
        await meeting.join(f"agent-{publishers.jobs[0].job.id}", token=publishers.jobs[0].token)
        carol = await meeting.join("carol")
        await participants.until(lambda: len(participants.jobs) == 3, "the job for carol")
        assert participants.jobs[2].job.participant.identity == carol.identity


async def test_a_token_may_want_agents_in_a_new_room(server, room, meeting):
    worker = Worker(agent_name=named(room))
    async with working(server, worker):
        config = {"roomConfig": {"metadata": "by token", "agents": [{"agentName": named(room), "metadata": "m"}]}}
        alice = await meeting.join("alice", more_claims=config)
        await worker.until(lambda: worker.jobs, "the job")
        assert worker.jobs[0].job.metadata == "m" and alice.joined.room.metadata == "by token"


async def test_who_declines_is_not_asked_again_and_another_one_is(server, room):
    busy, ready = Worker(agent_name=named(room), takes=False), Worker(agent_name=named(room))
    async with working(server, busy, ready), opened(server, "protobuf") as caller:
        for _ in range(4):
            await create(caller, room)
        await ready.until(lambda: len(ready.jobs) == 4, "the jobs")
        assert not busy.jobs and len(busy.asked) <= 4


async def test_a_worker_is_answered_its_pings(server, room):
    worker = Worker(agent_name=named(room))
    async with working(server, worker):
        await worker.send(ping=agent.WorkerPing(timestamp=123))
        await worker.until(lambda: hasattr(worker, "pong"), "the pong")
        assert worker.pong.last_timestamp == 123 and worker.pong.timestamp > 0


async def test_only_who_may_is_a_worker_or_dispatches(server, room):
    for grants in ({"room_join": True, "room": room}, {"room_admin": True, "room": room}):
        async with aiohttp.ClientSession() as http:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await http.ws_connect(f"{server.url}/agent", headers={"Authorization": f"Bearer {token(**grants)}"})
            assert refused.value.status == 401
    async with opened(server, "protobuf") as caller:
        absent = caller.agent_dispatch.delete_dispatch("AD_absent", room)
        assert (await error_of(absent))[0] in ("not_found", "unavailable")
