"""Bulk: streams that carry as much as they can, up to the sink and down from the source."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from bench.processes import LOOPBACK, PATIENCE, BenchError, child
from bench.targets import CHUNK, STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from bench.targets import Ports

WARM_UP = 0.2
"""Of the time that is measured, so much goes by first, with all streams flowing."""


class Moved(NamedTuple):
    """What streams have moved in some seconds, in bytes, and the CPU seconds that it took."""

    seconds: float
    up: int
    down: int
    cpu: tuple[float, ...]


class Streams:
    """Streams to the sink and from the source, all in one loop without threads."""

    def __init__(self, ports: Ports, *, up: int, down: int) -> None:
        self.up = 0
        """Bytes that have arrived at the sink, in steps."""
        self.down = 0
        """Bytes that have come from the source."""
        self._buffer = bytearray(1024 * 1024)
        self._poll = select.epoll()
        self._ups: dict[int, socket.socket] = {}
        self._downs: dict[int, socket.socket] = {}
        self._idle: set[int] = set()  # those that have not moved anything yet
        for sockets, port, events, count in (
            (self._ups, ports.sink, select.EPOLLIN | select.EPOLLOUT, up),
            (self._downs, ports.source, select.EPOLLIN, down),
        ):
            for _ in range(count):
                sock = socket.create_connection((LOOPBACK, port), timeout=PATIENCE)
                sock.setblocking(False)
                sockets[sock.fileno()] = sock
                self._poll.register(sock, events)
        self._idle.update(self._ups, self._downs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._poll.close()
        for sock in (*self._ups.values(), *self._downs.values()):
            sock.close()

    def step(self) -> None:
        """Move what can be moved, and wait for that.  Raises `BenchError` where a stream ends."""
        ready = self._poll.poll(PATIENCE)
        if not ready:
            raise BenchError(f"nothing has moved for {PATIENCE:.0f} s")
        for number, events in ready:
            if sock := self._downs.get(number):
                got = sock.recv_into(self._buffer)
                self.down += got
            else:
                sock = self._ups[number]
                if events & select.EPOLLOUT:
                    with contextlib.suppress(BlockingIOError):
                        sock.send(CHUNK)
                if not events & ~select.EPOLLOUT:
                    continue
                got = len(sock.recv(4096))
                self.up += got * STEP
            if not got:
                raise BenchError("a stream has ended")
            self._idle.discard(number)

    def run(self, seconds: float) -> None:
        """Move for some seconds."""
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.step()

    def start(self) -> None:
        """Move until each stream has.  Raises `BenchError` where one does not."""
        deadline = time.perf_counter() + PATIENCE
        while self._idle:
            self.step()
            if time.perf_counter() > deadline:
                raise BenchError(f"a stream has moved nothing for {PATIENCE:.0f} s")


def measure_bulk(
    ports: Ports, *, up: int, down: int, seconds: float, cpu: Callable[[], tuple[float, ...]]
) -> Moved:
    """Move bulk for some seconds; `cpu` reads the clocks of whom it is to be charged to."""
    with Streams(ports, up=up, down=down) as streams:
        streams.start()
        streams.run(seconds * WARM_UP)
        before = Moved(time.perf_counter(), streams.up, streams.down, cpu())
        streams.run(seconds)
        after = Moved(time.perf_counter(), streams.up, streams.down, cpu())
        return Moved(
            after.seconds - before.seconds,
            after.up - before.up,
            after.down - before.down,
            tuple(b - a for a, b in zip(before.cpu, after.cpu, strict=True)),
        )


@contextlib.contextmanager
def saturating_upload(ports: Ports) -> Iterator[Callable[[], float]]:
    """Upload in a process of its own meanwhile; the function given ends it and returns its MB/s."""
    with child(upload, ports) as pipe:

        def answer() -> float:
            if not pipe.poll(PATIENCE):
                raise BenchError("the upload beside it does not flow")
            said: float | str = pipe.recv()
            if isinstance(said, str):
                raise BenchError(f"the upload beside it: {said}")
            return said

        def finish() -> float:
            pipe.send("enough")
            return answer()

        answer()
        yield finish


def upload(parent: Connection, ports: Ports) -> None:
    """Upload until the parent says something; say when it flows, and its MB/s at the end."""
    try:
        with Streams(ports, up=1, down=0) as streams:
            streams.start()
            start, before = time.perf_counter(), streams.up
            parent.send(0.0)
            while not parent.poll():
                streams.run(0.01)
            parent.send((streams.up - before) / (time.perf_counter() - start) / 1e6)
    except (OSError, BenchError) as error:
        parent.send(str(error))
