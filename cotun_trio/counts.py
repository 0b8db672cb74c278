"""Counts of what is open: of this process alone, or shared with others."""

from __future__ import annotations

from typing import Protocol


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
