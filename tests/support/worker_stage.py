"""A worker pool, and workers that do what the test says; they are no processes."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Any

import trio

from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.logs import get_logger
from cotun_trio.net.sockets import close
from cotun_trio.settings import ProcessSettings
from cotun_trio.workers import control, launch
from cotun_trio.workers.control_link import ControlLink
from cotun_trio.workers.handover import ALL, Connection, Incoming
from cotun_trio.workers.shared_counts import TAKEN, SharedCounts
from cotun_trio.workers.spawn import Start
from cotun_trio.workers.values import pack
from cotun_trio.workers.worker_pool import WorkerPool
from tests.support.targets import background
from tests.support.tunnel import server_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    import pytest

    from cotun_trio.workers.control_link import Received


class Fake:
    """A worker that does what the test says; its own process, too."""

    def __init__(self, link: ControlLink, memory: int, connections: socket.socket) -> None:
        self.link = link
        self.start: Start | None = None
        self.ports: list[int] = []
        self._memory = memory
        self._connections = connections
        self._counts: SharedCounts | None = None
        self._incoming: Incoming | None = None
        self.heard: list[control.Message] = []
        self.returncode: int | None = None
        self.pid = 1
        self.seen: dict[str, list[Any]] = {}
        """The items of its answers to looks, by the name of the method; without, it gives none."""
        self._pings: list[int] = []
        self._looks: list[Received] = []
        self._going = trio.Event()
        self._going.set()
        self._ended = trio.Event()

    def hear(self, received: Received) -> None:
        self.heard.append(received.message)
        if isinstance(received.message, control.Begin):
            self.start = Start.unpack(received.message.payload)
            self._counts = SharedCounts(self._memory, self.start.slots, self.start.key)
            taken = self._counts.count(TAKEN, self.start.slot)
            self._incoming = Incoming(self._connections, taken)
        elif isinstance(received.message, control.Ping):
            self._pings.append(received.number)
            self._answer()
        elif isinstance(received.message, control.Look):
            self._looks.append(received)
            self._answer()

    async def take_connections(self) -> None:
        """Take what it is given and hang up on it, except while it is frozen."""
        with contextlib.suppress(trio.ClosedResourceError):
            while True:
                await self._going.wait()
                await trio.lowlevel.wait_readable(self._connections)
                if self._going.is_set():
                    self._take()

    def _take(self) -> None:
        if self._incoming is not None:
            self._incoming.take(self._taken, ALL)

    def _taken(self, connection: Connection, descriptor: int) -> None:
        self.ports.append(connection.port)
        os.close(descriptor)

    def _answer(self) -> None:
        if self._going.is_set():
            self._take()
            for number in self._pings:
                self.link.send(control.Done(), number=number)
            self._pings.clear()
            for look in self._looks:
                assert isinstance(look.message, control.Look)
                if (items := self.seen.get(look.message.name)) is not None:
                    seen = control.Seen(tuple(map(pack, items)), more=False)
                    self.link.send(seen, number=look.number)
            self._looks.clear()

    def freeze(self) -> None:
        """Do nothing at all."""
        self._going = trio.Event()

    def thaw(self) -> None:
        """Go on where it was."""
        self._going.set()
        self._answer()

    def say(self, message: control.Message) -> None:
        self.link.send(message)

    def die(self, status: int = -9) -> None:
        self.returncode = status
        self._ended.set()
        self.link.close()
        close(self._connections)
        if self._counts is not None:
            self._counts.close()
            self._counts = None

    kill = die

    async def wait(self) -> None:
        await self._ended.wait()


class Stage:
    """A pool, and the workers that it has started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> None:
        self.workers: list[Fake] = []
        self.started_at: list[float] = []
        self.failing = False
        self._nursery = nursery
        monkeypatch.setattr(launch, "worker_process", self._worker_process)
        self.pool = WorkerPool(
            server_settings(host_key=generate_host_key()),
            ProcessSettings(workers=2),
            get_logger("server"),
            self._changed,
        )
        self.was_open: list[bool] = []

    def _changed(self) -> None:
        if self.was_open[-1:] != [self.pool.dispatch.is_open]:
            self.was_open.append(self.pool.dispatch.is_open)

    @contextlib.asynccontextmanager
    async def _worker_process(
        self, memory: int, connections: int
    ) -> AsyncIterator[tuple[Any, socket.socket]]:
        if self.failing:
            raise OSError(errno.EAGAIN, "no process for you")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        fake = Fake(ControlLink(theirs), memory, socket.socket(fileno=os.dup(connections)))
        self._nursery.start_soon(fake.take_connections)
        self._nursery.start_soon(fake.link.run)
        self._nursery.start_soon(fake.link.hear, fake.hear)
        self.workers.append(fake)
        self.started_at.append(trio.current_time())
        try:
            yield fake, ours
        finally:
            fake.die()

    async def worker(self, number: int) -> Fake:
        """Return the worker `number`, when it has begun."""
        await until(lambda: len(self.workers) >= number and self.workers[number - 1].start)
        return self.workers[number - 1]

    async def run(self) -> None:
        """Start the pool with two workers that are ready."""
        self._nursery.start_soon(self.pool.start, self._nursery)
        for number in (1, 2):
            (await self.worker(number)).say(control.Ready())
        await until(lambda: all(worker.kept for worker in self.pool.workers))
        assert len(self.pool.dispatch.balancer) == 2

    @contextlib.contextmanager
    def accept(self, *ports: int) -> Iterator[list[socket.socket]]:
        """Hand connections over; give their other ends."""
        with contextlib.ExitStack() as stack:
            heres = []
            for port in ports:
                here, there = socket.socketpair()
                here.settimeout(5)
                heres.append(stack.enter_context(here))
                self.pool.hand_over(Connection(False, "192.0.2.1", port), there)
            yield heres

    @property
    def numbers(self) -> list[int]:
        """The workers that are there."""
        return [worker.number for worker in self.pool.workers]


def heard_drain(worker: Fake) -> bool:
    return control.Drain() in worker.heard


STEP = 0.2
"""Seconds between two looks of `until`."""


async def until(condition: Callable[[], object]) -> None:
    """Let the mock clock run until `condition` holds."""
    while not condition():
        await trio.sleep(STEP)


@contextlib.asynccontextmanager
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    async with background() as nursery:
        result = Stage(monkeypatch, nursery)
        yield result
    result.pool.close()
