"""The directory of a fleet, as its nodes use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cotun_trio.errors import CotunError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cotun_trio.access.penalties import Verdict
    from cotun_trio.fleet.entries import Entry
    from cotun_trio.fleet.operations import Answer, Operation


class DirectoryFailed(CotunError):
    """The directory could not do something, or did not say whether it has: another try can help."""


class Directory(Protocol):
    """A place where all nodes of a fleet meet.

    Callers set deadlines.  After a cancelled call, nobody knows whether it was done; the next call
    must not get its answer.  All methods raise `DirectoryFailed`.
    """

    async def perform(self, operation: Operation) -> Answer | Verdict:
        """Do an operation as a whole, and return its answer; see `operations`."""

    async def after(self, position: int) -> Sequence[tuple[int, Entry]]:
        """Return entries of the stream after `position`, each with its number, in their order.

        Waits for some for a while, and returns none where none comes.  One call at a time.
        """
