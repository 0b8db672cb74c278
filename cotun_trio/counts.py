"""Counts of open things: of this process alone, or shared with others."""

from __future__ import annotations

from typing import Protocol


class Count(Protocol):
    """A number of things, here and in the processes that share a limit with us."""

    own: int
    """The number in this process, which is the only one to change it."""

    @property
    def total(self) -> int:
        """The number in all processes."""


class OwnCount:
    """The count of this process alone."""

    __slots__ = ("own",)

    def __init__(self) -> None:
        self.own = 0

    @property
    def total(self) -> int:
        """See `Count`."""
        return self.own
