"""Threads that check passwords, also after the client that waited for them has gone."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.server.login_threads import LoginThreads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Checks:
    """Checks that go on until they are told what they have found."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self._events: dict[str, threading.Event] = {}
        self._found: dict[str, object] = {}

    def of(self, name: str) -> Callable[[], object]:
        event = self._events[name] = threading.Event()

        def check() -> object:
            self.running.append(name)
            assert event.wait(10)
            return self._found[name]

        return check

    def finish(self, name: str, found: object = None) -> None:
        self._found[name] = found
        self._events[name].set()


@pytest.fixture
def checks() -> Iterator[Checks]:
    checks = Checks()
    yield checks
    for name in checks._events:  # no thread is left behind
        checks.finish(name)


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until it is so."""
    while not condition():
        await trio.lowlevel.checkpoint()


async def test_what_is_found_is_returned_and_what_goes_wrong_is_raised() -> None:
    threads = LoginThreads(1)
    assert await threads.run("a", lambda: "user") == "user"
    assert await threads.run("a", lambda: None) is None

    def fail() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        await threads.run("a", fail)
    assert await threads.run("a", lambda: "user") == "user"


async def test_a_good_login_waits_for_one_check_of_thirty_guessers(checks: Checks) -> None:
    threads = LoginThreads(1)
    guessers = [f"guesser {number}" for number in range(30)]
    for source in guessers:
        assert await threads.run(source, lambda: None) is None
    async with trio.open_nursery() as nursery:
        for source in guessers:
            nursery.start_soon(threads.run, source, checks.of(source))
        await until(lambda: bool(checks.running))
        good: list[object] = []

        async def log_in() -> None:
            good.append(await threads.run("good", checks.of("good")))

        nursery.start_soon(log_in)
        await until(lambda: len(threads.queue) == 30)
        checks.finish(checks.running[0])
        await until(lambda: len(checks.running) == 2)
        assert checks.running[1] == "good"
        checks.finish("good", "user")
        await until(lambda: bool(good))
        assert good == ["user"]
        nursery.cancel_scope.cancel()
    assert len(threads.queue) == 0


async def test_one_that_goes_away_keeps_its_thread_and_gets_no_other_before_it_is_back(
    checks: Checks,
) -> None:
    threads = LoginThreads(2)
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(until_running, checks, "first", scope)
            await threads.run("a", checks.of("first"))
        assert scope.cancelled_caught
        nursery.start_soon(threads.run, "a", checks.of("second"))
        nursery.start_soon(threads.run, "b", checks.of("other"))
        await until(lambda: len(checks.running) == 2)
        assert checks.running == ["first", "other"]
        checks.finish("first")
        await until(lambda: len(checks.running) == 3)
        assert checks.running[2] == "second"
        checks.finish("second")
        checks.finish("other")
    assert not threads.queue._running


async def until_running(checks: Checks, name: str, scope: trio.CancelScope) -> None:
    await until(lambda: name in checks.running)
    scope.cancel()


async def test_one_that_is_cancelled_while_it_waits_leaves_nothing_behind(checks: Checks) -> None:
    threads = LoginThreads(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(threads.run, "a", checks.of("a"))
        await until(lambda: checks.running == ["a"])
        with trio.CancelScope() as scope:
            scope.cancel()
            await threads.run("b", checks.of("b"))
        assert len(threads.queue) == 0
        checks.finish("a")
    assert checks.running == ["a"]


async def test_one_that_is_cancelled_when_its_turn_comes_gives_it_to_the_next(
    checks: Checks,
) -> None:
    threads = LoginThreads(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await threads.run("a", checks.of("a"))  # whose turn it is at once
    assert not threads.queue._running
    assert not threads.queue._wrong
    assert await threads.run("b", lambda: "user") == "user"
    assert not checks.running


async def test_where_there_are_no_threads_the_turn_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = LoginThreads(1)

    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", no_thread)
    with pytest.raises(RuntimeError):
        await threads.run("a", lambda: "user")
    monkeypatch.undo()
    assert await threads.run("b", lambda: "user") == "user"


def test_a_check_may_end_after_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    deliveries: list[Callable[[object], None]] = []

    def never_back(_work: object, deliver: Callable[[object], None], _name: str) -> None:
        deliveries.append(deliver)

    async def begin_and_end() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(LoginThreads(1).run, "a", lambda: "user")
            await until(lambda: bool(deliveries))
            nursery.cancel_scope.cancel()

    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", never_back)
    trio.run(begin_and_end)
    assert deliveries[0](None) is None  # type: ignore[func-returns-value]  # raises nothing
