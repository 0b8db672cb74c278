"""Counts in memory that several processes share, for limits on all of them together.

Each process writes to a slot of its own, and reads the sum of all slots.  So there is nothing to
lock, and the counts of a dead process are gone with its slot.  A number is eight or four aligned
bytes, which all processors that we know of write and read as one.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile

CELLS = 65_536
"""Numbers of a table, one for each hash of 16 bits: 256 KiB a table and slot, which take memory
page by page as they are used.  The hash has a key, so that no client can choose to share a cell
with another one."""
FORWARDS, STARTUPS, SERVED, TAKEN, STEPS = range(5)
"""The other numbers of a slot.  `TAKEN` counts the connections that a worker has taken from
its `cotun_trio.workers.handover`, and `STEPS` is for `cotun_trio.workers.progress`."""
SOURCES, USERS = range(2)
"""The tables of a slot: connections by their source, and sessions by the name of their user."""
_HEAD = 64  # bytes for the numbers: one line of the processor's cache
_TABLE = 4 * CELLS
_SLOT = _HEAD + 2 * _TABLE


def allocate(slots: int) -> int:
    """Return a descriptor of memory for so many slots, all zero.  It has no name."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("cotun-trio")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, slots * _SLOT)
    return descriptor


class SharedCounts:
    """The shared memory behind `descriptor`, which the caller closes.  `key` is for the hash.

    `close` it.
    """

    def __init__(self, descriptor: int, slots: int, key: bytes) -> None:
        self._map = mmap.mmap(descriptor, slots * _SLOT)
        self._view = memoryview(self._map)
        self._numbers = self._view.cast("q")
        self._cells = self._view.cast("I")
        self._slots = slots
        self._key = key

    def count(self, which: int, slot: int) -> SharedCount:
        """Return one count, for the owner of `slot`."""
        return SharedCount(self._numbers, range(which, self._slots * _SLOT // 8, _SLOT // 8), slot)

    def source_counts(self, slot: int, table: int) -> SharedSourceCounts:
        """Return the counts of one table, for the owner of `slot`."""
        first = (_HEAD + table * _TABLE) // 4
        starts = range(first, first + self._slots * _SLOT // 4, _SLOT // 4)
        return SharedSourceCounts(self._cells, starts, slot, self._key)

    def clear(self, slot: int) -> None:
        """Set all counts of `slot` to zero: its owner is dead."""
        start = slot * _SLOT
        self._view[start : start + _SLOT] = bytes(_SLOT)

    def close(self) -> None:
        """Close the memory.  Counts that were given out must not be used any more."""
        for view in (self._numbers, self._cells, self._view):
            view.release()
        self._map.close()


class SharedCount:
    """See `cotun_trio.counts.Count`."""

    def __init__(self, numbers: memoryview[int], places: range, slot: int) -> None:
        self._numbers = numbers
        self._places = places
        self._mine = places[slot]

    @property
    def cell(self) -> tuple[memoryview[int], int]:
        """The place of our number, for code that writes too often to call `add`."""
        return self._numbers, self._mine

    @property
    def own(self) -> int:
        """The number in our slot."""
        return self._numbers[self._mine]

    @property
    def total(self) -> int:
        """The sum over all slots."""
        numbers = self._numbers
        return sum([numbers[place] for place in self._places])

    def add(self, number: int) -> None:
        """Add to the number in our slot."""
        self._numbers[self._mine] += number


class SharedSourceCounts:
    """See `cotun_trio.access.startups.SourceCounts`."""

    def __init__(self, cells: memoryview[int], starts: range, slot: int, key: bytes) -> None:
        self._cells = cells
        self._starts = starts
        self._mine = starts[slot]
        self._key = key

    def of(self, name: str) -> int:
        """Return the count of a source or user, and of others with the same hash."""
        cell, cells = self._cell(name), self._cells
        return sum([cells[start + cell] for start in self._starts])

    def change(self, name: str, by: int) -> None:
        """Add `by` to the count in our slot."""
        self._cells[self._mine + self._cell(name)] += by

    def _cell(self, name: str) -> int:
        digest = hashlib.blake2b(name.encode(), digest_size=2, key=self._key).digest()
        return int.from_bytes(digest)
