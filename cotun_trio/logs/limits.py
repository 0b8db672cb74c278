"""Limits on the lines that others can have us log: above its rate, a source gets one number.

A source is anything that can cause lines: the source of a client (`cotun_trio.access.sources`), a
server, "local connections".  Lines of the program about itself have no limit.  Of several workers,
each counts by itself.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.logs.rates import Rates

if TYPE_CHECKING:
    from cotun_trio.logs.context import Context

LINES = 50
"""Lines in a second: more than anybody reads."""
DEBUG_LINES = 500
"""The same at DEBUG, where users want to see single connections."""
TRACEBACK = 50
"""Lines that one with a traceback counts as."""


class Limits:
    """The limits of one server or client; the numbers are told in its `log`.  `run` it."""

    def __init__(self, log: Context) -> None:
        self._log = log
        self._rates, self._debug_rates = Rates(LINES), Rates(DEBUG_LINES)
        self._excess = trio.Event()  # something has been left out, ...
        self._due = 0.0  # ... in the second that ends then

    def of(self, source: str) -> SourceLimit:
        """Return the limit of a source, whose name is safe to print; for `Context.limited`."""
        return SourceLimit(self, source)

    def admits(self, source: str, level: int, lines: int) -> bool:
        """Return whether `source` may have so many lines at `level`, and count them."""
        now = trio.current_time()
        self._turn(now)
        rates = self._debug_rates if level <= logging.DEBUG else self._rates
        admitted = rates.admits(source, lines)
        if not admitted:
            self._due = math.floor(now) + 1
            self._excess.set()
        return admitted

    async def run(self) -> None:
        """Log the numbers of lines left out, when each second is over, until cancelled.

        The numbers of the last second are logged then.
        """
        try:
            while True:
                await self._excess.wait()
                await trio.sleep_until(self._due)
                self._excess = trio.Event()
                self._turn(trio.current_time())
        finally:
            self._turn(trio.current_time() + 1)

    def _turn(self, now: float) -> None:
        for level, rates in ((logging.WARNING, self._rates), (logging.DEBUG, self._debug_rates)):
            for source, count in rates.turn(now).items():
                self._log.log(
                    level, "%d more lines about %s were left out in one second", count, source
                )


@attrs.frozen
class SourceLimit:
    """The limit of a source; see `cotun_trio.logs.context.Limit`."""

    _limits: Limits
    _source: str

    def apart(self, subject: str) -> SourceLimit:
        """See `Limit`."""
        return SourceLimit(self._limits, f"{subject} of {self._source}")

    def admits(self, level: int, *, traceback: bool = False) -> bool:
        """See `Limit`."""
        return self._limits.admits(self._source, level, TRACEBACK if traceback else 1)
