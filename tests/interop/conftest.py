"""The server under test: one process for the whole run, on free ports; or, by MOIM_URL, one that runs already."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import uuid
from dataclasses import dataclass

import pytest
import pytest_asyncio

from home import Home
from recording import Cameras, record

KEY, SECRET = "devkey", "secret"

# What this server promises beyond the protocol; another one may do it differently.
ours = pytest.mark.skipif("MOIM_URL" in os.environ, reason="a promise of moim alone")


def free_port(kind):
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@dataclass
class Server:
    url: str
    media_port: int | None = None
    pid: int | None = None

    @property
    def http(self):
        return self.url.replace("ws", "http", 1)

    def memory(self):
        """Resident bytes of the server's process."""
        with open(f"/proc/{self.pid}/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def configuration(more="", keys=f"{{{KEY}: {SECRET}}}"):
    """A configuration on free ports of loopback."""
    http, media = free_port(socket.SOCK_STREAM), free_port(socket.SOCK_DGRAM)
    return f"port: {http}\nbind_addresses: ['127.0.0.1']\nkeys: {keys}\nrtc: {{udp_port: {media}}}\n{more}"


@contextlib.contextmanager
def started(path, killed=False):
    """A server of its own, with the configuration in a file; or one that is killed by the test."""
    with open(path) as file:
        http, media = [int(port) for port in re.findall(r"port: (\d+)", file.read())[:2]]
    process = subprocess.Popen(
        [os.environ["MOIM_BIN"], "--config", path, "--shards", "1"],
        stdout=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if "http://" in line:
            break
    assert process.poll() is None, "the server did not start"
    yield Server(f"ws://127.0.0.1:{http}", media, process.pid)
    if killed:
        assert process.wait(15) == -signal.SIGKILL
        return
    process.send_signal(signal.SIGTERM)
    assert process.wait(15) == 0


@pytest.fixture(scope="session")
def server():
    if url := os.environ.get("MOIM_URL"):
        yield Server(url)
        return
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as config:
        config.write(configuration("room: {departure_timeout: 1}\n"))
        config.flush()
        with started(config.name) as server:
            yield server


@pytest.fixture
def home(server):
    """Makes homes, each with a link of its own to the server, gone at the end."""
    if server.media_port is None:
        pytest.skip("the emulator must know the media port")
    homes = []

    def build():
        homes.append(Home(server, f"127.0.0.{len(homes) + 2}"))
        return homes[-1]

    yield build
    for each in homes:
        each.close()


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    """The directory of a recording, for cameras that show it."""
    directory = tmp_path_factory.mktemp("recording")
    record(directory)
    return directory


@pytest.fixture
def cameras(recording, room):
    """Makes cameras that show a recording, gone at the end."""
    made = []

    def build(server, count):
        made.append(Cameras(server, room, recording, count))
        return made[-1]

    yield build
    for each in made:
        each.close()


@pytest.fixture
def room():
    """A room name of the test's own."""
    return f"room-{uuid.uuid4().hex[:8]}"


@pytest_asyncio.fixture
async def meeting(server, room):
    """A room for participants made by hand, gone at the end."""
    from raw_client import Meeting

    meeting = Meeting(server, room)
    yield meeting
    await meeting.close()
