"""A picture comes in the size that was asked for, whatever it is encoded with."""

import pytest

from camera import publish_camera
from client import joined
from screen import HIGH, LOW, MEDIUM, screens


@pytest.mark.parametrize(
    "codec, svc, size",
    [
        ("VP8", False, (960, 540)),
        ("H264", False, (960, 540)),
    ],
)
async def test_the_quality_that_is_asked_for_changes_the_size(server, room, codec, svc, size):
    async with joined(server, room, "alice", "bob") as (alice, bob):
        await publish_camera(alice, size, codec=codec, svc=svc)
        screen = (await screens(bob, 1))["alice"]
        # Three spatial layers halve the width; the SDK's simulcast layers are 320 and 640 wide.
        low, medium = (size[0] // 4, size[0] // 2) if svc else (320, 640)
        await screen.shows(size[0])
        for quality, width in ((LOW, low), (HIGH, size[0]), (MEDIUM, medium), (HIGH, size[0])):
            screen.ask(quality)
            await screen.shows(width)
