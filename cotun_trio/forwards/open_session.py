"""An open session, as the forwards see it: no more than they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cotun_trio.errors import CotunError
    from cotun_trio.forwards.flows import Flows
    from cotun_trio.net.names import Share
    from cotun_trio.ssh.channel import Channel
    from cotun_trio.ssh.openings import OutgoingOpen


class Opener(Protocol):
    """An SSH connection, as the forwards see it: it opens channels."""

    def ask(self, extra: bytes, opened: Callable[[Channel], None] | None = None) -> OutgoingOpen:
        """See `cotun_trio.ssh.connection.Connection.ask`."""

    async def answer(self, pending: OutgoingOpen) -> Channel:
        """See `cotun_trio.ssh.connection.Connection.answer`."""

    async def open_channel(self, extra: bytes) -> Channel:
        """See `cotun_trio.ssh.connection.Connection.open_channel`."""


class OpenSession(Protocol):
    """An open session."""

    @property
    def connection(self) -> Opener:
        """Where channels are opened."""

    @property
    def flows(self) -> Flows:
        """Its running flows."""

    @property
    def share(self) -> Share:
        """Its share of name look-ups."""

    def fail(self, failure: CotunError) -> None:
        """End the session: the peer has broken a rule."""

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Run `function` as a child of the session: it is cancelled when the session ends."""
