"""A worker that does not answer gets nothing new, and is killed only if it stands still."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.counts import OwnCount
from cotun_trio.workers import control
from cotun_trio.workers.attention import INTERVAL, LATE, LOOK, LOOKS, SILENT, Attention
from cotun_trio.workers.control_link import ControlLink
from cotun_trio.workers.handover import Connection, Incoming, Outgoing
from tests.support.targets import background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.workers.control_link import Received

A_LITTLE = 0.01


class Watched:
    """A worker that answers when the test says so, and its supervisor's view of it."""

    def __init__(self) -> None:
        one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.taken, self.steps = OwnCount(), OwnCount()
        self.outgoing = Outgoing(self.taken)
        self.link, self.other = ControlLink(one), ControlLink(two)
        self.incoming = Incoming(socket.socket(fileno=os.dup(self.outgoing.theirs)), self.taken)
        self.attention = Attention(self.link, self.outgoing, self.steps, self._news)
        self.states: list[tuple[float, bool, bool]] = []
        self.dead_at: list[float] = []
        self.frozen = False
        self._pings: list[int] = []

    def _news(self) -> None:
        state = (trio.current_time(), self.attention.is_late, self.attention.is_silent)
        self.states.append(state)

    def dead(self) -> None:
        """It is to be killed."""
        self.dead_at.append(trio.current_time())

    def hear(self, received: Received) -> None:
        """Be the worker."""
        assert received.message == control.Ping()
        self._pings.append(received.number)
        if not self.frozen:
            self.answer()

    def answer(self) -> None:
        """Take the given connections, and answer all questions."""
        self.incoming.take(lambda _, descriptor: os.close(descriptor))
        for number in self._pings:
            self.other.send(control.Done(), number=number)
        self._pings.clear()

    def thaw(self) -> None:
        """Answer from now on."""
        self.frozen = False
        self.answer()

    def give(self) -> None:
        """Give it a connection."""
        here, there = socket.socketpair()
        here.close()
        assert self.outgoing.give(Connection(False, "192.0.2.1", 1), there)
        self.attention.given()

    def close(self) -> None:
        """Close all of it."""
        for part in (self.link, self.other, self.outgoing, self.incoming):
            part.close()


@contextlib.asynccontextmanager
async def watched() -> AsyncIterator[Watched]:
    with contextlib.closing(Watched()) as worker:
        async with background() as nursery:
            nursery.start_soon(worker.link.hear, [].append)
            nursery.start_soon(worker.other.hear, worker.hear)
            nursery.start_soon(worker.attention.run, worker.dead)
            yield worker


async def test_one_that_answers_is_never_late(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with watched() as worker:
        for _ in range(5):
            worker.give()
            worker.answer()
            await trio.sleep(INTERVAL)
        assert worker.states
        assert not any(late for _, late, _ in worker.states)
        assert not worker.dead_at


async def test_a_frozen_one_is_silent_a_second_after_it_was_given_something(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with watched() as worker:
        worker.frozen = True
        began = trio.current_time()
        worker.give()
        await trio.sleep(LATE - A_LITTLE)
        assert not worker.attention.is_late
        await trio.sleep(A_LITTLE)
        assert worker.attention.is_late
        await trio.sleep(SILENT - LATE - A_LITTLE)
        assert not worker.attention.is_silent
        await trio.sleep(A_LITTLE)
        assert worker.attention.is_silent
        await trio.sleep(A_LITTLE)
        assert worker.states == [(began + LATE, True, False), (began + SILENT, True, True)]


async def test_a_frozen_one_that_is_given_nothing_is_noticed_by_the_next_question(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with watched() as worker:
        worker.frozen = True
        began = trio.current_time()
        await trio.sleep(INTERVAL + SILENT + A_LITTLE)
        assert worker.states == [
            (began + INTERVAL + LATE, True, False),
            (began + INTERVAL + SILENT, True, True),
        ]


async def test_it_is_late_until_it_answers_even_if_nothing_is_left_with_it(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with watched() as worker:
        worker.frozen = True
        worker.give()
        await trio.sleep(LATE + A_LITTLE)
        found = worker.outgoing.take_back()
        assert found
        found[1].close()
        assert worker.attention.is_late
        await trio.sleep(SILENT)
        assert worker.attention.is_silent
        worker.thaw()
        await trio.sleep(A_LITTLE)
        assert not worker.attention.is_late
        assert worker.states[-1][1:] == (False, False)


async def test_one_that_freezes_again_is_late_again_in_time(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with watched() as worker:
        for _ in range(3):
            worker.frozen = True
            began = trio.current_time()
            worker.give()
            await trio.sleep(LATE + A_LITTLE)
            assert worker.states[-1] == (began + LATE, True, False)
            worker.thaw()
            await trio.sleep(A_LITTLE)
            assert worker.states[-1][1:] == (False, False)


@pytest.mark.slow
async def test_one_that_makes_no_progress_is_killed(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with watched() as worker:
        worker.frozen = True
        began = trio.current_time()
        await trio.sleep(INTERVAL + (LOOKS - 1) * LOOK + A_LITTLE)
        assert not worker.dead_at
        await trio.sleep(100)
        assert worker.dead_at == [began + INTERVAL + LOOKS * LOOK]


@pytest.mark.slow
async def test_one_that_is_busy_but_makes_progress_lives(
    autojump_with_sockets: trio.testing.MockClock,
) -> None:
    async with watched() as worker:
        worker.frozen = True
        for _ in range(2):
            worker.steps.add(1)
            await trio.sleep((LOOKS - 1) * LOOK)
            assert not worker.dead_at
        assert worker.attention.is_silent
        worker.thaw()
        await trio.sleep(A_LITTLE)
        assert not worker.attention.is_late


@pytest.mark.slow
async def test_a_late_answer_is_one(autojump_with_sockets: trio.testing.MockClock) -> None:
    async with watched() as worker:
        for _ in range(2):
            worker.frozen = True
            await trio.sleep(INTERVAL + (LOOKS - 1) * LOOK)
            worker.thaw()
            await trio.sleep(A_LITTLE)
            assert not worker.attention.is_late
        await trio.sleep(100)
        assert not worker.dead_at


@pytest.mark.slow
async def test_a_machine_that_has_slept_kills_nobody(still_clock: trio.testing.MockClock) -> None:
    async def jump(seconds: float) -> None:
        still_clock.jump(seconds)
        await trio.testing.wait_all_tasks_blocked(0.02)

    async with watched() as worker:
        await jump(0)
        worker.frozen = True
        await jump(INTERVAL)
        for _ in range(LOOKS - 1):
            await jump(3600)
        assert worker.attention.is_silent
        assert not worker.dead_at
        worker.thaw()
        await jump(0)
        assert not worker.attention.is_late
        await jump(3600)
        assert not worker.dead_at
