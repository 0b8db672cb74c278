"""Workers that die, do not get ready, or have to go; here, they are no processes."""

from __future__ import annotations

import contextlib
import errno
import functools
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.errors import CotunError
from cotun_trio.logs import get_logger
from cotun_trio.settings import ProcessSettings
from cotun_trio.workers import control, crew
from cotun_trio.workers.crew import Crew
from cotun_trio.workers.link import Link
from cotun_trio.workers.spawn import Start
from tests.support.log_watch import watch_logs
from tests.support.targets import background
from tests.support.tunnel import server_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from cotun_trio.workers.link import Received


class Fake:
    """A worker that does what the test says; its own process, too."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.start: Start | None = None
        self.heard: list[control.Message] = []
        self.returncode: int | None = None
        self.pid = 1
        self._ended = trio.Event()

    def hear(self, received: Received) -> None:
        self.heard.append(received.message)
        if isinstance(received.message, control.Begin):
            self.start = Start.unpack(received.message.payload)
        elif isinstance(received.message, control.Ping):
            self.link.send(control.Done(), number=received.number)

    def say(self, message: control.Message) -> None:
        self.link.send(message)

    def die(self, status: int = -9) -> None:
        self.returncode = status
        self._ended.set()
        self.link.close()

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
            lambda: None,
        )

    @contextlib.asynccontextmanager
    async def _worker_process(self, _memory: int) -> AsyncIterator[tuple[Any, socket.socket]]:
        if self.failing:
            raise OSError(errno.EAGAIN, "no process for you")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        fake = Fake(Link(theirs, control.Connection))
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
        assert len(self.crew.roster) == 2

    @property
    def numbers(self) -> list[int]:
        """The workers that are there."""
        return [member.number for member in self.crew.members]


def heard_drain(worker: Fake) -> bool:
    return control.Drain() in worker.heard


@pytest.fixture
def autojump() -> trio.testing.MockClock:
    """Give a clock that jumps, but only when the kernel has had time to hand over what was sent."""
    return trio.testing.MockClock(autojump_threshold=0.02)


async def until(condition: Callable[[], object]) -> None:
    """Let the mock clock run until `condition` holds."""
    while not condition():
        await trio.sleep(0.2)


@contextlib.asynccontextmanager
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    async with background() as nursery:
        result = Stage(monkeypatch, nursery)
        yield result
    result.crew.close()


async def test_each_worker_has_a_number_and_a_slot_and_the_same_host_key(
    monkeypatch: pytest.MonkeyPatch, autojump: trio.testing.MockClock
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
    monkeypatch: pytest.MonkeyPatch, autojump: trio.testing.MockClock
) -> None:
    async with watch_logs() as log, stage(monkeypatch) as on:
        await on.run()
        for number in range(2, 8):
            worker = await on.worker(number)
            worker.say(control.Ready())
            await until(lambda: len(on.crew.roster) == 2)
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
    monkeypatch: pytest.MonkeyPatch, autojump: trio.testing.MockClock
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
    monkeypatch: pytest.MonkeyPatch, autojump: trio.testing.MockClock
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
    monkeypatch: pytest.MonkeyPatch, autojump: trio.testing.MockClock
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
    monkeypatch: pytest.MonkeyPatch, autojump: trio.testing.MockClock
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
    monkeypatch: pytest.MonkeyPatch, autojump: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        on.workers[0].say(control.Drain())
        on.workers[1].link._sock.sendall(b"\xff" * 100)
        await on.worker(4)
        assert set(on.numbers) == {3, 4}


async def test_what_a_dead_worker_has_not_taken_another_one_gets(
    monkeypatch: pytest.MonkeyPatch, autojump: trio.testing.MockClock
) -> None:
    async with stage(monkeypatch) as on:
        await on.run()
        here, there = socket.socketpair()
        first = on.crew.members[0]
        with here:
            # As if the kernel had no room for it.
            message = control.Connection(False, "192.0.2.1", 1)
            first.link._waiting.append((control.encode(message), there))
            on.workers[0].die()
            await until(lambda: message in on.workers[1].heard)


async def test_at_the_end_nobody_is_replaced(
    monkeypatch: pytest.MonkeyPatch, autojump: trio.testing.MockClock
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
