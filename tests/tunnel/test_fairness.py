"""Bulk does not make others wait: turns that fit the link, and those who send little go first."""

from __future__ import annotations

import contextlib

import pytest
import trio
import trio.testing

from tests.support.slow_link import slow_link
from tests.support.targets import LOOPBACK, connect, echo, listening, receive_all, receive_exactly
from tests.support.tunnel import running_client, running_server

pytestmark = pytest.mark.slow

MBIT = 125_000
"""Bytes per second."""
BOUND = 0.3
"""Seconds: what people still take for at once."""
QUESTIONS = 50
FLOODS = 3


async def drop(stream: trio.SocketStream) -> None:
    """Be a target that takes everything."""
    await receive_all(stream)


async def pour(stream: trio.SocketStream) -> None:
    """Send for ever."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while True:
            await stream.send_all(bytes(65536))


@pytest.mark.parametrize("way", ["up", "down"])
async def test_on_a_slow_link_an_answer_does_not_wait_behind_a_flood(
    way: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    times = []

    async def run(flood: str) -> None:
        async with await connect(flood) as stream:
            await (pour if way == "up" else drop)(stream)

    async with (
        listening(echo) as echoing,
        listening(drop if way == "up" else pour) as flooding,
        running_server() as server,
        slow_link(server.addresses[0], MBIT) as link,
        running_client(
            link, f"{LOOPBACK}:0:{echoing}", f"{LOOPBACK}:0:{flooding}", keepalive=60
        ) as client,
        trio.open_nursery() as nursery,
    ):
        await client.opened()
        asking, flood = client.addresses
        for _ in range(FLOODS):
            nursery.start_soon(run, flood)
        await trio.sleep(3)  # for the flood to know the link
        async with await connect(asking) as stream:
            for _ in range(QUESTIONS):
                since = trio.current_time()
                await stream.send_all(bytes(64))
                await receive_exactly(stream, 64)
                times.append(trio.current_time() - since)
                await trio.sleep(0.03)
        nursery.cancel_scope.cancel()
    assert max(times) <= BOUND, [round(time, 3) for time in times]
