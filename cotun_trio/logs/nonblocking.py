"""Writing to a descriptor that another program has opened, without ever waiting for its reader.

O_NONBLOCK belongs to the open file description (open(2)), which standard error shares with the
shell and with everything else that was started from it: to set it there would break *their*
writes.  So it depends on what the descriptor is:

* a socket, such as the journal's: ``send`` with MSG_DONTWAIT;
* a pipe, a FIFO, a terminal: a description of our own, opened by way of ``/proc/self/fd``;
* where that is not allowed, since another user has made it: splice(2) into a pipe does not wait;
* as a last resort (such a terminal, or a system other than Linux): a look first, and then a write.
  A terminal stopped by Ctrl-S is seen so.  Not seen is a room that is too small, or that another
  process takes between the two;
* everything else, such as a file, never waits for a reader.

A line of up to PIPE_BUF bytes goes into a pipe whole or not at all, also where other processes
write to it (pipe(7)).
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import socket
import stat
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

_PTMX = os.makedev(5, 2)
"""The device behind which terminals are made (Linux's devices.txt): to open it is to make one."""


@attrs.frozen
class Nonblocking:
    """A way to write to a descriptor."""

    descriptor: int
    """To wait for room with, such as by poll(2)."""
    write: Callable[[bytes], int]
    """Writes the beginning of its argument, and returns how many bytes it is.

    Raises `BlockingIOError` where there is no room, and `OSError`.
    """
    _resources: contextlib.ExitStack

    def close(self) -> None:
        """Close the descriptors of our own; the one that it was made for stays open."""
        self._resources.close()


def open_nonblocking(descriptor: int) -> Nonblocking:
    """Return a way to write to `descriptor` without waiting.  Raises `OSError` if it is closed."""
    mode = os.fstat(descriptor).st_mode
    resources = contextlib.ExitStack()
    if stat.S_ISSOCK(mode):
        sock = resources.enter_context(socket.socket(fileno=os.dup(descriptor)))
        return Nonblocking(descriptor, lambda data: sock.send(data, _DONTWAIT), resources)
    if stat.S_ISFIFO(mode) or os.isatty(descriptor):
        own = _reopened(descriptor)
        if own is not None:
            resources.callback(os.close, own)
            return Nonblocking(own, functools.partial(os.write, own), resources)
        if stat.S_ISFIFO(mode) and hasattr(os, "splice"):
            return Nonblocking(descriptor, _splicing(descriptor, resources), resources)
        return Nonblocking(descriptor, functools.partial(_write_if_room, descriptor), resources)
    return Nonblocking(descriptor, functools.partial(os.write, descriptor), resources)


_DONTWAIT = socket.MSG_DONTWAIT


def _reopened(descriptor: int) -> int | None:
    """Return an open file description of our own for the same file; None if there can be none."""
    before = os.fstat(descriptor)
    if before.st_rdev == _PTMX:
        return None
    try:
        # Elsewhere than on Linux, /dev/fd/2 is the description that there is, not a new one.
        own = os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None
    after = os.fstat(own)
    if (before.st_dev, before.st_ino) != (after.st_dev, after.st_ino):
        os.close(own)
        return None
    return own


def _splicing(descriptor: int, resources: contextlib.ExitStack) -> Callable[[bytes], int]:
    """Return a function that writes to a pipe by way of one of our own, which is empty otherwise.

    Each line has a buffer of the pipe for itself then, of which there are 16.
    """
    source, entry = os.pipe()
    resources.callback(os.close, source)
    resources.callback(os.close, entry)

    def write(data: bytes) -> int:
        size = os.write(entry, data[: select.PIPE_BUF])
        try:
            return os.splice(source, descriptor, size, flags=os.SPLICE_F_NONBLOCK)
        except OSError:
            os.read(source, size)
            raise

    return write


def _write_if_room(descriptor: int, data: bytes) -> int:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    if not poll.poll(0):
        raise BlockingIOError
    return os.write(descriptor, data[: select.PIPE_BUF])
