"""Something that runs in the background of an ``async with`` block."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import trio

from cotun_trio.errors import CotunError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Run(Protocol):
    """A function that runs, and says when it has started."""

    async def __call__(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run."""


class _Begun:
    """An event in the form of a `trio.TaskStatus`."""

    def __init__(self) -> None:
        self.event = trio.Event()

    def started(self, value: None = None) -> None:  # noqa: ARG002
        """Set the event; can be called again."""
        self.event.set()


@asynccontextmanager
async def running(run: Run) -> AsyncIterator[trio.Nursery]:
    """Run `run` as long as the block runs, which begins when it has started; the end cancels it.

    Gives the nursery, which does not close before the block has ended.
    A `CotunError` of its own cancels the block, and is raised in its place.  What the block raises
    comes out as it is, and not in a group, unless more than that has gone wrong.
    """
    failure: CotunError | None = None
    alone: BaseException | None = None
    begun = _Begun()

    async def guarded(scope: trio.CancelScope) -> None:
        nonlocal failure
        try:
            await run(task_status=begun)
        except CotunError as error:
            failure = error
            scope.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guarded, nursery.cancel_scope)
            await begun.event.wait()
            yield nursery
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        alone = group.exceptions[0]
    if alone is not None:
        raise alone
    # Before the block has begun, this is where it ends.
    if failure is not None:
        raise failure
