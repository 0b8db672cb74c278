"""The tree of tasks: where each is, and that many of the same are one line."""

from __future__ import annotations

import trio
import trio.testing

from cotun_trio.system import task_tree as module
from cotun_trio.system.task_tree import task_tree


async def leaf() -> None:
    await trio.sleep_forever()


async def branch() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leaf)
        nursery.start_soon(leaf)


async def test_tasks_are_below_those_that_started_them_and_the_same_are_one_line() -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(branch)
        nursery.start_soon(leaf)
        await trio.testing.wait_all_tasks_blocked()
        lines = task_tree()
        nursery.cancel_scope.cancel()
    assert lines[0] == "<init>"
    (depth,) = {len(line) - len(line.lstrip()) for line in lines if "branch" in line}
    found = [line[depth:] for line in lines if line.startswith(" " * depth)]
    name = f"{__name__}."
    at = found.index(f"{name}branch (3 times)")
    assert found[at + 1] == f"  {name}leaf (2 times)"
    assert f"{name}leaf" in found


async def test_a_tree_has_so_many_lines_and_no_more() -> None:
    async def nest(depth: int) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nest, depth - 1) if depth else nursery.start_soon(leaf)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(nest, 150)
        await trio.testing.wait_all_tasks_blocked()
        lines = task_tree()
        nursery.cancel_scope.cancel()
    assert len(lines) == module.MAX_LINES
    assert lines[-1].startswith("and ")
    assert lines[-1].endswith(" lines more")
