"""Pipes, terminals and sockets in the place of standard error, that nobody reads for a while."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import termios
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO


@attrs.define
class Unread:
    """A text stream, and the descriptor at which it can be read."""

    stream: TextIO
    descriptor: int

    def read(self) -> str:
        """Return what can be read now."""
        data = b""
        with contextlib.suppress(BlockingIOError):
            while more := os.read(self.descriptor, 1 << 20):
                data += more
        return data.decode()

    def lines(self) -> list[str]:
        """Return the same as lines, each of which has to be whole."""
        text = self.read().replace("\r\n", "\n")
        assert not text or text.endswith("\n"), text[-200:]
        return text.splitlines()

    def hang_up(self) -> None:
        """Have nobody there any more who could read."""
        nobody = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nobody, self.descriptor)
        os.close(nobody)


@contextlib.contextmanager
def _unread(entry: int, exit_: int) -> Iterator[Unread]:
    os.set_blocking(exit_, False)
    with os.fdopen(entry, "w") as stream:
        yield Unread(stream, exit_)
    os.close(exit_)


@contextlib.contextmanager
def pipe() -> Iterator[Unread]:
    """Give a pipe whose entry is a blocking one, as a shell makes it."""
    exit_, entry = os.pipe()
    with _unread(entry, exit_) as unread:
        yield unread


@contextlib.contextmanager
def fifo(path: Path) -> Iterator[Unread]:
    """Give a pipe with a name."""
    os.mkfifo(path)
    exit_ = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with _unread(os.open(path, os.O_WRONLY), exit_) as unread:
        yield unread


@contextlib.contextmanager
def journal() -> Iterator[Unread]:
    """Give a socket as systemd gives it to services."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with _unread(ours.detach(), theirs.detach()) as unread:
        yield unread


@contextlib.contextmanager
def terminal() -> Iterator[Unread]:
    """Give a terminal."""
    outside, inside = pty.openpty()
    with _unread(inside, outside) as unread:
        yield unread


def stop(terminal: Unread) -> None:
    """Do what Ctrl-S does."""
    termios.tcflow(terminal.stream.fileno(), termios.TCOOFF)


def resume(terminal: Unread) -> None:
    """Do what Ctrl-Q does."""
    termios.tcflow(terminal.stream.fileno(), termios.TCOON)
