"""A worker, as its supervisor sees it: one that does not answer is killed."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.logs import get_logger
from cotun_trio.stats import OwnCount
from cotun_trio.workers import control
from cotun_trio.workers.link import Link
from cotun_trio.workers.member import INTERVAL, MISSES, Member
from tests.support.targets import background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.workers.link import Received


class FakeProcess:
    def __init__(self) -> None:
        self.killed = trio.Event()

    def kill(self) -> None:
        self.killed.set()


class Worker:
    """The other end: answers as long as it is told to."""

    def __init__(self, link: Link) -> None:
        self.answers = True
        self._link = link

    def hear(self, received: Received) -> None:
        assert received.message == control.Ping()
        if self.answers:
            self._link.send(control.Done(), number=received.number)


@contextlib.asynccontextmanager
async def watched() -> AsyncIterator[tuple[Member, Worker, FakeProcess]]:
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.closing(Link(one, None)) as link, contextlib.closing(Link(two, None)) as other:
        process: Any = FakeProcess()
        member, worker = Member(1, 0, process, link, OwnCount()), Worker(other)
        async with background() as nursery:
            nursery.start_soon(link.hear, [].append)
            nursery.start_soon(other.hear, worker.hear)
            nursery.start_soon(member.watch, get_logger("server"))
            yield member, worker, process


@pytest.fixture
def autojump() -> trio.testing.MockClock:
    """Give a clock that jumps, but only when the kernel has had time to hand over what was sent."""
    return trio.testing.MockClock(autojump_threshold=0.02)


async def test_who_answers_lives(autojump: trio.testing.MockClock) -> None:
    async with watched() as (member, _, process):
        await trio.sleep(10 * MISSES * INTERVAL)
        assert member.answers
        assert not process.killed.is_set()


async def test_who_does_not_is_killed(autojump: trio.testing.MockClock) -> None:
    async with watched() as (member, worker, process):
        worker.answers = False
        await trio.sleep(2.5 * INTERVAL)
        assert not member.answers
        assert not process.killed.is_set()
        await process.killed.wait()
        assert trio.current_time() <= (2 * MISSES + 1) * INTERVAL


async def test_a_pause_is_forgiven(autojump: trio.testing.MockClock) -> None:
    async with watched() as (member, worker, process):
        for _ in range(5):
            worker.answers = False
            await trio.sleep(2.5 * INTERVAL)
            worker.answers = True
            await trio.sleep(4 * INTERVAL)
            assert member.answers
        assert not process.killed.is_set()
