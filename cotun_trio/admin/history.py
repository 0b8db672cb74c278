"""The traffic of the last minutes, in bytes per second, from samples."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.errors import CotunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.admin.watched import Watched
    from cotun_trio.logs import Context

PERIOD = 5.0
"""Seconds between two samples."""
KEPT = 60
"""Samples: of five minutes."""


@attrs.frozen
class Rate:
    """The traffic between two samples, in bytes per second."""

    received: float
    sent: float


class History:
    """The rates of `watched`; they begin when it runs."""

    def __init__(self, watched: Watched, log: Context) -> None:
        self._watched = watched
        self._log = log
        self._rates: deque[Rate] = deque(maxlen=KEPT)

    @property
    def rates(self) -> Sequence[Rate]:
        """The latest rates, the eldest first."""
        return tuple(self._rates)

    async def run(self) -> None:
        """Sample until cancelled.  A sample that cannot be had is part of the next one."""
        then, before = trio.current_time(), await self._totals()
        while True:
            await trio.sleep(PERIOD)
            now, totals = trio.current_time(), await self._totals()
            if totals is None:
                continue
            if before is not None:
                # The totals of several processes go back when one of them is killed.
                received, sent = max(0, totals[0] - before[0]), max(0, totals[1] - before[1])
                self._rates.append(Rate(received / (now - then), sent / (now - then)))
            then, before = now, totals

    async def _totals(self) -> tuple[int, int] | None:
        """Return the bytes that were received and sent so far; None where that is not known."""
        log = self._log
        try:
            figures, _ = await self._watched.stats()
        except CotunError as error:
            log.debug("admin: no sample of the traffic: %s", error)
            return None
        except Exception:
            log.exception("internal error, a sample of the traffic is missing")
            return None
        return figures.bytes_in, figures.bytes_out
