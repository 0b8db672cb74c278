"""Hang-ups: the other end of a pipe, a socket or a terminal has gone.

poll(2) says so without being asked, by POLLHUP and POLLERR, and whether there is anything to read
or not.  Trio has no wait for that, but an epoll object has, and is a descriptor that Trio can wait
for; on other systems a thread waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import sys
import termios

import trio

_GONE = select.POLLHUP | select.POLLERR


def has_hung_up(descriptor: int) -> bool:
    """Return whether the other end of `descriptor` has gone.

    For what a pipe or a socket brings, that is no more than the end of file.
    """
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(events & _GONE for _, events in poll.poll(0))


async def wait_hung_up(descriptor: int) -> None:
    """Wait until `has_hung_up`: for ever where that cannot be, as with a file or ``/dev/null``.

    The descriptor may be replaced by another one meanwhile (dup2), and then it is for ever, too.
    """
    if sys.platform == "linux":
        with select.epoll() as epoll:
            with contextlib.suppress(OSError):  # EPERM: a file; EBADF: nothing
                epoll.register(descriptor, 0)
            await trio.lowlevel.wait_readable(epoll.fileno())
    else:
        poll = select.poll()
        poll.register(descriptor, 0)
        await trio.to_thread.run_sync(poll.poll, abandon_on_cancel=True)
    if not has_hung_up(descriptor):
        await trio.sleep_forever()


def has_bytes(descriptor: int) -> bool:
    """Return whether there are bytes to read from a pipe, a socket or a terminal."""
    try:
        (count,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0"))
    except OSError:
        return False
    return bool(count)


def has_terminal() -> bool:
    """Return whether the process has a controlling terminal: not any more when that has gone."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK))
    except OSError:
        return False
    return True
