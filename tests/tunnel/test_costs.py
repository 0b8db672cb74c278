"""What small messages and short connections cost, in calls and turns: a change for the worse fails.

Server and client are in one Trio run, with sockets in between.  The application and the target are
the test itself; theirs is not counted.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import attrs
import pytest
from trio.lowlevel import wait_readable

from cotun_trio.net import poller as module
from tests.support.counting import RAW, counting
from tests.support.sockets import tcp_listener
from tests.support.targets import LOOPBACK, split_address
from tests.support.tunnel import running_client, tunnel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.server.server import Server
    from tests.support.counting import Costs

MESSAGE = b"x" * 64
CROWD = 50


@attrs.frozen
class Stage:
    """A tunnel to `target`, which listens; its client listens at `entrance`."""

    entrance: tuple[str, int]
    target: socket.socket
    costs: Costs
    server: Server

    async def connect(
        self, entrance: tuple[str, int] | None = None
    ) -> tuple[socket.socket, socket.socket]:
        """Return an application's socket and the target's, connected through the tunnel; or through
        another client of the server, which listens at `entrance`."""
        app = socket.create_connection(entrance or self.entrance)
        await wait_readable(self.target)
        there, _ = self.target.accept()
        return app, there


@contextlib.asynccontextmanager
async def stage(monkeypatch: pytest.MonkeyPatch, *, fast: bool) -> AsyncIterator[Stage]:
    """Give a tunnel whose costs are counted."""
    costs = counting(monkeypatch)
    monkeypatch.setattr(module, "CROWD", 0)
    monkeypatch.setattr(module, "ROUND", 1e9)  # a slow machine has no more rounds than a fast one
    settings = {"keepalive": 0, "fast_loop": fast}
    with tcp_listener() as target:
        target.setblocking(False)
        address = "{}:{}".format(*target.getsockname())
        async with tunnel(address, server=settings, client=settings) as both:
            entrance = split_address(both.client.addresses[0])
            yield Stage(entrance, target, costs, both.server)


async def pass_on(
    sources: list[socket.socket], drains: list[socket.socket], message: bytes = MESSAGE
) -> None:
    """Send a message from each source to its drain; return when all have arrived."""
    for source in sources:
        RAW.send(source, message)
    for drain in drains:
        await wait_readable(drain)
        assert RAW.recv(drain, 100) == message


@pytest.mark.parametrize("fast", [True, False])
async def test_a_round_trip(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    """Each end reads twice and sends twice.  Nobody has a turn of the scheduler; or the poller's
    task has one for each hop."""
    async with stage(monkeypatch, fast=fast) as on:
        app, there = await on.connect()
        with app, there:
            await pass_on([app], [there])
            await pass_on([there], [app])
            on.costs.take()
            for _ in range(10):
                await pass_on([app], [there])
                await pass_on([there], [app])
            costs = on.costs.take()
    assert costs["reads"] == costs["sends"] == 40
    assert costs["registrations"] == 0
    assert costs["turns"] <= (0 if fast else 44)
    if fast:  # one for each hop, and one for each of the test's own waits
        assert costs["waits"] <= 70


@pytest.mark.parametrize("fast", [True, False])
async def test_fifty_at_once(monkeypatch: pytest.MonkeyPatch, fast: bool) -> None:
    """All that fifty connections have to say in a moment is one frame, and one system call."""
    async with stage(monkeypatch, fast=fast) as on:
        with contextlib.ExitStack() as stack:
            pairs = [await on.connect() for _ in range(CROWD)]
            for pair in pairs:
                for each in pair:
                    stack.enter_context(each)
            apps, targets = [list(ends) for ends in zip(*pairs, strict=True)]
            await pass_on(apps, targets)
            await pass_on(targets, apps)
            on.costs.take()
            await pass_on(apps, targets)
            asked = on.costs.take()
            await pass_on(targets, apps)
            answered = on.costs.take()
    # Fifty reads, the frame, fifty writes; there may be a credit for the window in one of them.
    for costs in (asked, answered):
        assert CROWD + 1 <= costs["sends"] <= CROWD + 2
        assert CROWD + 1 <= costs["reads"] <= CROWD + 2
        assert costs["registrations"] == 0
        # After so many openings, the session may have to see that no other one wants a turn.
        assert costs["turns"] <= (1 if fast else 6)


@pytest.mark.slow
async def test_two_sessions_in_turn_that_send_very_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that are busier than their allowance do not have each other wait in Trio's way."""
    async with stage(monkeypatch, fast=True) as on:
        remote = "{}:0:{}:{}".format(LOOPBACK, *on.target.getsockname())
        async with running_client(on.server.addresses[0], remote, keepalive=0) as other:
            entrances = on.entrance, split_address(other.addresses[0])
            pairs = [await on.connect(entrance) for entrance in entrances]
            for _ in range(1000):  # more than an allowance, where the machine is not very slow
                for app, there in pairs:
                    await pass_on([app], [there], b"x")
            on.costs.take()
            for _ in range(10):
                for app, there in pairs:
                    await pass_on([app], [there], b"x")
            costs = on.costs.take()
            for pair in pairs:
                for each in pair:
                    each.close()
    assert costs["reads"] == costs["sends"] == 40
    assert costs["registrations"] == costs["turns"] == 0


async def test_a_short_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened, asked, answered and closed, one after the other."""
    count = 10
    async with stage(monkeypatch, fast=True) as on:
        on.costs.take()
        for _ in range(count):
            app, there = await on.connect()
            await pass_on([app], [there])
            await pass_on([there], [app])
            app.close()
            await wait_readable(there)
            assert RAW.recv(there, 1) == b""
            there.close()
        costs = on.costs.take()
    each = {name: number / count for name, number in costs.items()}
    # Both ends together.
    assert each["sends"] <= 9.2
    assert each["reads"] <= 12
    assert each["registrations"] <= 4
    assert each["turns"] <= 7
