"""The place in front of Trio's wait: the names of Trio that it leans on, and what Trio notices."""

from __future__ import annotations

import contextlib
import math
import select
import signal
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from trio._core._run import GLOBAL_RUN_CONTEXT

from cotun_trio.net import fast_wait
from cotun_trio.net.poller import poller, while_readable
from tests.support.leaks import nothing_left
from tests.support.sockets import unix_pair

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def runner() -> Any:
    return GLOBAL_RUN_CONTEXT.runner


# ---- the names of Trio that are not public


async def test_the_runner_has_an_io_manager_that_can_be_replaced() -> None:
    manager = runner().io_manager
    runner().io_manager = manager
    assert runner().is_guest is False


async def test_the_io_manager_waits_in_an_epoll() -> None:
    manager = runner().io_manager
    assert isinstance(manager._epoll, select.epoll)
    assert not manager.get_events(0)
    manager.process_events([])
    for name in ("wait_readable", "wait_writable", "notify_closing"):
        assert callable(getattr(manager, name))


async def test_the_loop_asks_the_manager_of_the_runner_each_time() -> None:
    asked: list[float] = []

    class Asked:
        def __getattr__(self, name: str) -> Any:
            return getattr(manager, name)

        def get_events(self, timeout: float) -> Any:
            asked.append(timeout)
            return manager.get_events(timeout)

    manager = runner().io_manager
    runner().io_manager = Asked()
    await trio.lowlevel.checkpoint()
    assert asked == [0]
    runner().io_manager = manager


async def test_the_runner_says_what_it_waits_for() -> None:
    run = runner()
    assert isinstance(run.runq, deque)
    assert run.clock_autojump_threshold == math.inf
    assert not run.waiting_for_idle
    assert run.deadlines.next_deadline() < math.inf  # that of this test
    deadline = trio.current_time() + 5
    with trio.CancelScope(deadline=deadline):
        assert run.deadlines.next_deadline() == deadline
    assert 4 < run.clock.deadline_to_sleep_time(deadline) <= 5


