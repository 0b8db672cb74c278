"""The forwards of a client, as the program sees them: remotes, and listeners that end here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import trio

from cotun_trio.forwards.in_process import VisitorStream as VisitorStream  # noqa: TC001  for users

if TYPE_CHECKING:
    from cotun_trio.client.managed_remote import ManagedRemote
    from cotun_trio.client.remotes import Remotes


@attrs.frozen
class ForwardStats:
    """Counters of a forward, from its beginning on."""

    open: int
    """Connections at present; the datagrams of a UDP forward are one."""
    total: int
    """Connections so far."""
    bytes_in: int
    """Received through the tunnel."""
    bytes_out: int
    """Sent through the tunnel."""


@attrs.frozen(eq=False, repr=False)
class Forward:
    """A remote of a client: from `TunnelClient.forward`, or given to `open_client`."""

    _remotes: Remotes
    _item: ManagedRemote

    def __repr__(self) -> str:
        return f"<Forward {self._item.remote}>"

    @property
    def remote(self) -> str:
        """The remote in full, all defaults included."""
        return self._item.remote.encode()

    @property
    def address(self) -> str:
        """Where it listens, ``host:port`` or ``unix:/path``: here, or at the server.

        A port that the server chose can be another after a reconnect; and a Go server does not say
        which it chose: the port is 0 then.
        """
        return self._remotes.address(self._item)

    def stats(self) -> ForwardStats:
        """Return its counters."""
        traffic = self._item.traffic
        assert traffic is not None
        return ForwardStats(traffic.open, traffic.total, traffic.bytes_in, traffic.bytes_out)

    async def aclose(self) -> None:
        """Stop listening, and cut its connections.  Can be called again.

        Where the server listens, waits until it has stopped, or the tunnel is lost; cancelling ends
        the wait only.  A Go server listens on until then, and all that connects there is refused.
        """
        await self._remotes.remove(self._item)


@attrs.frozen(eq=False, repr=False)
class TunnelListener(trio.abc.Listener[trio.abc.HalfCloseableStream]):
    """A `trio.abc.Listener` that listens on the server: from `TunnelClient.listen_tcp`.

    When the tunnel is lost, it listens again in the next one, and `accept` waits meanwhile; the
    streams that there were break off.
    """

    _remotes: Remotes
    _item: ManagedRemote

    def __repr__(self) -> str:
        return f"<TunnelListener {self.address}>"

    @property
    def address(self) -> str:
        """Where the server listens, ``host:port``; with port 0, another after a reconnect."""
        return self._remotes.address(self._item)

    def stats(self) -> ForwardStats:
        """Return its counters."""
        return Forward(self._remotes, self._item).stats()

    async def accept(self) -> VisitorStream:
        """Return the next connection; its attribute ``peer`` has the address of its visitor.

        Raises `trio.ClosedResourceError` when the listener or the client is closed.  Cancelling
        loses no connection.  Up to 1024 wait to be accepted; more are refused.
        """
        assert self._item.inbox is not None
        return await self._item.inbox.accept()

    async def aclose(self) -> None:
        """Have the server stop listening, and break off its streams, accepted or not.

        Waits and is cancelled as `Forward.aclose`.
        """
        await self._remotes.remove(self._item)
