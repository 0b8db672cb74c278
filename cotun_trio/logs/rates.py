"""How many lines a source may have in a second.  Pure: the time is an argument.

All counts are about one second of the clock, and forgotten with it.  So the table is as large as
the number of sources with lines in a second, and another port or another session gets a source no
more lines.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_SOURCES = 4096
"""Sources that are told apart in a second; beyond that, the rest of them is one."""
OTHERS = "all others"
"""The name of that one."""
_NOTHING: Mapping[str, int] = MappingProxyType({})


class Rates:
    """Counts the lines of each source, up to `limit` of them in a second."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._second = -math.inf
        self._admitted: dict[str, int] = {}
        self._left_out: dict[str, int] = {}

    def turn(self, now: float) -> Mapping[str, int]:
        """Begin with the second that `now` is in; return the numbers left out in the one before.

        For each source, that is how often `admits` returned false.  Empty in the same second.
        """
        second = math.floor(now)
        if second == self._second:
            return _NOTHING
        self._second = second
        left_out, self._left_out, self._admitted = self._left_out, {}, {}
        return left_out

    def admits(self, source: str, lines: int = 1) -> bool:
        """Return whether `source` may have so many lines in the present second, and count them.

        Where there is room for one, there is room for all of them: a traceback is not cut.
        """
        if source not in self._admitted and len(self._admitted) >= MAX_SOURCES:
            source = OTHERS
        before = self._admitted.get(source, 0)
        if before >= self._limit:
            self._left_out[source] = self._left_out.get(source, 0) + 1
            return False
        self._admitted[source] = before + lines
        return True
