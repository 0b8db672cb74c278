"""Things that happen too often for a line each: counted by reasons, and told once a minute."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cotun_trio.logs import Context

BURST = 1.0
"""Seconds from the first one to the line in the log, which counts those that come with it."""
INTERVAL = 60.0
"""Seconds between two lines about the same thing."""


class PerMinute:
    """Counts things of one kind, for a `line` of the log that has their number and the reasons.

    `start_soon` starts the task that writes the line to `log`; when it is cancelled, it writes it
    at once.
    """

    def __init__(
        self,
        line: str,
        log: Context,
        start_soon: Callable[[Callable[[], Awaitable[None]]], object],
    ) -> None:
        self._line = line
        self._log = log
        self._start_soon = start_soon
        self._reasons: dict[str, int] = {}
        self._tells = False

    def count(self, reason: str, count: int = 1) -> None:
        """Count some that had the same reason: one of ours, of which there are few."""
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
            self._line,
            sum(reasons.values()),
            ", ".join(f"{reason} ({count})" for reason, count in reasons.items()),
        )
