"""The children of tests: they begin with default signals, and do not outlive their test."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from tests.support.programs import PATIENCE, ended, ended_in_trio, unignore_signals

if TYPE_CHECKING:
    from collections.abc import Iterator

IGNORES = "import signal, sys; sys.exit(signal.getsignal(int(sys.argv[1])) is signal.SIG_IGN)"
WAITS = [sys.executable, "-S", "-E", "-c", "input()"]


@pytest.fixture(params=[signal.SIGHUP, signal.SIGINT, signal.SIGQUIT])
def ignored(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    """Give a signal that is ignored, as in the background of a script or under nohup."""
    before = signal.signal(request.param, signal.SIG_IGN)
    yield request.param
    signal.signal(request.param, before)


def ignoring(number: signal.Signals) -> bool:
    """Return whether a child begins with a signal ignored."""
    return (
        subprocess.run([sys.executable, "-S", "-E", "-c", IGNORES, str(int(number))]).returncode
        == 1
    )


def test_children_have_default_signals_though_the_tests_ignore_some(
    ignored: signal.Signals,
) -> None:
    assert ignoring(ignored)
    unignore_signals()
    assert not ignoring(ignored)
    signal.raise_signal(ignored)  # which still does nothing here


def test_a_signal_that_nobody_ignored_is_left_as_it_is() -> None:
    before = signal.getsignal(signal.SIGTERM)
    unignore_signals()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_child_ends_with_a_test_that_fails() -> None:
    child = subprocess.Popen(WAITS, stdin=subprocess.PIPE)
    with pytest.raises(AssertionError, match="no"), ended(child):
        raise AssertionError("no")
    assert child.returncode == -signal.SIGKILL


async def test_a_child_of_trio_ends_with_a_test_that_takes_too_long() -> None:
    child = await trio.lowlevel.open_process(WAITS, stdin=subprocess.PIPE)
    with trio.CancelScope() as scope, trio.fail_after(PATIENCE):
        async with ended_in_trio(child):
            scope.cancel()
            await trio.sleep_forever()
    assert child.returncode == -signal.SIGKILL
