"""What forwards need of a session: this much, and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cotun_trio.errors import CotunError
    from cotun_trio.forwards.running import Forwards
    from cotun_trio.net.names import Share
    from cotun_trio.ssh.channel import Channel
    from cotun_trio.ssh.openings import OutgoingOpen


class Opener(Protocol):
    """What opens channels: an SSH connection."""

    def ask(self, extra: bytes, opened: Callable[[Channel], None] | None = None) -> OutgoingOpen:
        """See `cotun_trio.ssh.connection.Connection.ask`."""

    async def answer(self, pending: OutgoingOpen) -> Channel:
        """See `cotun_trio.ssh.connection.Connection.answer`."""

    async def open_channel(self, extra: bytes) -> Channel:
        """See `cotun_trio.ssh.connection.Connection.open_channel`."""


class Link(Protocol):
    """An open session."""

    @property
    def connection(self) -> Opener:
        """Where channels are opened."""

    @property
    def forwards(self) -> Forwards:
        """What runs in it."""

    @property
    def share(self) -> Share:
        """What it may look up at once."""

    def fail(self, failure: CotunError) -> None:
        """End the session: the peer has broken a rule."""

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: object) -> None:
        """Run `function` as a child of the session: it is cancelled when the session ends."""
