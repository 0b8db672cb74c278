"""Datagrams that had to be dropped: counted for each remote, and told once a minute.

UDP allows it, and the sender tries again.  But a tunnel that drops many looks like a bad network,
and nobody else says where they were lost.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

from cotun_trio.counts import OwnCount

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cotun_trio.logs import Context

BURST = 1.0
"""Seconds from the first one to the line in the log, which counts those that come with it."""
INTERVAL = 60.0
"""Seconds between two lines about the same remote."""

NO_ROOM = "the tunnel has no room"
NO_TUNNEL = "there is no tunnel"
TOO_MANY_WAIT = "too many wait for the channel or the name"
REFUSED = "the other end refuses them"
TOO_MANY_FLOWS = "there is no room for another source"
UNREACHABLE = "their target cannot be reached"
TOO_MANY_DESTINATIONS = "there is no room for another destination"
NO_WAY_BACK = "their source is not known any more"

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
    """The dropped datagrams of one remote.

    `start_soon` starts the task that writes the line to `log`; when it is cancelled, it writes it
    at once.
    """

    def __init__(
        self, log: Context, start_soon: Callable[[Callable[[], Awaitable[None]]], object]
    ) -> None:
        self._log = log
        self._start_soon = start_soon
        self._reasons: dict[str, int] = {}
        self._tells = False
        self._count = _count()

    def add(self, reason: str, count: int = 1) -> None:
        """Count some that were dropped for the same reason."""
        if not count:
            return
        self._count.add(count)
        self._reasons[reason] = self._reasons.get(reason, 0) + count
        if not self._tells:
            self._tells = True
            # The nursery may be closed: an answer comes when the listener has gone.
            with contextlib.suppress(RuntimeError):
                self._start_soon(self._tell)

    async def _tell(self) -> None:
        """Log what there is, once a minute, until a minute has none."""
        try:
            await trio.sleep(BURST)
            while self._reasons:
                self._log_them()
                await trio.sleep(INTERVAL)
        finally:
            self._tells = False
            if self._reasons:
                self._log_them()

    def _log_them(self) -> None:
        reasons, self._reasons = self._reasons, {}
        self._log.warning(
            "dropped %d datagrams: %s",
            sum(reasons.values()),
            ", ".join(f"{reason} ({count})" for reason, count in reasons.items()),
        )
