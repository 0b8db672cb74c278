"""A long, fat link, made by a proxy that delays: one stream is limited by the link, not by us."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.support.faults import Fault, fault_proxy
from tests.support.targets import LOOPBACK, MiB, connect, listening, pour, receive_digest
from tests.support.tunnel import running_client, running_server

DELAY = 0.1
"""Seconds each way."""
STALL = 0.06
"""Seconds of the real clock without any event, after which nothing is on its way any more."""
SIZE = 128 * MiB
FIXED = SIZE / (2 * MiB) * 2 * DELAY
"""Seconds that it takes through a window of 2 MiB."""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["up", "down"])
async def test_a_stream_over_a_long_link_is_limited_by_the_link(
    way: str, autojump_with_sockets: trio.testing.MockClock
) -> None:
    # Where its buffers are full, the kernel may say so only after 40 ms, its longest wait with an
    # acknowledgement: a clock that jumps in less makes the link seem slower.
    autojump_with_sockets.autojump_threshold = STALL
    data = bytes(SIZE)
    arrived = []

    async def take(stream: trio.SocketStream) -> None:
        arrived.append((await receive_digest(stream), trio.current_time()))

    async with (
        running_server() as server,
        listening(take if way == "up" else pour(data)) as target,
        fault_proxy(server.addresses[0]) as proxy,
    ):
        proxy.up = proxy.down = Fault(delay=DELAY)
        async with running_client(proxy.address, f"{LOOPBACK}:0:{target}") as client:
            await client.opened()
            since = trio.current_time()
            async with await connect(client.addresses[0]) as stream:
                if way == "up":
                    await stream.send_all(data)
                    await stream.send_eof()
                    await stream.receive_some()
                else:
                    await take(stream)
            assert proxy.passed[way == "down"] > SIZE
    (((size, _), at),) = arrived
    assert size == SIZE
    assert 4 * DELAY <= at - since < FIXED / 4
