"""Counts of open connections: of this process alone, or shared with other processes."""

from __future__ import annotations

from typing import Protocol


class Count(Protocol):
    """A number of things of one kind, here and in the processes that share a limit with us."""

    @property
    def own(self) -> int:
        """The number in this process, which is the only one to change it."""

    @property
    def total(self) -> int:
        """The sum over all processes."""

    def add(self, number: int) -> None:
        """Add `number` to our own; it is negative for things that have ended."""


class OwnCount:
    """A count that is shared with no other process."""

    __slots__ = ("own",)

    def __init__(self) -> None:
        self.own = 0

    @property
    def total(self) -> int:
        """See `Count`."""
        return self.own

    def add(self, number: int) -> None:
        """See `Count`."""
        self.own += number
