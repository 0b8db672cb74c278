"""Messages on a socket between two processes."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.errors import ProtocolError
from cotun_trio.workers import control
from cotun_trio.workers.control_link import ControlLink, LinkLost
from tests.support.targets import background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.workers.control_link import Received


@contextlib.asynccontextmanager
async def links() -> AsyncIterator[tuple[ControlLink, ControlLink]]:
    """Give the two ends of a link."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with (
        contextlib.closing(ControlLink(one)) as supervisor,
        contextlib.closing(ControlLink(two)) as worker,
    ):
        async with background() as nursery:
            nursery.start_soon(supervisor.run)
            nursery.start_soon(worker.run)
            yield supervisor, worker


async def receive(link: ControlLink, count: int) -> list[Received]:
    """Return the first `count` messages."""
    received: list[Received] = []
    with trio.CancelScope() as scope:

        def heard(one: Received) -> None:
            received.append(one)
            if len(received) == count:
                scope.cancel()

        await link.hear(heard)
    return received


async def test_more_than_the_kernel_takes_arrives_in_order() -> None:
    async with links() as (supervisor, worker):
        said: list[control.Message] = [
            control.Barred("x" * 1000, float(number)) for number in range(700)
        ]
        for message in said:
            supervisor.send(message)
        assert supervisor._waiting
        assert [received.message for received in await receive(worker, 700)] == said


async def test_questions_have_their_answers_whatever_the_order() -> None:
    async with links() as (supervisor, worker):
        costs: dict[str, float] = {}

        async def ask(source: str) -> None:
            penalty = await worker.ask(control.LoginFailed(source), control.Penalty)
            costs[source] = penalty.delay

        async def answer() -> None:
            for received in reversed(await receive(supervisor, 3)):
                assert isinstance(received.message, control.LoginFailed)
                delay = float(ord(received.message.source))
                supervisor.send(control.Penalty(delay, 0.0), number=received.number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.hear, [].append)
            async with trio.open_nursery() as asking:
                asking.start_soon(answer)
                for source in "abc":
                    asking.start_soon(ask, source)
            nursery.cancel_scope.cancel()
        assert costs == {"a": 97.0, "b": 98.0, "c": 99.0}


async def test_a_task_that_waits_for_an_answer_learns_that_the_other_end_is_gone() -> None:
    async with links() as (supervisor, worker):

        async def hang_up() -> None:
            await trio.testing.wait_all_tasks_blocked()
            supervisor.close()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.hear, [].append)
            nursery.start_soon(hang_up)
            with pytest.raises(LinkLost):
                await worker.ask(control.LoginFailed("a"), control.Penalty)
        with pytest.raises(LinkLost):
            await worker.ask(control.LoginFailed("a"), control.Penalty)


async def test_noise_is_an_error() -> None:
    async with links() as (supervisor, worker):
        worker._sock.sendall(b"\xff" * 100)
        with pytest.raises(ProtocolError):
            await receive(supervisor, 1)
