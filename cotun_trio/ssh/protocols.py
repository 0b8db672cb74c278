"""The protocols of the objects around a connection: the carrier below it, and a channel's sink.

`cotun_trio.ssh.connection.Handler` is the third: the session, which a connection tells of its news.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Carrier(Protocol):
    """Carries the bytes of a connection to the peer."""

    @property
    def busy(self) -> bool:
        """Whether the network has not taken all that was sent so far."""

    @property
    def turn(self) -> int:
        """How many bytes one sender may send before others have their turn."""

    async def wait_idle(self, *, urgent: bool = False) -> None:
        """Wait until the network has taken all; `urgent` senders go first.

        Raises `trio.BrokenResourceError` when it never will.
        """

    def send(self, data: memoryview | bytearray) -> None:
        """Send `data`, or keep a copy: the caller uses the memory again at once."""


class Sink(Protocol):
    """Takes the bytes that come on a channel."""

    def write(self, views: Sequence[memoryview]) -> int:
        """Take bytes from the front of `views`, `MAX_VIEWS` at the most, without blocking.

        Return how many.
        """

    def backlog_waits(self) -> None:
        """Some were left: `Channel.flush_backlog` has to be called when there is room."""

    def end(self) -> None:
        """The peer's EOF: all that it sent has been taken."""

    def closed(self) -> None:
        """Nothing can be sent any more.  There may still be a backlog to take."""
