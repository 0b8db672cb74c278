"""Counts of all nodes together: what each last said of itself, summed up.

A node tells the others once a second which of its counts have changed.  So a sum is a second old,
and a limit that is checked against it can be exceeded by what has happened at other nodes within
that second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

INTERVAL = 1.0
"""Seconds between two reports."""
MAX_REPORTED = 128
"""Counts in one report; the others wait for the next one."""
MAX_COUNTS = 65_536
"""Counts of one node that others remember."""


class FleetCounts:
    """The counts of this node, and the last report of every other one.

    The key of a count has the kind in front: ``startups 192.0.2.1``.
    """

    def __init__(self) -> None:
        self._own: dict[str, int] = {}
        self._others: dict[str, dict[str, int]] = {}  # by node
        self._sums: dict[str, int] = {}  # of the others
        self._changed: dict[str, None] = {}  # the one that has waited longest comes first

    def of(self, key: str) -> int:
        """Return the sum over all nodes."""
        return self._own.get(key, 0) + self._sums.get(key, 0)

    def own(self, key: str) -> int:
        """Return the count of this node."""
        return self._own.get(key, 0)

    def change(self, key: str, by: int) -> None:
        """Change the count of this node."""
        _add(self._own, key, by)
        self._changed[key] = None

    def take_report(self) -> dict[str, int]:
        """Return counts that have changed since they were reported; they are reported now."""
        keys = [key for key, _ in zip(self._changed, range(MAX_REPORTED), strict=False)]
        for key in keys:
            del self._changed[key]
        return {key: self._own.get(key, 0) for key in keys}

    @property
    def has_changed(self) -> bool:
        """Whether there is something to report."""
        return bool(self._changed)

    def take_all(self) -> dict[str, int]:
        """Return all counts of this node; they are reported now."""
        self._changed.clear()
        return dict(self._own)

    def reported(self, node: str, counts: Mapping[str, int]) -> None:
        """Take the report of another node; 0 is for a count that is gone."""
        theirs = self._others.setdefault(node, {})
        for key, count in counts.items():
            if key in theirs or len(theirs) < MAX_COUNTS:
                before = theirs.get(key, 0)
                _add(theirs, key, count - before)
                _add(self._sums, key, count - before)

    def replace(self, node: str, counts: Mapping[str, int]) -> None:
        """Take the whole statement of another node."""
        self.forget((node,))
        self.reported(node, counts)

    def forget(self, nodes: Iterable[str]) -> None:
        """Nodes have gone, and their counts with them."""
        for node in nodes:
            for key, count in self._others.pop(node, {}).items():
                _add(self._sums, key, -count)


class CountsOfKind:
    """The counts of one kind, as limits use them: a `cotun_trio.access.startups.SourceCounts`."""

    def __init__(self, counts: FleetCounts, kind: str, changed: Callable[[], None]) -> None:
        self._counts = counts
        self._kind = kind
        self._has_changed = changed

    def of(self, source: str) -> int:
        """Return the sum over all nodes; what others have counted is a second old at most."""
        return self._counts.of(self._key(source))

    def change(self, source: str, by: int) -> None:
        """Change the count of this node."""
        self._counts.change(self._key(source), by)
        self._has_changed()

    def _key(self, source: str) -> str:
        # Text of a client, perhaps: bytes that are no text cannot be told to others.
        return f"{self._kind} {source.encode(errors='backslashreplace').decode()}"


class CountOfKind:
    """The one count of a kind: a `cotun_trio.counts.Count`."""

    def __init__(self, counts: FleetCounts, kind: str, changed: Callable[[], None]) -> None:
        self._counts = counts
        self._kind = kind
        self._has_changed = changed

    @property
    def own(self) -> int:
        """The count of this node."""
        return self._counts.own(self._kind)

    @property
    def total(self) -> int:
        """The sum over all nodes; what others have counted is a second old at most."""
        return self._counts.of(self._kind)

    def add(self, number: int) -> None:
        """Add to the count of this node."""
        self._counts.change(self._kind, number)
        self._has_changed()


def _add(counts: dict[str, int], key: str, by: int) -> None:
    count = counts.get(key, 0) + by
    if count:
        counts[key] = count
    else:
        counts.pop(key, None)
