"""Workers that die, do not get ready, or have to go; here, they are no processes."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.errors import CotunError
from cotun_trio.logs import get_logger
from cotun_trio.net.sockets import close
from cotun_trio.settings import ProcessSettings
from cotun_trio.workers import control, crew
from cotun_trio.workers.attention import LATE, SILENT
from cotun_trio.workers.crew import Crew
from cotun_trio.workers.handover import ALL, Connection, Incoming
from cotun_trio.workers.link import Link
from cotun_trio.workers.restarts import STABLE
from cotun_trio.workers.shared_counts import TAKEN, SharedCounts
from cotun_trio.workers.spawn import Start
from tests.support.log_watch import watch_logs
from tests.support.targets import background
from tests.support.tunnel import server_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from cotun_trio.workers.link import Received


class Fake:
    """A worker that does what the test says; its own process, too."""

    def __init__(self, link: Link, memory: int, connections: socket.socket) -> None:
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
        self._pings: list[int] = []
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
    """A crew, and the workers that it has started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> None:
        self.workers: list[Fake] = []
        self.started_at: list[float] = []
        self.failing = False
        self._nursery = nursery
        monkeypatch.setattr(crew, "worker_process", self._worker_process)
        self.crew = Crew(
            server_settings(host_key=generate_host_key()),
            ProcessSettings(workers=2),
            get_logger("server"),
            self._changed,
        )
        self.was_open: list[bool] = []

    def _changed(self) -> None:
        if self.was_open[-1:] != [self.crew.dispatch.is_open]:
            self.was_open.append(self.crew.dispatch.is_open)

    @contextlib.asynccontextmanager
    async def _worker_process(
        self, memory: int, connections: int
    ) -> AsyncIterator[tuple[Any, socket.socket]]:
        if self.failing:
            raise OSError(errno.EAGAIN, "no process for you")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        fake = Fake(Link(theirs), memory, socket.socket(fileno=os.dup(connections)))
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
        """Start the crew with two workers that are ready."""
        self._nursery.start_soon(self.crew.start, self._nursery)
        for number in (1, 2):
            (await self.worker(number)).say(control.Ready())
        await until(lambda: all(member.kept for member in self.crew.members))
        assert len(self.crew.dispatch.roster) == 2

    @contextlib.contextmanager
    def accept(self, *ports: int) -> Iterator[list[socket.socket]]:
        """Hand connections over; give their other ends."""
        with contextlib.ExitStack() as stack:
            heres = []
            for port in ports:
                here, there = socket.socketpair()
                here.settimeout(5)
                heres.append(stack.enter_context(here))
                self.crew.hand_over(Connection(False, "192.0.2.1", port), there)
            yield heres

    @property
    def numbers(self) -> list[int]:
        """The workers that are there."""
        return [member.number for member in self.crew.members]


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
    result.crew.close()


