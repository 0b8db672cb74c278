"""The accept loop: it goes on after every error that `accept` can return."""

from __future__ import annotations

import errno
import logging
import os
import socket

import pytest
import trio

from cotun_trio.net.accept import BATCH, PAUSE, QUIET, accept_forever
from tests.support.sockets import tcp_listener, unix_pair

pytestmark = pytest.mark.usefixtures("each_way_to_wait")

Step = OSError | str


class Listener:
    """Accepts by a script: an error is raised, a word is the address of a connection."""

    def __init__(self, readable: socket.socket, *script: Step) -> None:
        self._readable = readable
        self.done = trio.Event()
        """Set when the script is over."""
        self._script = list(script)

    def fileno(self) -> int:
        """Return a descriptor that is always readable."""
        return self._readable.fileno()

    def accept(self) -> tuple[socket.socket, str]:
        """Take the next step; block when there is none."""
        if not self._script:
            self.done.set()
            raise BlockingIOError(errno.EAGAIN, "nothing")
        step = self._script.pop(0)
        if isinstance(step, OSError):
            raise step
        return socket.socket(), step


async def run(*script: Step) -> list[object]:
    """Accept what the script gives; return the addresses accepted."""
    got: list[object] = []

    def accepted(sock: socket.socket, peer: object) -> None:
        assert not sock.getblocking()
        sock.close()
        got.append(peer)

    with unix_pair() as (readable, other):
        other.send(b"!")
        listener = Listener(readable, *script)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_forever, listener, accepted)  # type: ignore[arg-type]
            await listener.done.wait()
            nursery.cancel_scope.cancel()
    return got


def error(number: int) -> OSError:
    return OSError(number, os.strerror(number))


async def test_connections_are_passed_on_with_the_address_of_their_peer() -> None:
    got: list[tuple[socket.socket, object]] = []
    with tcp_listener() as listener:
        listener.setblocking(False)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept_forever, listener, lambda *pair: got.append(pair))
            while len(got) < 3:
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert listener.fileno() >= 0  # it stays open: it is somebody else's
    assert [peer for _, peer in got] == [client.getsockname() for client in clients]
    for sock in [*clients, *(sock for sock, _ in got)]:
        sock.close()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS])
async def test_out_of_descriptors_it_waits_and_accepts_again(
    number: int, autojump: object, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "cotun"):
        assert await run(*[error(number)] * 50, "after") == ["after"]
    assert trio.current_time() > 1  # it did not spin
    (record,) = caplog.records  # and said so once
    assert os.strerror(number) in record.getMessage()
    assert record.name.startswith("cotun.")  # where our handler is


async def test_that_descriptors_run_out_is_said_once_a_minute(
    autojump: object, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [error(errno.EMFILE) for _ in range(int(2.5 * QUIET / PAUSE))]
    with caplog.at_level(logging.WARNING, "cotun"):
        assert await run(failures[0], "a", *failures, "b") == ["a", "b"]
    assert len(caplog.records) == 3


async def test_many_listeners_say_it_once_together(
    autojump: object, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "cotun"):
        for _ in range(5):
            assert await run(error(errno.EMFILE), "a") == ["a"]
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    "number", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ENETDOWN, errno.EHOSTUNREACH]
)
async def test_a_connection_that_is_gone_already_is_skipped(number: int, autojump: object) -> None:
    assert await run("a", error(number), "b", error(number), error(number), "c") == ["a", "b", "c"]
    assert trio.current_time() == 0


async def test_a_flood_of_connections_leaves_other_tasks_their_turn() -> None:
    turns = []

    async def other() -> None:
        while True:
            await trio.lowlevel.checkpoint()
            turns.append(True)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        assert len(await run(*["x"] * (10 * BATCH))) == 10 * BATCH
        nursery.cancel_scope.cancel()
    assert len(turns) >= 9
