"""Datagrams that had to be dropped: counted for each remote, and told once a minute.

UDP allows it, and the sender tries again.  But a tunnel that drops many looks like a bad network,
and nobody else says where they were lost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from cotun_trio.counts import OwnCount
from cotun_trio.forwards.per_minute import PerMinute

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cotun_trio.logs import Context

NO_ROOM = "the tunnel has no room"
NO_TUNNEL = "there is no tunnel"
TOO_MANY_WAIT = "too many wait for the channel or the name"
REFUSED = "the other end refuses them"
TOO_MANY_FLOWS = "there is no room for another source"
UNREACHABLE = "their target cannot be reached"
TOO_MANY_DESTINATIONS = "there is no room for another destination"
NO_WAY_BACK = "their source is not known any more"
NOT_ALLOWED = "their source is not allowed"
SOCKET_FULL = "the socket takes no more"

_total: trio.lowlevel.RunVar[OwnCount | None] = trio.lowlevel.RunVar("dropped", None)


def why(error: OSError) -> str:
    """Return the reason for a datagram that the system did not take."""
    return SOCKET_FULL if isinstance(error, BlockingIOError) else error.strerror or str(error)


def dropped_so_far() -> int:
    """Return how many this process has dropped.  Only in a Trio run."""
    return _count().own


def _count() -> OwnCount:
    count = _total.get()
    if count is None:
        count = OwnCount()
        _total.set(count)
    return count


class Drops:
    """The dropped datagrams of one remote; see `PerMinute`."""

    def __init__(
        self, log: Context, start_soon: Callable[[Callable[[], Awaitable[None]]], object]
    ) -> None:
        self._told = PerMinute("dropped %d datagrams: %s", log, start_soon)
        self._count = _count()

    def add(self, reason: str, count: int = 1) -> None:
        """Count some that were dropped for the same reason."""
        if count:
            self._count.add(count)
            self._told.count(reason, count)