async def test_each_worker_has_a_number_and_a_slot_and_the_same_host_key(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        one, two = (fake.start for fake in on.workers)
        assert one
        assert two
        assert (one.number, two.number) == (1, 2)
        assert one.slot != two.slot
        assert one.host_key.asbytes() == two.host_key.asbytes()


@pytest.mark.slow
async def test_who_dies_is_replaced_at_once_and_later_not_at_once(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with watch_logs() as log, stage(monkeypatch) as on:
        await on.run()
        for number in range(2, 8):
            worker = await on.worker(number)
            worker.say(control.Ready())
            await until(lambda: len(on.crew.dispatch.roster) == 2)
            worker.die()
        await on.worker(8)
        waits = [b - a for a, b in zip(on.started_at[1:], on.started_at[2:], strict=False)]
        assert waits[0] <= 1
        assert waits[-1] >= 1.6
        assert len(log.find(r"worker \d \(process 1\): was killed by SIGKILL")) == 6
        # One that has lived for a while begins anew.
        await trio.sleep(20)
        on.workers[-1].die()
        died_at = trio.current_time()
        await on.worker(9)
        assert on.started_at[-1] - died_at < 0.1


async def test_the_system_may_have_no_process_for_a_while(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with watch_logs() as log, stage(monkeypatch) as on:
        await on.run()
        on.failing = True
        on.workers[0].die()
        await log.wait_for("cannot start a worker: no process for you", times=3)
        on.failing = False
        await on.worker(3)
        assert on.numbers == [2, 3]


async def test_a_start_that_fails_is_an_error_that_says_why(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on, trio.open_nursery() as nursery:

        async def fail() -> None:
            worker = await on.worker(1)
            worker.say(control.CannotServe("there is no watch"))
            worker.die(1)

        nursery.start_soon(fail)
        with pytest.raises(CotunError, match="there is no watch"):
            await on.crew.start(on._nursery)
    async with stage(monkeypatch) as on:
        on.failing = True
        with pytest.raises(CotunError, match="no process for you"):
            await on.crew.start(on._nursery)


async def test_who_is_replaced_ends_when_another_is_ready(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on, trio.open_nursery() as nursery:
        await on.run()
        nursery.start_soon(on.crew.replace_all, on._nursery)
        for old, new in ((1, 3), (2, 4)):
            successor = await on.worker(new)
            retiring = on.workers[old - 1]
            assert control.Drain() not in retiring.heard
            successor.say(control.Ready())
            await until(functools.partial(heard_drain, retiring))
            retiring.die(0)
    assert len(on.workers) == 4


async def test_where_no_other_gets_ready_all_stay(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with watch_logs() as log, stage(monkeypatch) as on:
        await on.run()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(on.crew.replace_all, on._nursery)
            (await on.worker(3)).die(1)
        assert on.numbers == [1, 2]
        assert log.find("the workers are not replaced")
        assert not any(control.Drain() in worker.heard for worker in on.workers)
        # And who dies then still has a successor.
        on.workers[0].die()
        await on.worker(4)


async def test_a_worker_that_talks_nonsense_is_ended(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        on.workers[0].say(control.Drain())
        on.workers[1].link._sock.sendall(b"\xff" * 100)
        await on.worker(4)
        assert set(on.numbers) == {3, 4}


async def test_what_a_frozen_worker_does_not_take_another_one_gets_once(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        frozen, other = on.workers
        frozen.freeze()
        began = trio.current_time()
        with on.accept(*range(6)):
            await until(lambda: len(other.ports) == 6)
            assert trio.current_time() - began <= LATE + STEP
            assert sorted(other.ports) == list(range(6))
            # The places of what was taken back are free again.
            assert [member.load for member in on.crew.members] == [0, 6]
        # From now on it gets nothing, even if the other one has much more to do.
        with on.accept(6, 7):
            await until(lambda: other.ports[6:] == [6, 7])
        await until(lambda: on.crew.members[0].is_silent)
        frozen.thaw()
        await until(lambda: not on.crew.members[0].is_late)
        assert frozen.ports == []
        with on.accept(8):
            await until(lambda: frozen.ports == [8])


async def test_where_all_are_frozen_accepting_pauses_until_one_answers(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        for worker in on.workers:
            worker.freeze()
        on.was_open.clear()
        began = trio.current_time()
        with on.accept(*range(4)):
            await until(lambda: on.was_open == [True, False])
            assert trio.current_time() - began <= SILENT + STEP
            # What was accepted already is kept for the first that goes on.
            with on.accept(4):
                on.workers[1].thaw()
                await until(lambda: len(on.workers[1].ports) == 5)
            assert sorted(on.workers[1].ports) == list(range(5))
            assert on.was_open == [True, False, True]
        on.workers[0].thaw()
        await until(lambda: not on.crew.members[0].is_late)
        assert on.workers[0].ports == []


async def test_what_a_dead_worker_has_not_taken_another_one_gets(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        on.workers[0].freeze()
        with on.accept(1, 2) as (one, two):
            on.workers[0].die()
            await until(lambda: len(on.workers[1].ports) == 2)
            assert one.recv(1) == two.recv(1) == b""


async def test_connections_that_no_worker_has_taken_wait_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        for worker in on.workers:
            worker.freeze()
        with on.accept(1, 2):
            for worker in on.workers[:2]:
                worker.die()
            successor = await on.worker(4)
            assert not on.crew.dispatch.is_open
            successor.say(control.Ready())
            await until(lambda: sorted(successor.ports) == [1, 2])
            assert on.crew.dispatch.is_open


async def test_at_the_end_what_nobody_has_taken_is_closed(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        for worker in on.workers:
            worker.freeze()
        with on.accept(1) as (one,):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(on.crew.end, 5.0)
                await until(lambda: all(heard_drain(worker) for worker in on.workers))
                for worker in on.workers:
                    worker.die(0)
            with on.accept(2) as (two,):
                assert one.recv(1) == two.recv(1) == b""


@pytest.mark.slow
async def test_one_that_dies_again_and_again_does_not_delay_another_one(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        await trio.sleep(STABLE)
        number = 2
        for _ in range(6):
            number += 1
            on.workers[-1].die()
            (await on.worker(number)).say(control.Ready())
            await until(lambda: len(on.crew.dispatch.roster) == 2)
        on.workers[-1].die()
        died_at = trio.current_time()
        on.workers[0].die()
        await on.worker(number + 1)
        assert on.started_at[-1] - died_at < 0.1
        # And that the first one had lived long changes nothing for the one that has not.
        await on.worker(number + 2)
        assert on.started_at[-1] - died_at > 1.0


async def test_at_the_end_nobody_is_replaced(
    monkeypatch: pytest.MonkeyPatch, autojump_with_sockets: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(on.crew.end, 5.0)
            await until(lambda: all(control.Drain() in w.heard for w in on.workers))
            for worker in on.workers:
                worker.die(0)
        assert on.numbers == []
        await trio.sleep(60)
        assert len(on.workers) == 2
