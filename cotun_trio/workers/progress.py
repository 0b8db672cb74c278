"""The progress of a worker: it counts the turns of its tasks in the shared memory.

A worker that has a lot to do may answer a question late, since all tasks that can run have their
turn first.  But each turn ends after some milliseconds, unless the process is stopped or caught in
an endless loop.  So a count that grows tells a busy worker from a stopped one.  The turns are
counted, not the rounds of the event loop: one round can be thousands of turns.  That costs 0.4 µs a
turn; a turn that does nothing takes 2 µs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from cotun_trio.workers.shared_counts import SharedCount


class Steps(trio.abc.Instrument):
    """Counts the turns of all tasks of a run in `count`."""

    def __init__(self, count: SharedCount) -> None:
        self._numbers, self._place = count.cell
        self._steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002
        """Count one; Trio calls this."""
        # Not by the method of `count`: a call more for each turn would double the price.
        self._steps = self._numbers[self._place] = self._steps + 1
