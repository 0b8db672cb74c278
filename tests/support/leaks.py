"""Whether anything is left behind: descriptors of this process, tasks of this Trio run."""

from __future__ import annotations

import contextlib
import gc
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import trio
import trio.testing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CUSHION = 0.005
"""Seconds for which nothing may have happened: the kernel hands loopback data over at once."""
TRIES = 100


def descriptors() -> list[str]:
    """Return what the open descriptors of this process are, sorted."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the directory itself is closed by now
            found.append(str(entry.readlink()).partition(":")[0])
    return sorted(found)


def living() -> Counter[str]:
    """Return the number of tasks, and of descriptors of each kind."""
    tasks = trio.lowlevel.current_statistics().tasks_living
    return Counter({"tasks": tasks}) + Counter(descriptors())


@contextlib.asynccontextmanager
async def nothing_left() -> AsyncIterator[None]:
    """Check that there are no more tasks and descriptors behind the block than before it.

    What is ending gets the time to end; nothing is cancelled or collected behind the block.  There
    may be fewer: a thread of an earlier test that watched a file ends when it likes.
    """
    gc.collect()
    await trio.testing.wait_all_tasks_blocked(CUSHION)
    before = living()
    yield
    for _ in range(TRIES):
        await trio.testing.wait_all_tasks_blocked(CUSHION)
        if living() <= before:
            break
    assert living() - before == Counter()
