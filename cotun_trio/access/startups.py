"""How many connections there may be that have not logged in: in all, and of one source.

Such a connection costs memory and a place in a table, and whoever makes it has shown nothing yet.
sshd has the same as MaxStartups and PerSourceMaxStartups (sshd_config(5)).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_TOLD = 1000
"""Sources that the log is known to have; beyond that, it gets the same line again."""


class Tally(Protocol):
    """Where such connections are counted; other processes may count there, too."""

    @property
    def total(self) -> int:
        """All of them."""

    def of(self, source: str) -> int:
        """Return how many there are of a source."""

    def change(self, source: str, by: int) -> None:
        """Count one of a source, `by` 1, or no longer, by -1."""


class OwnTally:
    """A tally that is shared with nobody."""

    def __init__(self) -> None:
        self.total = 0
        """See `Tally`."""
        self._counts: dict[str, int] = {}  # of each source that has any

    def of(self, source: str) -> int:
        """See `Tally`."""
        return self._counts.get(source, 0)

    def change(self, source: str, by: int) -> None:
        """See `Tally`."""
        self.total += by
        self._counts[source] = self._counts.get(source, 0) + by
        if not self._counts[source]:
            del self._counts[source]

    def __len__(self) -> int:
        return len(self._counts)


class Startup:
    """A place among the connections that have not logged in.  `leave` gives it back."""

    __slots__ = ("_source", "_startups")

    def __init__(self, startups: Startups, source: str) -> None:
        self._startups: Startups | None = startups
        self._source = source

    @property
    def left(self) -> bool:
        """Whether it has been given back."""
        return self._startups is None

    def leave(self) -> None:
        """Make room: the connection has logged in, or is gone.  Can be called again."""
        if self._startups is not None:
            self._startups.remove(self._source)
            self._startups = None


class Startups:
    """Counts them.  `limit` is for all of them, `per_source` for each source; 0 is for no limit."""

    def __init__(self, limit: int, per_source: int, tally: Tally | None = None) -> None:
        self._limit = limit
        self._per_source = per_source
        self._tally = OwnTally() if tally is None else tally
        self._all_told = False
        self._told: set[str] = set()  # sources that are full, and the log has it

    def enter(
        self, source: str, refused: Callable[[str], None], *, shared: bool = False
    ) -> Startup | None:
        """Return a place, or None where there is no room.

        `shared` says that the source stands for many: only the limit for all counts then.

        `refused` is called with a line for the log when that is news: once, and not again before
        there has been room.
        """
        if 0 < self._per_source <= self._tally.of(source) and not shared:
            if source not in self._told:
                if len(self._told) >= MAX_TOLD:
                    self._told.clear()
                self._told.add(source)
                refused(f"too many connections of {source} have not logged in: refusing more")
            return None
        if 0 < self._limit <= self._tally.total:
            if not self._all_told:
                self._all_told = True
                refused("too many connections have not logged in: refusing more")
            return None
        self._tally.change(source, 1)
        return Startup(self, source)

    def remove(self, source: str) -> None:
        """See `Startup.leave`."""
        self._tally.change(source, -1)
        self._told.discard(source)
        self._all_told = False
