"""The last descriptors are not for forwards: they are kept for accepting, ``/health`` and logins.

Peers decide how many targets are dialled, how many connections a remote takes and how many UDP
sources there are.  If those could use up all descriptors, nobody could connect any more, or log in
to find out why.  One session of each user may stay in the reserve
(`cotun_trio.access.user_sessions`).

A new descriptor always has the lowest free number (POSIX.1-2017, XSH 2.14).  So a socket whose
number is in the last part of the range was made when all below it were in use: there is nothing to
count.
"""

from __future__ import annotations

import errno
import math
import os
import resource
import sys
from typing import TYPE_CHECKING

import trio

from cotun_trio.logs import get_logger
from cotun_trio.net.sockets import close

if TYPE_CHECKING:
    import socket

log = get_logger("descriptors")

RESERVE = 256
"""Descriptors that forwards may not have: a hundred connections that have not logged in, as many
look-ups of names, files that are read again, and some room."""
RESERVED_PART = 4
"""Of a low limit, the reserve is this part of it: one in four."""
QUIET = 60.0
"""Seconds between two log lines about the reserve: their causes can come often."""
_told_at = trio.lowlevel.RunVar("told_at", -math.inf)


def reserve(limit: int) -> int:
    """Return how many of `limit` descriptors are kept."""
    return min(RESERVE, limit // RESERVED_PART)


def soft_limit() -> int | None:
    """Return how many descriptors the process may have; None where there is no limit."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


def left_after(sock: socket.socket) -> int:
    """Return how many descriptors are left for forwards beside that of `sock`, at the least.

    Negative where `sock` has one of the reserve.
    """
    # Asked each time, since it can be changed from outside (prlimit(1)); it takes half a µs.
    limit = soft_limit()
    if limit is None:
        return sys.maxsize
    return limit - reserve(limit) - sock.fileno() - 1


def is_reserved(sock: socket.socket) -> bool:
    """Return whether `sock` has a descriptor that is not for forwards; log it once a minute."""
    if left_after(sock) >= 0:
        return False
    tell_shortage()
    return True


def tell_shortage() -> None:
    """Log that descriptors are short, once a minute."""
    now = trio.current_time()
    if now - _told_at.get() >= QUIET:
        _told_at.set(now)
        log.warning(
            "few descriptors are left, new forwards are refused: end some, or raise the limit "
            "(ulimit -n)"
        )


def refuse_reserved(sock: socket.socket) -> None:
    """Close `sock` and raise `OSError` (EMFILE) where its descriptor is not for forwards."""
    if is_reserved(sock):
        close(sock)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
