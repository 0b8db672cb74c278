"""Progress of workers: a busy one shows that it runs, before it answers a question."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

import pytest
import trio

from cotun_trio.access.host_keys import generate_host_key
from cotun_trio.logs import get_logger
from cotun_trio.settings import ProcessSettings
from cotun_trio.workers import attention, spawn
from cotun_trio.workers.handover import Connection
from cotun_trio.workers.progress import Steps
from cotun_trio.workers.shared_counts import STEPS, SharedCounts, allocate
from cotun_trio.workers.worker_pool import WorkerPool
from tests.support.busy_worker import BUSY, STUCK, WHILE
from tests.support.log_watch import watch_logs
from tests.support.sockets import until
from tests.support.targets import background
from tests.support.tunnel import server_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from cotun_trio.counts import Count

LOOK = 0.15
"""Seconds between two looks at a worker's progress."""


@pytest.fixture
def counts() -> Iterator[SharedCounts]:
    """Give memory for two workers."""
    descriptor = allocate(2)
    with contextlib.closing(SharedCounts(descriptor, 2, b"key")) as result:
        os.close(descriptor)
        yield result


def test_each_turn_of_a_task_counts_within_a_single_round_as_well(counts: SharedCounts) -> None:
    count = counts.count(STEPS, 1)
    seen: list[int] = []

    async def turn() -> None:
        seen.append(count.own)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(turn)

    steps = Steps(count)
    trio.run(main, instruments=[steps])
    assert seen == list(range(seen[0], seen[0] + 10))
    assert count.own > seen[-1]
    assert counts.count(STEPS, 0).own == 0
    steps._numbers = memoryview(b"")  # it belongs to the memory, which is closed now


class SmallPool:
    """A pool with one worker, which is a process and may be busy."""

    def __init__(self) -> None:
        self._news = trio.Event()
        settings = server_settings(host_key=generate_host_key())
        process = ProcessSettings(workers=1)
        self.pool = WorkerPool(settings, process, get_logger("server"), self._changed)

    def _changed(self) -> None:
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for news after which `condition` holds."""
        while not condition():
            self._news = trio.Event()
            await self._news.wait()

    def give(self, port: int) -> None:
        """Hand it a connection from this port."""
        here, there = socket.socketpair()
        here.close()
        self.pool.hand_over(Connection(False, "192.0.2.1", port), there)


@contextlib.asynccontextmanager
async def small_pool(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SmallPool]:
    monkeypatch.setattr(spawn, "MODULE", "tests.support.busy_worker")
    monkeypatch.setattr(attention, "LOOK", LOOK)
    result = SmallPool()
    async with background() as nursery:
        await result.pool.start(nursery)
        yield result
    result.pool.close()


class Watched:
    """A worker's count of steps, which counts the looks at it."""

    def __init__(self, steps: Count) -> None:
        self._steps = steps
        self._looks = 0
        self.enough = trio.Event()

    @property
    def own(self) -> int:
        self._looks += 1
        if self._looks > 2 * attention.LOOKS:
            self.enough.set()
        return self._steps.own


@pytest.mark.slow
async def test_a_worker_that_is_busy_for_long_is_not_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    busy = tmp_path / "busy"
    busy.touch()
    monkeypatch.setenv(WHILE, str(busy))
    async with watch_logs() as log, small_pool(monkeypatch) as on:
        (worker,) = on.pool.workers
        watched = Watched(worker._attention._steps)
        monkeypatch.setattr(worker._attention, "_steps", watched)
        on.give(BUSY)
        await until(lambda: not worker.load)  # it has begun to be busy
        on.give(0)
        await on.until(lambda: worker.is_silent)
        await watched.enough.wait()
        busy.unlink()
        await on.until(lambda: not worker.is_late)
        assert on.pool.workers == [worker]
        assert worker.process.poll() is None
        assert not log.find("no progress")


@pytest.mark.slow
async def test_a_worker_that_hangs_is_killed_and_its_untaken_connections_are_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with watch_logs() as log, small_pool(monkeypatch) as on:
        (worker,) = on.pool.workers
        on.give(STUCK)
        on.give(0)
        await on.until(worker.ended.is_set)
        assert log.find("worker 1 makes no progress any more")
        assert log.find("was killed by SIGKILL")
        await on.until(lambda: on.pool.dispatch.is_open)
        (successor,) = on.pool.workers
        assert successor.outgoing.given == 1
