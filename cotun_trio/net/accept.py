"""Accepting connections, for as long as the process lives."""

from __future__ import annotations

import contextlib
import errno
import math
from typing import TYPE_CHECKING

import trio

from cotun_trio.logs import get_logger
from cotun_trio.net.poller import while_readable

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

log = get_logger("accept")

_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
PAUSE = 0.1
"""Seconds without accepting when the process or the system has run out of descriptors.  Nothing
says when there are some again, and the waiting connection keeps the listener readable."""
QUIET = 60.0
"""Seconds between two log lines about that, however many listeners there are."""
_told_at = trio.lowlevel.RunVar("told_at", -math.inf)
BATCH = 16
"""Connections accepted before other tasks have their turn.  Each of them is a task, and all that it
does at first comes before the next turn: a third of a millisecond.  More gain no connections."""


async def accept_forever(
    listener: socket.socket, accepted: Callable[[socket.socket, object], None]
) -> None:
    """Call `accepted` with each connection and its peer's address; it owns the socket then.

    Ends when it is cancelled, and when the listener is closed.
    """

    def accept() -> OSError | None:
        """Accept some; return the error where there are no descriptors for more."""
        try:
            for _ in range(BATCH):
                sock, peer = listener.accept()
                sock.setblocking(False)
                accepted(sock, peer)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno in _EXHAUSTED:
                return error
            # Anything else is about the one connection, which is gone already (accept(2)).
        return None

    with contextlib.suppress(trio.ClosedResourceError):
        while True:
            error = await while_readable(listener, accept)
            if trio.current_time() - _told_at.get() >= QUIET:
                _told_at.set(trio.current_time())
                log.warning("cannot accept connections at present: %s", error.strerror)
            await trio.sleep(PAUSE)
