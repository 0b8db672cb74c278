"""The ends of forwards that are not in the tunnel: where remotes listen, where targets are.

They are the system's, with sockets, by default: a test has both ends in memory
(`cotun_trio.testing`), and a program can be a target itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cotun_trio.forwards.listener import open_listener

if TYPE_CHECKING:
    from cotun_trio.forwards.in_process import Inbox
    from cotun_trio.forwards.listener import Listener
    from cotun_trio.net.names import Share
    from cotun_trio.protocol.remote import Remote
    from cotun_trio.protocol.target import Target


class Places(Protocol):
    """Listeners and targets."""

    async def open_listener(self, remote: Remote, share: Share | None = None) -> Listener:
        """Listen for `remote`, for a peer with its `share` of names if it is a peer's.

        Raises `UsageError`, with nothing left open.
        """

    def inbox(self, target: Target) -> Inbox | None:
        """Return the inbox for connections to `target` in this process; None to dial it."""


class SystemPlaces:
    """Sockets.  Remotes that name no interface listen on `interface`, if one is given."""

    def __init__(self, interface: str | None = None) -> None:
        self._interface = interface

    async def open_listener(self, remote: Remote, share: Share | None = None) -> Listener:
        """See `Places`."""
        return await open_listener(remote, share, interface=self._interface)

    def inbox(self, target: Target) -> Inbox | None:  # noqa: ARG002
        """See `Places`: all targets are dialled."""
        return None
