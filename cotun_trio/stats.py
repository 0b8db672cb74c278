"""Counts and how they are shown."""

from __future__ import annotations

from typing import Protocol

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


class Count(Protocol):
    """How many of something there are, here and in the processes that share a limit with us."""

    own: int
    """Those in this process, which is the only one to change it."""

    @property
    def total(self) -> int:
        """All of them."""


class OwnCount:
    """A count that is shared with nobody."""

    __slots__ = ("own",)

    def __init__(self) -> None:
        self.own = 0

    @property
    def total(self) -> int:
        """See `Count`."""
        return self.own


def show_bytes(count: int) -> str:
    """Return `count` bytes in decimal units.

    >>> show_bytes(999), show_bytes(1500), show_bytes(10_000_000)
    ('999B', '1.5kB', '10MB')
    """
    size, unit = float(count), 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g}{_UNITS[unit]}"