async def test_a_clock_that_jumps_is_known_by_its_threshold(
    autojump: trio.testing.MockClock,
) -> None:
    assert runner().clock_autojump_threshold == autojump.autojump_threshold == 0


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("runner", "io_manager"),
        ("runner", "is_guest"),
        ("runner", "runq"),
        ("runner", "clock"),
        ("runner", "deadlines"),
        ("runner", "waiting_for_idle"),
        ("runner", "clock_autojump_threshold"),
        ("manager", "_epoll"),
        ("manager", "get_events"),
        ("manager", "process_events"),
        ("manager", "wait_readable"),
        ("manager", "wait_writable"),
        ("manager", "notify_closing"),
    ],
)
async def test_without_one_of_these_names_a_task_waits(
    owner: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runner()

    class Without:
        """All that `real` has, except the one."""

        def __init__(self, real: Any, missing: str) -> None:
            self.real, self.missing = real, missing

        def __getattr__(self, asked: str) -> Any:
            if asked == self.missing:
                raise AttributeError(asked)
            found = getattr(self.real, asked)
            return Without(found, name) if asked == "io_manager" and owner == "manager" else found

    class Context:
        runner = Without(real, name if owner == "runner" else "")

    with monkeypatch.context() as patch:
        patch.setattr("trio._core._run.GLOBAL_RUN_CONTEXT", Context)
        assert fast_wait._find() is None
    assert fast_wait._find() is real


# ---- what Trio notices


@contextlib.asynccontextmanager
async def busy() -> AsyncIterator[list[int]]:
    """Have two sockets of the poller answer each other without an end, and wake no task."""
    count = [0]
    with unix_pair() as (ours, theirs), poller().hold(fast=True):
        assert poller().is_fast

        def pass_on(sock: Any) -> None:
            with contextlib.suppress(BlockingIOError):
                sock.send(sock.recv(1))
                count[0] += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(while_readable, ours, lambda: pass_on(ours))
            nursery.start_soon(while_readable, theirs, lambda: pass_on(theirs))
            await trio.testing.wait_all_tasks_blocked()
            ours.send(b"!")
            yield count
            nursery.cancel_scope.cancel()


async def test_deadlines_are_kept_while_there_is_no_end_of_messages() -> None:
    async with busy() as count:
        began = trio.current_time()
        await trio.sleep(0.02)
        assert count[0] > 20
        assert trio.current_time() - began >= 0.02


async def test_trios_own_sockets_are_served_at_the_same_time() -> None:
    async with busy():
        near, far = trio.socket.socketpair()
        with near, far:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def answer() -> None:
                    await far.send(await far.recv(5))

                await near.send(b"hello")
                assert await near.recv(5) == b"hello"


async def test_threads_and_signals_wake_trio() -> None:
    async with busy():
        await trio.to_thread.run_sync(trio.from_thread.run_sync, lambda: None)
        with trio.open_signal_receiver(signal.SIGUSR1) as signals:
            signal.raise_signal(signal.SIGUSR1)
            async for number in signals:
                assert number == signal.SIGUSR1
                break


async def test_a_step_that_sets_an_earlier_deadline_has_it_kept() -> None:
    with unix_pair() as (ours, theirs), poller().hold(fast=True), trio.CancelScope() as scope:

        def step() -> None:
            ours.recv(1)
            scope.deadline = trio.current_time()

        theirs.send(b"!")
        await while_readable(ours, step)
    assert scope.cancelled_caught


async def test_instruments_see_the_waits() -> None:
    class Waits(trio.abc.Instrument):
        def __init__(self) -> None:
            self.before = self.after = 0

        def before_io_wait(self, timeout: float) -> None:
            self.before += 1

        def after_io_wait(self, timeout: float) -> None:
            self.after += 1

    waits = Waits()
    async with busy():
        trio.lowlevel.add_instrument(waits)
        await trio.sleep(0.001)
        trio.lowlevel.remove_instrument(waits)
    assert waits.before == waits.after > 0


@contextlib.asynccontextmanager
async def ten_messages() -> AsyncIterator[list[int]]:
    """Have a message go to and fro ten times by steps; give the number that is left."""
    left = [10]
    with unix_pair() as (ours, theirs), poller().hold(fast=True):

        def pass_on(sock: Any) -> None:
            data = sock.recv(1)
            left[0] -= 1
            if left[0]:
                sock.send(data)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(while_readable, ours, lambda: pass_on(ours))
            nursery.start_soon(while_readable, theirs, lambda: pass_on(theirs))
            await trio.testing.wait_all_tasks_blocked()
            ours.send(b"!")
            yield left
            nursery.cancel_scope.cancel()


async def test_all_tasks_are_blocked_only_when_the_steps_are_over() -> None:
    async with ten_messages() as left:
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert left == [0]


async def test_a_clock_jumps_only_when_the_steps_are_over(
    autojump: trio.testing.MockClock,
) -> None:
    async with ten_messages() as left:
        await trio.sleep(1000)
        assert left == [0]
    assert trio.current_time() >= 1000


def test_in_guest_mode_a_task_waits() -> None:
    """Another thread does the waiting there, and steps are not for threads."""
    ran: list[object] = []
    threads: set[int] = set()

    async def main() -> None:
        with unix_pair() as (ours, theirs), poller().hold(fast=True):
            assert not poller().is_fast

            def step() -> bytes:
                threads.add(threading.get_ident())
                return ours.recv(1)

            theirs.send(b"!")
            ran.append(await while_readable(ours, step))

    calls: deque[Any] = deque()
    there_is_one = threading.Semaphore(0)

    def run_soon(function: Any) -> None:
        calls.append(function)
        there_is_one.release()

    outcomes: list[Any] = []
    trio.lowlevel.start_guest_run(
        main, run_sync_soon_threadsafe=run_soon, done_callback=outcomes.append
    )
    while not outcomes:
        assert there_is_one.acquire(timeout=10)
        calls.popleft()()
    outcomes[0].unwrap()
    assert ran == [b"!"]
    assert threads == {threading.get_ident()}


async def test_trio_has_its_manager_back() -> None:
    manager = runner().io_manager
    async with nothing_left():
        with poller().hold(fast=True):
            assert runner().io_manager is not manager
            # What is not for us is as before.
            assert runner().io_manager.statistics().backend == "epoll"
        assert runner().io_manager is manager
