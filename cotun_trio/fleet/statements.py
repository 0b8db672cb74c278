"""The statement of this node in the directory: changed step by step, and made anew after a doubt.

See `cotun_trio.fleet.operations` for why.  One operation is in flight at a time.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from cotun_trio.fleet.operations import Restate, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cotun_trio.fleet.claims import Claims
    from cotun_trio.fleet.counts import FleetCounts
    from cotun_trio.fleet.entries import Entry

MAX_CHANGES = 256
"""Changes in one operation: the directory does nothing else meanwhile."""
MAX_TOLD = 1024
"""Entries that wait to be told; the oldest ones are lost, and nodes that asked hear nothing."""


class Statement:
    """The statement of the node `me`, as far as the directory has it."""

    def __init__(self, me: str, claims: Claims, counts: FleetCounts) -> None:
        self._me = me
        self._claims = claims
        self._counts = counts
        self._parts: deque[Restate] = deque()
        self._told: deque[Entry] = deque(maxlen=MAX_TOLD)
        self.version = 0
        """The last version that the directory is known to have, or may have."""
        self.is_doubted = False
        """Whether it has to be made anew."""

    def tell(self, entry: Entry) -> None:
        """Have all nodes told."""
        self._told.append(entry)

    def next_operation(
        self, epoch: int, known: Callable[[str], bool], *, with_counts: bool
    ) -> Write | Restate | None:
        """Return the operation that is due, if any.

        `known` says whether a place has an owner elsewhere.
        """
        if self.is_doubted and not self._parts:
            self._begin_restating()
        if self._parts:
            return self._parts[0]
        claims = self._claims.take_queued(MAX_CHANGES // 4, known)
        released = self._claims.take_released(MAX_CHANGES // 4)
        told = [self._told.popleft() for _ in range(min(len(self._told), MAX_CHANGES // 4))]
        write = Write(
            self._me,
            self.version,
            epoch,
            tuple(claims),
            tuple(released),
            self._counts.take_report() if with_counts else {},
            tuple(told),
        )
        return write if write.changes else None

    def restated(self, part: Restate) -> None:
        """A part has been made."""
        if self._parts and self._parts[0] is part:
            self._parts.popleft()
            if part.last:
                self.version = part.version

    def outdated(self, version: int) -> None:
        """The directory has another version, or none."""
        self.version = max(self.version, version)
        self.doubt()

    def doubt(self) -> None:
        """Make it anew, from the beginning."""
        self._parts.clear()
        self.is_doubted = True

    def failed(self, operation: Write | Restate) -> None:
        """Nobody knows whether the operation was done, or will be."""
        self.version = operation.version + 1 if isinstance(operation, Write) else operation.version
        self.doubt()
        if isinstance(operation, Write):
            self.put_back(operation)

    def put_back(self, write: Write) -> None:
        """Do again what `write` has not done; making the statement anew does the rest."""
        self._claims.put_back(wish for wish, _ in write.claims)
        self._told.extendleft(reversed(write.entries))

    def _begin_restating(self) -> None:
        self.is_doubted = False
        self._claims.released_by_restating()
        version = self.version + 1
        counts = self._counts.take_all()
        routes = self._claims.all_own()
        parts: list[Restate] = []
        while True:
            some = tuple(islice(routes, MAX_CHANGES))
            others = dict(_take(counts, MAX_CHANGES - len(some)))
            last = len(some) + len(others) < MAX_CHANGES
            parts.append(Restate(self._me, version, some, others, first=not parts, last=last))
            if last:
                break
        self._parts.extend(parts)


def _take(counts: dict[str, int], number: int) -> Iterator[tuple[str, int]]:
    for key in list(islice(counts, number)):
        yield key, counts.pop(key)
