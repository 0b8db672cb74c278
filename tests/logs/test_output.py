"""Lines for a reader that does not read: kept, dropped, counted, and the loop goes on."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from cotun_trio.logs.output import MAX_LINE, MAX_WAITING, Output
from tests.support import pipes
from tests.support.targets import background

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.support.pipes import Unread

KINDS = [pipes.pipe, pipes.journal, pipes.terminal]


@contextlib.contextmanager
def output_to(end: Unread) -> Iterator[Output]:
    """Give an output with a short line for the count."""
    output = Output(end.stream.fileno())
    output.show_dropped("{} missing".format)
    with closing(output):
        yield output


def numbered(number: int) -> str:
    """Return a line, long enough for a thousand to be too many."""
    return f"line {number} {'.' * 200}"


def flood(output: Output) -> int:
    """Write numbered lines until some are dropped; return how many were written or kept."""
    number = 0
    while not output.dropped:
        output.write([numbered(number) + "\n"])
        number += 1
        assert number < 1_000_000, "it takes everything"
    return number - 1


def read_all(end: Unread) -> None:
    """Read what a pipe holds and what is kept for it, as it comes."""
    left = 2 * MAX_WAITING
    while left > 16384:
        select.select([end.descriptor], [], [])
        left -= len(os.read(end.descriptor, 4096))


@pytest.mark.parametrize("kind", KINDS)
def test_what_nobody_reads_is_kept_up_to_a_limit_and_then_counted(
    kind: Callable[[], AbstractContextManager[Unread]],
) -> None:
    with kind() as end, output_to(end) as output:
        kept = flood(output)
        for _ in range(99):
            output.write(["lost\n"])
        got = ""
        while "missing" not in got:
            got += end.read()
            output.flush()
        assert got.splitlines() == [*map(numbered, range(kept)), "100 missing"]
        output.write(["again\n"])
        assert end.lines()[-1] == "again"


@pytest.mark.parametrize("kind", KINDS)
async def test_the_count_is_written_when_there_is_room_though_nothing_more_is_logged(
    kind: Callable[[], AbstractContextManager[Unread]],
) -> None:
    with kind() as end, output_to(end) as output:
        async with background() as nursery:
            nursery.start_soon(output.run)
            await trio.testing.wait_all_tasks_blocked()
            for _ in range(2):  # not only the first time
                kept = flood(output)
                await trio.testing.wait_all_tasks_blocked()  # which the loop can still do
                assert output.dropped == 1
                got = ""
                while "missing" not in got:
                    await trio.lowlevel.wait_readable(end.descriptor)
                    got += end.read()
                assert got.splitlines()[-2:] == [numbered(kept - 1), "1 missing"]


async def test_what_was_dropped_before_it_ran_is_told_too() -> None:
    with pipes.pipe() as end, output_to(end) as output:
        kept = flood(output)
        async with background() as nursery:
            nursery.start_soon(output.run)
            got = ""
            while "missing\n" not in got:
                await trio.lowlevel.wait_readable(end.descriptor)
                got += end.read()
    assert got.splitlines() == [*map(numbered, range(kept)), "1 missing"]


async def test_a_line_of_another_thread_wakes_it_too() -> None:
    with pipes.pipe() as end, output_to(end) as output:
        async with background() as nursery:
            nursery.start_soon(output.run)
            await trio.testing.wait_all_tasks_blocked()
            kept = await trio.to_thread.run_sync(flood, output)
            got = ""
            while "missing\n" not in got:
                await trio.lowlevel.wait_readable(end.descriptor)
                got += end.read()
    assert got.splitlines() == [*map(numbered, range(kept)), "1 missing"]


async def test_a_terminal_that_is_stopped_goes_on_where_it_was() -> None:
    with pipes.terminal() as end, output_to(end) as output:
        async with background() as nursery:
            nursery.start_soon(output.run)
            output.write(["before\n"])
            pipes.stop(end)
            output.write(["meanwhile\n"])
            await trio.testing.wait_all_tasks_blocked()
            assert end.lines() == ["before"]
            pipes.resume(end)
            await trio.lowlevel.wait_readable(end.descriptor)
            assert end.lines() == ["meanwhile"]


@pytest.mark.parametrize("piece", [1, 3])
def test_the_rest_of_a_line_comes_before_the_next_one(
    piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pipes.pipe() as end, output_to(end) as output:
        write, turns = output._way.write, iter(range(10_000))

        def crumb(data: bytes) -> int:
            if next(turns) % 2:
                raise BlockingIOError
            return write(data[:piece])

        output._way = output._way.__class__(output._way.descriptor, crumb, output._way._resources)
        for number in range(20):
            output.write([f"number {number}\n"])
        while output._waiting:
            output.flush()
        assert end.lines() == [f"number {number}" for number in range(20)]


def test_lines_that_come_while_some_are_missing_are_not_put_before_the_count() -> None:
    with pipes.pipe() as end, output_to(end) as output:
        kept = flood(output)
        os.read(end.descriptor, 4096)  # room for some of those that are kept
        output.write(["not yet\n"])
        got = ""
        while "missing" not in got:
            got += end.read()
            output.flush()
        assert got.splitlines()[-2:] == [numbered(kept - 1), "2 missing"]


def test_a_long_line_loses_its_middle() -> None:
    with pipes.pipe() as end, output_to(end) as output:
        for text in ("x" * 100_000, "€" * 3000, "\U0001f600" * 2000):
            output.write([f"begin {text} end\n"])
            (line,) = end.lines()
            assert line.startswith("begin ")
            assert "…" in line
            assert line.endswith(" end")
            assert 1000 < len(line.encode()) < MAX_LINE
        output.write(["x" * (MAX_LINE - 1) + "\n"])
        assert end.lines() == ["x" * (MAX_LINE - 1)]


def test_what_is_kept_is_bounded() -> None:
    with pipes.pipe() as end, output_to(end) as output:
        for _ in range(10_000):
            output.write(["x" * 1000 + "\n"])
        assert MAX_WAITING - 2000 < sum(map(len, output._waiting)) <= MAX_WAITING
        assert output._size == sum(map(len, output._waiting))


def test_a_full_disk_raises_nothing_and_what_was_lost_is_counted_later(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as stream:
        output = Output(stream.fileno())
        output.show_dropped("{} missing".format)
        way = output._way

        def full(_data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        output._way = way.__class__(way.descriptor, full, way._resources)
        kept = flood(output)
        output._way = way
        output.write(["again\n"])
        lines = (tmp_path / "log").read_text().splitlines()
    assert lines == [*map(numbered, range(kept)), "1 missing", "again"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
async def test_a_device_that_is_full_is_nothing_to_wait_for() -> None:
    with Path("/dev/full").open("w") as stream, closing(Output(stream.fileno())) as output:
        async with background() as nursery:
            nursery.start_soon(output.run)
            flood(output)
            await trio.testing.wait_all_tasks_blocked()
            output.finish(1000)  # and at the end neither
            assert output.dropped


async def test_a_reader_that_is_gone_is_nothing_to_wait_for() -> None:
    with pipes.pipe() as end, output_to(end) as output:
        async with background() as nursery:
            nursery.start_soon(output.run)
            flood(output)
            await trio.testing.wait_all_tasks_blocked()
            end.hang_up()
            output.write(["to nobody\n"])
            await trio.testing.wait_all_tasks_blocked()
            output.finish(1000)
            assert output.dropped == 2


def test_at_the_end_a_reader_gets_a_moment_for_the_rest() -> None:
    with pipes.pipe() as end, output_to(end) as output:
        flood(output)
        output.finish(0.01)  # nobody reads
        assert output.dropped == 1
        reader = threading.Thread(target=read_all, args=(end,))
        reader.start()
        output.finish(60)
        reader.join()
        assert end.lines()[-1] == "1 missing"
