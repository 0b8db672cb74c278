"""When a worker is started again in the place of one that has ended: soon, but not too often."""

from __future__ import annotations

STABLE = 10.0
"""Seconds of life after which the end of a worker has nothing to do with its start."""
FIRST_DELAY, MAX_DELAY = 0.1, 30.0
"""Seconds before the next start, after the second early end in a row, and after many."""


class Restarts:
    """The account of one worker's place; each place has its own."""

    def __init__(self) -> None:
        self._failures = 0  # in a row

    def ended(self, lifetime: float) -> None:
        """A worker has ended here, `lifetime` seconds after its start."""
        self._failures = 0 if lifetime >= STABLE else self._failures + 1

    def not_started(self) -> None:
        """The system had no process for one: to try at once again would not help."""
        self._failures = max(self._failures + 1, 2)

    @property
    def delay(self) -> float:
        """Seconds to wait before the next one is started: none after the first early end."""
        if self._failures <= 1:
            return 0.0
        # The exponent is bounded as well: a float has no room for two to the power of 1024.
        return min(FIRST_DELAY * 2.0 ** min(self._failures - 2, 16), MAX_DELAY)
