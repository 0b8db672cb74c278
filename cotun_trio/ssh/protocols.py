"""A connection's neighbours: the carrier below it, and the handler above."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from cotun_trio.errors import CotunError
    from cotun_trio.ssh.global_requests import GlobalRequest
    from cotun_trio.ssh.openings import IncomingOpen


class Carrier(Protocol):
    """What a connection travels on."""

    @property
    def busy(self) -> bool:
        """Whether the network has not taken all that was sent so far."""

    @property
    def turn(self) -> int:
        """How many bytes one sender may send before others have their turn."""

    async def wait_idle(self, *, urgent: bool = False) -> None:
        """Wait until it has; who is `urgent` goes first.

        Raises `trio.BrokenResourceError` when it never will.
        """

    def send(self, data: memoryview | bytearray) -> None:
        """Send `data`, or keep a copy: the caller uses the memory again at once."""


class Handler(Protocol):
    """What a connection tells its session.  Called in the middle of a read: nothing may block."""

    def login_requested(self, user: str, password: str) -> None:
        """A client wants in: `Connection.answer_login` has to follow, and nothing else does."""

    def channel_requested(self, opening: IncomingOpen) -> None:
        """The peer wants to open a channel."""

    def request_received(self, request: GlobalRequest) -> None:
        """The peer made a global request and wants an answer."""

    def fail(self, failure: CotunError) -> None:
        """End the session."""
