"""How much happens in one step of a task, counted rather than timed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Steps(trio.abc.Instrument):
    """Counts events by the step of a task that they happen in.

    A step is what a task does between two checkpoints: nothing else runs meanwhile.
    """

    def __init__(self) -> None:
        self.most = 0
        """The most that has happened in one step."""
        self.total = 0
        self._now = 0

    def count(self, times: int = 1) -> None:
        """Note that something happens."""
        self._now += times
        self.total += times

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """See `trio.abc.Instrument`."""
        self.most = max(self.most, self._now)
        self._now = 0


@contextlib.contextmanager
def counted_steps() -> Iterator[Steps]:
    """Give a count of what happens in the steps of this Trio run from now on."""
    steps = Steps()
    trio.lowlevel.add_instrument(steps)
    try:
        yield steps
    finally:
        trio.lowlevel.remove_instrument(steps)


def counting(steps: Steps, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, which counts its calls."""

    def called(*args: Any, **named: Any) -> Any:
        steps.count()
        return function(*args, **named)

    return called
