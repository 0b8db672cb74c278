"""Requests per second: small ones, each with a small answer, on some connections.

On each connection, some requests are sent in one piece (pipelined), and the next ones when all of
their answers have come, as redis-benchmark does.  The meter only counts the bytes of answers.
"""

from __future__ import annotations

import select
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from bench.processes import PATIENCE, BenchError
from bench.roundtrips import connect
from bench.targets import ANSWER, REQUEST

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

WARM_UP = 0.2
"""Of the time that is measured, so much goes by first, with all connections at work."""


class Answered(NamedTuple):
    """What was answered."""

    rate: float
    """Requests per second."""
    cpu: float | None
    """CPU seconds for each request; of the direct way, None."""


class Load:
    """Connections that always wait for answers, all in one loop without threads."""

    def __init__(self, port: int, *, connections: int, pipelined: int) -> None:
        self.answered = 0
        """Bytes of answers."""
        self._batch = REQUEST * pipelined
        self._wanted = len(ANSWER) * pipelined
        self._buffer = bytearray(self._wanted)
        self._poll = select.epoll()
        self._sockets: dict[int, socket.socket] = {}
        self._owed: dict[int, int] = {}  # bytes of answers that each connection waits for
        try:
            for _ in range(connections):
                sock = connect(port)
                self._sockets[sock.fileno()] = sock
                self._poll.register(sock, select.EPOLLIN)
        except OSError:
            self.close()
            raise
        self._idle = set(self._sockets)  # those that have not had all answers yet

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._poll.close()
        for sock in self._sockets.values():
            sock.close()

    def start(self) -> None:
        """Ask on each connection, and go on until each was answered.  Raises `BenchError`."""
        for number in self._sockets:
            self._ask(number)
        deadline = time.perf_counter() + PATIENCE
        while self._idle:
            self._step()
            if time.perf_counter() > deadline:
                raise BenchError(f"a connection has had no answer for {PATIENCE:.0f} s")

    def run(self, seconds: float) -> None:
        """Ask for some seconds.  Raises `BenchError` where no answers come."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self._step()

    def _ask(self, number: int) -> None:
        self._sockets[number].send(self._batch)  # little, so that it always goes at once
        self._owed[number] = self._wanted

    def _step(self) -> None:
        ready = self._poll.poll(PATIENCE)
        if not ready:
            raise BenchError(f"no request has been answered for {PATIENCE:.0f} s")
        for number, _ in ready:
            got = self._sockets[number].recv_into(self._buffer)
            if not got:
                raise BenchError("a connection has ended")
            self.answered += got
            self._owed[number] -= got
            if not self._owed[number]:
                self._idle.discard(number)
                self._ask(number)


def measure_requests(
    port: int,
    *,
    connections: int,
    pipelined: int,
    seconds: float,
    cpu: Callable[[], tuple[float, ...]],
) -> Answered:
    """Ask for some seconds; `cpu` reads the clocks of whom it is to be charged to."""
    with Load(port, connections=connections, pipelined=pipelined) as load:
        load.start()
        load.run(seconds * WARM_UP)
        start, before, cpu_before = time.perf_counter(), load.answered, sum(cpu())
        load.run(seconds)
        end, after, cpu_after = time.perf_counter(), load.answered, cpu()
    count = (after - before) / len(ANSWER)
    if not count:
        raise BenchError("no request was answered in the time")
    spent = (sum(cpu_after) - cpu_before) / count if cpu_after else None
    return Answered(count / (end - start), spent)
