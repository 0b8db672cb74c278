"""Async tests run in a Trio run of their own, with the clock of the fixture that they ask for.

`autojump` and `autojump_with_sockets` skip all waiting; `still_clock` is moved by the test.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from hypothesis import settings

from tests.support.peers import advice
from tests.support.pollers import Waiting
from tests.support.programs import unignore_signals

# How long an example takes depends on the machine.
settings.register_profile("cotun", deadline=None)
settings.load_profile("cotun")

if TYPE_CHECKING:
    from collections.abc import Generator

TIMEOUT = 60.0
"""Seconds of Trio's clock after which an async test has failed rather than hangs; the marker
``limit`` has another number of them."""
KERNEL = 0.005
"""Seconds without any event after which nothing is on its way through the loopback interface any
more.  Twice as long would make the tests with thousands of jumps twice as slow."""


@pytest.fixture
def autojump() -> trio.testing.MockClock:
    """Give a clock that jumps to the next deadline whenever nothing else can happen.

    It is for tests in memory, and for pairs of Unix sockets, which hand over at once what is sent.
    """
    return trio.testing.MockClock(autojump_threshold=0)


@pytest.fixture
def autojump_with_sockets() -> trio.testing.MockClock:
    """Give a clock that jumps, but only when the kernel has had time to hand over what was sent.

    Each jump takes `KERNEL` seconds.
    """
    return trio.testing.MockClock(autojump_threshold=KERNEL)


@pytest.fixture
def still_clock() -> trio.testing.MockClock:
    """Give a clock that stands still until the test moves it."""
    return trio.testing.MockClock()


@pytest.fixture(params=Waiting)
def each_way_to_wait(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Waiting:
    """Run the test in each way that sockets can be waited for (`cotun_trio.net.poller`)."""
    way: Waiting = request.param
    way.choose(monkeypatch)
    return way


def pytest_configure() -> None:
    """Have all that tests start begin with default signals."""
    unignore_signals()


def pytest_collection_finish() -> None:
    """Have the garbage collector pass over what lives as long as the run: modules and tests.

    There is a lot of it, so a collection took half a second, and hundreds of tests ask for one.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter,
) -> Generator[None, object, object]:
    """Say below all else how to get the programs that skipped tests need."""
    result = yield
    skipped = terminalreporter.stats.get("skipped", [])
    if line := advice(str(report.longrepr) for report in skipped):
        terminalreporter.write_line(line)
    return result


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Run a coroutine function under Trio."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = inspect.signature(function).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    clocks = [each for each in arguments.values() if isinstance(each, trio.testing.MockClock)]
    clock = clocks[0] if clocks else None
    limit = 1e6 if clocks else TIMEOUT
    if marker := pyfuncitem.get_closest_marker("limit"):
        (limit,) = marker.args

    ways = [each for each in pyfuncitem.funcargs.values() if isinstance(each, Waiting)]

    async def bounded() -> Any:
        with trio.fail_after(limit), ways[0].hold() if ways else contextlib.nullcontext():
            await function(**arguments)

    trio.run(functools.partial(bounded), clock=clock)
    return True
