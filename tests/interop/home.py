"""A home: clients behind one link to the server, which a `moim-link` emulates."""

import asyncio
import json
import os
import subprocess
import time
from urllib.parse import urlsplit


class Home:
    """One link emulator; links are described as `moim-link` reads them, times in milliseconds."""

    def __init__(self, server, address):
        port = urlsplit(server.url).port
        self.url = f"ws://{address}:{port}"
        self.process = subprocess.Popen(
            [os.environ["MOIM_LINK_BIN"], address, str(port), str(server.media_port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.statistics()

    def set(self, **links):
        """Changes `uplink=` and `downlink=`; gives the statistics of both at that moment."""
        self.process.stdin.write(json.dumps(links) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert "error" not in answer, answer
        return answer

    def statistics(self):
        return self.set()

    async def sends(self, seconds):
        """Bits a second that go up for some time, with IP and UDP headers."""
        before, begin = self.statistics()["uplink"]["delivered_bytes"], time.monotonic()
        await asyncio.sleep(seconds)
        after, end = self.statistics()["uplink"]["delivered_bytes"], time.monotonic()
        return (after - before) * 8 / (end - begin)

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(10) == 0
