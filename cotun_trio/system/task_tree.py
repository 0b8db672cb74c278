"""The tasks of this Trio run as a tree: for ``-v`` and SIGUSR2, when something seems to hang.

Tasks that are the same, with the same below them, are one line with their number, so that a
thousand sessions are as easy to read as one.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

import trio

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cotun_trio.logs import Context

MAX_LINES = 100
"""Lines of a tree; the rest is a number."""

Branch: TypeAlias = "tuple[str, tuple[tuple[Branch, int], ...]]"
"""The name of a task, and the branches below it, each with how many there are."""


def log_task_tree(log: Context) -> None:
    """Log the tree at DEBUG, a line for each of its lines."""
    if log.isEnabledFor(logging.DEBUG):
        for line in task_tree():
            log.debug("task %s", line)


def task_tree() -> list[str]:
    """Return the lines of the tree, the root first; each level is indented by two spaces."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    lines = list(_lines(_branch(root), 1, 0))
    if len(lines) > MAX_LINES:
        lines[MAX_LINES - 1 :] = [f"and {len(lines) - MAX_LINES + 1} lines more"]
    return lines


def _branch(task: trio.lowlevel.Task) -> Branch:
    below = Counter(
        _branch(child) for nursery in task.child_nurseries for child in nursery.child_tasks
    )
    return task.name.removeprefix("cotun_trio."), tuple(sorted(below.items()))


def _lines(branch: Branch, count: int, depth: int) -> Iterator[str]:
    name, below = branch
    yield "  " * depth + name + (f" ({count} times)" if count > 1 else "")
    for each, number in below:
        yield from _lines(each, number, depth + 1)
