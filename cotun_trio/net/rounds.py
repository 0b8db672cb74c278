"""The order in which many readable sockets have their turns.

They belong to *groups*, which are sessions mostly.  Every other turn is that of the group that has
waited for the longest time, so that none starves.  The turns between these go to the group whose
turns are the shortest: a question is answered before others have processed their floods, and costs
them next to nothing.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from itertools import count
from typing import Generic, TypeVar

USUAL = 0.0003
"""Seconds that the turns of a group take of which nothing is known: more than a question or an
answer takes, so that a group that has asked before does not wait for a hundred strangers."""
MOST_KNOWN = 4096
"""Groups whose turns are known at once."""
SLACK = 64
"""Entries of the heap that may be out of date, besides one for each group."""

Item = TypeVar("Item")


class Crowd(Generic[Item]):
    """Items that wait for a turn, each with a key and a group."""

    def __init__(self) -> None:
        # By group, the one that has waited for longest first; and by key.
        self._waiting: dict[object, dict[object, Item]] = {}
        self._shortest: list[tuple[float, int, object]] = []  # a heap of the same groups
        self._entries: dict[object, int] = {}  # the number of each group's entry there
        self._numbers = count()
        self._seconds: dict[object, float] = {}  # that a turn of a group takes, of late
        self._is_for_shortest = False

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, group: object, key: object, item: Item) -> None:
        """Have an item wait, unless one with its key does."""
        items = self._waiting.get(group)
        if items is None:
            items = self._waiting[group] = {}
            self._enter(group)
        items[key] = item

    def take(self) -> tuple[object, Item]:
        """Remove and return the next item, with its group."""
        self._is_for_shortest = not self._is_for_shortest
        group = self._find_shortest() if self._is_for_shortest else next(iter(self._waiting))
        items = self._waiting.pop(group)
        key = next(iter(items))
        item = items.pop(key)
        if items:  # behind all others
            self._waiting[group] = items
            self._enter(group)
        else:
            del self._entries[group]
        return group, item

    def took(self, group: object, seconds: float) -> None:
        """Note how long a turn of `group` has taken."""
        if len(self._seconds) > MOST_KNOWN:
            self._seconds.clear()
        before = self._seconds.get(group, USUAL)
        self._seconds[group] = before + (seconds - before) / 4
        if not self._waiting:
            self._shortest.clear()

    def _enter(self, group: object) -> None:
        number = self._entries[group] = next(self._numbers)
        heappush(self._shortest, (self._seconds.get(group, USUAL), number, group))
        if len(self._shortest) > 2 * len(self._waiting) + SLACK:
            self._shortest = [each for each in self._shortest if self._is_valid(each)]
            heapify(self._shortest)

    def _is_valid(self, entry: tuple[float, int, object]) -> bool:
        return self._entries.get(entry[2]) == entry[1]

    def _find_shortest(self) -> object:
        while True:
            entry = heappop(self._shortest)
            if self._is_valid(entry):
                return entry[2]
