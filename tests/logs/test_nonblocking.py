"""Writing to a descriptor that somebody else has opened, without waiting for its reader."""

from __future__ import annotations

import errno
import fcntl
import os
import select
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from cotun_trio.logs.nonblocking import open_nonblocking
from tests.support import pipes
from tests.support.leaks import descriptors

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.pipes import Unread

LINE = b"x" * 99 + b"\n"


@pytest.fixture(params=["pipe", "fifo", "journal", "terminal"])
def unread(request: pytest.FixtureRequest, tmp_path: Path) -> AbstractContextManager[Unread]:
    """Give each kind of place where a reader can keep us waiting."""
    if request.param == "fifo":
        return pipes.fifo(tmp_path / "fifo")
    make: Callable[[], AbstractContextManager[Unread]] = getattr(pipes, request.param)
    return make()


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing opened again, as where another user has made it."""

    open_ = os.open

    def refuse(path: str, flags: int) -> int:
        if str(path).startswith("/proc/"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return open_(path, flags)

    monkeypatch.setattr(os, "open", refuse)


def fill(write: Callable[[bytes], int], line: bytes = LINE) -> int:
    """Write lines until there is no room; return how many went in whole."""
    for number in range(100_000):
        try:
            written = write(line)
        except BlockingIOError:
            return number
        if written < len(line):
            return number
    raise AssertionError("it takes everything")


def test_without_a_reader_a_write_says_so_at_once(unread: AbstractContextManager[Unread]) -> None:
    with unread as end, closing(open_nonblocking(end.stream.fileno())) as way:
        count = fill(way.write)
        assert count > 10
        with pytest.raises(BlockingIOError):
            fill(way.write, b"\n")
            way.write(b"\n")
        assert end.read().count("x" * 99) >= count
        assert way.write(LINE) == len(LINE)  # there is room again


def test_others_who_have_the_descriptor_still_wait(unread: AbstractContextManager[Unread]) -> None:
    # O_NONBLOCK there would be the shell's, and that of all who have it from the shell.
    with unread as end, closing(open_nonblocking(end.stream.fileno())) as way:
        fill(way.write)
        assert not fcntl.fcntl(end.stream, fcntl.F_GETFL) & os.O_NONBLOCK


def test_waiting_for_the_descriptor_tells_when_a_write_has_room(
    unread: AbstractContextManager[Unread],
) -> None:
    with unread as end, closing(open_nonblocking(end.stream.fileno())) as way:
        poll = select.poll()
        poll.register(way.descriptor, select.POLLOUT)
        assert poll.poll(0)
        fill(way.write)
        with pytest.raises(BlockingIOError):
            fill(way.write, b"\n")
            way.write(b"\n")
        assert not poll.poll(0)
        end.read()
        assert poll.poll(0)


def test_what_another_user_has_made_is_not_waited_for_either(
    foreign: None, unread: AbstractContextManager[Unread]
) -> None:
    with unread as end, closing(open_nonblocking(end.stream.fileno())) as way:
        assert way.descriptor == end.stream.fileno()
        if end.stream.isatty():
            pipes.stop(end)  # only this is seen, and not a room that is too small
            with pytest.raises(BlockingIOError):
                way.write(LINE)
            pipes.resume(end)
        else:
            fill(way.write)
        end.read()
        assert way.write(LINE) == len(LINE)
        assert end.read().rstrip() == "x" * 99


def test_a_pipe_that_another_writer_fills_behind_our_back_is_not_waited_for(foreign: None) -> None:
    # As another worker may do between a look and a write.
    with pipes.pipe() as end, closing(open_nonblocking(end.stream.fileno())) as way:
        while select.select([], [end.stream], [], 0)[1]:
            os.write(end.stream.fileno(), LINE)
        with pytest.raises(BlockingIOError):
            way.write(LINE)
        end.read()
        assert way.write(LINE) == len(LINE)
        assert end.read() == LINE.decode()  # and nothing of the one that had no room


def test_without_splice_there_is_a_look_first(
    foreign: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "splice")
    with pipes.pipe() as end, closing(open_nonblocking(end.stream.fileno())) as way:
        assert fill(way.write) > 10
        end.read()
        assert way.write(LINE) == len(LINE)


def test_a_line_goes_into_a_pipe_whole_or_not_at_all() -> None:
    with pipes.pipe() as end, closing(open_nonblocking(end.stream.fileno())) as way:
        line = b"x" * (select.PIPE_BUF - 1) + b"\n"
        count = fill(way.write, line)
        with pytest.raises(BlockingIOError):
            way.write(line)
        assert end.lines() == ["x" * (select.PIPE_BUF - 1)] * count


def test_a_terminal_is_not_made_anew() -> None:
    # To open what a terminal's outer end leads to makes another one.
    with pipes.terminal() as end, closing(open_nonblocking(end.descriptor)) as way:
        assert way.descriptor == end.descriptor


def test_a_file_is_written_to_as_it_is(tmp_path: Path) -> None:
    # Opened again, it would have another position.
    with (
        (tmp_path / "log").open("w") as stream,
        closing(open_nonblocking(stream.fileno())) as way,
    ):
        os.write(stream.fileno(), b"one\n")
        way.write(b"two\n")
        os.write(stream.fileno(), b"three\n")
    assert (tmp_path / "log").read_text() == "one\ntwo\nthree\n"


def test_closed_it_leaves_no_descriptor_behind(unread: AbstractContextManager[Unread]) -> None:
    with unread as end:
        before = descriptors()
        open_nonblocking(end.stream.fileno()).close()
        assert descriptors() == before
        end.stream.write("still open\n")
        end.stream.flush()
        assert end.lines() == ["still open"]
