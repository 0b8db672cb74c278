"""Async tests run in a Trio run of their own; those that ask for `autojump` skip all waiting."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import settings

# How long an example takes depends on the machine.
settings.register_profile("cotun", deadline=None)
settings.load_profile("cotun")

TIMEOUT = 60.0
"""Seconds of Trio's clock after which an async test has failed rather than hangs."""


@pytest.fixture
def autojump() -> trio.testing.MockClock:
    """Give a clock that jumps to the next deadline whenever nothing else can happen."""
    return trio.testing.MockClock(autojump_threshold=0)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Run a coroutine function under Trio."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = inspect.signature(function).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    clock = arguments.get("autojump")
    assert clock is None or isinstance(clock, trio.testing.MockClock)
    limit = 1e6 if clock is not None else TIMEOUT

    async def bounded() -> Any:
        with trio.fail_after(limit):
            await function(**arguments)

    trio.run(functools.partial(bounded), clock=clock)
    return True
