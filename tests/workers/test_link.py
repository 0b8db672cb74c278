"""Messages and descriptors on a socket between two processes."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.errors import ProtocolError
from cotun_trio.workers import control
from cotun_trio.workers.link import Link, LinkLost
from tests.support.targets import background

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from cotun_trio.workers.link import Received


@contextlib.asynccontextmanager
async def links() -> AsyncIterator[tuple[Link, Link]]:
    """Give the two ends of a link; only the second takes descriptors."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with (
        contextlib.closing(Link(one, None)) as supervisor,
        contextlib.closing(Link(two, control.Connection)) as worker,
    ):
        async with background() as nursery:
            nursery.start_soon(supervisor.run)
            nursery.start_soon(worker.run)
            yield supervisor, worker


def pair() -> tuple[socket.socket, socket.socket]:
    one, two = socket.socketpair()
    one.settimeout(5)
    return one, two


async def test_a_connection_goes_along_with_its_message() -> None:
    async with links() as (supervisor, worker):
        here, there = pair()
        with here:
            supervisor.send(control.Ping())
            supervisor.send(control.Connection(False, "::1", 5), there)
            assert there.fileno() < 0
            received = await receive(worker, 2)
            assert [r.message for r in received] == [
                control.Ping(),
                control.Connection(False, "::1", 5),
            ]
            assert received[0].descriptor < 0
            with socket.socket(fileno=received[1].descriptor) as taken:
                assert not taken.get_inheritable()
                taken.sendall(b"hello")
                assert here.recv(5) == b"hello"


async def receive(link: Link, count: int) -> list[Received]:
    """Return the first `count` messages."""
    received: list[Received] = []
    with trio.CancelScope() as scope:

        def heard(one: Received) -> None:
            received.append(one)
            if len(received) == count:
                scope.cancel()

        await link.hear(heard)
    return received


async def test_more_than_the_kernel_takes_arrives_in_order_with_the_right_sockets() -> None:
    async with links() as (supervisor, worker):
        heres = []
        for number in range(700):
            here, there = socket.socketpair()
            heres.append(here)
            there.sendall(f"{number:4}".encode())
            supervisor.send(control.Connection(False, "x" * 100, number), there)
        assert supervisor._waiting
        for number, received in enumerate(await receive(worker, 700)):
            assert received.message == control.Connection(False, "x" * 100, number)
            os.close(received.descriptor)
            assert int(heres[number].recv(4)) == number
            assert heres[number].recv(1) == b""
            heres[number].close()


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


async def test_who_waits_for_an_answer_learns_that_the_other_end_is_gone() -> None:
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


async def test_connections_that_were_never_sent_can_be_given_to_somebody_else() -> None:
    async with links() as (supervisor, worker):
        supervisor._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        heres = []
        for number in range(100):
            here, there = socket.socketpair()
            heres.append(here)
            supervisor.send(control.Connection(False, "x" * 100, number), there)
        worker.close()
        unsent = supervisor.unsent()
        assert unsent
        ports = [message.port for message, _ in unsent]
        assert ports == list(range(100 - len(unsent), 100))
        for (_, sock), here in zip(unsent, heres[-len(unsent) :], strict=True):
            here.sendall(b"x")
            assert sock.recv(1) == b"x"
            sock.close()
            here.close()
        for here in heres:
            here.close()


async def test_a_supervisor_takes_no_descriptors_from_a_worker() -> None:
    async with links() as (supervisor, worker):
        here, there = pair()
        with here:
            worker.send(control.Connection(False, "x", 1), there)
            (received,) = await receive(supervisor, 1)
            assert received.descriptor < 0
            assert here.recv(1) == b""  # there is no other end any more


async def test_noise_is_an_error() -> None:
    async with links() as (supervisor, worker):
        worker._sock.sendall(b"\xff" * 100)
        with pytest.raises(ProtocolError):
            await receive(supervisor, 1)
