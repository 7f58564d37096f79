"""One publisher and one subscriber with the engine between them, on a virtual clock, all decided by a seed."""

import heapq
import json
import os
import random
import subprocess

from layers import Encoding
from publisher import RIDS, Publisher
from receiver import Receiver
from rtp import is_rtcp

# Seconds.
FRAME, TURN, DELAY = 1 / 30, 0.011, 0.02


class Way:
    """One direction between a client and the server: loss, lateness, repeats."""

    def __init__(self, rng, loss: float):
        self.rng, self.loss = rng, loss
        self.dark_until = 0.0
        self.under_way = []
        self.sent = self.disturbed = 0

    def send(self, now: float, datagrams):
        for datagram in datagrams:
            self.sent += 1
            fate = self.rng.random()
            if now < self.dark_until or fate < self.loss:
                self.disturbed += 1
                continue
            late = self.rng.uniform(0.005, 0.06) if fate > 1 - self.loss else 0
            self.disturbed += late > 0
            heapq.heappush(self.under_way, (now + DELAY + late, self.sent, datagram))
            if self.loss < fate < 1.3 * self.loss:
                heapq.heappush(self.under_way, (now + DELAY + 0.03, self.sent, datagram))

    def arrived(self, now: float) -> list[bytes]:
        out = []
        while self.under_way and self.under_way[0][0] <= now:
            out.append(heapq.heappop(self.under_way)[2])
        return out


class Engine:
    """The engine's process; datagrams in and out, and the time."""

    def __init__(self, encoding: Encoding, seed: int):
        self.process = subprocess.Popen(
            [os.environ["MOIM_ENGINE_PIPE_BIN"]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        rids = RIDS[: encoding.streams] if encoding.streams > 1 else []
        self.write({"seed": seed, "codec": encoding.codec, "rids": rids})

    def write(self, line):
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()

    def step(self, now: float, publisher, subscriber, wish=None, muted=None) -> tuple[list[bytes], list[bytes]]:
        self.write(
            {
                "at": round(now * 1e6),
                "publisher": [datagram.hex() for datagram in publisher],
                "subscriber": [datagram.hex() for datagram in subscriber],
                "wish": wish,
                "muted": muted,
            }
        )
        answer = json.loads(self.process.stdout.readline())
        return tuple([bytes.fromhex(each) for each in answer[side]] for side in ("publisher", "subscriber"))

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(10) == 0


class Meeting:
    def __init__(self, library, encoding: Encoding, seed: int, loss: float):
        self.rng = random.Random(f"{encoding.name} {seed}")
        self.encoding = encoding
        self.publisher = Publisher(library, encoding, self.rng)
        self.receiver = Receiver(encoding, self.publisher.truth)
        self.engine = Engine(encoding, seed)
        # From the publisher, to it, from the subscriber, to it.
        self.up, self.up_back, self.down_back, self.down = (Way(self.rng, loss) for _ in range(4))
        self.now = 0.0
        self.next_frame = self.next_report = 0.0
        self.wish = self.muted = None

    def close(self):
        self.publisher.close()
        self.engine.close()

    def want(self, enabled=True, layer=2, rate=0):
        self.wish = {"enabled": enabled, "max_layer": layer, "max_frame_rate": rate}

    def mute(self, muted: bool):
        self.muted = self.publisher.muted = muted

    def calm(self):
        """From now on the ways lose and delay nothing."""
        for way in (self.up, self.up_back, self.down_back, self.down):
            way.loss = way.dark_until = 0

    def darken(self, seconds: float):
        """Nothing of what is sent to the subscriber arrives for a while."""
        self.down.dark_until = self.now + seconds

    def run(self, pictures: int, each=lambda: None):
        """Lets the publisher encode this many pictures; `each` is called before every one."""
        until = self.publisher.number + pictures
        while self.publisher.number < until:
            self.now += TURN
            if self.now >= self.next_frame:
                self.next_frame += FRAME
                each()
                self.up.send(self.now, self.publisher.produce())
            if self.now >= self.next_report:
                self.next_report = self.now + 1
                if not self.publisher.muted:
                    self.up.send(self.now, self.publisher.reports(self.now))
            self.turn()

    def settle(self, seconds: float = 2.5):
        """Nothing new is sent, and what is missing is repaired."""
        end = self.now + seconds
        while self.now < end:
            self.now += TURN
            self.turn()
        self.receiver.finish()

    def turn(self):
        to_publisher, to_subscriber = self.engine.step(
            self.now, self.up.arrived(self.now), self.down_back.arrived(self.now), self.wish, self.muted
        )
        self.wish = self.muted = None
        self.up_back.send(self.now, to_publisher)
        self.down.send(self.now, to_subscriber)
        for datagram in self.up_back.arrived(self.now):
            if is_rtcp(datagram):
                self.up.send(self.now, self.publisher.feedback(datagram))
        for datagram in self.down.arrived(self.now):
            if not is_rtcp(datagram):
                self.receiver.receive(self.now, datagram)
        self.down_back.send(self.now, self.receiver.ask(self.now))
