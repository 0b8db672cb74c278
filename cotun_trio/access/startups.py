"""Limits on the connections that have not logged in: on all of them, and on those of one source.

Such a connection costs memory and a place in a table, and its peer has shown nothing yet.  sshd has
the same as MaxStartups and PerSourceMaxStartups (sshd_config(5)).  As there, new ones are refused
at random once half of the places are taken, and the more of them the fewer places are left: a peer
that holds most of the places cannot keep all others out.  Of one source, whose connections mostly
have one owner, the limit is exact.

All these connections together are the *crowd*.  A connection to the back end, which may last for
hours, leaves the crowd, and keeps its place for its source.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from cotun_trio.counts import Count

MAX_TOLD = 1000
"""Sources that are remembered as told in the log; beyond that, it gets the same line again."""
_CHANCE = random.SystemRandom()


class SourceCounts(Protocol):
    """Counts for each source, or each user; other processes may count there, too."""

    def of(self, source: str) -> int:
        """Return the count of a source."""

    def change(self, source: str, by: int) -> None:
        """Change the count of a source: `by` is 1 or -1."""


class OwnSourceCounts:
    """The counts of this process alone."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}  # of each source that has any

    def of(self, source: str) -> int:
        """See `SourceCounts`."""
        return self._counts.get(source, 0)

    def change(self, source: str, by: int) -> None:
        """See `SourceCounts`."""
        self._counts[source] = self._counts.get(source, 0) + by
        if not self._counts[source]:
            del self._counts[source]

    def __len__(self) -> int:
        return len(self._counts)


class Startup:
    """A connection's place in the crowd, and another one among those of its source."""

    __slots__ = ("_in_crowd", "_source", "_startups")

    def __init__(self, startups: Startups, source: str | None) -> None:
        self._startups = startups
        self._source = source
        self._in_crowd = True

    def step_aside(self) -> None:
        """Leave the crowd, and keep the place for the source.  Can be called again."""
        if self._in_crowd:
            self._in_crowd = False
            self._startups.leave_crowd()

    def come_back(self) -> bool:
        """Be in the crowd again, if that is not so; return False where there is no room."""
        if not self._in_crowd:
            self._in_crowd = self._startups.enter_crowd()
        return self._in_crowd

    def move(self, source: str | None) -> bool:
        """Count for `source` from now on, None for no source in particular.

        Returns False where that source has no room: then it counts for none.
        """
        if source == self._source:
            return True
        self._leave_source()
        if source is not None and not self._startups.enter_source(source):
            return False
        self._source = source
        return True

    def leave(self) -> None:
        """Make room: the connection has logged in, or is gone.  Can be called again."""
        self.step_aside()
        self._leave_source()

    def _leave_source(self) -> None:
        if self._source is not None:
            self._startups.leave_source(self._source)
            self._source = None


class Startups:
    """Gives places: `limit` in the crowd, `per_source` for each source; 0 is for no limit.

    `crowd` and `sources` are where they are counted.  `say` is called with a line for the log when
    some are refused: once, and not again before it has become much quieter.  `chance` returns a
    random number from 0 up to 1.
    """

    def __init__(
        self,
        limit: int,
        per_source: int,
        *,
        crowd: Count,
        sources: SourceCounts,
        say: Callable[[str], None],
        chance: Callable[[], float] = _CHANCE.random,
    ) -> None:
        self._limit = limit
        self._per_source = per_source
        self._crowd = crowd
        self._sources = sources
        self._say = say
        self._chance = chance
        self._told_of_crowd: set[str] = set()  # lines that the log has about it
        self._told: set[str] = set()  # full sources that the log has a line about

    def enter(self, source: str | None) -> Startup | None:
        """Return a place, or None where there is no room.

        `source` is None for one that stands for many: only the limit for all counts then.
        """
        if source is not None and not self.enter_source(source):
            return None
        if not self.enter_crowd():
            if source is not None:
                self.leave_source(source)
            return None
        return Startup(self, source)

    def enter_crowd(self) -> bool:
        """Count one more in the crowd; return False where it is refused.  See `Startup`."""
        total, limit = self._crowd.total, self._limit
        if 0 < limit < 2 * total:
            if total >= limit:
                self._tell_of_crowd("too many connections have not logged in: refusing more")
                return False
            if self._chance() < 2 * total / limit - 1:
                self._tell_of_crowd(
                    "more than half of --max-startups have not logged in: refusing some at random"
                )
                return False
        self._crowd.add(1)
        return True

    def leave_crowd(self) -> None:
        """Count one less in the crowd.  See `Startup`."""
        self._crowd.add(-1)
        if self._told_of_crowd and 4 * self._crowd.total <= self._limit:
            self._told_of_crowd.clear()

    def enter_source(self, source: str) -> bool:
        """Count one more of `source`; return False where it has no room.  See `Startup`."""
        if 0 < self._per_source <= self._sources.of(source):
            if source not in self._told:
                if len(self._told) >= MAX_TOLD:
                    self._told.clear()
                self._told.add(source)
                self._say(f"too many connections of {source} have not logged in: refusing more")
            return False
        self._sources.change(source, 1)
        return True

    def leave_source(self, source: str) -> None:
        """Count one less of `source`.  See `Startup`."""
        self._sources.change(source, -1)
        if source in self._told and 2 * self._sources.of(source) <= self._per_source:
            self._told.remove(source)

    def _tell_of_crowd(self, line: str) -> None:
        if line not in self._told_of_crowd:
            self._told_of_crowd.add(line)
            self._say(line)
