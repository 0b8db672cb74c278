"""Cancellation at each checkpoint of the API: operations end at once and leave nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio import ServerSettings
from cotun_trio.testing import tunnel_pair
from tests.support.leaks import descriptors
from tests.support.targets import receive_exactly

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cotun_trio.testing import MemoryClient, MemoryServer

PROMPTLY = 0.01
"""Seconds: nobody waits for anything but the other end, which is here."""
MOST = 2000
"""Steps that an operation may have."""


class Steps(trio.abc.Instrument):
    """Counts the steps of a task, or of all, and cancels a scope before one of them."""

    def __init__(self, task: trio.lowlevel.Task | None, scope: trio.CancelScope, at: int) -> None:
        self.count = 0
        self.cancelled_at = 0.0
        self._task = task
        self._scope = scope
        self._at = at

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """Called when `task` is about to go on: what it waited for has happened."""
        if self._task is None or task is self._task:
            self.count += 1
            # One before: the cancellation comes with the checkpoint behind this one.
            if self.count == self._at:
                self._scope.cancel()
                self.cancelled_at = trio.current_time()


async def echo(stream: trio.abc.HalfCloseableStream) -> None:
    async for chunk in stream:
        await stream.send_all(chunk)


async def open_and_leave() -> None:
    async with tunnel_pair():
        pass


async def forward(server: MemoryServer, client: MemoryClient) -> None:
    one = await client.forward("0:db:1")
    async with await client.connect(one.address) as stream:
        await stream.send_all(b"x")
        await receive_exactly(stream, 1)
        await one.aclose()


async def forward_reverse(server: MemoryServer, client: MemoryClient) -> None:
    one = await client.forward("R:7000:db:1")
    async with await server.connect(one.address) as stream:
        await stream.send_all(b"x")
        await receive_exactly(stream, 1)
        await one.aclose()


async def open_tcp_stream(server: MemoryServer, client: MemoryClient) -> None:
    async with await client.open_tcp_stream("db", 1) as stream:
        await stream.send_all(b"x" * 100_000)
        await receive_exactly(stream, 100_000)
        await stream.send_eof()
        await stream.receive_some()


async def listen_and_accept(server: MemoryServer, client: MemoryClient) -> None:
    async with await client.listen_tcp(7000) as listener:
        far = await server.connect(listener.address)
        async with await listener.accept() as near, far:
            await far.send_all(b"x")
            await receive_exactly(near, 1)


async def reconnect(server: MemoryServer, client: MemoryClient) -> None:
    async with await client.listen_tcp(7000) as listener:
        server.cut()
        await trio.sleep(10)
        async with await server.connect(listener.address), await listener.accept():
            pass


async def drain(server: MemoryServer, client: MemoryClient) -> None:
    await client.open_tcp_stream("db", 1)
    await server.drain()


async def slow_yes(user: str, peer: str, remote: str) -> str | None:
    await trio.sleep(0.1)
    return None


async def run_cancelled(
    operation: Callable[[], Awaitable[None]], at: int, *, of_all: bool = False
) -> tuple[float, int]:
    """Run `operation`, cancelled at a step; return how long that took, and how many there were."""
    with trio.CancelScope() as scope:
        steps = Steps(None if of_all else trio.lowlevel.current_task(), scope, at)
        trio.lowlevel.add_instrument(steps)
        try:
            await operation()
        finally:
            trio.lowlevel.remove_instrument(steps)
    took = trio.current_time() - steps.cancelled_at if scope.cancelled_caught else 0.0
    return took, steps.count


async def everything_at_each_step(operation: Callable[[], Awaitable[None]]) -> int:
    """Cancel `operation` at each step of any of its tasks in turn; return how many there were."""
    for at in range(1, MOST):
        tasks = trio.lowlevel.current_statistics().tasks_living
        before = descriptors()
        took, steps = await run_cancelled(operation, at, of_all=True)
        if steps < at:
            return steps
        assert took < PROMPTLY, f"step {at}"
        assert trio.lowlevel.current_statistics().tasks_living == tasks, f"step {at}"
        assert descriptors() == before, f"step {at}"
    raise AssertionError("it does not come to an end")


@pytest.mark.slow
async def test_a_cancelled_opening_of_a_tunnel_leaves_nothing(
    autojump: trio.testing.MockClock,
) -> None:
    assert await everything_at_each_step(open_and_leave) > 30


OPERATIONS = [forward, forward_reverse, open_tcp_stream, listen_and_accept, reconnect, drain]


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
async def test_a_cancelled_operation_ends_with_its_tunnel_and_leaves_nothing(
    autojump: trio.testing.MockClock,
    operation: Callable[[MemoryServer, MemoryClient], Awaitable[None]],
) -> None:
    async def whole() -> None:
        settings = ServerSettings(reverse=True)
        async with tunnel_pair(settings, authorise=slow_yes, remotes=["1:db:1"]) as pair:
            for end in pair:
                end.handle("db", 1, echo)
            await operation(*pair)

    assert await everything_at_each_step(whole) > 30


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS[:-1], ids=lambda operation: operation.__name__)
async def test_a_cancelled_operation_leaves_nothing_in_a_tunnel_that_goes_on(
    autojump: trio.testing.MockClock,
    operation: Callable[[MemoryServer, MemoryClient], Awaitable[None]],
) -> None:
    """What was cancelled has left nothing in the tunnel: no port, no channel, no stream."""
    async with tunnel_pair(authorise=slow_yes) as (server, client):
        for end in (server, client):
            end.handle("db", 1, echo)

        async def one() -> None:
            await operation(server, client)

        await trio.testing.wait_all_tasks_blocked()
        tasks = trio.lowlevel.current_statistics().tasks_living
        for at in range(1, MOST):
            took, steps = await run_cancelled(one, at)
            assert took < PROMPTLY, f"step {at}"
            for left in client.forwards:
                await left.aclose()  # those whose owner was cancelled after it had them
            await trio.sleep(20)  # for a reconnect
            await trio.testing.wait_all_tasks_blocked()
            (session,) = server.sessions()
            assert (session.remotes, session.channels) == ((), 0), f"step {at}"
            assert trio.lowlevel.current_statistics().tasks_living == tasks, f"step {at}"
            if steps < at:
                assert steps > 3
                return
    raise AssertionError("it does not come to an end")
